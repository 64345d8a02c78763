"""What queues look like: their order, what holds runs up, how they do over time."""

from collections import Counter
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
from resolvers.errors import OperationError
from resolvers.loading import loader
from resolvers.paging import Order, Page, PageArguments, read_page
from resolvers.queue_conditions import holds, waiting_runs
from resolvers.run_totals import LONG, SHORT
from resolvers.siblings import in_workspaces
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
    rows = await _queue_rows(ctx, await _workspaces(ctx, workspace_id))
    return _states(rows)


async def queue_states_of(
    ctx: Context, workspace_ids: Sequence[str]
) -> list[list[QueueState] | OperationError]:
    """The three queues of each workspace; a refusal where one is not visible."""

    async def read(ids: list[str]) -> list[list[QueueState]]:
        rows = await _queue_rows(ctx, ids)
        return [
            _states([[row for row in part if row.workspace_id == key] for part in rows])
            for key in ids
        ]

    return await in_workspaces(ctx, workspace_ids, lambda key: key, read)


async def _queue_rows(ctx: Context, workspaces: Any) -> list[Sequence[Any]]:
    """Totals now, what was completed today, and the workspaces with their paused queues."""
    reader = await ctx.reader()
    totals = await reader.rows(
        sa.select(TOTAL.workspace_id, TOTAL.queue_class, TOTAL.status, TOTAL.total).where(
            TOTAL.workspace_id.in_(workspaces),
            TOTAL.status.in_([RunStatus.QUEUED, *sorted(RUN_EXECUTING)]),
        )
    )
    midnight = ctx.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    completed = await reader.rows(
        sa.select(
            STATISTIC.workspace_id,
            STATISTIC.queue_class,
            sa.func.sum(STATISTIC.completed).label("total"),
        )
        .where(
            STATISTIC.workspace_id.in_(workspaces),
            STATISTIC.seconds == LONG,
            STATISTIC.starts_at >= int(midnight.timestamp()),
        )
        .group_by(STATISTIC.workspace_id, STATISTIC.queue_class)
    )
    paused = await reader.rows(
        sa.select(WORKSPACE.id.label("workspace_id"), WORKSPACE.queue_paused).where(
            WORKSPACE.id.in_(workspaces)
        )
    )
    return [totals, completed, paused]


def _states(rows: Sequence[Sequence[Any]]) -> list[QueueState]:
    totals, completed, paused = rows
    today: Counter[str] = Counter()
    for row in completed:
        today[row.queue_class] += int(row.total)
    return [
        QueueState(
            queue,
            paused=bool(paused) and all(queue in row.queue_paused for row in paused),
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
            completed_today=today[queue],
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
    rows = await _statistics(ctx, await _workspaces(ctx, workspace_id), period)
    return _report(ctx, period, rows)


async def queue_reports_of(
    ctx: Context, workspace_ids: Sequence[str], *, period: MetricsPeriod
) -> list[QueueReport | OperationError]:
    """How the queues of each workspace did; a refusal where one is not visible."""

    async def read(ids: list[str]) -> list[QueueReport]:
        own: dict[str, list[Any]] = {key: [] for key in ids}
        for row in await _statistics(ctx, ids, period, STATISTIC.workspace_id):
            own[row.workspace_id].append(row)
        return [_report(ctx, period, own[key]) for key in ids]

    return await in_workspaces(ctx, workspace_ids, lambda key: key, read)


def _start(ctx: Context, period: MetricsPeriod) -> int:
    back, seconds, _ = _PERIODS[period]
    return int((ctx.now - back).timestamp()) // seconds * seconds


async def _statistics(
    ctx: Context, workspaces: Any, period: MetricsPeriod, *by: sa.ColumnElement[Any]
) -> Sequence[sa.Row[Any]]:
    _, seconds, width = _PERIODS[period]
    step = (STATISTIC.starts_at - STATISTIC.starts_at % width).label("step")
    return await (await ctx.reader()).rows(
        sa.select(
            *by,
            STATISTIC.queue_class,
            step,
            *(sa.func.sum(STATISTIC[name]).label(name) for name in _COUNTS),
            sa.func.max(STATISTIC.most_waiting).label("most_waiting"),
        )
        .where(
            STATISTIC.workspace_id.in_(workspaces),
            STATISTIC.seconds == seconds,
            STATISTIC.starts_at >= _start(ctx, period),
        )
        .group_by(*by, STATISTIC.queue_class, step)
    )


def _report(ctx: Context, period: MetricsPeriod, rows: Sequence[Any]) -> QueueReport:
    start, now, width = _start(ctx, period), int(ctx.now.timestamp()), _PERIODS[period][2]
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
