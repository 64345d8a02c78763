"""Free moves of a card: to any status, at any place; with the effects of leaving and entering."""

from typing import Any

import sqlalchemy as sa

from models import Task, table_of
from models.commands import Command
from models.enums import Permission, TaskStatus
from models.lifecycle import ENDED, MAY_RUN, RELEASING, REMEMBERING
from resolvers import validation as check
from resolvers.context import Context
from resolvers.dependencies import release_dependents
from resolvers.errors import InvalidError
from resolvers.operation import operation
from resolvers.task_access import POSITION_GAP, change_task, check_version, get_task
from resolvers.task_runs import end_live_runs, queue_run
from resolvers.workspaces import get_active_workspace

TASK = table_of(Task).c
# Looking up a member of an enumeration takes as long as five comparisons.
QUEUED, IN_PROGRESS = TaskStatus.QUEUED, TaskStatus.IN_PROGRESS
COMPLETED, CANCELLED = TaskStatus.COMPLETED, TaskStatus.CANCELLED
MINIMUM_GAP = 1e-6


@operation
async def move_task(
    ctx: Context,
    *,
    task_id: str,
    status: str | None = None,
    before_id: str | None = None,
    after_id: str | None = None,
    reason: str | None = None,
    expected_version: int | None = None,
) -> Task:
    """Drop a card in a column, at a place; the lifecycle does not bind a free move.

    Entering QUEUED enqueues (one run); leaving QUEUED or IN_PROGRESS ends what runs; entering
    COMPLETED releases what waits for the task.

    Args:
        ctx: needs ``write``; to or from QUEUED also ``execute``.
        task_id: the card.
        status: the column; absent: the present one.
        before_id: the card it is put in front of.
        after_id: the card it is put behind; not together with ``before_id``.
        reason: kept as the status's reason, up to 2,000 characters.
        expected_version: refuse with CONFLICT unless the task is at this version.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    check_version(task.version, expected_version)
    reason = check.optional_text(reason, field="reason", maximum=ctx.limits.short_text)
    position = None
    if before_id is not None or after_id is not None:
        position = await _position(ctx, task, before_id=before_id, after_id=after_id)
    wanted = check.word(status, TaskStatus, field="status") if status else None
    if wanted is not None and wanted != task.status:
        return await enter_status(ctx, task, wanted, reason=reason, position=position)
    if position is None:
        return task
    return await change_task(ctx, task, "task.moved", {"position": position})


async def enter_status(
    ctx: Context,
    task: Task,
    status: TaskStatus,
    *,
    event: str = "task.moved",
    reason: str | None = None,
    position: float | None = None,
    end_runs: bool = True,
    enqueue: bool = True,
    **changes: Any,
) -> Task:
    """Change a task's status with all effects of leaving and entering, whoever asks.

    Args:
        ctx: inside an operation that has checked ``write``.
        task: locked.
        status: the new one.
        event: the event's type.
        reason: why; None clears it.
        position: the new place in the column.
        end_runs: whether live runs end when the task leaves QUEUED or IN_PROGRESS.
        enqueue: whether entering QUEUED makes a run.
        changes: further columns.
    """
    left = task.status
    if end_runs and left in MAY_RUN and status not in (IN_PROGRESS, left):
        await end_live_runs(ctx, task, reason="task_moved")
    changes.update(_times(ctx, task, status))
    if position is not None:
        changes["position"] = position
    changes.setdefault("status_before", left if status in REMEMBERING else None)
    changes["status"], changes["status_reason"] = status, reason
    after = await change_task(ctx, task, event, changes, reason=reason)
    if status == QUEUED and enqueue:
        await _enqueue(ctx, after)
    if status in RELEASING:
        await release_dependents(ctx, after)
    return after


def _times(ctx: Context, task: Task, status: TaskStatus) -> dict[str, Any]:
    times: dict[str, Any] = {"queued_at": ctx.now if status == QUEUED else None}
    if status == IN_PROGRESS and task.started_at is None:
        times["started_at"] = ctx.now
    if status in ENDED:
        times["completed_at"] = now = ctx.now
        if task.started_at is None and status != CANCELLED:
            times["started_at"] = now
        if status == COMPLETED:
            times["progress"] = 100
    elif task.completed_at is not None:
        times["completed_at"] = None
    return times


async def _enqueue(ctx: Context, task: Task) -> None:
    workspace = await get_active_workspace(
        ctx, workspace_id=task.workspace_id, permission=Permission.EXECUTE
    )
    if not workspace.pull_mode:
        await queue_run(ctx, task, workspace=workspace)


async def _position(
    ctx: Context, task: Task, *, before_id: str | None, after_id: str | None
) -> float | None:
    """The place in front of or behind another card; None to stay."""
    if before_id is not None and after_id is not None:
        raise InvalidError("Give beforeId or afterId, not both", field="beforeId")
    neighbour_id = before_id or after_id
    if neighbour_id is None or neighbour_id == task.id:
        return None
    field, forward = ("beforeId", False) if before_id else ("afterId", True)
    place = await _place_of(ctx, task, neighbour_id, field=field)
    position = await _next_to(ctx, task, place, forward=forward)
    if position is None:
        await _spread(ctx, task.workspace_id)
        place = await _place_of(ctx, task, neighbour_id, field=field)
        position = await _next_to(ctx, task, place, forward=forward)
    return position


async def _place_of(ctx: Context, task: Task, card_id: str, *, field: str) -> tuple[float, str]:
    """A card's position and, because moves at once may give two cards the same, its id."""
    check.identifier(card_id, field=field)
    found = await ctx.transaction.run(
        PLACE_OF, {"card_id": card_id, "workspace_id": task.workspace_id}
    )
    if not found:
        raise InvalidError(f"Task {card_id} is not in this workspace", field=field)
    return float(found[0][0]), card_id


PLACE_OF = Command(
    lambda _dialect: sa.select(TASK.position).where(
        TASK.id == sa.bindparam("card_id"),
        TASK.workspace_id == sa.bindparam("workspace_id"),
        TASK.deleted_at.is_(None),
    )
)


async def _next_to(
    ctx: Context, task: Task, place: tuple[float, str], *, forward: bool
) -> float | None:
    """Half-way from a place to the next card in a direction; None when there is no room left."""
    here, card_id = place
    found = await ctx.transaction.run(
        NEXT_CARD if forward else CARD_BEFORE,
        {
            "workspace_id": task.workspace_id,
            "task_id": task.id,
            "position": here,
            "card_id": card_id,
        },
    )
    if not found:
        return here + (POSITION_GAP if forward else -POSITION_GAP)
    other = float(found[0][0])
    if abs(other - here) < MINIMUM_GAP:
        return None
    return (other + here) / 2


def _neighbour(*, forward: bool) -> sa.Select[Any]:
    """The place of the card next to a place, leaving out the one that is moved."""
    here = sa.bindparam("position", type_=sa.Float)
    card_id = sa.bindparam("card_id", type_=sa.String)
    nearest: tuple[sa.ColumnElement[Any], ...]
    if forward:
        beyond = sa.and_(TASK.position >= here, sa.or_(TASK.position > here, TASK.id > card_id))
        nearest = (TASK.position, TASK.id)
    else:
        beyond = sa.and_(TASK.position <= here, sa.or_(TASK.position < here, TASK.id < card_id))
        nearest = (TASK.position.desc(), TASK.id.desc())
    return (
        sa.select(TASK.position)
        .where(
            TASK.workspace_id == sa.bindparam("workspace_id"),
            TASK.deleted_at.is_(None),
            TASK.id != sa.bindparam("task_id"),
            beyond,
        )
        .order_by(*nearest)
        .limit(1)
    )


NEXT_CARD = Command(lambda _dialect: _neighbour(forward=True))
CARD_BEFORE = Command(lambda _dialect: _neighbour(forward=False))


async def _spread(ctx: Context, workspace_id: str) -> None:
    """Number all cards afresh, in their order, when halving has used a gap up.

    One event tells so: whoever keeps positions has to read them again.
    """
    table = table_of(Task)
    ranked = (
        sa.select(
            TASK.id,
            sa.func.row_number().over(order_by=(TASK.position, TASK.id)).label("rank"),
        )
        .where(TASK.workspace_id == workspace_id, TASK.deleted_at.is_(None))
        .subquery()
    )
    await ctx.transaction.execute(
        sa.update(table)
        .where(table.c.id == ranked.c.id)
        .values(position=ranked.c.rank * POSITION_GAP)
    )
    workspace = await get_active_workspace(ctx, workspace_id=workspace_id)
    ctx.emit("workspace.positions_changed", workspace, workspace_id=workspace_id)
