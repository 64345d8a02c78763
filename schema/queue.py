"""Queues, what runs used, and budgets in the schema."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from models import Workspace as WorkspaceRow
from models.enums import QueueClass
from resolvers import budgets, queue_queries, queues
from resolvers.queue_queries import MetricsPeriod
from schema.common import (
    INPUT,
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connection,
    fields_of,
    log_cursor,
    mutate,
    page_arguments,
)
from schema.context import Info
from schema.run import Run, Usage

if TYPE_CHECKING:
    from schema.workspace import Workspace

QUEUES: dict[str, Any] = {"list_size": len(QueueClass)}
CURSOR = "Subscribe after this cursor to miss nothing that follows."
QueueName = Annotated[
    QueueClass | None, strawberry.argument(description="Which queue; absent: all three.")
]
WorkspaceId = Annotated[strawberry.ID, strawberry.argument(description="The workspace's id.")]
AnyWorkspaceId = Annotated[
    strawberry.ID | None,
    strawberry.argument(description="Whose; absent: of all you may see, together."),
]
Period = Annotated[MetricsPeriod, strawberry.argument(description="Over how long.")]
Reason = Annotated[
    str | None,
    strawberry.argument(description="Told with the event, up to 2,000 characters."),
]

strawberry.enum(MetricsPeriod, description="Over how long metrics are summed, up to now.")


@strawberry.type(description="One queue as it is now.")
class QueueState:
    """See resolvers.queue_queries.QueueState."""

    queue: QueueClass = strawberry.field(description="Which.")
    paused: bool = strawberry.field(
        description="Whether no run of it is started; of several workspaces: in all of them."
    )
    waiting: int = strawberry.field(description="How many runs wait, without counting them.")
    running: int = strawberry.field(description="How many of its runs execute.")
    completed_today: int = strawberry.field(description="Runs completed since midnight, UTC.")


@strawberry.type(description="What happened to runs within a stretch of time.")
class QueueMetrics:
    """See resolvers.queue_queries.QueueMetrics."""

    enqueued: int = strawberry.field(description="Runs that came into the queue.")
    retried: int = strawberry.field(description="Those of them that were not a task's first.")
    started: int = strawberry.field(description="Runs that started.")
    completed: int = strawberry.field(description="Runs that completed.")
    failed: int = strawberry.field(description="Runs that failed.")
    cancelled: int = strawberry.field(description="Runs that were cancelled or stopped.")
    most_waiting: int = strawberry.field(
        description="The most that waited at once, in one queue of one workspace."
    )
    average_wait_seconds: float | None = strawberry.field(
        description="Mean wait of those that started, in seconds; null without any."
    )
    average_run_seconds: float | None = strawberry.field(
        description="Mean time from start to end, in seconds; null without any that ended."
    )
    success_rate: float | None = strawberry.field(
        description="Completed ones among completed and failed ones, 0 to 1; null without any."
    )


@strawberry.type(description="What happened to runs in one queue.")
class QueueClassMetrics(QueueMetrics):
    """See resolvers.queue_queries.QueueClassMetrics."""

    queue: QueueClass = strawberry.field(description="Which.")


@strawberry.type(description="What happened within one step of a period, in all queues.")
class QueueTimelineStep(QueueMetrics):
    """See resolvers.queue_queries.TimelineStep."""

    starts_at: datetime = strawberry.field(description="When the step begins.")


@strawberry.type(description="How queues did over a period.")
class QueueReport:
    """See resolvers.queue_queries.QueueReport."""

    period: MetricsPeriod = strawberry.field(description="Over how long.")
    starts_at: datetime = strawberry.field(
        description="From when on: a whole 5 minutes for HOUR, a whole hour otherwise."
    )
    total: QueueMetrics = strawberry.field(description="All queues together.")
    timeline: list[QueueTimelineStep] = strawberry.field(
        description="Step by step, oldest first: 5 minutes for HOUR, an hour for DAY, 6 hours for "
        "WEEK, a day for MONTH.",
        metadata={"list_size": 32},
    )

    queues: list[QueueClassMetrics] = strawberry.field(
        description="Queue by queue, higher ones first.", metadata=QUEUES
    )


@strawberry.type(description="What was used on one day, UTC.")
class DayUsage(Usage):
    """See resolvers.usage.DayUsage."""

    day: str = strawberry.field(description="The date, as 2026-01-31.")


@strawberry.type(
    description="How much runs may use. Tokens are those sent and answered together, whole "
    "numbers that may pass 32 bits; money is US dollars; null is no limit. A run beyond its budget "
    "is stopped with the reason budget; runs wait while the day's is used up."
)
class Budget:
    """The budget of a workspace; see resolvers.budgets."""

    workspace: strawberry.Private[Any]
    run_tokens: float | None = strawberry.field(description="Tokens of one run.")
    run_cost_usd: float | None = strawberry.field(description="Cost of one run.")
    day_tokens: float | None = strawberry.field(
        description="Tokens of all runs of a day (UTC) together."
    )
    day_cost_usd: float | None = strawberry.field(
        description="Cost of all runs of a day (UTC) together."
    )

    @strawberry.field(description="What the workspace's runs used today (UTC).")
    async def used_today(self, info: Info) -> Usage:
        found: Any = await budgets.used_today(info.context, self.workspace.id)
        return found

    @strawberry.field(
        description="Whether waiting runs are held until the next day (UTC): the day's budget of "
        "the workspace, or of the whole server, is used up."
    )
    async def exhausted(self, info: Info) -> bool:
        return await budgets.is_exhausted(info.context, self.workspace.id)


def budget_of(workspace: WorkspaceRow) -> Budget:
    """The budget of a workspace as the schema shows it."""
    budget = budgets.budget_of(workspace)
    return Budget(
        workspace=workspace,
        run_tokens=budget.run_tokens,
        run_cost_usd=budget.run_cost_usd,
        day_tokens=budget.day_tokens,
        day_cost_usd=budget.day_cost_usd,
    )


@strawberry.input(description="How much runs may use; absent amounts stay, null lifts one.")
class BudgetInput:
    """See resolvers.budgets.set_budget."""

    workspace_id: strawberry.ID = strawberry.field(description="The workspace.")
    run_tokens: float | None = strawberry.field(
        default=strawberry.UNSET, description="Tokens of one run: a whole number from 1."
    )
    run_cost_usd: float | None = strawberry.field(
        default=strawberry.UNSET, description="US dollars of one run: more than 0."
    )
    day_tokens: float | None = strawberry.field(
        default=strawberry.UNSET, description="Tokens of a day (UTC): a whole number from 1."
    )
    day_cost_usd: float | None = strawberry.field(
        default=strawberry.UNSET, description="US dollars of a day (UTC): more than 0."
    )
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with CONFLICT unless the workspace is at this version."
    )


@strawberry.input(
    description="Where a waiting run goes: give one of beforeId, afterId and position, or only a "
    "queue to go to its end."
)
class MoveQueuedRunInput:
    """See resolvers.queues.move_queued_run."""

    id: strawberry.ID = strawberry.field(description="A run that waits.")
    queue: QueueClass | None = strawberry.field(
        default=None, description="The queue it goes to; by default the one it is in."
    )
    before_id: strawberry.ID | None = strawberry.field(
        default=None, description="The waiting run it starts in front of, in that one's queue."
    )
    after_id: strawberry.ID | None = strawberry.field(
        default=None, description="The waiting run it starts behind, in that one's queue."
    )
    position: int | None = strawberry.field(
        default=None, description="Its place in the queue, from 1; beyond the end is the end."
    )


@strawberry.type(description="The queues of a workspace after a mutation.")
class QueuePayload:
    """What mutations of queues and budgets return."""

    workspace: Annotated["Workspace", strawberry.lazy("schema.workspace")] = strawberry.field(
        description="The workspace as it is now."
    )

    @strawberry.field(description=CURSOR)
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace.id)


@strawberry.type(description="A queue that was cleared.")
class ClearQueuePayload:
    """What clearQueue returns."""

    workspace_id: strawberry.ID = strawberry.field(description="Whose queue it is.")
    cleared: int = strawberry.field(description="How many waiting runs were cancelled.")

    @strawberry.field(description=CURSOR)
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type(description="A waiting run after it was moved.")
class MoveQueuedRunPayload:
    """What moveQueuedRun returns."""

    run: Run = strawberry.field(description="The run as it is now.")

    @strawberry.field(description=CURSOR)
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.run.workspace_id)


@strawberry.type
class QueueQuery:
    """Root fields about queues."""

    @strawberry.field(
        description="The three queues that runs wait in, higher ones first.", metadata=QUEUES
    )
    async def queues(self, info: Info, workspace_id: AnyWorkspaceId = None) -> list[QueueState]:
        found: Any = await queue_queries.queue_states(info.context, workspace_id=workspace_id)
        return found

    @strawberry.field(description="How the queues did, from kept statistics.", metadata={"cost": 5})
    async def queue_report(
        self, info: Info, workspace_id: AnyWorkspaceId = None, period: Period = MetricsPeriod.DAY
    ) -> QueueReport:
        found: Any = await queue_queries.queue_report(
            info.context, workspace_id=workspace_id, period=period
        )
        return found

    @strawberry.field(
        description="Runs that wait in a workspace, in the order in which they will start.",
        metadata=PAGED,
    )
    async def queued_runs(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        queue: QueueName = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Run]:
        page = await queue_queries.list_queue(
            info.context,
            workspace_id=workspace_id,
            queue=queue,
            page=page_arguments(first, after, last, before),
        )
        return connection(page)


@strawberry.type
class QueueMutation:
    """Root mutations of queues and budgets."""

    @strawberry.mutation(description="Start no more runs of a queue; what executes goes on.")
    async def pause_queue(
        self, info: Info, workspace_id: WorkspaceId, queue: QueueName = None, reason: Reason = None
    ) -> QueuePayload:
        return await _workspace(
            info,
            lambda ctx: queues.pause_queue(
                ctx, workspace_id=workspace_id, queue=queue, reason=reason
            ),
        )

    @strawberry.mutation(description="Start runs of a queue again.")
    async def resume_queue(
        self, info: Info, workspace_id: WorkspaceId, queue: QueueName = None, reason: Reason = None
    ) -> QueuePayload:
        return await _workspace(
            info,
            lambda ctx: queues.resume_queue(
                ctx, workspace_id=workspace_id, queue=queue, reason=reason
            ),
        )

    @strawberry.mutation(
        description="Cancel all runs that wait in a queue; their tasks go back to BACKLOG."
    )
    async def clear_queue(
        self, info: Info, workspace_id: WorkspaceId, queue: QueueName = None, reason: Reason = None
    ) -> ClearQueuePayload:
        done = await mutate(
            info,
            lambda ctx: queues.clear_queue(
                ctx, workspace_id=workspace_id, queue=queue, reason=reason
            ),
        )
        return ClearQueuePayload(
            workspace_id=strawberry.ID(done.workspace_id), cleared=done.cleared
        )

    @strawberry.mutation(description="Put a waiting run elsewhere in the queues.")
    async def move_queued_run(
        self, info: Info, input: Annotated[MoveQueuedRunInput, INPUT]
    ) -> MoveQueuedRunPayload:
        values = fields_of(input, leave_out=frozenset({"id"}))
        run: Any = await mutate(
            info, lambda ctx: queues.move_queued_run(ctx, run_id=input.id, **values)
        )
        return MoveQueuedRunPayload(run=run)

    @strawberry.mutation(description="Set how much the runs of a workspace may use.")
    async def set_budget(self, info: Info, input: Annotated[BudgetInput, INPUT]) -> QueuePayload:
        values = fields_of(input)
        return await _workspace(info, lambda ctx: budgets.set_budget(ctx, **values))


async def _workspace(info: Info, run: Any) -> QueuePayload:
    workspace: Any = await mutate(info, run)
    return QueuePayload(workspace=workspace)
