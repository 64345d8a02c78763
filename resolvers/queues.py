"""The queues of a workspace as people steer them: pause, resume, clear, reorder."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from models import Run, Task, Workspace, table_of
from models.enums import Permission, QueueClass, RunStatus, TaskStatus
from models.lifecycle import TRANSITIONS
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidError
from resolvers.operation import operation, step
from resolvers.queue_conditions import is_waiting, waiting_runs
from resolvers.run_queries import get_run
from resolvers.stamps import restores
from resolvers.task_access import record_from
from resolvers.task_board import enter_status
from resolvers.task_runs import QUEUE_ORDER, QUEUE_RANK, change_run, end_run
from resolvers.workspace_changes import change_workspace
from resolvers.workspaces import lock_workspace, require_active

RUN = table_of(Run).c
TASK = table_of(Task).c
CLEARED_AT_ONCE = 200
"""Runs cancelled in one transaction at the most, so that writers are not kept waiting."""
SMALLEST_GAP = 1e-4
"""Seconds between two places below which no further place fits in; a float64 of a place is good
for some 15 µs."""


@dataclass(frozen=True, slots=True)
class ClearedQueue:
    """How many waiting runs of a workspace were cancelled."""

    workspace_id: str
    cleared: int

    def to_stamp(self) -> dict[str, Any]:
        """What a repeated request needs to tell the same."""
        return {
            "kind": "cleared_queue",
            "workspace_id": self.workspace_id,
            "cleared": self.cleared,
        }


async def pause_queue(
    ctx: Context, *, workspace_id: str, queue: str | None = None, reason: str | None = None
) -> Workspace:
    """Start no more runs of a queue, or of all; what executes goes on. Repeating changes nothing.

    Args:
        ctx: needs ``manage_queues``.
        workspace_id: whose.
        queue: HIGH, NORMAL or LOW; None for all three.
        reason: told with the event, up to 2,000 characters.

    Raises:
        NotFoundError, ForbiddenError, ConflictError (inactive workspace), InvalidError.
    """
    return await _set_paused(
        ctx, workspace_id=workspace_id, queue=queue, paused=True, reason=reason
    )


async def resume_queue(
    ctx: Context, *, workspace_id: str, queue: str | None = None, reason: str | None = None
) -> Workspace:
    """Start runs of a queue, or of all, again; arguments and errors as of :func:`pause_queue`."""
    return await _set_paused(
        ctx, workspace_id=workspace_id, queue=queue, paused=False, reason=reason
    )


@operation
async def _set_paused(
    ctx: Context, *, workspace_id: str, queue: str | None, paused: bool, reason: str | None
) -> Workspace:
    workspace = await _lock(ctx, workspace_id)
    reason = check.optional_text(reason, field="reason", maximum=ctx.limits.short_text)
    before = {QueueClass(word) for word in workspace.queue_paused}
    after = before | _queues(queue) if paused else before - _queues(queue)
    if after == before:
        return workspace
    ctx.after_commit(ctx.services.dispatcher.wake)
    return await change_workspace(
        ctx,
        workspace,
        "workspace.queue_paused" if paused else "workspace.queue_resumed",
        extra={"queues": sorted(before ^ after), "reason": reason},
        queue_paused=[word for word in QueueClass if word in after],
    )


def _queues(queue: str | None) -> set[QueueClass]:
    if queue is None:
        return set(QueueClass)
    return {QueueClass(check.word(queue, QueueClass, field="queue"))}


async def _lock(ctx: Context, workspace_id: str) -> Workspace:
    workspace = await lock_workspace(
        ctx, workspace_id=workspace_id, permission=Permission.MANAGE_QUEUES
    )
    require_active(workspace.status)
    return workspace


async def clear_queue(
    ctx: Context, *, workspace_id: str, queue: str | None = None, reason: str | None = None
) -> ClearedQueue:
    """Cancel all runs that wait in a queue, or in all; their tasks go back to BACKLOG.

    Runs that execute are left alone. Runs are cancelled in batches; what comes into the queue
    meanwhile may be cancelled too.

    Args:
        ctx: needs ``manage_queues``.
        workspace_id: whose.
        queue: HIGH, NORMAL or LOW; None for all three.
        reason: told with the event and kept with the tasks, up to 2,000 characters.

    Raises:
        NotFoundError, ForbiddenError, ConflictError (inactive workspace), InvalidError.
    """
    reason = check.optional_text(reason, field="reason", maximum=ctx.limits.short_text)
    queues = sorted(_queues(queue))
    cleared = 0
    for _ in range(-(-ctx.limits.queued_runs // CLEARED_AT_ONCE)):
        number = await _clear_some(ctx, workspace_id=workspace_id, queues=queues, reason=reason)
        cleared += number
        if number < CLEARED_AT_ONCE:
            break
    return await _settle_clearing(
        ctx, workspace_id=workspace_id, queues=queues, cleared=cleared, reason=reason
    )


@step
async def _clear_some(
    ctx: Context, *, workspace_id: str, queues: Collection[QueueClass], reason: str | None
) -> int:
    await _lock(ctx, workspace_id)
    waiting = (
        waiting_runs(RUN.id, RUN.task_id)
        .where(RUN.workspace_id == workspace_id, RUN.queue_class.in_(queues))
        .order_by(*QUEUE_ORDER)
        .limit(CLEARED_AT_ONCE)
    )
    found = await ctx.transaction.rows(waiting)
    # Tasks before runs, as whoever begins with a task does.
    tasks = await ctx.transaction.rows(
        sa.select(*TASK)
        .where(TASK.id.in_([row.task_id for row in found if row.task_id]))
        .order_by(TASK.id)
        .with_for_update(key_share=True)
    )
    runs = await ctx.transaction.records(
        Run,
        sa.select(*RUN)
        .where(RUN.id.in_([row.id for row in found]), is_waiting())
        .order_by(RUN.id)
        .with_for_update(),
    )
    for run in runs:
        await end_run(ctx, run, reason="queue_cleared")
    for row in tasks:
        task: Task = record_from(Task, row)
        if task.status == TaskStatus.QUEUED:
            event = TRANSITIONS["dequeue"].event
            await enter_status(ctx, task, TaskStatus.BACKLOG, event=event, reason=reason)
    return len(found)


@operation
async def _settle_clearing(
    ctx: Context,
    *,
    workspace_id: str,
    queues: Collection[QueueClass],
    cleared: int,
    reason: str | None,
) -> ClearedQueue:
    workspace = await _lock(ctx, workspace_id)
    if cleared:
        ctx.emit(
            "workspace.queue_cleared",
            workspace,
            workspace_id=workspace_id,
            queues=list(queues),
            cleared=cleared,
            reason=reason,
        )
    return ClearedQueue(workspace_id, cleared)


@restores("cleared_queue")
async def _restore_clearing(_ctx: Context, stamp: dict[str, Any]) -> ClearedQueue:
    return ClearedQueue(stamp["workspace_id"], stamp["cleared"])


@operation
async def move_queued_run(
    ctx: Context,
    *,
    run_id: str,
    queue: str | None = None,
    before_id: str | None = None,
    after_id: str | None = None,
    position: int | None = None,
) -> Run:
    """Put a waiting run elsewhere among those that wait in its workspace.

    Args:
        ctx: needs ``manage_queues``.
        run_id: a QUEUED run.
        queue: the queue it goes to, by default the one it is in; without a place, to its end.
        before_id: the waiting run it starts in front of; it goes to that one's queue.
        after_id: the waiting run it starts behind; it goes to that one's queue.
        position: its place in its queue, counted from 1; beyond the end is the end.

    Raises:
        InvalidError: no place or more than one, or a neighbour that does not wait here.
        ConflictError: the run does not wait.
        NotFoundError, ForbiddenError.
    """
    places = [before_id, after_id, position]
    if sum(place is not None for place in places) > 1 or not any((queue, *places)):
        raise InvalidError("Give one of beforeId, afterId and position, or a queue", field="id")
    if position is not None:
        check.integer(position, field="position", minimum=1, maximum=ctx.limits.queued_runs)
    run = await _lock_queued(ctx, run_id)
    if run.status != RunStatus.QUEUED or not run.managed:
        raise ConflictError("The run does not wait in a queue", status=run.status)
    neighbour_id = before_id or after_id
    wanted = check.word(queue, QueueClass, field="queue") if queue else run.queue_class
    if neighbour_id is not None:
        field = "beforeId" if before_id else "afterId"
        neighbour = await _neighbour(ctx, run, neighbour_id, field=field)
        wanted = neighbour.queue_class
    others = await _others(ctx, run, wanted)
    index = len(others)
    if neighbour_id is not None:
        index = [other for other, _ in others].index(neighbour_id) + (after_id is not None)
    elif position is not None:
        index = min(position - 1, len(others))
    key = await _key_at(ctx, run, others, index)
    after = await change_run(
        ctx,
        run,
        "run.moved",
        extra={"position": index + 1},
        queue_class=wanted,
        queue_rank=QUEUE_RANK[QueueClass(wanted)],
        queue_key=key,
    )
    ctx.after_commit(ctx.services.dispatcher.wake)
    return after


async def _lock_queued(ctx: Context, run_id: str) -> Run:
    """The run, under its workspace's lock: places are worked out from those of the others."""
    if check.is_id(run_id):
        workspace_id = await ctx.transaction.scalar(
            sa.select(RUN.workspace_id).where(RUN.id == run_id)
        )
        if workspace_id is not None:
            ctx.require(Permission.READ, workspace_id, kind="Run")
            await lock_workspace(
                ctx, workspace_id=workspace_id, permission=Permission.MANAGE_QUEUES
            )
    return await get_run(ctx, run_id=run_id, permission=Permission.MANAGE_QUEUES)


async def _neighbour(ctx: Context, run: Run, neighbour_id: str, *, field: str) -> Run:
    check.identifier(neighbour_id, field=field)
    neighbour = await ctx.transaction.find(
        Run, RUN.id == neighbour_id, RUN.workspace_id == run.workspace_id, is_waiting()
    )
    if neighbour is None or neighbour.id == run.id:
        raise InvalidError(
            f"Run {neighbour_id} does not wait in the queues of this workspace", field=field
        )
    return neighbour


async def _others(ctx: Context, run: Run, queue: str) -> list[tuple[str, float]]:
    """Ids and places of the other runs that wait in a queue, in order."""
    rows = await ctx.transaction.rows(
        sa.select(RUN.id, RUN.queue_key)
        .where(
            is_waiting(),
            RUN.workspace_id == run.workspace_id,
            RUN.queue_class == queue,
            RUN.id != run.id,
        )
        .order_by(*QUEUE_ORDER)
    )
    return [(row.id, row.queue_key) for row in rows]


async def _key_at(ctx: Context, run: Run, others: list[tuple[str, float]], index: int) -> float:
    """A place between the runs before and behind an index; they are set apart if none is left."""
    if not others:
        return run.queue_key
    if index == 0:
        return others[0][1] - 1.0
    if index == len(others):
        return others[-1][1] + 1.0
    before, behind = others[index - 1][1], others[index][1]
    if behind - before < SMALLEST_GAP:
        others = await _set_apart(ctx, others)
        before, behind = others[index - 1][1], others[index][1]
    return (before + behind) / 2


async def _set_apart(ctx: Context, others: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Spread runs evenly, in their order, from the first one's place on."""
    first, last = others[0][1], others[-1][1]
    gap = max((last - first) / max(1, len(others) - 1), 1.0)
    ranked = (
        sa.select(RUN.id, sa.func.row_number().over(order_by=QUEUE_ORDER).label("rank"))
        .where(RUN.id.in_([run_id for run_id, _ in others]))
        .subquery()
    )
    await ctx.transaction.execute(
        sa.update(table_of(Run))
        .where(RUN.id == ranked.c.id)
        .values(queue_key=first + (ranked.c.rank - 1) * gap)
    )
    return [(run_id, first + number * gap) for number, (run_id, _) in enumerate(others)]
