"""Servers killed at random under load; ``make chaos`` does it for as long as one likes.

``DRAGOMAN_TEST_CHAOS_SECONDS`` is how long the long form blows in all, and
``DRAGOMAN_TEST_CHAOS_SEED`` repeats the dice of an earlier one (not the machine's timing).
"""

import os
import secrets
import sys
from pathlib import Path

import pytest

from tests.chaos.people import dice
from tests.chaos.storm import Weather, raise_storm
from tests.chaos.verdict import judge
from tests.support.server import a_server

SECONDS = float(os.environ.get("DRAGOMAN_TEST_CHAOS_SECONDS", "120"))
DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
]


async def survive(folder: Path, database: str, weather: Weather) -> None:
    """Raise a storm and judge what is left."""
    seed = os.environ.get("DRAGOMAN_TEST_CHAOS_SEED") or secrets.token_hex(4)
    sys.stdout.write(f"\nDRAGOMAN_TEST_CHAOS_SEED={seed} on {database}\n")
    with a_server(folder / "server", database=database, started=False) as server:
        storm = await raise_storm(server, folder, dice(seed), weather)
        figures = await judge(storm)
    text = ", ".join(f"{name}: {number}" for name, number in figures.items())
    sys.stdout.write(f"{text}\n")
    assert figures["kills"] >= 2


@pytest.mark.timeout(180)
async def test_a_short_storm(tmp_path: Path) -> None:
    weather = Weather(seconds=8, kills_in_start=1, calm=(1.0, 3.0), kill_again=0.25, pause=0.02)
    await survive(tmp_path, "sqlite", weather)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("database", DATABASES)
async def test_a_long_storm(tmp_path: Path, database: str) -> None:
    await survive(tmp_path, database, Weather(seconds=SECONDS / 2, patience=180))
