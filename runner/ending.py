"""How a run ended: what the supervisor recorded, and what that means for the board."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitInfo:
    """How the agent ended, as its supervisor recorded it.

    ``reason`` is ``exited`` (by itself or by a signal from elsewhere), ``orphaned``,
    ``output_limit``, ``time_limit``, ``terminated`` (the supervisor was asked to end it),
    ``spawn_error`` (with ``errno`` such as ENOENT, and ``error``) or ``supervisor_error``.
    Exactly one of ``exit_code`` and ``signal`` is set once the agent's program ran. Times are
    seconds since 1970. ``leftovers`` counts the processes the agent left behind, now ended.
    """

    reason: str
    exit_code: int | None = None
    signal: int | None = None
    errno: str | None = None
    error: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    leftovers: int = 0
    output_bytes: int | None = None
    cpu_seconds: float | None = None
    max_rss_kib: int | None = None


class StopCause(StrEnum):
    """Why the server ended a run; noted before the first signal is sent."""

    USER = "user"
    SILENCE = "silence"
    NO_START = "no_start"
    TIME_LIMIT = "time_limit"


class OutcomeStatus(StrEnum):
    """What became of a run."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The judgement on a run: ``reason`` is one word for programs, ``error`` a text for people.

    Words: ``done``, a word of ``StopCause`` (``user`` when cancelled), a ``reason`` of
    ``ExitInfo``, ``exit_code``, ``signal``, ``agent_error`` (the agent itself said so),
    ``no_result`` (an agent that must say so did not). ``warning``: what should be looked at though
    the run went well.
    """

    status: OutcomeStatus
    reason: str
    error: str | None = None
    warning: str | None = None


_STOP_TEXTS = {
    StopCause.SILENCE: "The agent wrote nothing for too long and was ended",
    StopCause.NO_START: "The agent did not begin to work in time and was ended",
    StopCause.TIME_LIMIT: "The run took longer than allowed and was ended",
}
_REASON_TEXTS = {
    "orphaned": "The server was away for too long, so the agent was ended",
    "output_limit": "The agent wrote more output than allowed and was ended",
    "time_limit": "The run took longer than allowed and was ended",
    "terminated": "The run was ended from outside",
    "supervisor_error": "The supervisor of the run failed",
    "spawn_error": "The agent could not be started",
}


def find_forced_outcome(end: ExitInfo, *, stop: StopCause | None) -> Outcome | None:
    """The outcome of a run that did not end by itself; None where the agent is to be asked.

    A stop that was asked for decides before anything else: some agents answer an interrupt with
    exit code 0.
    """
    if stop is StopCause.USER:
        return Outcome(OutcomeStatus.CANCELLED, stop.value)
    if stop is not None:
        return Outcome(OutcomeStatus.FAILED, stop.value, _STOP_TEXTS[stop])
    if end.reason != "exited":
        text = _REASON_TEXTS.get(end.reason, "The run ended abnormally")
        error = f"{text}: {end.error}" if end.error else text
        return Outcome(OutcomeStatus.FAILED, end.reason, error)
    return None


def judge_exit(end: ExitInfo) -> Outcome:
    """The outcome by exit code and signal alone."""
    if end.exit_code == 0:
        return Outcome(OutcomeStatus.COMPLETED, "done")
    if end.signal is not None:
        error = f"The agent was ended by signal {end.signal}"
        return Outcome(OutcomeStatus.FAILED, "signal", error)
    error = f"The agent ended with exit code {end.exit_code}"
    return Outcome(OutcomeStatus.FAILED, "exit_code", error)
