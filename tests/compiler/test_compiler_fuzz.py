"""The proof of equality: random documents and data, compiled and on graphql-core."""

import gc
import logging
from typing import Any

import pytest

from compiler import Outcome, Reason
from tests.compiler.fuzz import Fuzzer
from tests.compiler.fuzz_documents import Document
from tests.compiler.fuzz_world import Fault, World
from tests.compiler.tolerant import tolerant


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    # Strawberry logs each error with its traceback; thousands are provoked here.
    monkeypatch.setattr(logging.getLogger("strawberry.execution"), "disabled", True)


@tolerant
async def test_answers_are_graphql_cores_byte_for_byte() -> None:
    tally = await Fuzzer(seed=20240).run(220, faults_every=20)
    print(tally.report())  # noqa: T201  # shown with -s, and when it fails
    tally.check()
    gc.collect()  # what it leaves belongs to this test


@tolerant
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
async def test_answers_are_graphql_cores_for_thousands_of_documents(seed: int) -> None:
    tally = await Fuzzer(seed=seed).run(800, faults_every=4)
    print(tally.report())  # noqa: T201  # shown with -s, and when it fails
    tally.check()
    assert tally.faults > 4_000
    assert tally.faults_that_showed > 400
    gc.collect()


class CompiledOnly(Fuzzer):
    """Runs queries on compiled code alone, so that what is left behind is its own."""

    async def compare(
        self, document: Document, seed: int, *ordered: Fault
    ) -> tuple[dict[str, Any], Outcome]:
        if "mutation" in document.features:
            return {}, Outcome(fallback=Reason.UNSUPPORTED)
        outcome = await self.compiled.execute(
            document.text, variables=document.variables, context=World(seed, ordered)
        )
        return {}, outcome


async def test_compiled_queries_leave_nothing_behind() -> None:
    fuzzer = CompiledOnly(seed=5)
    fuzzer.compiled.guard = fuzzer.guard
    tally = await fuzzer.run(60, faults_every=3)
    gc.collect()
    assert tally.faults > 300
    assert fuzzer.compiled.counts["bailed"] > 20
