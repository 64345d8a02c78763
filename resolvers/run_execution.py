"""Runs as the server that executes them sees them: claim, launch, output, end, lease.

Everything here is fenced by the lease token that :func:`claim_run` handed out: what an executor
says under an older token is refused, so a run has one owner at a time.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import Run, RunOutput, Task, Workspace, table_of
from models.base import json_contains
from models.enums import QueueClass, RunStatus, TaskStatus, WorkspaceStatus
from models.lifecycle import RUN_EXECUTING, RUN_FINAL, TRANSITIONS
from models.transaction import select_all
from resolvers.context import Context
from resolvers.errors import ConflictError, NotFoundError
from resolvers.operation import operation, step
from resolvers.run_queries import pack_entries
from resolvers.task_board import enter_status
from resolvers.task_queries import has_unmet_dependency
from resolvers.task_runs import change_run
from resolvers.tasks import change_task, record_from

RUN = table_of(Run).c
TASK = table_of(Task).c
WORKSPACE = table_of(Workspace).c
LEASE = timedelta(seconds=60)
"""How long a claim holds without being renewed."""
CLAIM_CANDIDATES = 50


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that is this server's to execute, under a token."""

    run: Run
    task: Task | None
    workspace: Workspace
    token: int


@operation
async def claim_run(
    ctx: Context, *, host: str, executors: Collection[str], maximum: int
) -> ClaimedRun | None:
    """Take the next run out of the queue: by queue, then priority, then age.

    A run is passed over while its workspace runs as many as it may, its queue is paused, its task
    waits for another one, or this server cannot start its executor.

    Args:
        ctx: the system's.
        host: this machine's name, kept with the run: only there its processes can be found again.
        executors: what this server can start.
        maximum: how many managed runs may execute on this host.

    Returns:
        The claimed run, RUNNING, its task IN_PROGRESS; None when nothing is ready.
    """
    executing = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(
            RUN.managed.is_(True), RUN.status.in_(sorted(RUN_EXECUTING)), RUN.host == host
        )
    )
    if executing >= maximum:
        return None
    for run in await _candidates(ctx, executors):
        workspace = await _lock_workspace(ctx, run.workspace_id)
        if workspace is None or not await _has_room(ctx, workspace):
            continue
        return await _take(ctx, run, workspace, host=host)
    return None


async def _candidates(ctx: Context, executors: Collection[str]) -> list[Run]:
    statement = (
        select_all(Run)
        .join(table_of(Workspace), WORKSPACE.id == RUN.workspace_id)
        .outerjoin(table_of(Task), TASK.id == RUN.task_id)
        .where(
            RUN.status == RunStatus.QUEUED,
            RUN.managed.is_(True),
            RUN.executor.in_(sorted(executors)),
            WORKSPACE.status == WorkspaceStatus.ACTIVE,
            WORKSPACE.deleted_at.is_(None),
            TASK.deleted_at.is_(None),
            sa.or_(RUN.task_id.is_(None), sa.not_(has_unmet_dependency(RUN.task_id))),
            *(_queue_open(queue) for queue in QueueClass),
            _executing_in(WORKSPACE.id) < WORKSPACE.max_concurrent,
        )
        .order_by(RUN.queue_rank, RUN.priority_level.desc(), RUN.queued_at, RUN.id)
        .limit(CLAIM_CANDIDATES)
    )
    if ctx.transaction.dialect == "postgresql":
        statement = statement.with_for_update(of=table_of(Run), skip_locked=True)
    return await ctx.transaction.records(Run, statement)


def _queue_open(queue: QueueClass) -> sa.ColumnElement[bool]:
    return sa.not_(sa.and_(RUN.queue_class == queue, json_contains(WORKSPACE.queue_paused, queue)))


def _executing_in(workspace_id: sa.ColumnElement[str]) -> sa.ScalarSelect[Any]:
    other = table_of(Run).alias("executing")
    return (
        sa.select(sa.func.count())
        .select_from(other)
        .where(
            other.c.workspace_id == workspace_id,
            other.c.managed.is_(True),
            other.c.status.in_(sorted(RUN_EXECUTING)),
        )
        .scalar_subquery()
    )


async def _lock_workspace(ctx: Context, workspace_id: str) -> Workspace | None:
    # Asked again under the lock: it may have been archived or deleted since the candidates came.
    statement = select_all(Workspace).where(
        WORKSPACE.id == workspace_id,
        WORKSPACE.status == WorkspaceStatus.ACTIVE,
        WORKSPACE.deleted_at.is_(None),
    )
    if ctx.transaction.dialect == "postgresql":
        statement = statement.with_for_update(skip_locked=True)
    found = await ctx.transaction.records(Workspace, statement)
    return found[0] if found else None


async def _has_room(ctx: Context, workspace: Workspace) -> bool:
    executing = await ctx.transaction.scalar(sa.select(_executing_in(sa.literal(workspace.id))))
    return int(executing) < workspace.max_concurrent


async def _take(ctx: Context, run: Run, workspace: Workspace, *, host: str) -> ClaimedRun:
    task = None
    if run.task_id is not None:
        task = await ctx.transaction.find_by_id(Task, run.task_id)
    token = run.lease_token + 1
    run = await change_run(
        ctx,
        run,
        "run.started",
        status=RunStatus.RUNNING,
        host=host,
        lease_owner=ctx.services.instance,
        lease_token=token,
        lease_expires_at=ctx.now + LEASE,
        started_at=run.started_at or ctx.now,
        stop_requested_at=None,
        stop_reason=None,
        reason=None,
    )
    if task is not None and task.status in TRANSITIONS["start"].allowed_from:
        task = await enter_status(
            ctx, task, TaskStatus.IN_PROGRESS, event=TRANSITIONS["start"].event, end_runs=False
        )
    return ClaimedRun(run, task, workspace, token)


async def _fenced(ctx: Context, run_id: str, token: int) -> Run:
    """The run, locked, if the token is still the valid one.

    Raises:
        NotFoundError, ConflictError.
    """
    row = await ctx.transaction.first(
        sa.select(*table_of(Run).c).where(RUN.id == run_id).with_for_update()
    )
    if row is None:
        raise NotFoundError("Run")
    run: Run = record_from(Run, row)
    if run.lease_token != token:
        raise ConflictError("Another server has taken this run over", lease_token=run.lease_token)
    return run


@step
async def record_launch(
    ctx: Context, *, run_id: str, token: int, process: dict[str, Any], **facts: Any
) -> Run:
    """Keep what is needed to find a run's processes again, and where it works.

    Args:
        ctx: the system's.
        run_id: which.
        token: the claim's.
        process: identity of supervisor and agent, the run folder, the tag.
        facts: of branch, base_branch, base_commit, worktree_path, session_id.
    """
    run = await _fenced(ctx, run_id, token)
    task = await ctx.transaction.find_by_id(Task, run.task_id or "")
    shared = {k: facts[k] for k in ("branch", "base_branch", "worktree_path") if k in facts}
    if task is not None and any(getattr(task, k) != v for k, v in shared.items()):
        await change_task(ctx, task, "task.updated", extra={"changed": sorted(shared)}, **shared)
    return await change_run(
        ctx, run, "run.launched", process=process, last_output_at=ctx.now, **facts
    )


@step
async def renew_leases(ctx: Context, *, tokens: dict[str, int]) -> set[str]:
    """Renew the leases of runs this server executes; ids of those that it still owns."""
    if not tokens:
        return set()
    rows = await ctx.transaction.rows(
        sa.update(table_of(Run))
        .where(RUN.id.in_(tokens), RUN.lease_owner == ctx.services.instance)
        .values(lease_expires_at=ctx.now + LEASE)
        .returning(RUN.id, RUN.lease_token)
    )
    return {row.id for row in rows if tokens[row.id] == row.lease_token}


@step
async def give_up_leases(ctx: Context, *, tokens: dict[str, int]) -> int:
    """Let the leases of runs end now, so that another server may take them up at once; how many."""
    ended = 0
    for run_id, token in tokens.items():
        ended += await ctx.transaction.execute(
            sa.update(table_of(Run))
            .where(
                RUN.id == run_id,
                RUN.lease_owner == ctx.services.instance,
                RUN.lease_token == token,
            )
            .values(lease_expires_at=ctx.now)
        )
    return ended


@dataclass(slots=True)
class OutputFacts:
    """What new output said about its run, beside its lines."""

    activity: str | None = None
    progress: int | None = None
    session_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    announce: bool = False
    """Whether to write an activity event; the caller does so at most once a second."""


@step
async def append_output(
    ctx: Context,
    *,
    run_id: str,
    token: int,
    entries: list[dict[str, Any]],
    offsets: dict[str, int],
    facts: OutputFacts | None = None,
) -> int:
    """Add lines to a run's output log and advance its file offsets, in one transaction.

    Args:
        ctx: the system's.
        run_id: which.
        token: the claim's.
        entries: ``{"s": stream, "t": text, "at": ISO time, "e": progress event}``, in order.
        offsets: new ``stdout_offset`` and ``stderr_offset``, in bytes.
        facts: what the lines said.

    Returns:
        The number of the newest line.
    """
    run = await _fenced(ctx, run_id, token)
    first = run.output_lines + 1
    last = run.output_lines + len(entries)
    if entries:
        await ctx.transaction.insert(
            RunOutput,
            run_id=run_id,
            first_line=first,
            last_line=last,
            data=pack_entries(entries),
            created_at=ctx.now,
        )
        ctx.after_commit(lambda: ctx.services.wakeups.run_output(run_id))
    facts = facts or OutputFacts()
    changes: dict[str, Any] = {
        **offsets,
        "output_lines": last,
        "output_bytes": run.output_bytes + sum(len(entry["t"]) for entry in entries),
        "last_output_at": ctx.now,
        "input_tokens": run.input_tokens + facts.input_tokens,
        "output_tokens": run.output_tokens + facts.output_tokens,
        "cached_tokens": run.cached_tokens + facts.cached_tokens,
        "cost_usd": run.cost_usd + facts.cost_usd,
    }
    for name in ("activity", "progress", "session_id"):
        if (value := getattr(facts, name)) is not None:
            changes[name] = value
    if facts.announce:
        await change_run(ctx, run, "run.activity", **changes)
    else:
        await ctx.transaction.update_by_id(Run, run_id, **changes)
    return last


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended, as its executor and the server judged it."""

    status: RunStatus
    reason: str
    error: str | None = None
    exit_code: int | None = None
    task_facts: dict[str, Any] = field(default_factory=dict)
    """commit_sha, files_changed, additions, deletions of the branch."""


@operation
async def finish_run(ctx: Context, *, run_id: str, token: int, outcome: RunOutcome) -> Run:
    """Record a run's end, and move its task.

    COMPLETED → the task goes to REVIEW; FAILED → to FAILED with the error; stopped → to REVIEW
    when there are changes to look at, else to BACKLOG; stopped for a pause → the run is PAUSED and
    so the task stays. A task that was moved meanwhile is left where it is.
    """
    run = await _fenced(ctx, run_id, token)
    if run.status in RUN_FINAL or run.status == RunStatus.PAUSED:
        return run
    status = outcome.status
    pausing = run.stop_reason == "paused" and status == RunStatus.CANCELLED
    if pausing:
        status = RunStatus.PAUSED
    reason = run.stop_reason if status == RunStatus.CANCELLED else outcome.reason
    after = await change_run(
        ctx,
        run,
        f"run.{status.lower()}",
        status=status,
        reason=reason,
        error=outcome.error,
        exit_code=outcome.exit_code,
        lease_owner=None,
        lease_expires_at=None,
        **outcome.task_facts,
    )
    if run.task_id is not None:
        await _settle_task(ctx, after, outcome)
    ctx.after_commit(ctx.services.dispatcher.wake)
    return after


async def _settle_task(ctx: Context, run: Run, outcome: RunOutcome) -> None:
    row = await ctx.transaction.first(
        sa.select(*table_of(Task).c).where(TASK.id == run.task_id).with_for_update()
    )
    if row is None:
        return
    task: Task = record_from(Task, row)
    if task.deleted_at is not None:
        return
    facts = outcome.task_facts
    changes: dict[str, Any]
    if task.status != TaskStatus.IN_PROGRESS or run.status == RunStatus.PAUSED:
        if facts:
            await change_task(ctx, task, "task.updated", extra={"run_id": run.id}, **facts)
        return
    if run.status == RunStatus.COMPLETED:
        target, event, changes = TaskStatus.REVIEW, "submit", {"review_reason": "completed"}
    elif run.status == RunStatus.FAILED:
        target, event, changes = TaskStatus.FAILED, "fail", {"error": outcome.error}
    elif facts.get("files_changed"):
        target, event, changes = TaskStatus.REVIEW, "submit", {"review_reason": "stopped"}
    else:
        target, event, changes = TaskStatus.BACKLOG, "dequeue", {}
    await enter_status(
        ctx,
        task,
        target,
        event=TRANSITIONS[event].event,
        reason=outcome.error or run.reason,
        end_runs=False,
        **{**facts, **changes},
    )


async def executing_runs(
    ctx: Context, *, host: str | None = None, lease_ended: bool = False
) -> list[Run]:
    """Managed runs that count as executing, oldest first.

    Args:
        ctx: the system's.
        host: only of this host.
        lease_ended: only those whose server has not renewed its lease in time.
    """
    statement = (
        select_all(Run)
        .where(RUN.managed.is_(True), RUN.status.in_(sorted(RUN_EXECUTING)))
        .order_by(RUN.started_at, RUN.id)
    )
    if host is not None:
        statement = statement.where(RUN.host == host)
    if lease_ended:
        statement = statement.where(RUN.lease_expires_at < ctx.now)
    return await (await ctx.reader()).records(Run, statement)


async def stops_requested(ctx: Context, *, run_ids: list[str]) -> list[str]:
    """Those of the runs that somebody has asked to stop."""
    return await (await ctx.reader()).scalars(
        sa.select(RUN.id).where(RUN.id.in_(run_ids), RUN.stop_requested_at.is_not(None))
    )


@step
async def adopt_run(ctx: Context, *, run_id: str, token: int) -> ClaimedRun | None:
    """Take over an executing run whose former server on this host is gone.

    Args:
        ctx: the system's.
        run_id: which.
        token: the token the run had when it was looked at; another one means somebody was faster.

    Returns:
        The run under a new token; None when it has ended or was taken meanwhile.
    """
    try:
        run = await _fenced(ctx, run_id, token)
    except (NotFoundError, ConflictError):
        return None
    if run.status not in RUN_EXECUTING:
        return None
    run = await change_run(
        ctx,
        run,
        "run.adopted",
        lease_owner=ctx.services.instance,
        lease_token=token + 1,
        lease_expires_at=ctx.now + LEASE,
    )
    task = await ctx.transaction.find_by_id(Task, run.task_id or "")
    workspace = await ctx.transaction.find_by_id(Workspace, run.workspace_id)
    assert workspace is not None  # noqa: S101  # a foreign key says so
    return ClaimedRun(run, task, workspace, token + 1)


@operation
async def fail_lost_run(ctx: Context, *, run_id: str, token: int, reason: str) -> Run | None:
    """End a run whose host or processes are gone for good, as FAILED with the reason."""
    claimed = await adopt_run(ctx, run_id=run_id, token=token)
    if claimed is None:
        return None
    text = {
        "host_lost": "The server that executed this run is gone",
        "interrupted": "The run was interrupted: its processes are gone without an exit code",
    }[reason]
    return await finish_run(
        ctx,
        run_id=run_id,
        token=claimed.token,
        outcome=RunOutcome(RunStatus.FAILED, reason, error=text),
    )
