"""Random documents over the board's own schema and real data: compiled and not, byte for byte."""

import gc
from pathlib import Path

import pytest

from tests.compiler.board_fuzz import BoardFuzzer
from tests.compiler.board_twins import open_twins
from tests.compiler.tolerant import tolerant

DATABASES = [
    pytest.param("sqlite", 120, id="sqlite"),
    pytest.param("sqlite", 1_500, id="sqlite-long", marks=pytest.mark.long),
    pytest.param(
        "postgresql", 500, id="postgresql", marks=[pytest.mark.postgres, pytest.mark.long]
    ),
]


@tolerant
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("database", "documents"), DATABASES)
async def test_answers_are_graphql_cores_byte_for_byte(
    database: str, documents: int, tmp_path: Path
) -> None:
    async with open_twins(tmp_path, on_postgresql=database == "postgresql") as twins:
        tally = await BoardFuzzer(twins, seed=documents).run(documents)
        print(tally.report())  # noqa: T201  # shown with -s, and when it fails
        tally.check()
    gc.collect()  # what it leaves belongs to this test
