"""What happens to a task's runs when the task moves, and back."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from models import Agent, Run, Task, Workspace, table_of
from models.commands import Command
from models.enums import PRIORITY_LEVEL_MAX, Executor, QueueClass, RunKind, RunStatus
from models.lifecycle import RUN_EXECUTING, RUN_FINAL, RUN_LIVE, RUN_TRANSITIONS
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidError, LimitExceededError
from resolvers.notifications import decide_notifications

RUN = table_of(Run).c
QUEUE_RANK = {QueueClass.HIGH: 0, QueueClass.NORMAL: 1, QueueClass.LOW: 2}
"""The order in which queues are drained."""
QUEUE_ORDER = (RUN.queue_rank, RUN.queue_key, RUN.queued_at, RUN.id)
"""SQL: the order in which waiting runs start."""
_PRIORITY_STEP = 1e10


def queue_key(priority_level: int, queued_at: datetime) -> float:
    """Where a run takes its place in its queue: by priority, then age; smaller is earlier.

    It is seconds within a priority, so that a place between any two runs can be named.
    """
    return (PRIORITY_LEVEL_MAX - priority_level) * _PRIORITY_STEP + queued_at.timestamp()


async def live_runs(ctx: Context, task: Task) -> list[Run]:
    """The managed runs of a task that have not ended, oldest first; locked."""
    return await ctx.transaction.run_records(Run, LIVE_RUNS, {"task_id": task.id})


LIVE_RUNS = Command(
    lambda _dialect: (
        select_all(Run)
        .where(
            RUN.task_id == sa.bindparam("task_id"),
            RUN.managed.is_(True),
            sa.or_(*(RUN.status == str(status) for status in sorted(RUN_LIVE))),
        )
        .order_by(RUN.created_at, RUN.id)
        .with_for_update()
    ),
    model=Run,
)


async def queue_run(
    ctx: Context,
    task: Task,
    *,
    workspace: Workspace,
    executor: str | None = None,
    model: str | None = None,
    prompt: str | None = None,
    phase: str | None = None,
    agent_id: str | None = None,
    queue_class: str | None = None,
    timeout_seconds: int | None = None,
    token_budget: int | None = None,
    cost_budget_usd: float | None = None,
    resumed_from: Run | None = None,
    kind: RunKind = RunKind.TASK,
) -> Run:
    """Put one managed run of a task into the queue; the dispatcher is woken after the commit.

    Raises:
        ConflictError: the task has a live managed run already.
        InvalidError: the agent is not in the task's workspace, the executor is not configured on
            this server, or there is no repository.
        LimitExceededError: the queue is full.
    """
    if await live_runs(ctx, task):
        raise ConflictError("The task has a run that has not ended")
    agent = await _agent(ctx, task, agent_id)
    chosen = executor or task.executor or (agent.executor if agent else None)
    chosen = chosen or ctx.services.trust.default_executor
    require_executor(ctx, chosen)
    if workspace.local_path is None and workspace.repository_url is None:
        raise InvalidError(
            "The workspace has no repository: set localPath or repositoryUrl", field="workspace"
        )
    await refuse_full_queue(ctx)
    queue = QueueClass(queue_class or task.queue_class)
    ((attempt,),) = await ctx.transaction.run(RUNS_OF_TASK, {"task_id": task.id})
    run = await ctx.transaction.insert(
        Run,
        workspace_id=task.workspace_id,
        task_id=task.id,
        agent_id=agent.id if agent else None,
        kind=kind,
        phase=phase,
        executor=chosen,
        model=model or task.model or (agent.model if agent else None),
        attempt=int(attempt) + 1,
        queue_class=queue,
        queue_rank=QUEUE_RANK[queue],
        queue_key=queue_key(task.priority_level, ctx.now),
        priority_level=task.priority_level,
        prompt=prompt,
        timeout_seconds=timeout_seconds,
        token_budget=token_budget,
        cost_budget_usd=cost_budget_usd,
        branch=task.branch,
        base_branch=task.base_branch or workspace.default_branch,
        session_id=resumed_from.session_id if resumed_from else None,
        resumed_from_id=resumed_from.id if resumed_from else None,
        queued_at=ctx.now,
        created_by=ctx.authenticated().user_id,
        created_at=ctx.now,
        updated_at=ctx.now,
    )
    ctx.run_totals.record(None, run, at=ctx.now)
    ctx.emit("run.queued", run, workspace_id=run.workspace_id)
    ctx.after_commit(ctx.services.dispatcher.wake)
    return run


RUNS_OF_TASK = Command(
    lambda _dialect: sa.select(sa.func.count()).where(RUN.task_id == sa.bindparam("task_id"))
)


async def _agent(ctx: Context, task: Task, agent_id: str | None) -> Agent | None:
    """Who a run of the task runs as: the agent of this id, else the task's own, if it has one."""
    columns = table_of(Agent).c
    if agent_id is not None:
        check.identifier(agent_id, field="agentId")
    elif task.agent_id is None:
        return None
    agent = await ctx.transaction.find(
        Agent,
        columns.id == (agent_id or task.agent_id),
        columns.workspace_id == task.workspace_id,
    )
    if agent is None and agent_id is not None:
        raise InvalidError(f"Agent {agent_id} is not in this workspace", field="agentId")
    return agent


def require_executor(ctx: Context, executor: str) -> None:
    """Refuse an executor this server cannot start.

    Raises:
        InvalidError: naming the setting that is missing.
    """
    if executor not in Executor.__members__:
        raise InvalidError(f"{executor} is not an executor", field="executor")
    if executor not in (ctx.services.trust.executors or {}):
        raise InvalidError(
            f"The executor {executor} is not configured on this server"
            + (": set DRAGOMAN_CUSTOM_COMMAND" if executor == Executor.CUSTOM else ""),
            field="executor",
        )


def can_execute(ctx: Context, workspace: Workspace, executor: str) -> bool:
    """Whether this server would execute a run there: a repository, and a program it can start."""
    return (
        not workspace.pull_mode
        and (workspace.local_path is not None or workspace.repository_url is not None)
        and executor in (ctx.services.trust.executors or {})
    )


async def refuse_full_queue(ctx: Context) -> None:
    """Refuse when as many runs wait as may.

    Raises:
        LimitExceededError
    """
    ((waiting,),) = await ctx.transaction.run(WAITING_RUNS, {})
    if waiting >= ctx.limits.queued_runs:
        raise LimitExceededError("The queue of runs is full", limit=ctx.limits.queued_runs)


WAITING_RUNS = Command(
    lambda _dialect: sa.select(sa.func.count()).where(
        RUN.status == str(RunStatus.QUEUED), RUN.managed.is_(True)
    )
)


async def change_run(
    ctx: Context,
    run: Run,
    event: str,
    *,
    extra: dict[str, Any] | None = None,
    free: bool = False,
    **changes: Any,
) -> Run:
    """Write a change of a run: version, time and event in one place.

    ``free``: the table of transitions does not bind this change (a client's own run).

    Raises:
        ConflictError: the lifecycle does not allow the new status.
    """
    status = changes.get("status", run.status)
    allowed = free or RunStatus(status) in RUN_TRANSITIONS[RunStatus(run.status)]
    if status != run.status and not allowed:
        raise ConflictError(f"A {run.status} run cannot become {status}", status=run.status)
    if status in RUN_FINAL and run.status not in RUN_FINAL:
        changes.setdefault("finished_at", ctx.now)
        changes["questions"] = []
        changes.update(lease_owner=None, lease_expires_at=None)
    if status in {RunStatus.PAUSED, RunStatus.QUEUED}:
        changes["questions"] = []
    after = await ctx.transaction.update_by_id(
        Run, run.id, updated_at=ctx.now, version=run.version + 1, **changes
    )
    ctx.run_totals.record(run, after, at=ctx.now)
    extra = dict(extra or {})
    if after.status != run.status:
        extra["from_status"] = run.status
    ctx.emit(event, after, workspace_id=run.workspace_id, **extra)
    await decide_notifications(ctx, run, after)
    if after.status in RUN_FINAL or after.status == RunStatus.PAUSED:
        ctx.after_commit(lambda: ctx.services.wakeups.run_output(run.id))
    return after


async def end_run(ctx: Context, run: Run, *, reason: str) -> Run:
    """Cancel a run that waits; ask a run that executes to stop. Repeating changes nothing."""
    if run.status in RUN_EXECUTING:
        return await request_stop(ctx, run, reason=reason)
    if run.status in RUN_LIVE:
        return await change_run(
            ctx, run, "run.cancelled", status=RunStatus.CANCELLED, reason=reason
        )
    return run


async def request_stop(ctx: Context, run: Run, *, reason: str, error: str | None = None) -> Run:
    """Record the intent to stop before anything is signalled; a stop for pausing may be raised.

    The intent is written first, because some agents exit with 0 when they are stopped.
    """
    if run.stop_requested_at is not None and run.stop_reason != "paused":
        return run
    changes: dict[str, Any] = {} if error is None else {"error": error}
    after = await change_run(
        ctx,
        run,
        "run.stop_requested",
        stop_requested_at=ctx.now,
        stop_reason=reason,
        **changes,
    )
    ctx.after_commit(lambda: ctx.services.dispatcher.stop(run.id))
    return after


async def end_live_runs(ctx: Context, task: Task, *, reason: str) -> list[Run]:
    """Cancel or stop all managed runs of a task that have not ended."""
    return [await end_run(ctx, run, reason=reason) for run in await live_runs(ctx, task)]
