"""Which server executes which run: claims, leases, and taking over what a dead one left.

Everything about an executing run is fenced by the lease token that :func:`claim_run` handed out:
what is said under an older token is refused, so a run has one owner at a time.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import Run, Task, Workspace, table_of
from models.enums import RunKind, RunStatus, TaskStatus, WorkspaceStatus
from models.lifecycle import RUN_EXECUTING, RUN_FINAL, TRANSITIONS
from models.prepared import Prepared
from models.transaction import select_all
from resolvers.context import Context
from resolvers.errors import ConflictError, NotFoundError
from resolvers.operation import operation, step
from resolvers.queue_conditions import executing, startable, waiting_runs
from resolvers.task_access import record_from
from resolvers.task_board import enter_status
from resolvers.task_runs import QUEUE_ORDER, change_run

RUN = table_of(Run).c
WORKSPACE = table_of(Workspace).c
LEASE = timedelta(seconds=60)
"""How long a claim holds without being renewed."""
CLAIM_CANDIDATES = 50
RUNS_AT_ONCE = 500


_BEGUN = frozenset({TaskStatus.IN_PROGRESS, TaskStatus.PAUSED})


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
    """Take the next run out of the queue: by queue, then by its place there.

    A run is passed over while anything holds it up (``resolvers.queue_conditions``).

    Args:
        ctx: the system's.
        host: this machine's name, kept with the run: only there its processes can be found again.
        executors: what this server can start.
        maximum: how many managed runs may execute on this host.

    Returns:
        The claimed run, RUNNING, its task IN_PROGRESS; None when nothing is ready.
    """
    already = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(
            RUN.managed.is_(True),
            RUN.kind != RunKind.COMMAND,
            RUN.status.in_(sorted(RUN_EXECUTING)),
            RUN.host == host,
        )
    )
    if already >= maximum:
        return None
    for run in await _candidates(ctx, executors):
        workspace = await _lock_workspace(ctx, run.workspace_id)
        if workspace is None or not await _has_room(ctx, workspace, run):
            continue
        return await _take(ctx, run, workspace, host=host)
    return None


@operation
async def claim_command(ctx: Context, *, host: str, maximum: int) -> ClaimedRun | None:
    """Take the next command, in the order they came; queues and their limits are not asked.

    Args:
        ctx: the system's.
        host: this machine's name.
        maximum: how many commands may execute on this host.
    """
    already = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(
            RUN.kind == RunKind.COMMAND, RUN.status.in_(sorted(RUN_EXECUTING)), RUN.host == host
        )
    )
    if already >= maximum:
        return None
    statement = (
        sa.select(*RUN).where(_is_waiting_command()).order_by(RUN.queued_at, RUN.id).limit(1)
    )
    if ctx.transaction.dialect == "postgresql":
        statement = statement.with_for_update(skip_locked=True)
    found = await ctx.transaction.records(Run, statement)
    if not found:
        return None
    workspace = await ctx.transaction.find_by_id(Workspace, found[0].workspace_id)
    assert workspace is not None  # noqa: S101  # a foreign key says so
    return await _take(ctx, found[0], workspace, host=host)


def _is_waiting_command() -> sa.ColumnElement[bool]:
    return sa.and_(
        RUN.status == RunStatus.QUEUED, RUN.managed.is_(True), RUN.kind == RunKind.COMMAND
    )


# Every server asks this each second.
_WAITING_COMMAND = Prepared(
    Run, ["id"], [], lambda _dialect: sa.select(RUN.id).where(_is_waiting_command()).limit(1)
)
_WAITING_RUN = Prepared(Run, ["id"], [], lambda _dialect: waiting_runs(RUN.id).limit(1))


async def any_command_waits(ctx: Context) -> bool:
    """Whether a command waits to be started: a read."""
    return bool(await (await ctx.reader()).fetch(_WAITING_COMMAND))


async def any_run_waits(ctx: Context, *, executors: Collection[str]) -> bool:
    """Whether any run could start: a read, so that an idle server keeps off the writers."""
    reader = await ctx.reader()
    # What holds runs up takes longer to put into SQL than an empty queue takes to read.
    if not await reader.fetch(_WAITING_RUN):
        return False
    return await reader.scalar(startable(ctx, executors, RUN.id).limit(1)) is not None


async def _candidates(ctx: Context, executors: Collection[str]) -> list[Run]:
    statement = startable(ctx, executors, *RUN).order_by(*QUEUE_ORDER).limit(CLAIM_CANDIDATES)
    if ctx.transaction.dialect == "postgresql":
        statement = statement.with_for_update(of=table_of(Run), skip_locked=True)
    return await ctx.transaction.records(Run, statement)


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


async def _has_room(ctx: Context, workspace: Workspace, run: Run) -> bool:
    row = await ctx.transaction.first(
        sa.select(
            executing(workspace_id=sa.literal(workspace.id)).label("of_workspace"),
            executing(task_id=sa.literal(run.task_id)).label("of_task"),
        )
    )
    assert row is not None  # noqa: S101  # counts have always a row
    return bool(row.of_workspace < workspace.max_concurrent and row.of_task == 0)


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
    stays = run.kind != RunKind.TASK
    if task is not None and not stays and task.status not in _BEGUN:
        task = await enter_status(
            ctx, task, TaskStatus.IN_PROGRESS, event=TRANSITIONS["start"].event, end_runs=False
        )
    return ClaimedRun(run, task, workspace, token)


async def get_fenced_run(ctx: Context, run_id: str, token: int) -> Run:
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


async def ended_runs(ctx: Context, *, run_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Those of the runs that are over or unknown, each with its process facts (empty: unknown)."""
    rows: list[sa.Row[Any]] = []
    for start in range(0, len(run_ids), RUNS_AT_ONCE):
        some = run_ids[start : start + RUNS_AT_ONCE]
        rows += await (await ctx.reader()).rows(
            sa.select(RUN.id, RUN.status, RUN.process).where(RUN.id.in_(some))
        )
    known = {row.id: row for row in rows}
    ended: dict[str, dict[str, Any]] = {run_id: {} for run_id in run_ids if run_id not in known}
    ended.update({row.id: row.process for row in rows if row.status in RUN_FINAL})
    return ended


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
        run = await get_fenced_run(ctx, run_id, token)
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
