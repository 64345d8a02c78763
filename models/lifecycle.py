"""The lifecycle of a task and of a run: one table each, obeyed by every operation.

Strict operations (``approve``, ``retry`` …) follow ``TRANSITIONS``. A free move of a card
(``move``) may go from anywhere to anywhere a person may drop a card, and has its own effects.
"""

from dataclasses import dataclass

from models.enums import RunStatus, SprintStatus
from models.enums import TaskStatus as S


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table: from where an operation is allowed, where it leads, what it is called.

    ``to`` is None where the target depends on the task (resume goes back to where it came from).
    """

    operation: str
    allowed_from: frozenset[S]
    to: S | None
    event: str


def _row(operation: str, allowed_from: set[S], to: S | None, event: str) -> Transition:
    return Transition(operation, frozenset(allowed_from), to, event)


ACTIVE = frozenset({S.BACKLOG, S.QUEUED, S.IN_PROGRESS, S.PAUSED, S.BLOCKED, S.REVIEW})
TERMINAL = frozenset({S.COMPLETED, S.CANCELLED})
"""Statuses that only a free move leaves again; FAILED is left by retry."""
ENDED = TERMINAL | {S.FAILED}
"""Statuses of a task that nobody works on any more."""
RELEASING = frozenset({S.COMPLETED, S.FAILED})
"""Statuses in which a task may be what others have waited for."""
MAY_RUN = frozenset({S.QUEUED, S.IN_PROGRESS, S.PAUSED})
"""Statuses of a task that may have live runs of its own."""
REMEMBERING = frozenset({S.PAUSED, S.BLOCKED})
"""Statuses that remember where the task came from."""

TRANSITIONS: dict[str, Transition] = {
    row.operation: row
    for row in (
        _row("enqueue", {S.BACKLOG}, S.QUEUED, "task.queued"),
        _row("dequeue", {S.QUEUED}, S.BACKLOG, "task.dequeued"),
        _row("start", {S.BACKLOG, S.QUEUED}, S.IN_PROGRESS, "task.started"),
        _row("pause", {S.QUEUED, S.IN_PROGRESS}, S.PAUSED, "task.paused"),
        _row("resume", {S.PAUSED}, None, "task.resumed"),
        _row("submit", {S.QUEUED, S.IN_PROGRESS, S.PAUSED}, S.REVIEW, "task.submitted"),
        _row("approve", {S.REVIEW}, S.COMPLETED, "task.approved"),
        _row("reject", {S.REVIEW}, S.BACKLOG, "task.rejected"),
        _row("fail", {S.QUEUED, S.IN_PROGRESS, S.PAUSED}, S.FAILED, "task.failed"),
        _row("retry", {S.FAILED}, S.QUEUED, "task.retried"),
        _row("cancel", set(ACTIVE), S.CANCELLED, "task.cancelled"),
        _row("block", {S.BACKLOG, S.QUEUED, S.IN_PROGRESS, S.PAUSED}, S.BLOCKED, "task.blocked"),
        _row("unblock", {S.BLOCKED}, S.BACKLOG, "task.unblocked"),
        _row("finish", {*ACTIVE, S.FAILED}, S.COMPLETED, "task.finished"),
    )
}

RUN_LIVE = frozenset(
    {RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.AWAITING_INPUT, RunStatus.PAUSED}
)
RUN_EXECUTING = frozenset({RunStatus.RUNNING, RunStatus.AWAITING_INPUT})
RUN_FINAL = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})

RUN_TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.PAUSED, *RUN_FINAL}),
    RunStatus.RUNNING: frozenset(
        {RunStatus.QUEUED, RunStatus.AWAITING_INPUT, RunStatus.PAUSED, *RUN_FINAL}
    ),
    RunStatus.AWAITING_INPUT: frozenset({RunStatus.RUNNING, RunStatus.PAUSED, *RUN_FINAL}),
    RunStatus.PAUSED: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, *RUN_FINAL}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}

SPRINT_STEPS: dict[SprintStatus, frozenset[SprintStatus]] = {
    SprintStatus.PLANNING: frozenset({SprintStatus.ACTIVE}),
    SprintStatus.ACTIVE: frozenset({SprintStatus.REVIEW}),
    SprintStatus.REVIEW: frozenset({SprintStatus.RETROSPECTIVE, SprintStatus.ACTIVE}),
    SprintStatus.RETROSPECTIVE: frozenset({SprintStatus.COMPLETED}),
    SprintStatus.COMPLETED: frozenset(),
}
