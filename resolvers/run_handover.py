"""Handing a client's run over: the server executes it as one of its own, if it can."""

from collections.abc import Sequence
from typing import Any

from models import Run, table_of
from models.enums import Permission, RunStatus, TaskStatus
from models.lifecycle import RUN_FINAL
from resolvers import validation as check
from resolvers.artifacts import take_staged_artifacts
from resolvers.client_runs import create_client_run
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidError
from resolvers.operation import operation
from resolvers.run_queries import get_run
from resolvers.task_access import get_task
from resolvers.task_board import enter_status
from resolvers.task_runs import (
    can_execute,
    change_run,
    queue_key,
    refuse_full_queue,
)
from resolvers.workspaces import get_active_workspace

RUN = table_of(Run).c


@operation
async def start_client_run(
    ctx: Context,
    *,
    task_id: str,
    executor: str | None = None,
    model: str | None = None,
    branch: str | None = None,
    prompt: str | None = None,
    state: dict[str, Any] | None = None,
    resume_from_id: str | None = None,
    artifact_ids: Sequence[str] = (),
) -> Run:
    """Make a ``cloud`` run of a task and have the server execute it, if it can.

    Each call makes one more run; earlier ones go on, and runs of one task execute one after the
    other. Where the server cannot execute it (no repository, agents fetch their work, no such
    program) it stays QUEUED until a client drives it.

    Args:
        ctx: needs ``execute``.
        task_id: any live task.
        executor: by default that of the run it resumes, the task's, the server's.
        model: likewise.
        branch: the base branch of the work.
        prompt: said to the agent instead of the prompt made from the task.
        state: what the client wants to remember.
        resume_from_id: a run of the same task whose session goes on.
        artifact_ids: files that were staged for the task, which the run takes.

    Raises:
        InvalidError: ``resume_from_id`` is not a run of this task.
        ArtifactMissingError: a file is not there to be taken.
        NotFoundError, ForbiddenError, LimitExceededError (queue full).
    """
    earlier = await _run_of_task(ctx, task_id, resume_from_id) if resume_from_id else None
    run = await create_client_run(
        ctx,
        task_id=task_id,
        environment="cloud",
        executor=executor or (earlier.executor if earlier else None),
        model=model or (earlier.model if earlier else None),
        branch=branch,
        state=state,
    )
    if earlier is not None:
        run = await ctx.transaction.update_by_id(
            Run, run.id, resumed_from_id=earlier.id, session_id=earlier.session_id
        )
    return await hand_over_run(ctx, run_id=run.id, prompt=prompt, artifact_ids=artifact_ids)


async def _run_of_task(ctx: Context, task_id: str, run_id: str) -> Run:
    found = await ctx.transaction.find(Run, RUN.id == run_id, RUN.task_id == task_id)
    if found is None:
        raise InvalidError("resume_from_id is not a run of this task", field="resume_from_id")
    return found


@operation
async def hand_over_run(
    ctx: Context,
    *,
    run_id: str,
    prompt: str | None = None,
    state: dict[str, Any] | None = None,
    state_remove: Sequence[str] = (),
    artifact_ids: Sequence[str] = (),
) -> Run:
    """Let the server execute a client's run, from its queue, as one of its own.

    A run that has ended is queued again, in its session and worktree. Its task becomes QUEUED
    unless it is in progress. Where the server cannot execute it (see :func:`start_client_run`)
    the run is QUEUED and still its client's.

    Args:
        ctx: needs ``execute``.
        run_id: which.
        prompt: said to the agent instead of the prompt made from the task.
        state: merged into the run's state, after ``state_remove``.
        state_remove: keys to be removed from it.
        artifact_ids: files that were staged for the task, which the run takes.

    Raises:
        ArtifactMissingError: a file is not there to be taken.
        ConflictError: the server has it already, and it has not ended.
        NotFoundError, ForbiddenError, InvalidError, LimitExceededError (queue full).
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.EXECUTE)
    if run.managed and run.status not in RUN_FINAL:
        raise ConflictError("The run is active already", status=RunStatus(run.status))
    await take_staged_artifacts(ctx, run=run, ids=artifact_ids)
    kept = {k: v for k, v in run.state.items() if k not in state_remove} | (state or {})
    again: dict[str, Any] = {
        "status": RunStatus.QUEUED,
        "environment": "cloud",
        "state": check.json_object(kept, field="state", maximum_bytes=ctx.limits.json_bytes),
        "queued_at": ctx.now,
        "finished_at": None,
        "error": None,
        "reason": None,
        "exit_code": None,
        "stop_requested_at": None,
        "stop_reason": None,
    }
    workspace = await get_active_workspace(
        ctx, workspace_id=run.workspace_id, permission=Permission.EXECUTE
    )
    if run.task_id is not None and can_execute(ctx, workspace, run.executor):
        await refuse_full_queue(ctx)
        await _queue_task(ctx, run.task_id)
        again["managed"] = True
        again["queue_key"] = queue_key(run.priority_level, ctx.now)
        again["prompt"] = check.optional_text(
            prompt, field="prompt", maximum=ctx.limits.description
        )
        ctx.after_commit(ctx.services.dispatcher.wake)
    return await change_run(ctx, run, "run.queued", free=True, **again)


async def _queue_task(ctx: Context, task_id: str) -> None:
    task = await get_task(ctx, task_id=task_id, permission=Permission.EXECUTE)
    if task.status not in {TaskStatus.QUEUED, TaskStatus.IN_PROGRESS}:
        await enter_status(ctx, task, TaskStatus.QUEUED, event="task.queued", enqueue=False)


@operation
async def resume_client_run(
    ctx: Context, *, run_id: str, state: dict[str, Any], state_remove: Sequence[str]
) -> Run:
    """Take a run over into the cloud: :func:`hand_over_run` for one that is not active there.

    Raises:
        ConflictError: it is a ``cloud`` run that has not ended.
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.EXECUTE)
    if run.environment == "cloud" and run.status not in RUN_FINAL:
        raise ConflictError("The run is active already", status=RunStatus(run.status))
    return await hand_over_run(ctx, run_id=run_id, state=state, state_remove=state_remove)
