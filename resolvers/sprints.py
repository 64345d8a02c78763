"""Sprints: create, look up, list, change, step on, delete."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from models import Sprint, Story, Task, table_of
from models.enums import Permission, SprintStatus
from models.lifecycle import SPRINT_STEPS
from models.transaction import select_all
from resolvers import validation as check
from resolvers.belongings import Deletion, detach, get_belonging
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    IllegalTransitionError,
    LimitExceededError,
    NotFoundError,
    OperationError,
)
from resolvers.filtering import bounded
from resolvers.loading import Columns, columns_to_read, with_columns
from resolvers.operation import operation
from resolvers.paging import Order, Page, PageArguments
from resolvers.siblings import Parents, in_workspaces, only, read_pages
from resolvers.stamps import restore_entity, restores
from resolvers.task_access import check_version
from resolvers.validation import Unset
from resolvers.work_totals import count_sprint
from resolvers.workspaces import get_active_workspace, get_workspace

SPRINT = table_of(Sprint).c
STORY = table_of(Story).c
TASK = table_of(Task).c

NUMBER_MAX = 1_000_000
DEADLINE_LENGTH = 40
INITIAL = (SprintStatus.PLANNING, SprintStatus.ACTIVE)


async def get_sprint(
    ctx: Context, *, sprint_id: str, permission: Permission = Permission.READ
) -> Sprint:
    """A sprint the principal may see; inside an operation its row is locked.

    Raises:
        NotFoundError, ForbiddenError, ConflictError: see ``get_belonging``.
    """
    return await get_belonging(ctx, Sprint, entity_id=sprint_id, permission=permission)


async def get_sprint_by_number(ctx: Context, *, workspace_id: str, number: int) -> Sprint:
    """The sprint with a number; not locked.

    Raises:
        NotFoundError: no such sprint or workspace; and what ``get_workspace`` raises.
    """
    await get_workspace(ctx, workspace_id=workspace_id)
    if not 0 <= number <= NUMBER_MAX:
        raise NotFoundError("Sprint")
    found = await (await ctx.reader()).find(
        Sprint, SPRINT.workspace_id == workspace_id, SPRINT.number == number
    )
    if found is None:
        raise NotFoundError("Sprint")
    return found


async def find_current_sprint(ctx: Context, *, workspace_id: str) -> Sprint | None:
    """The sprint a team works in: None only where there is no sprint at all.

    That is the active one with the highest number; else the highest that is not completed; else
    the highest.
    """
    await get_workspace(ctx, workspace_id=workspace_id)
    preference = sa.case(
        (SPRINT.status == SprintStatus.ACTIVE, 0),
        (SPRINT.status != SprintStatus.COMPLETED, 1),
        else_=2,
    )
    found = await (await ctx.reader()).records(
        Sprint,
        select_all(Sprint)
        .where(SPRINT.workspace_id == workspace_id)
        .order_by(preference, SPRINT.number.desc())
        .limit(1),
    )
    return found[0] if found else None


async def list_sprints(
    ctx: Context,
    *,
    workspace_id: str,
    status: list[SprintStatus] | None = None,
    page: PageArguments | None = None,
) -> Page[Sprint]:
    """A page of the sprints of a workspace, ascending by number.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError: the workspace is not visible.
        InvalidError: page arguments or filters that cannot be accepted.
    """
    page = page or PageArguments()
    return only(await sprints_of_workspaces(ctx, [workspace_id], status=status, page=page))


async def sprints_of_workspaces(
    ctx: Context,
    workspace_ids: Sequence[str],
    *,
    status: list[SprintStatus] | None = None,
    page: PageArguments,
    columns: Columns = None,
) -> list[Page[Sprint] | OperationError]:
    """The same page of the sprints of each workspace; a refusal where one is not visible.

    Raises:
        InvalidError: page arguments or filters that cannot be accepted.
    """

    async def read(ids: list[str]) -> list[Page[Sprint]]:
        names = with_columns(Sprint, columns, "number")
        statement = sa.select(*columns_to_read(Sprint, names))
        if status is not None:
            statement = statement.where(SPRINT.status.in_(bounded(ctx, "status", status)))
        return await read_pages(
            ctx,
            Sprint,
            statement,
            Parents(ids, lambda parent: SPRINT.workspace_id == parent),
            order=[Order(SPRINT.number)],
            page=page,
            columns=names,
        )

    return await in_workspaces(ctx, workspace_ids, lambda key: key, read)


@operation
async def create_sprint(
    ctx: Context,
    *,
    workspace_id: str,
    number: int | None = None,
    status: str = SprintStatus.PLANNING,
    **fields: Any,
) -> Sprint:
    """Plan a sprint, or start it at once. A second active one is allowed.

    Args:
        ctx: needs ``write`` in the workspace.
        workspace_id: where.
        number: 0 to 1,000,000; by default one more than the highest, beginning with 0.
        status: PLANNING or ACTIVE.
        fields: any of the fields of :func:`update_sprint`.

    Raises:
        ConflictError: there is a sprint with this number.
        InvalidError, NotFoundError, ForbiddenError, LimitExceededError.
    """
    await get_active_workspace(ctx, workspace_id=workspace_id)
    values = _checked(ctx, **fields)
    initial = SprintStatus(check.one_of(status, INITIAL, field="status"))
    chosen = await _number(ctx, workspace_id, number)
    sprint = await ctx.transaction.insert_unless_exists(
        Sprint,
        workspace_id=workspace_id,
        number=chosen,
        status=initial,
        started_at=ctx.now if initial == SprintStatus.ACTIVE else None,
        created_at=ctx.now,
        updated_at=ctx.now,
        **values,
    )
    if sprint is None:
        raise ConflictError(f"There is a sprint {chosen} already", field="number")
    ctx.emit("sprint.created", sprint, workspace_id=workspace_id)
    return sprint


async def _number(ctx: Context, workspace_id: str, number: int | None) -> int:
    row = await ctx.transaction.first(
        sa.select(
            sa.func.count().label("total"), sa.func.max(SPRINT.number).label("highest")
        ).where(SPRINT.workspace_id == workspace_id)
    )
    assert row is not None  # noqa: S101  # aggregates always give a row
    if row.total >= ctx.limits.sprints_per_workspace:
        raise LimitExceededError(
            "The workspace has its maximum of sprints", limit=ctx.limits.sprints_per_workspace
        )
    following = 0 if row.highest is None else row.highest + 1
    return check.integer(
        following if number is None else number, field="number", minimum=0, maximum=NUMBER_MAX
    )


@operation
async def update_sprint(
    ctx: Context, *, sprint_id: str, expected_version: int | None = None, **fields: Any
) -> Sprint:
    """Change fields of a sprint; what is not given stays, None clears.

    Args:
        ctx: needs ``write``.
        sprint_id: which.
        expected_version: refuse with CONFLICT unless the sprint is at this version.
        fields: goal and retro_summary (text), deadline (a date in words, up to 40 characters).

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    sprint = await get_sprint(ctx, sprint_id=sprint_id, permission=Permission.WRITE)
    check_version(sprint.version, expected_version)
    values = _checked(ctx, **fields)
    changes = {name: value for name, value in values.items() if getattr(sprint, name) != value}
    if not changes:
        return sprint
    return await _change(
        ctx, sprint, "sprint.updated", extra={"changed": sorted(changes)}, **changes
    )


@operation
async def advance_sprint(ctx: Context, *, sprint_id: str, to: str, force: bool = False) -> Sprint:
    """Take a sprint to its next step, or back from review; the present step changes nothing.

    Args:
        ctx: needs ``write``.
        sprint_id: which.
        to: the step: PLANNING → ACTIVE → REVIEW → RETROSPECTIVE → COMPLETED, REVIEW → ACTIVE.
        force: to any step.

    Raises:
        IllegalTransitionError: the steps do not lead there.
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    sprint = await get_sprint(ctx, sprint_id=sprint_id, permission=Permission.WRITE)
    wanted = check.word(to, SprintStatus, field="to")
    if wanted == sprint.status:
        return sprint
    if not force and wanted not in SPRINT_STEPS[SprintStatus(sprint.status)]:
        allowed_from = sorted(
            str(step) for step, onward in SPRINT_STEPS.items() if wanted in onward
        )
        raise IllegalTransitionError(f"advance to {wanted}", sprint.status, allowed_from)
    times: dict[str, Any] = {"completed_at": ctx.now if wanted == SprintStatus.COMPLETED else None}
    if wanted == SprintStatus.ACTIVE and sprint.started_at is None:
        times["started_at"] = ctx.now
    return await _change(
        ctx,
        sprint,
        "sprint.status_changed",
        extra={"from_status": sprint.status},
        status=wanted,
        **times,
    )


@dataclass(frozen=True, slots=True)
class SprintTransition:
    """What became of an attempt to take a sprint on: from where it went, or why it stayed."""

    sprint: Sprint
    from_status: str | None = None
    reason: str | None = None

    def to_stamp(self) -> dict[str, Any]:
        """For a retried request."""
        return {
            "kind": "sprint_transition",
            "sprint": self.sprint.id,
            "from_status": self.from_status,
            "reason": self.reason,
        }


@restores("sprint_transition")
async def _restore_transition(ctx: Context, stamp: dict[str, Any]) -> SprintTransition:
    sprint = await restore_entity(ctx, "Sprint", stamp["sprint"])
    return SprintTransition(sprint, stamp["from_status"], stamp["reason"])


@operation
async def auto_transition(ctx: Context, *, sprint_id: str) -> SprintTransition:
    """ACTIVE → REVIEW once the sprint has tasks and all are done; cancelled ones hold nothing up.

    Raises:
        NotFoundError, ForbiddenError, ConflictError.
    """
    sprint = await get_sprint(ctx, sprint_id=sprint_id, permission=Permission.WRITE)
    if sprint.status != SprintStatus.ACTIVE:
        return SprintTransition(sprint, reason=f"The sprint is {sprint.status}")
    totals = await count_sprint(ctx, sprint)
    if totals.done == 0:
        reason = "No task of the sprint is done" if totals.total else "The sprint has no tasks"
        return SprintTransition(sprint, reason=reason)
    if totals.open:
        return SprintTransition(sprint, reason=f"{totals.open} tasks are not done")
    after = await advance_sprint(ctx, sprint_id=sprint_id, to=SprintStatus.REVIEW)
    return SprintTransition(after, from_status=sprint.status)


@operation
async def delete_sprint(ctx: Context, *, sprint_id: str) -> Deletion:
    """Delete a sprint; its tasks and stories go back to the backlog.

    The event names the first 100 of each and says how many there were.
    """
    sprint = await get_sprint(ctx, sprint_id=sprint_id, permission=Permission.WRITE)
    left: dict[str, Any] = {}
    for model, columns in ((Task, TASK), (Story, STORY)):
        left |= await detach(
            ctx,
            model,
            "sprint_number",
            columns.workspace_id == sprint.workspace_id,
            columns.sprint_number == sprint.number,
        )
    await ctx.transaction.delete_by_id(Sprint, sprint.id)
    ctx.emit("sprint.deleted", sprint, workspace_id=sprint.workspace_id, **left)
    return Deletion(sprint.id, sprint.workspace_id)


async def _change(
    ctx: Context, sprint: Sprint, event: str, *, extra: dict[str, Any], **changes: Any
) -> Sprint:
    after = await ctx.transaction.update_by_id(
        Sprint, sprint.id, updated_at=ctx.now, version=sprint.version + 1, **changes
    )
    ctx.emit(event, after, workspace_id=sprint.workspace_id, **extra)
    return after


def _checked(ctx: Context, **fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Unset):
            continue
        if name == "deadline":
            values[name] = check.optional_line(value, field=name, maximum=DEADLINE_LENGTH)
        elif name in {"goal", "retro_summary"}:
            values[name] = check.optional_text(value, field=name, maximum=ctx.limits.description)
        else:
            raise TypeError(f"a sprint has no field {name} to set")
    return values
