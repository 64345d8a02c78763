"""The strict operations of a task: each obeys its row of the lifecycle table."""

from typing import Any

from models import Task, Workspace
from models.enums import Permission, QueueClass, RunStatus, TaskStatus
from models.lifecycle import RUN_EXECUTING, TRANSITIONS
from resolvers import validation as check
from resolvers.context import Context
from resolvers.dependencies import replace_dependencies
from resolvers.errors import ConflictError, IllegalTransitionError, InvalidError
from resolvers.operation import operation, step
from resolvers.pull_requests import merge_pull_request
from resolvers.task_access import NewDependency, change_task, get_task
from resolvers.task_board import enter_status
from resolvers.task_fields import checked_fields
from resolvers.task_runs import change_run, end_live_runs, live_runs, request_stop
from resolvers.workspaces import get_active_workspace


def require_transition(task: Task, operation_name: str) -> None:
    """Refuse an operation the lifecycle table does not allow from the task's status.

    Raises:
        IllegalTransitionError: with the statuses it is allowed from.
    """
    row = TRANSITIONS[operation_name]
    if task.status not in row.allowed_from:
        raise IllegalTransitionError(operation_name, task.status, sorted(row.allowed_from))


async def _transition(
    ctx: Context, task: Task, name: str, *, reason: str | None = None, **changes: Any
) -> Task:
    row = TRANSITIONS[name]
    require_transition(task, name)
    assert row.to is not None  # noqa: S101  # resume chooses its own target
    return await enter_status(ctx, task, row.to, event=row.event, reason=reason, **changes)


async def _get(ctx: Context, task_id: str, permission: Permission, name: str) -> Task:
    task = await get_task(ctx, task_id=task_id, permission=permission)
    require_transition(task, name)
    return task


def _reason(ctx: Context, reason: str | None) -> str | None:
    return check.optional_text(reason, field="reason", maximum=ctx.limits.description)


@operation
async def enqueue_task(
    ctx: Context,
    *,
    task_id: str,
    executor: str | None = None,
    model: str | None = None,
    queue: str | None = None,
) -> Task:
    """BACKLOG → QUEUED: exactly one run waits for its turn (none in a pull-mode workspace).

    Args:
        ctx: needs ``execute``.
        task_id: which.
        executor: kept with the task; by default the task's own, its agent's, the server's.
        model: kept with the task.
        queue: HIGH, NORMAL or LOW; kept with the task.

    Raises:
        IllegalTransitionError, NotFoundError, ForbiddenError, InvalidError (no executor, no
        repository), LimitExceededError (queue full).
    """
    task = await _get(ctx, task_id, Permission.EXECUTE, "enqueue")
    given = {k: v for k, v in {"executor": executor, "model": model}.items() if v is not None}
    changes = await checked_fields(ctx, task.workspace_id, task=task, **given)
    if queue is not None:
        changes["queue_class"] = check.word(queue, QueueClass, field="queue")
    return await _transition(ctx, task, "enqueue", **changes)


@operation
async def dequeue_task(ctx: Context, *, task_id: str) -> Task:
    """QUEUED → BACKLOG: its waiting run is cancelled."""
    task = await _get(ctx, task_id, Permission.EXECUTE, "dequeue")
    return await _transition(ctx, task, "dequeue")


@operation
async def pause_task(ctx: Context, *, task_id: str) -> Task:
    """QUEUED or IN_PROGRESS → PAUSED: a waiting run waits on, an executing one is stopped.

    A stopped run remembers its session and worktree; :func:`resume_task` goes on from there.
    """
    task = await _get(ctx, task_id, Permission.EXECUTE, "pause")
    for run in await live_runs(ctx, task):
        if run.status == RunStatus.QUEUED:
            await change_run(ctx, run, "run.paused", status=RunStatus.PAUSED, reason="paused")
        elif run.status in RUN_EXECUTING:
            await request_stop(ctx, run, reason="paused")
    return await _transition(ctx, task, "pause", end_runs=False)


@operation
async def resume_task(ctx: Context, *, task_id: str) -> Task:
    """PAUSED → where it was paused: its run is queued again, in the same session and worktree."""
    task = await _get(ctx, task_id, Permission.EXECUTE, "resume")
    target = TaskStatus(task.status_before or TaskStatus.QUEUED)
    runs = await live_runs(ctx, task)
    if any(run.status in RUN_EXECUTING for run in runs):
        raise ConflictError("The run is still stopping; try again in a moment", retry_after=1)
    for run in runs:
        if run.status == RunStatus.PAUSED:
            await change_run(
                ctx,
                run,
                "run.queued",
                status=RunStatus.QUEUED,
                reason=None,
                queued_at=ctx.now,
                stop_requested_at=None,
                stop_reason=None,
            )
            ctx.after_commit(ctx.services.dispatcher.wake)
    event = TRANSITIONS["resume"].event
    if target == TaskStatus.QUEUED and runs:
        return await change_task(
            ctx,
            task,
            event,
            {
                "status": target,
                "status_before": None,
                "status_reason": None,
                "queued_at": ctx.now,
            },
        )
    return await enter_status(ctx, task, target, event=event, end_runs=False, status_before=None)


async def approve_task(
    ctx: Context, *, task_id: str, comment: str | None = None, merge: bool = False
) -> Task:
    """REVIEW → COMPLETED; what waits for it is released.

    Args:
        ctx: needs ``write``; with ``merge`` also ``execute``.
        task_id: which.
        comment: kept as the review's comment.
        merge: first merge the task's pull request, if it has one; else its branch into its base
            branch, in the workspace's local repository.

    Raises:
        IllegalTransitionError, NotFoundError, ForbiddenError.
        ConflictError: the merge does not go through; the task stays in REVIEW then.
        UnavailableError: the forge cannot be asked now.
    """
    comment = _reason(ctx, comment)
    if not merge:
        return await _settle_approval(ctx, task_id=task_id, comment=comment, merge_commit=None)
    task, workspace, base = await _claim_merge(ctx, task_id=task_id)
    if task.pull_request_url is not None:
        commit = await merge_pull_request(ctx, task=task, workspace=workspace)
    else:
        assert workspace.local_path is not None and task.branch is not None  # noqa: S101, PT018  # the claim checked both
        commit = await ctx.services.git.merge(
            workspace.local_path,
            branch=task.branch,
            into=base,
            message=f"Merge {task.branch}: {task.title}",
        )
    return await _settle_approval(ctx, task_id=task_id, comment=comment, merge_commit=commit)


@step
async def _claim_merge(ctx: Context, *, task_id: str) -> tuple[Task, Workspace, str]:
    task = await _get(ctx, task_id, Permission.WRITE, "approve")
    ctx.require(Permission.EXECUTE, task.workspace_id, kind="Task")
    workspace = await get_active_workspace(ctx, workspace_id=task.workspace_id)
    base = task.base_branch or workspace.default_branch
    if workspace.local_path is None and task.pull_request_url is None:
        raise InvalidError("The workspace has no local repository to merge in", field="merge")
    if task.branch is None or base is None:
        raise InvalidError("The task has no branch to merge", field="merge")
    return task, workspace, base


@operation
async def _settle_approval(
    ctx: Context, *, task_id: str, comment: str | None, merge_commit: str | None
) -> Task:
    task = await _get(ctx, task_id, Permission.WRITE, "approve")
    changes: dict[str, Any] = {"review_reason": "approved"}
    if comment is not None:
        changes["review_comment"] = comment
    if merge_commit is not None:
        changes.update(merge_commit=merge_commit, merged_at=ctx.now)
    return await _transition(ctx, task, "approve", **changes)


@operation
async def reject_task(ctx: Context, *, task_id: str, reason: str | None = None) -> Task:
    """REVIEW → BACKLOG, with the reason kept for the next attempt."""
    task = await _get(ctx, task_id, Permission.WRITE, "reject")
    reason = _reason(ctx, reason)
    changes: dict[str, Any] = {"review_reason": "rejected", "pull_request_url": None}
    if reason is not None:
        changes["review_comment"] = reason
    return await _transition(ctx, task, "reject", reason=reason, **changes)


@operation
async def retry_task(ctx: Context, *, task_id: str) -> Task:
    """FAILED → QUEUED: one more run, on the same branch."""
    task = await _get(ctx, task_id, Permission.EXECUTE, "retry")
    return await _transition(ctx, task, "retry", error=None, progress=0)


@operation
async def cancel_task(ctx: Context, *, task_id: str, reason: str | None = None) -> Task:
    """Any unfinished status → CANCELLED; what runs is stopped."""
    task = await _get(ctx, task_id, Permission.WRITE, "cancel")
    reason = _reason(ctx, reason)
    await end_live_runs(ctx, task, reason="task_cancelled")
    return await _transition(ctx, task, "cancel", reason=reason, end_runs=False)


@operation
async def finish_task(ctx: Context, *, task_id: str) -> Task:
    """Declare a task completed, from any status that is not final, when nothing executes."""
    task = await _get(ctx, task_id, Permission.WRITE, "finish")
    if any(run.status in RUN_EXECUTING for run in await live_runs(ctx, task)):
        raise ConflictError("A run of this task is executing; stop it first")
    return await _transition(ctx, task, "finish", error=None)


@operation
async def block_task(
    ctx: Context,
    *,
    task_id: str,
    reason: str | None = None,
    waits_for: list[NewDependency] | None = None,
) -> Task:
    """→ BLOCKED: it is released by itself once everything it depends on is done.

    Args:
        ctx: needs ``write``.
        task_id: which.
        reason: what holds it up.
        waits_for: replaces its dependencies.
    """
    task = await _get(ctx, task_id, Permission.WRITE, "block")
    if waits_for is not None:
        task = await replace_dependencies(ctx, task, waits_for)
    return await _transition(ctx, task, "block", reason=_reason(ctx, reason))


@operation
async def unblock_task(ctx: Context, *, task_id: str) -> Task:
    """BLOCKED → BACKLOG, whether or not what it waits for is done."""
    task = await _get(ctx, task_id, Permission.WRITE, "unblock")
    return await _transition(ctx, task, "unblock")
