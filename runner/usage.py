"""What of an agent's own count is new: agents count per step, per process or per session.

A run may have several processes (paused and resumed), a session several runs. What was counted
before a process is kept in the run's row at its launch, so the difference survives restarts.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from models import Run
from runner.executors.progress import Usage


class Counts(NamedTuple):
    """Tokens and US dollars."""

    input: float = 0
    output: float = 0
    cached: float = 0
    cost_usd: float = 0.0

    def plus(self, other: "Counts") -> "Counts":
        """The sum, member by member."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: "Counts") -> "Counts":
        """The difference, member by member, never below zero."""
        return Counts(*(max(0, a - b) for a, b in zip(self, other, strict=True)))


NOTHING = Counts()


@dataclass(slots=True)
class UsageMeter:
    """Turns what an agent tells into what is to be added to its run.

    ``at_launch`` was counted for the run before this process, ``of_session`` is what the session
    had used by then, ``counted`` is the run's count now.
    """

    at_launch: Counts = NOTHING
    of_session: Counts = NOTHING
    counted: Counts = NOTHING

    def take(self, usage: Usage) -> Counts:
        """What is new in this count; repeating a count adds nothing."""
        told = Counts(usage.input, usage.output, usage.cached, usage.cost_usd or 0.0)
        new = told
        if usage.scope != "step":
            of_process = told.minus(self.of_session) if usage.scope == "session" else told
            new = self.at_launch.plus(of_process).minus(self.counted)
        self.counted = self.counted.plus(new)
        return new


def counts_of(run: Run) -> Counts:
    """What is counted for a run by now."""
    return Counts(run.input_tokens, run.output_tokens, run.cached_tokens, run.cost_usd)


def launch_record(run: Run, *, session_run: Run | None) -> dict[str, list[float]]:
    """What to keep in ``Run.process`` at a launch, for the meter.

    ``session_run`` is the run that last used the session which is resumed, None for a new session.
    """
    before = NOTHING if session_run is None else _session_total(session_run)
    return {"counted": list(counts_of(run)), "session": list(before)}


def make_meter(run: Run) -> UsageMeter:
    """The meter for the process of a run that was launched last."""
    return UsageMeter(_kept(run, "counted"), _kept(run, "session"), counts_of(run))


def _session_total(run: Run) -> Counts:
    of_process = counts_of(run).minus(_kept(run, "counted"))
    return _kept(run, "session").plus(of_process)


def _kept(run: Run, name: str) -> Counts:
    kept: Any = run.process.get("usage")
    return Counts(*kept[name]) if isinstance(kept, dict) else NOTHING
