"""Workspaces in the schema: the type and what hangs below it."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry
from strawberry.scalars import JSON

from models import Agent as AgentRow
from models import Event as EventRow
from models import Run as RunRow
from models import Sprint as SprintRow
from models import Story as StoryRow
from models import Task as TaskRow
from models.enums import (
    Permission,
    QueueClass,
    Role,
    RunStatus,
    SprintStatus,
    TaskStatus,
    Workflow,
    WorkspaceStatus,
)
from resolvers import (
    agents,
    members,
    queue_queries,
    repositories,
    run_lists,
    sprints,
    stories,
    task_queries,
    usage,
)
from resolvers import validation as check
from resolvers import workspace_queries as queries
from resolvers.event_queries import events_of_workspaces
from resolvers.paging import PageArguments
from resolvers.queue_queries import MetricsPeriod
from resolvers.stories import StoryOrder
from resolvers.task_queries import TaskOrder
from resolvers.viewing import permissions_in
from schema.agent import Agent, AgentFilter
from schema.agent import conditions as agent_conditions
from schema.common import (
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connections,
    cursor_of,
    page_arguments,
)
from schema.context import Info
from schema.node import Node
from schema.queue import (
    QUEUES,
    Budget,
    DayUsage,
    Period,
    QueueReport,
    QueueState,
    budget_of,
)
from schema.reading import NODES, columns_of, ids_of, level, one_of, reads
from schema.run import Run, Usage
from schema.story import Sprint, Story, StoryFilter
from schema.story import conditions as story_conditions
from schema.task import Task, TaskFilter, conditions
from schema.user import User

if TYPE_CHECKING:
    from schema.event import Event

TOTALS: dict[str, Any] = {"list_size": len(TaskStatus)}
REPOSITORIES: dict[str, Any] = {"list_size": 100}


@strawberry.type(description="How many tasks stand in a status.")
class TaskTotal:
    """A kept total."""

    status: TaskStatus = strawberry.field(description="The status.")
    total: int = strawberry.field(description="How many; archived ones are left out.")


@strawberry.type(description="A user in a workspace.")
class Member:
    """See models.Membership."""

    workspace_id: strawberry.ID = strawberry.field(description="The workspace.")
    user_id: strawberry.ID = strawberry.field(description="The user.")
    role: Role = strawberry.field(description="What they may do in this workspace.")
    created_at: datetime = strawberry.field(description="Since when.")

    @strawberry.field(description="The user.")
    async def user(self, info: Info) -> User:
        member: Any = self
        found: Any = await members.user_of_member(info.context, member)
        return found


@strawberry.type(description="One of the repositories a workspace's agents may use.")
class Repository:
    """See models.Repository."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    workspace_id: strawberry.ID = strawberry.field(description="Its workspace.")
    name: str = strawberry.field(description="Unique in the workspace.")
    path: str = strawberry.field(
        description="owner/name, an address, or an absolute path on the server; may be empty."
    )
    url: str = strawberry.field(description="Where it can be cloned from; may be empty.")
    description: str = strawberry.field(description="What it holds.")
    access_agents: list[str] = strawberry.field(
        description="Names of the agents that may use it; empty for all."
    )
    created_at: datetime = strawberry.field(description="When the entry was made.")
    updated_at: datetime = strawberry.field(description="When the entry was last changed.")


async def _tasks(
    workspaces: list[Any],
    info: Info,
    filter: TaskFilter | None = None,
    order_by: TaskOrder = TaskOrder.POSITION_ASC,
    **page: Any,
) -> list[Any]:
    found = await task_queries.tasks_of_workspaces(
        info.context,
        ids_of(workspaces),
        filter_=conditions(filter),
        order=order_by,
        page=PageArguments(**page),
        columns=columns_of(info, TaskRow, *NODES),
    )
    return connections(found)


async def _members(workspaces: list[Any], info: Info, **page: Any) -> list[Any]:
    ids = ids_of(workspaces)
    found = await members.members_of_workspaces(info.context, ids, page=PageArguments(**page))
    return connections(found)


async def _stories(
    workspaces: list[Any],
    info: Info,
    filter: StoryFilter | None = None,
    order_by: StoryOrder = StoryOrder.CREATED_AT_DESC,
    **page: Any,
) -> list[Any]:
    found = await stories.stories_of_workspaces(
        info.context,
        ids_of(workspaces),
        filter_=story_conditions(filter),
        order=order_by,
        page=PageArguments(**page),
        columns=columns_of(info, StoryRow, *NODES),
    )
    return connections(found)


async def _sprints(
    workspaces: list[Any], info: Info, status: list[SprintStatus] | None = None, **page: Any
) -> list[Any]:
    found = await sprints.sprints_of_workspaces(
        info.context,
        ids_of(workspaces),
        status=status,
        page=PageArguments(**page),
        columns=columns_of(info, SprintRow, *NODES),
    )
    return connections(found)


async def _agents(
    workspaces: list[Any], info: Info, filter: AgentFilter | None = None, **page: Any
) -> list[Any]:
    found = await agents.agents_of_workspaces(
        info.context,
        ids_of(workspaces),
        filter_=agent_conditions(filter),
        page=PageArguments(**page),
        columns=columns_of(info, AgentRow, *NODES),
    )
    return connections(found)


async def _runs(
    workspaces: list[Any], info: Info, status: list[RunStatus] | None = None, **page: Any
) -> list[Any]:
    found = await run_lists.runs_of_workspaces(
        info.context,
        ids_of(workspaces),
        status=status,
        page=PageArguments(**page),
        columns=columns_of(info, RunRow, *NODES),
    )
    return connections(found)


async def _histories(workspaces: list[Any], info: Info, **page: Any) -> list[Any]:
    columns = columns_of(info, EventRow, *NODES)
    found = await events_of_workspaces(
        info.context, ids_of(workspaces), page=PageArguments(**page), columns=columns
    )
    return connections(found)


async def _queues(workspaces: list[Any], info: Info) -> list[Any]:
    return [*await queue_queries.queue_states_of(info.context, ids_of(workspaces))]


async def _queue_reports(
    workspaces: list[Any], info: Info, period: MetricsPeriod = MetricsPeriod.DAY
) -> list[Any]:
    ids = ids_of(workspaces)
    return [*await queue_queries.queue_reports_of(info.context, ids, period=period)]


async def _usage_by_day(workspaces: list[Any], info: Info, days: int = 7) -> list[Any]:
    number = check.integer(days, field="days", minimum=1, maximum=usage.DAYS_MAX)
    return [*await usage.daily_usage(info.context, ids_of(workspaces), days=number)]


@strawberry.type(
    description="One board: tasks, stories, sprints, agents and runs, and the repository they "
    "work on."
)
class Workspace(Node):
    """See models.Workspace."""

    number: int = strawberry.field(description="Its number on this site, counted from 1.")
    slug: str = strawberry.field(description="Short name for addresses, unique on this site.")
    name: str = strawberry.field(description="Name for people; need not be unique.")
    description: str = strawberry.field(description="What it is about.")
    repository_url: str | None = strawberry.field(
        description="Where its repository can be cloned from."
    )
    local_path: str | None = strawberry.field(
        description="Absolute path of its repository on the server's disk."
    )
    default_branch: str | None = strawberry.field(
        description="What branches of tasks start from unless they say otherwise."
    )
    status: WorkspaceStatus = strawberry.field(description="Whether it takes changes.")
    settings: JSON = strawberry.field(description="Free settings: a JSON object.")
    limits: JSON = strawberry.field(description="Limits of its own: a JSON object.")
    spec: str | None = strawberry.field(description="What is to be built, in words.")
    language: str = strawberry.field(description="Language of its texts, as a BCP 47 tag.")
    workflow: Workflow = strawberry.field(description="How the team works.")
    agent_type: str | None = strawberry.field(description="What agents it is meant for.")
    github_organization: str | None = strawberry.field(description="Account on GitHub.")
    github_login: str | None = strawberry.field(description="User on GitHub it acts for.")
    max_concurrent: int = strawberry.field(
        description="How many runs may execute at once, 1 to 100."
    )
    pull_mode: bool = strawberry.field(
        description="Whether agents fetch their work, so that queued tasks start no runs."
    )
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    archived_at: datetime | None = strawberry.field(description="When it was archived.")
    version: int = strawberry.field(description="Counts changes; see expectedVersion.")

    @strawberry.field(
        description="Queues that start no runs at present.", metadata=reads("queue_paused")
    )
    def paused_queues(self) -> list[QueueClass]:
        row: Any = self
        return [QueueClass(word) for word in row.queue_paused]

    @strawberry.field(
        description="What you may do here, with this key.",
        metadata=reads("id", list_size=len(Permission)),
    )
    def permissions(self, info: Info) -> list[Permission]:
        return permissions_in(info.context, self.id)

    @strawberry.field(
        description="Place in its event log that is not newer than anything read beside it: "
        "subscribe after this cursor, and nothing is missed.",
        metadata=reads("id"),
    )
    async def cursor(self, info: Info) -> str:
        position = info.context.positions.get(self.id)
        return cursor_of(position or await queries.head_of(info.context, self.id))

    @strawberry.field(description="Its tasks.", metadata=reads("id", **PAGED, **level(_tasks)))
    async def tasks(
        self,
        info: Info,
        filter: Annotated[
            TaskFilter | None, strawberry.argument(description="Which tasks.")
        ] = None,
        order_by: Annotated[
            TaskOrder, strawberry.argument(description="In which order.")
        ] = TaskOrder.POSITION_ASC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Task]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _tasks, self, filter=filter, order_by=order_by, **asdict(page))

    @strawberry.field(
        description="How many tasks stand in each status, without counting.",
        metadata=reads("id", **TOTALS),
    )
    async def task_totals(self, info: Info) -> list[TaskTotal]:
        totals = await queries.totals_of(info.context, self.id)
        return [TaskTotal(status=status, total=total) for status, total in totals.items()]

    @strawberry.field(
        description="Who belongs to it, in the order they came.",
        metadata=reads("id", **PAGED, **level(_members)),
    )
    async def members(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Member]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _members, self, **asdict(page))

    @strawberry.field(
        description="Repositories its agents may use, by name; at most 100.",
        metadata=reads("id", **REPOSITORIES),
    )
    async def repositories(self, info: Info) -> list[Repository]:
        found: Any = await repositories.repositories_of(info.context, self.id)
        return found

    @strawberry.field(description="Its stories.", metadata=reads("id", **PAGED, **level(_stories)))
    async def stories(
        self,
        info: Info,
        filter: Annotated[
            StoryFilter | None, strawberry.argument(description="Which stories.")
        ] = None,
        order_by: Annotated[
            StoryOrder, strawberry.argument(description="In which order.")
        ] = StoryOrder.CREATED_AT_DESC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Story]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _stories, self, filter=filter, order_by=order_by, **asdict(page))

    @strawberry.field(
        description="Its sprints, ascending by number.",
        metadata=reads("id", **PAGED, **level(_sprints)),
    )
    async def sprints(
        self,
        info: Info,
        status: Annotated[
            list[SprintStatus] | None,
            strawberry.argument(description="One of these statuses."),
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Sprint]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _sprints, self, status=status, **asdict(page))

    @strawberry.field(
        description="Its agents, by name.", metadata=reads("id", **PAGED, **level(_agents))
    )
    async def agents(
        self,
        info: Info,
        filter: Annotated[
            AgentFilter | None, strawberry.argument(description="Which agents.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Agent]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _agents, self, filter=filter, **asdict(page))

    @strawberry.field(
        description="Its runs, newest first.", metadata=reads("id", **PAGED, **level(_runs))
    )
    async def runs(
        self,
        info: Info,
        status: Annotated[
            list[RunStatus] | None, strawberry.argument(description="One of these statuses.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Run]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _runs, self, status=status, **asdict(page))

    @strawberry.field(
        description="The three queues its runs wait in, higher ones first.",
        metadata=reads("id", **QUEUES, **level(_queues)),
    )
    async def queues(self, info: Info) -> list[QueueState]:
        return await one_of(info, _queues, self)

    @strawberry.field(
        description="How its queues did, from kept statistics.",
        metadata=reads("id", cost=5, **level(_queue_reports)),
    )
    async def queue_report(self, info: Info, period: Period = MetricsPeriod.DAY) -> QueueReport:
        return await one_of(info, _queue_reports, self, period=period)

    @strawberry.field(
        description="What all its runs used together, from kept sums.", metadata=reads("id")
    )
    async def usage(self, info: Info) -> Usage:
        found: Any = await usage.usage_of(info.context, self.id, "workspace", self.id)
        return found

    @strawberry.field(
        description="What its runs used on each of the last days (UTC), today last.",
        metadata=reads("id", page_size_arguments=("days",), **level(_usage_by_day)),
    )
    async def usage_by_day(
        self,
        info: Info,
        days: Annotated[int, strawberry.argument(description="How many days: 1 to 90.")] = 7,
    ) -> list[DayUsage]:
        return await one_of(info, _usage_by_day, self, days=days)

    @strawberry.field(description="How much its runs may use.")
    def budget(self) -> Budget:
        row: Any = self
        return budget_of(row)

    @strawberry.field(
        description="What happened in it, newest first.",
        metadata=reads("id", **PAGED, **level(_histories)),
    )
    async def history(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Annotated["Event", strawberry.lazy("schema.event")]]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _histories, self, **asdict(page))
