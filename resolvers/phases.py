"""Phases of a task that are run by themselves, and the rewriting of its text."""

import asyncio
import time

from models import Run
from models.enums import Permission, QueueClass, RunKind, TaskStatus
from models.lifecycle import RUN_FINAL, TERMINAL
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import IllegalTransitionError, InvalidError
from resolvers.operation import operation
from resolvers.run_queries import get_run
from resolvers.task_access import get_task
from resolvers.task_runs import QUEUE_RANK, queue_run, refuse_full_queue, require_executor
from resolvers.workspaces import get_active_workspace

PHASES = ("plan", "implement", "check")
REFINE_SECONDS = 60
REFINE_SECONDS_MAX = 600
WAIT_SECONDS_MAX = 120
_LOOK_SECONDS = 0.2


@operation
async def start_phase(
    ctx: Context,
    *,
    task_id: str,
    phase: str,
    executor: str | None = None,
    model: str | None = None,
    agent_id: str | None = None,
) -> Run:
    """Queue a run of one phase in the task's worktree; the task stays where it is on the board.

    Args:
        ctx: needs ``execute``.
        task_id: a task that is neither COMPLETED nor CANCELLED.
        phase: plan, implement or check; the prompt is made for it.
        executor: by default the task's, its agent's, the server's.
        model: which model the executor is to use.
        agent_id: the agent it runs as, by default the task's.

    Raises:
        IllegalTransitionError, NotFoundError, ForbiddenError, InvalidError, LimitExceededError.
        ConflictError: the task has a run that has not ended.
    """
    phase = check.one_of(phase, PHASES, field="phase")
    task = await get_task(ctx, task_id=task_id, permission=Permission.EXECUTE)
    if task.status in TERMINAL:
        raise IllegalTransitionError(phase, task.status, sorted(set(TaskStatus) - TERMINAL))
    workspace = await get_active_workspace(
        ctx, workspace_id=task.workspace_id, permission=Permission.EXECUTE
    )
    return await queue_run(
        ctx,
        task,
        workspace=workspace,
        executor=executor,
        model=check.optional_line(model, field="model", maximum=100),
        phase=phase,
        agent_id=agent_id,
        kind=RunKind.PHASE,
    )


async def refine_task(
    ctx: Context,
    *,
    task_id: str,
    executor: str | None = None,
    model: str | None = None,
    timeout_seconds: int = REFINE_SECONDS,
    wait_seconds: float = 0,
) -> Run:
    """Let an agent rewrite a task's title and description as a specification; nothing is changed.

    The text is the run's result. The run is of kind REFINE and belongs to no task, so it neither
    waits for the task's runs nor appears among them.

    Args:
        ctx: needs ``execute``.
        task_id: whose text.
        executor: by default the task's, the server's.
        model: by default the task's.
        timeout_seconds: ends the run after so long, 1 to 600.
        wait_seconds: how long to wait for its end, 0 to 120; after that the run is returned as it
            is then, and goes on.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, LimitExceededError.
    """
    if not 0 <= wait_seconds <= WAIT_SECONDS_MAX:
        raise InvalidError(f"waitSeconds must be 0 to {WAIT_SECONDS_MAX}", field="waitSeconds")
    run = await _queue_refinement(
        ctx, task_id=task_id, executor=executor, model=model, timeout_seconds=timeout_seconds
    )
    return run if wait_seconds == 0 else await await_run(ctx, run_id=run.id, seconds=wait_seconds)


@operation
async def _queue_refinement(
    ctx: Context, *, task_id: str, executor: str | None, model: str | None, timeout_seconds: int
) -> Run:
    task = await get_task(ctx, task_id=task_id, permission=Permission.EXECUTE)
    check.integer(timeout_seconds, field="timeoutSeconds", minimum=1, maximum=REFINE_SECONDS_MAX)
    chosen = executor or task.executor or ctx.services.trust.default_executor
    require_executor(ctx, chosen)
    await refuse_full_queue(ctx)
    run = await ctx.transaction.insert(
        Run,
        workspace_id=task.workspace_id,
        kind=RunKind.REFINE,
        phase="refine",
        executor=chosen,
        model=check.optional_line(model, field="model", maximum=100) or task.model,
        queue_class=QueueClass.HIGH,
        queue_rank=QUEUE_RANK[QueueClass.HIGH],
        priority_level=task.priority_level,
        timeout_seconds=timeout_seconds,
        state={"task_id": task.id, "title": task.title, "description": task.description},
        queued_at=ctx.now,
        created_by=ctx.authenticated().user_id,
        created_at=ctx.now,
        updated_at=ctx.now,
    )
    ctx.emit("run.queued", run, workspace_id=run.workspace_id)
    ctx.after_commit(ctx.services.dispatcher.wake)
    return run


async def await_run(ctx: Context, *, run_id: str, seconds: float) -> Run:
    """A run as soon as it has ended, or as it is after so many seconds; outside of operations.

    Raises:
        NotFoundError, ForbiddenError: also where it stops being visible meanwhile.
    """
    deadline = time.monotonic() + seconds
    while True:
        await ctx.release()  # a snapshot shows no news
        run = await get_run(ctx, run_id=run_id)
        left = deadline - time.monotonic()
        if run.status in RUN_FINAL or left <= 0:
            return run
        await ctx.release()
        await asyncio.sleep(min(_LOOK_SECONDS, left))
