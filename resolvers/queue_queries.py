"""What queues look like: their order, what holds runs up, how they do over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from models import QueueStatistic, Run, RunTotal, Workspace, table_of
from models.enums import QueueClass, RunHold, RunStatus
from models.lifecycle import RUN_EXECUTING
from resolvers.context import Context
from resolvers.loading import loader
from resolvers.paging import Order, Page, PageArguments, read_page
from resolvers.queue_conditions import holds, waiting_runs
from resolvers.run_totals import LONG, SHORT
from resolvers.task_queries import visible_workspaces
from resolvers.workspaces import get_workspace

RUN = table_of(Run).c
WORKSPACE = table_of(Workspace).c
TOTAL = table_of(RunTotal).c
STATISTIC = table_of(QueueStatistic).c
WAITING_ORDER = (
    Order(RUN.queue_rank, False),
    Order(RUN.queue_key, False),
    Order(RUN.queued_at, False),
    Order(RUN.id, False),
)


async def list_queue(
    ctx: Context, *, workspace_id: str, queue: str | None = None, page: PageArguments | None = None
) -> Page[Run]:
    """A page of the runs that wait in a workspace, in the order in which they will start.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError, InvalidError.
    """
    await get_workspace(ctx, workspace_id=workspace_id)
    statement = waiting_runs(*RUN).where(RUN.workspace_id == workspace_id)
    if queue is not None:
        statement = statement.where(RUN.queue_class == queue)
    return await read_page(ctx, Run, statement, order=WAITING_ORDER, page=page or PageArguments())


async def queue_position(ctx: Context, run: Run) -> int | None:
    """A waiting run's place in its workspace, from 1; None for one that does not wait."""
    if run.status != RunStatus.QUEUED or not run.managed:
        return None

    async def load(keys: Sequence[tuple[str, str]]) -> Sequence[int | None]:
        ranked = (
            waiting_runs(
                RUN.id,
                sa.func.row_number()
                .over(
                    partition_by=RUN.workspace_id,
                    order_by=[order.column for order in WAITING_ORDER],
                )
                .label("place"),
            )
            .where(RUN.workspace_id.in_({workspace_id for workspace_id, _ in keys}))
            .subquery()
        )
        rows = await (await ctx.reader()).rows(
            sa.select(ranked.c.id, ranked.c.place).where(
                ranked.c.id.in_([run_id for _, run_id in keys])
            )
        )
        found = {row.id: int(row.place) for row in rows}
        return [found.get(run_id) for _, run_id in keys]

    return await loader(ctx, "queue_position", load).load((run.workspace_id, run.id))


async def run_hold(ctx: Context, run: Run) -> RunHold | None:
    """What a waiting run waits for; None for one that does not wait."""
    if run.status != RunStatus.QUEUED or not run.managed:
        return None

    async def load(run_ids: Sequence[str]) -> Sequence[RunHold | None]:
        conditions = holds(ctx, list(ctx.services.trust.executors or {}))
        rows = await (await ctx.reader()).rows(
            waiting_runs(
                RUN.id, *(held.label(name.value) for name, held in conditions.items())
            ).where(RUN.id.in_(run_ids))
        )
        found = {
            row.id: next((name for name in conditions if getattr(row, name.value)), RunHold.TURN)
            for row in rows
        }
        return [found.get(run_id) for run_id in run_ids]

    return await loader(ctx, "run_hold", load).load(run.id)


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue now: how many runs wait and execute, and whether any is started."""

    queue: QueueClass
    paused: bool = False
    waiting: int = 0
    running: int = 0
    completed_today: int = 0


async def queue_states(ctx: Context, *, workspace_id: str | None = None) -> list[QueueState]:
    """The three queues of a workspace, or of all that are visible together.

    Of several workspaces, a queue counts as paused when it is in all of them. Two statements, over
    kept totals.

    Raises:
        NotFoundError, UnauthenticatedError.
    """
    workspaces = await _workspaces(ctx, workspace_id)
    reader = await ctx.reader()
    totals = await reader.rows(
        sa.select(TOTAL.queue_class, TOTAL.status, sa.func.sum(TOTAL.total).label("total"))
        .where(
            TOTAL.workspace_id.in_(workspaces),
            TOTAL.status.in_([RunStatus.QUEUED, *sorted(RUN_EXECUTING)]),
        )
        .group_by(TOTAL.queue_class, TOTAL.status)
    )
    midnight = ctx.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    completed = await reader.rows(
        sa.select(STATISTIC.queue_class, sa.func.sum(STATISTIC.completed).label("total"))
        .where(
            STATISTIC.workspace_id.in_(workspaces),
            STATISTIC.seconds == LONG,
            STATISTIC.starts_at >= int(midnight.timestamp()),
        )
        .group_by(STATISTIC.queue_class)
    )
    paused = await reader.scalars(
        sa.select(WORKSPACE.queue_paused).where(WORKSPACE.id.in_(workspaces))
    )
    today = {row.queue_class: int(row.total) for row in completed}
    return [
        QueueState(
            queue,
            paused=bool(paused) and all(queue in words for words in paused),
            waiting=sum(
                int(row.total)
                for row in totals
                if row.queue_class == queue and row.status == RunStatus.QUEUED
            ),
            running=sum(
                int(row.total)
                for row in totals
                if row.queue_class == queue and row.status in RUN_EXECUTING
            ),
            completed_today=today.get(queue, 0),
        )
        for queue in QueueClass
    ]


async def _workspaces(ctx: Context, workspace_id: str | None) -> Any:
    ctx.authenticated()
    if workspace_id is None:
        return visible_workspaces(ctx)
    await get_workspace(ctx, workspace_id=workspace_id)
    return [workspace_id]


class MetricsPeriod(StrEnum):
    """Over how long metrics are summed, up to now."""

    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


_PERIODS = {
    MetricsPeriod.HOUR: (timedelta(hours=1), SHORT, SHORT),
    MetricsPeriod.DAY: (timedelta(days=1), LONG, LONG),
    MetricsPeriod.WEEK: (timedelta(days=7), LONG, 6 * LONG),
    MetricsPeriod.MONTH: (timedelta(days=30), LONG, 24 * LONG),
}
"""How far back, the stretches that are summed, and the steps of the timeline."""
_COUNTS = (
    "enqueued", "retried", "started", "completed", "failed", "cancelled", "ended",
    "wait_seconds", "run_seconds",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """What happened to runs within a period; ``most_waiting`` is the longest a queue was."""

    enqueued: int = 0
    retried: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    ended: int = 0
    wait_seconds: float = 0.0
    run_seconds: float = 0.0
    most_waiting: int = 0

    @property
    def average_wait_seconds(self) -> float | None:
        """Mean wait of those that started; None without any."""
        return self.wait_seconds / self.started if self.started else None

    @property
    def average_run_seconds(self) -> float | None:
        """Mean time from start to end of those that ended; None without any."""
        return self.run_seconds / self.ended if self.ended else None

    @property
    def success_rate(self) -> float | None:
        """Completed ones among those that completed or failed, 0 to 1; None without any."""
        judged = self.completed + self.failed
        return self.completed / judged if judged else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineStep(QueueMetrics):
    """What happened within one step of a period."""

    starts_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueClassMetrics(QueueMetrics):
    """What happened in one queue."""

    queue: QueueClass


@dataclass(frozen=True, slots=True)
class QueueReport:
    """Metrics of a period: together, per queue, and step by step, oldest step first."""

    period: MetricsPeriod
    starts_at: datetime
    total: QueueMetrics
    queues: list[QueueClassMetrics]
    timeline: list[TimelineStep]


async def queue_report(
    ctx: Context, *, workspace_id: str | None = None, period: MetricsPeriod = MetricsPeriod.DAY
) -> QueueReport:
    """How the queues of a workspace, or of all that are visible, did; one statement.

    The period begins at a whole stretch (5 minutes of HOUR, an hour of the others), so that it may
    be up to one stretch longer than its name says.

    Raises:
        NotFoundError, UnauthenticatedError.
    """
    workspaces = await _workspaces(ctx, workspace_id)
    back, seconds, width = _PERIODS[period]
    now = int(ctx.now.timestamp())
    start = int((ctx.now - back).timestamp()) // seconds * seconds
    step = (STATISTIC.starts_at - STATISTIC.starts_at % width).label("step")
    rows = await (await ctx.reader()).rows(
        sa.select(
            STATISTIC.queue_class,
            step,
            *(sa.func.sum(STATISTIC[name]).label(name) for name in _COUNTS),
            sa.func.max(STATISTIC.most_waiting).label("most_waiting"),
        )
        .where(
            STATISTIC.workspace_id.in_(workspaces),
            STATISTIC.seconds == seconds,
            STATISTIC.starts_at >= start,
        )
        .group_by(STATISTIC.queue_class, step)
    )
    steps = range(start // width * width, now + 1, width)
    return QueueReport(
        period=period,
        starts_at=datetime.fromtimestamp(start, UTC),
        total=QueueMetrics(**_summed(rows)),
        queues=[
            QueueClassMetrics(queue=q, **_summed([r for r in rows if r.queue_class == q]))
            for q in QueueClass
        ],
        timeline=[
            TimelineStep(
                starts_at=datetime.fromtimestamp(at, UTC),
                **_summed([row for row in rows if row.step == at]),
            )
            for at in steps
        ],
    )


def _summed(rows: Sequence[Any]) -> dict[str, Any]:
    sums: dict[str, Any] = {name: sum(getattr(row, name) for row in rows) for name in _COUNTS}
    for name in _COUNTS[:-2]:
        sums[name] = int(sums[name])
    sums["most_waiting"] = max((int(row.most_waiting) for row in rows), default=0)
    return sums
