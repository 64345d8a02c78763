"""Tasks: create, look up, change, assign, label, archive, delete."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from models import Run, Task, Workspace, table_of
from models.commands import Command
from models.enums import Permission, TaskStatus
from models.lifecycle import RUN_EXECUTING
from resolvers import validation as check
from resolvers.context import Context
from resolvers.dependencies import release_dependents, replace_dependencies
from resolvers.errors import ConflictError, LimitExceededError
from resolvers.operation import operation
from resolvers.task_access import (
    POSITION_GAP,
    NewDependency,
    change_task,
    check_version,
    get_task,
)
from resolvers.task_board import enter_status, move_task
from resolvers.task_fields import checked_fields, title_from
from resolvers.task_runs import end_live_runs
from resolvers.validation import UNSET, Unset
from resolvers.workspaces import get_active_workspace

TASK = table_of(Task).c


@operation
async def create_task(
    ctx: Context,
    *,
    workspace_id: str,
    title: str | Unset = UNSET,
    status: str = TaskStatus.BACKLOG,
    depends_on: Sequence[NewDependency] = (),
    archived: bool = False,
    **fields: Any,
) -> Task:
    """Put a task on a board.

    Args:
        ctx: needs ``write`` in the workspace.
        workspace_id: the board.
        title: one line, 1 to 500 characters; without one: the beginning of the description, if any.
        status: BACKLOG (default), or QUEUED to enqueue it at once; any other status a card may be
            dropped on is taken as a free move.
        depends_on: tasks of the same workspace it waits for.
        archived: whether it is made off the board.
        fields: any of the fields of :func:`update_task`.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError, LimitExceededError.
    """
    workspace = await get_active_workspace(ctx, workspace_id=workspace_id)
    values = await checked_fields(ctx, workspace_id, title=title, **fields)
    if isinstance(title, Unset):
        values["title"] = title_from(values.get("description", ""))
        values.setdefault("title_manually_set", False)
    wanted = check.word(status, TaskStatus, field="status")
    tx, now = ctx.transaction, ctx.now
    number = await tx.next_number(workspace_id, "task")
    if number > ctx.limits.tasks_per_workspace:
        raise LimitExceededError(
            "The workspace has its maximum of tasks", limit=ctx.limits.tasks_per_workspace
        )
    values.setdefault("assignee_id", _auto_assignee(ctx, workspace))
    task = await tx.insert(
        Task,
        workspace_id=workspace_id,
        number=number,
        position=await _last_position(ctx, workspace_id) + POSITION_GAP,
        created_by=ctx.authenticated().user_id,
        created_at=now,
        updated_at=now,
        archived_at=now if archived else None,
        **values,
    )
    ctx.task_totals.record(None, task)
    ctx.emit("task.created", task, workspace_id=workspace_id)
    if depends_on:
        task = await replace_dependencies(ctx, task, depends_on)
    if wanted != TaskStatus.BACKLOG:
        task = await enter_status(ctx, task, wanted)
    return task


async def _last_position(ctx: Context, workspace_id: str) -> float:
    """Where the last card of a board stands; cards may have been moved behind the newest one."""
    ((position,),) = await ctx.transaction.run(LAST_POSITION, {"workspace_id": workspace_id})
    return float(position or 0.0)


LAST_POSITION = Command(
    lambda _dialect: sa.select(sa.func.max(TASK.position)).where(
        TASK.workspace_id == sa.bindparam("workspace_id"), TASK.deleted_at.is_(None)
    )
)


def _auto_assignee(ctx: Context, workspace: Workspace) -> str | None:
    return ctx.authenticated().user_id if workspace.settings.get("auto_assign") is True else None


@operation
async def update_task(
    ctx: Context,
    *,
    task_id: str,
    expected_version: int | None = None,
    depends_on: Sequence[NewDependency] | Unset = UNSET,
    archived: bool | Unset = UNSET,
    blank_title: bool = False,
    **fields: Any,
) -> Task:
    """Change fields of a task; what is not given stays, None clears.

    Args:
        ctx: needs ``write``.
        task_id: which.
        expected_version: refuse with CONFLICT unless the task is at this version.
        depends_on: replaces the dependencies.
        archived: as by :func:`archive_task`, but also while a run executes.
        blank_title: whether the title may be blank.
        fields: title, description, priority or priority_level, type,
            category, labels, owner, assignee_id, agent_id, story_id, parent_id, sprint_number,
            story_points, estimate_seconds, executor, agent_name, model, command, branch,
            base_branch, repository, target_repository, spec, context_notes, notes, steps,
            acceptance_criteria, files_hint, constraints, review_comment, review_verdict,
            review_record, due_at, progress, metadata and others of the model.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    check_version(task.version, expected_version)
    values: dict[str, Any] = {}
    if blank_title and fields.get("title") == "":
        values = {"title": fields.pop("title")}
    values |= await checked_fields(ctx, task.workspace_id, task=task, **fields)
    if "title" in values:
        values.setdefault("title_manually_set", True)
    changes = {name: value for name, value in values.items() if getattr(task, name) != value}
    if changes:
        task = await change_task(ctx, task, "task.updated", changes, changed=sorted(changes))
    if not isinstance(depends_on, Unset):
        task = await replace_dependencies(ctx, task, depends_on)
    if not isinstance(archived, Unset):
        task = await _set_archived(ctx, task, archived=archived)
    return task


@operation
async def change_card(
    ctx: Context,
    *,
    task_id: str,
    column: Callable[[TaskStatus], TaskStatus] | None = None,
    **fields: Any,
) -> Task:
    """Change fields of a task and its column, all of it or nothing.

    Args:
        ctx: needs ``write``; to or from QUEUED also ``execute``.
        task_id: which.
        column: the wanted status for the present one; the same status is no move.
        fields: as of :func:`update_task`, set before the move.

    Raises:
        what :func:`update_task` and ``move_task`` raise.
    """
    task = await update_task(ctx, task_id=task_id, **fields)
    if column is None:
        return task
    return await move_task(ctx, task_id=task_id, status=column(TaskStatus(task.status)))


@operation
async def archive_task(ctx: Context, *, task_id: str, archived: bool = True) -> Task:
    """Take a task off the board without losing it, or put it back; repeating changes nothing."""
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    if archived and task.archived_at is None:
        await refuse_if_executing(ctx, task)
    return await _set_archived(ctx, task, archived=archived)


async def _set_archived(ctx: Context, task: Task, *, archived: bool) -> Task:
    if (task.archived_at is not None) == archived:
        return task
    event = "task.archived" if archived else "task.unarchived"
    return await change_task(ctx, task, event, {"archived_at": ctx.now if archived else None})


@operation
async def delete_task(ctx: Context, *, task_id: str, force: bool = False) -> Task:
    """Delete a task softly: it is gone from every list and look-up; its number is not reused.

    It holds nobody back any more: tasks that are BLOCKED and waited for nothing else are released.

    Args:
        ctx: needs ``write``.
        task_id: which.
        force: also when a run executes, which is then stopped; otherwise that is a CONFLICT.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    if not force:
        await refuse_if_executing(ctx, task)
    await end_live_runs(ctx, task, reason="task_deleted")
    gone = await change_task(ctx, task, "task.deleted", {"deleted_at": ctx.now})
    await release_dependents(ctx, gone)
    return gone


async def refuse_if_executing(ctx: Context, task: Task) -> None:
    """Refuse while a run of the task executes.

    Raises:
        ConflictError: naming the run.
    """
    run = table_of(Run).c
    live = await ctx.transaction.scalar(
        sa.select(run.id).where(
            run.task_id == task.id, run.managed.is_(True), run.status.in_(RUN_EXECUTING)
        )
    )
    if live is not None:
        raise ConflictError("A run of this task is executing; stop it first", run_id=live)
