"""Runs as people and clients handle them: start, stop, retry."""

from models import Run, Task
from models.enums import Permission, QueueClass, RunKind, RunStatus, TaskStatus
from models.lifecycle import RUN_EXECUTING, RUN_FINAL, TRANSITIONS
from resolvers import validation as check
from resolvers.budgets import check_amount
from resolvers.context import Context
from resolvers.errors import ConflictError, IllegalTransitionError, InvalidError
from resolvers.operation import operation
from resolvers.run_queries import get_run
from resolvers.task_access import get_task
from resolvers.task_board import enter_status
from resolvers.task_runs import end_run, queue_run
from resolvers.workspaces import get_active_workspace

TIMEOUT_MAX = 7 * 24 * 3600


@operation
async def start_run(
    ctx: Context,
    *,
    task_id: str,
    executor: str | None = None,
    model: str | None = None,
    prompt: str | None = None,
    phase: str | None = None,
    agent_id: str | None = None,
    queue: str | None = None,
    timeout_seconds: int | None = None,
    token_budget: float | None = None,
    cost_budget_usd: float | None = None,
) -> Run:
    """Queue a run of a task; it starts as soon as its turn comes, and the task is then IN_PROGRESS.

    Args:
        ctx: needs ``execute``.
        task_id: a task in BACKLOG, or QUEUED without a run (pull mode).
        executor: by default the task's, its agent's, the server's.
        model: which model the executor is to use.
        prompt: instead of the one made from the task; up to 100,000 characters.
        phase: what the run is for, in a word.
        agent_id: the agent it runs as, by default the task's.
        queue: HIGH, NORMAL or LOW; by default the task's.
        timeout_seconds: ends the run after so long, 1 second to 7 days.
        token_budget: stops it once it has used so many tokens; beside the workspace's budget.
        cost_budget_usd: stops it once it has used so many US dollars; likewise.

    Raises:
        IllegalTransitionError, NotFoundError, ForbiddenError, InvalidError, ConflictError,
        LimitExceededError.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.EXECUTE)
    allowed = TRANSITIONS["start"].allowed_from
    if task.status not in allowed:
        raise IllegalTransitionError("start", task.status, sorted(allowed))
    if queue is not None:
        queue = check.word(queue, QueueClass, field="queue")
    if timeout_seconds is not None:
        check.integer(timeout_seconds, field="timeoutSeconds", minimum=1, maximum=TIMEOUT_MAX)
    workspace = await get_active_workspace(
        ctx, workspace_id=task.workspace_id, permission=Permission.EXECUTE
    )
    if task.status == TaskStatus.BACKLOG:
        task = await enter_status(
            ctx, task, TaskStatus.QUEUED, event=TRANSITIONS["enqueue"].event, enqueue=False
        )
    return await queue_run(
        ctx,
        task,
        workspace=workspace,
        executor=executor,
        model=check.optional_line(model, field="model", maximum=100),
        prompt=check.optional_text(prompt, field="prompt", maximum=ctx.limits.description),
        phase=check.optional_line(phase, field="phase", maximum=20),
        agent_id=agent_id,
        queue_class=queue,
        timeout_seconds=timeout_seconds,
        token_budget=check_amount("token_budget", token_budget),
        cost_budget_usd=check_amount("cost_budget_usd", cost_budget_usd),
    )


@operation
async def stop_run(
    ctx: Context, *, run_id: str, reason: str | None = None, park: bool = False
) -> Run:
    """Cancel a waiting run, or ask an executing one to stop; repeating changes nothing.

    A waiting run's task goes back to BACKLOG. An executing one's goes to REVIEW when the run left
    changes, else to BACKLOG, as soon as its last process is gone.

    Args:
        ctx: needs ``execute``.
        run_id: which.
        reason: kept as the task's reason, up to 2,000 characters.
        park: leave the task where people put it: it is PAUSED at once, without a run, and goes
            back to BACKLOG when it is resumed.

    Raises:
        NotFoundError, ForbiddenError; ConflictError for a run that its client drives itself.
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.EXECUTE)
    check.optional_text(reason, field="reason", maximum=ctx.limits.short_text)
    if not run.managed:
        raise ConflictError("This run is driven by its own client, which has to stop it")
    if run.status in RUN_FINAL:
        return run
    after = await end_run(ctx, run, reason="stopped")
    task = await ctx.transaction.find_by_id(Task, run.task_id or "")
    if task is None or run.kind != RunKind.TASK:
        return after
    if park:
        if task.status in {TaskStatus.QUEUED, TaskStatus.IN_PROGRESS}:
            await _park(ctx, task, reason=reason)
    elif run.status not in RUN_EXECUTING and task.status in {TaskStatus.QUEUED, TaskStatus.PAUSED}:
        event = TRANSITIONS["dequeue"].event
        await enter_status(ctx, task, TaskStatus.BACKLOG, event=event, reason=reason)
    return after


async def _park(ctx: Context, task: Task, *, reason: str | None) -> None:
    await enter_status(
        ctx,
        task,
        TaskStatus.PAUSED,
        event=TRANSITIONS["pause"].event,
        reason=reason,
        end_runs=False,
        status_before=TaskStatus.BACKLOG,
    )


@operation
async def retry_run(ctx: Context, *, run_id: str) -> Run:
    """One more run like a finished one: same task, executor, model, prompt and queue.

    Raises:
        ConflictError: the run has not ended, or had no task.
        IllegalTransitionError: the task is neither in BACKLOG nor FAILED.
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.EXECUTE)
    if run.status not in RUN_FINAL:
        raise ConflictError("The run has not ended", status=RunStatus(run.status))
    if run.task_id is None:
        raise InvalidError("The run had no task", field="id")
    if run.kind != RunKind.TASK:
        raise InvalidError("Only runs that work on a task can be retried", field="id")
    task = await get_task(ctx, task_id=run.task_id, permission=Permission.EXECUTE)
    if task.status not in {TaskStatus.BACKLOG, TaskStatus.FAILED}:
        raise IllegalTransitionError("retry", task.status, [TaskStatus.BACKLOG, TaskStatus.FAILED])
    event = TRANSITIONS["retry" if task.status == TaskStatus.FAILED else "enqueue"].event
    task = await enter_status(
        ctx, task, TaskStatus.QUEUED, event=event, enqueue=False, error=None, progress=0
    )
    workspace = await get_active_workspace(
        ctx, workspace_id=task.workspace_id, permission=Permission.EXECUTE
    )
    return await queue_run(
        ctx,
        task,
        workspace=workspace,
        executor=run.executor,
        model=run.model,
        prompt=run.prompt,
        phase=run.phase,
        agent_id=run.agent_id,
        queue_class=run.queue_class,
        timeout_seconds=run.timeout_seconds,
        token_budget=run.token_budget,
        cost_budget_usd=run.cost_budget_usd,
    )
