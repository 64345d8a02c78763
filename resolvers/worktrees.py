"""Worktrees of tasks that have served: cleaning up, and deleting a task with all it made."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from models import Run, Task, Workspace, table_of
from models.enums import Permission, RunStatus, TaskStatus
from models.lifecycle import RUN_EXECUTING, TERMINAL
from models.transaction import select_all
from resolvers.context import Context
from resolvers.errors import InvalidError
from resolvers.operation import step
from resolvers.ports import Removal, UnwantedWorktree, Worktrees
from resolvers.pull_requests import place_of
from resolvers.task_access import change_task, get_task, record_from
from resolvers.tasks import delete_task
from resolvers.workspaces import get_active_workspace, get_workspace

TASK = table_of(Task).c
RUN = table_of(Run).c
AT_ONCE = 1_000
STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class CleanedWorktree:
    """What became of a task's worktree; ``reason`` says why it, or its branch, was kept."""

    task_id: str
    path: str
    branch: str | None
    removed: bool
    branch_deleted: bool
    reason: str | None


async def clean_worktrees(
    ctx: Context,
    *,
    workspace_id: str,
    task_id: str | None = None,
    only_merged: bool = True,
    force: bool = False,
    keep_branch: bool = False,
) -> list[CleanedWorktree]:
    """Remove the worktrees of a workspace's tasks, or of one task; up to 1,000 at a time.

    A worktree that a run uses is never removed. One with changes that are not committed, or of a
    run that is paused, only with ``force``; so is a branch with commits that are nowhere else.

    Args:
        ctx: needs ``execute``; with ``force`` also ``manage_queues``.
        workspace_id: whose.
        task_id: only of this task.
        only_merged: only where the branch is merged into its base; false for all.
        force: see above.
        keep_branch: let all branches be.

    Returns:
        One entry for each worktree there was, with what was kept and why.

    Raises:
        NotFoundError, ForbiddenError, ConflictError (workspace not active), InvalidError.
    """
    workspace = await get_active_workspace(
        ctx, workspace_id=workspace_id, permission=Permission.EXECUTE
    )
    if force:
        ctx.require(Permission.MANAGE_QUEUES, workspace_id)
    if task_id is not None and (await get_task(ctx, task_id=task_id)).workspace_id != workspace_id:
        raise InvalidError("The task is not in this workspace", field="taskId")
    tasks = await _with_worktree(ctx, workspace_id, task_id)
    await ctx.release()
    cleaned = []
    for task in tasks:
        removal = await remove_worktree(
            ctx,
            workspace,
            task,
            only_merged=only_merged,
            force=force,
            keep_branch=keep_branch,
        )
        cleaned.append(
            CleanedWorktree(
                task.id,
                task.worktree_path or "",
                task.branch,
                removal.removed,
                removal.branch_deleted,
                removal.reason,
            )
        )
    return cleaned


async def _with_worktree(ctx: Context, workspace_id: str, task_id: str | None) -> list[Task]:
    conditions = [TASK.workspace_id == workspace_id, TASK.worktree_path.is_not(None)]
    if task_id is not None:
        conditions.append(TASK.id == task_id)
    return await (await ctx.reader()).records(
        Task, select_all(Task).where(*conditions).order_by(TASK.number).limit(AT_ONCE)
    )


async def remove_worktree(
    ctx: Context,
    workspace: Workspace,
    task: Task,
    *,
    only_merged: bool,
    force: bool,
    keep_branch: bool,
) -> Removal:
    """Remove a task's worktree as far as the rules allow; the caller has checked permissions."""
    unwanted = UnwantedWorktree(
        name=Path(task.worktree_path or "").name,
        branch=task.branch,
        own_branch=_is_own_branch(workspace, task),
        base=task.base_branch or workspace.default_branch,
        merged_commit=task.commit_sha if task.merged_at is not None else None,
        only_merged=only_merged,
        force=force,
        keep_branch=keep_branch,
        setup=workspace.worktree_setup,
    )

    async def is_busy() -> str | None:
        return await _why_busy(ctx, task.id, force=force)

    removal = await _port(ctx).remove(place_of(workspace), unwanted, is_busy=is_busy)
    if removal.removed:
        await _settle_removal(ctx, task_id=task.id, path=task.worktree_path)
    return removal


def _is_own_branch(workspace: Workspace, task: Task) -> bool:
    """Whether a branch was made for its task: somebody may have named one that is older."""
    branch = task.branch or ""
    marks = (task.id, task.public_id, task.slug)
    named = branch.startswith("dragoman/") or any(mark in branch for mark in marks if mark)
    return named and branch not in {task.base_branch, workspace.default_branch}


def _port(ctx: Context) -> Worktrees:
    if ctx.services.worktrees is None:
        raise InvalidError("This server has no worktrees", field="id")
    return ctx.services.worktrees


async def _why_busy(ctx: Context, task_id: str, *, force: bool) -> str | None:
    await ctx.release()  # what holds now, not what held in a snapshot
    live = set(RUN_EXECUTING) if force else {*RUN_EXECUTING, RunStatus.PAUSED}
    try:
        status = await (await ctx.reader()).scalar(
            sa.select(RUN.status)
            .where(RUN.task_id == task_id, RUN.managed.is_(True), RUN.status.in_(sorted(live)))
            .limit(1)
        )
    finally:
        await ctx.release()
    return None if status is None else f"a run of the task is {status}"


@step
async def _settle_removal(ctx: Context, *, task_id: str, path: str | None) -> None:
    """The task has no worktree any more, unless a new run has made one meanwhile."""
    row = await ctx.transaction.first(
        sa.select(*table_of(Task).c).where(TASK.id == task_id).with_for_update()
    )
    task: Task | None = None if row is None else record_from(Task, row)
    if task is None or task.worktree_path != path:
        return
    executing = await ctx.transaction.scalar(
        sa.select(RUN.id).where(RUN.task_id == task_id, RUN.status.in_(sorted(RUN_EXECUTING)))
    )
    if executing is None:
        await change_task(ctx, task, "task.worktree_removed", {"worktree_path": None})


async def discard_task(ctx: Context, *, task_id: str) -> Task:
    """Delete a task with its worktree and its branch; a run that executes is stopped first.

    The task is gone at once. Where its run does not end within 30 seconds, or something is in the
    way, worktree and branch are left to ``dragoman gc``.

    Args:
        ctx: needs ``write`` and ``execute``.
        task_id: which.

    Raises:
        NotFoundError, ForbiddenError, ConflictError.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    ctx.require(Permission.EXECUTE, task.workspace_id, kind="Task")
    workspace = await get_workspace(ctx, workspace_id=task.workspace_id)
    await ctx.release()
    gone: Task = await delete_task(ctx, task_id=task_id, force=True)
    deadline = time.monotonic() + STOP_SECONDS
    while await _why_busy(ctx, task_id, force=True) and time.monotonic() < deadline:  # noqa: ASYNC110  # another server may run it
        await asyncio.sleep(_LOOK_SECONDS)
    # The run may have made the worktree after we looked first.
    newest = await (await ctx.reader()).find_by_id(Task, task_id)
    await ctx.release()
    if newest is not None and newest.worktree_path is not None:
        await remove_worktree(
            ctx, workspace, newest, only_merged=False, force=True, keep_branch=False
        )
    return gone


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose worktree a folder is; ``served`` says why it is not needed any more, if so."""

    workspace: Workspace
    task: Task
    served: str | None


async def find_owners(ctx: Context, *, workspace_id: str, names: Sequence[str]) -> dict[str, Owner]:
    """The tasks whose worktrees these folders are, by name; for the system's own eyes.

    A folder counts as a task's where the task's row says that it works there.
    """
    reader = await ctx.reader()
    workspace = await reader.find_by_id(Workspace, workspace_id)
    if workspace is None or not names:
        return {}
    tasks = await reader.records(
        Task,
        select_all(Task).where(TASK.workspace_id == workspace_id, TASK.worktree_path.is_not(None)),
    )
    found = {Path(task.worktree_path or "").name: task for task in tasks}
    return {
        name: Owner(workspace, found[name], _why_served(workspace, found[name]))
        for name in names
        if name in found
    }


def _why_served(workspace: Workspace, task: Task) -> str | None:
    if workspace.deleted_at is not None:
        return "its workspace is deleted"
    if task.deleted_at is not None:
        return "its task is deleted"
    if task.status in TERMINAL:
        return f"its task is {TaskStatus(task.status)}"
    return "its task is archived" if task.archived_at is not None else None


async def deleted_workspaces(ctx: Context, *, workspace_ids: Sequence[str]) -> list[str]:
    """Those of the workspaces that are deleted; unknown ones are not among them."""
    columns = table_of(Workspace).c
    return await (await ctx.reader()).scalars(
        sa.select(columns.id).where(columns.id.in_(workspace_ids), columns.deleted_at.is_not(None))
    )
