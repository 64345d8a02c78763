"""How an end is judged: the agent's last word first, then the exit code, a stop before both."""

import pytest

from runner.ending import ExitInfo, StopCause
from runner.executors.base import NO_FACTS, Facts, Verdict
from runner.executors.native import NativeSettings
from runner.executors.progress import Usage
from runner.executors.registry import ADAPTERS
from runner.usage import Counts, UsageMeter

GOOD = Facts(verdict=Verdict.SUCCESS, result_text="Done")
BAD = Facts(verdict=Verdict.ERROR, error="401")
OPEN = Facts(verdict=Verdict.OPEN, result_text="I beg")


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize(
    ("code", "facts", "stop", "expected"),
    [
        (0, GOOD, None, ("completed", "done")),
        (1, GOOD, None, ("failed", "exit_code")),
        (0, BAD, None, ("failed", "agent_error")),
        (145, BAD, None, ("failed", "agent_error")),
        (0, NO_FACTS, None, ("failed", "no_result")),
        (0, OPEN, None, ("failed", "no_result")),
        (-15, NO_FACTS, None, ("failed", "signal")),
        (42, NO_FACTS, None, ("failed", "exit_code")),
        # Interrupted agents end with 0, one of them with a last word, and are cancelled all the
        # same; so are those whose good last word came while the stop was on its way.
        (0, BAD, StopCause.USER, ("cancelled", "user")),
        (0, NO_FACTS, StopCause.USER, ("cancelled", "user")),
        (0, GOOD, StopCause.USER, ("cancelled", "user")),
        (-2, NO_FACTS, StopCause.SILENCE, ("failed", "silence")),
        (0, NO_FACTS, StopCause.NO_START, ("failed", "no_start")),
    ],
)
def test_an_end(
    name: str, code: int, facts: Facts, stop: StopCause | None, expected: tuple[str, str]
) -> None:
    executor = ADAPTERS[name](name, NativeSettings())
    end = (
        ExitInfo(reason="exited", signal=-code)
        if code < 0
        else ExitInfo(reason="exited", exit_code=code)
    )
    outcome = executor.classify(end, facts, stop=stop)
    assert (outcome.status, outcome.reason) == expected
    assert (outcome.error is None) == (expected[0] != "failed")


def test_what_the_supervisor_recorded_goes_before_a_good_last_word() -> None:
    executor = ADAPTERS["CODEX"]("CODEX", NativeSettings())
    for reason in ("time_limit", "output_limit", "orphaned"):
        outcome = executor.classify(ExitInfo(reason=reason, signal=9), GOOD, stop=None)
        assert (outcome.status, outcome.reason) == ("failed", reason)


def test_the_last_complaint_explains_an_end_without_a_last_word() -> None:
    executor = ADAPTERS["CODEX"]("CODEX", NativeSettings())
    complaint = Facts(error="stream disconnected")
    for code in (0, 1):
        outcome = executor.classify(ExitInfo(reason="exited", exit_code=code), complaint, stop=None)
        assert "stream disconnected" in str(outcome.error)


def test_an_empty_answer_is_done_with_a_warning() -> None:
    executor = ADAPTERS["CLAUDE_CODE"]("CLAUDE_CODE", NativeSettings())
    end = ExitInfo(reason="exited", exit_code=0)
    for text in (None, "", " \n"):
        facts = Facts(verdict=Verdict.SUCCESS, result_text=text)
        outcome = executor.classify(end, facts, stop=None)
        assert (outcome.status, outcome.warning is not None) == ("completed", True)
    assert executor.classify(end, GOOD, stop=None).warning is None


# --- usage ---


def test_steps_are_added_and_totals_are_differences() -> None:
    meter = UsageMeter()
    assert meter.take(Usage(input=5, cost_usd=0.5, scope="step")).input == 5
    assert meter.take(Usage(input=5, scope="step")).input == 5
    assert meter.take(Usage(input=30, scope="run")).input == 20
    assert meter.take(Usage(input=30, scope="run")).input == 0
    assert meter.counted.input == 30


def test_a_thread_that_counts_on_adds_only_what_this_process_used() -> None:
    # The session had used 1,200 tokens before; this run none.
    meter = UsageMeter(of_session=Counts(1200, 50, 1000, 0.0))
    new = meter.take(Usage(input=2000, output=80, cached=1500, scope="session"))
    assert new == Counts(800, 30, 500, 0.0)


def test_tokens_of_the_process_and_money_of_the_session_do_not_disturb_each_other() -> None:
    # A run that was paused: 100 tokens and $0.10 in its first process.
    before = Counts(100, 10, 0, 0.10)
    meter = UsageMeter(at_launch=before, of_session=before, counted=before)
    tokens = meter.take(Usage(input=40, output=4, scope="run"))
    money = meter.take(Usage(cost_usd=0.15, scope="session"))
    assert tokens == Counts(40, 4, 0, 0.0)
    assert money.input == 0
    assert money.cost_usd == pytest.approx(0.05)
    assert meter.counted.input == 140


def test_what_was_counted_before_a_restart_is_not_counted_again() -> None:
    meter = UsageMeter(at_launch=Counts(100), counted=Counts(130))
    assert meter.take(Usage(input=50, scope="run")).input == 20
