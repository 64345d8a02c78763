"""The proof of equality: random documents and data, compiled and on graphql-core."""

import logging

import pytest

from tests.compiler.fuzz import Fuzzer

# graphql-core leaves coroutines behind when a field fails beside others that wait.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    # Strawberry logs each error with its traceback; thousands are provoked here.
    monkeypatch.setattr(logging.getLogger("strawberry.execution"), "disabled", True)


async def test_answers_are_graphql_cores_byte_for_byte() -> None:
    tally = await Fuzzer(seed=20240).run(250, faults_every=20)
    print(tally.report())  # noqa: T201  # shown with -s, and when it fails
    tally.check()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_answers_are_graphql_cores_for_thousands_of_documents(seed: int) -> None:
    tally = await Fuzzer(seed=seed).run(1_000, faults_every=3)
    print(tally.report())  # noqa: T201  # shown with -s, and when it fails
    tally.check()
    assert tally.faults > 5_000
    assert tally.faults_that_showed > 500
