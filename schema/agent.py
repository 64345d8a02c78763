"""Agents in the schema: types, filter and inputs."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry
from strawberry.scalars import JSON

from models import Task as TaskRow
from models import Workspace as WorkspaceRow
from models.enums import AgentStatus, ExecutionMode, Executor
from resolvers import agent_reports
from resolvers import validation as check
from resolvers.agents import AgentFilter as AgentConditions
from resolvers.paging import PageArguments
from resolvers.task_queries import tasks_of_agents
from resolvers.usage import usage_of
from schema.common import (
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connections,
    page_arguments,
)
from schema.context import Info
from schema.node import Node
from schema.reading import NODES, columns_of, follow, level, link, one_of, reads
from schema.run import Usage
from schema.task import Task

if TYPE_CHECKING:
    from schema.workspace import Workspace

NEWEST: dict[str, Any] = {"page_size_arguments": ("first",)}
"""Metadata of a field that returns the first few of something."""


@strawberry.type(description="One line of what an agent says it is doing.")
class AgentProgress:
    """See models.AgentProgress."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    workspace_id: strawberry.ID = strawberry.field(description="The agent's workspace.")
    agent_name: str = strawberry.field(description="Who says it.")
    task_name: str | None = strawberry.field(description="On what it works.")
    step: str | None = strawberry.field(description="Which step of it.")
    file: str | None = strawberry.field(description="In which file.")
    detail: str | None = strawberry.field(description="What else it says.")
    created_at: datetime = strawberry.field(description="When it was said.")


async def _tasks(agents: list[Any], info: Info, **page: Any) -> list[Any]:
    columns = columns_of(info, TaskRow, *NODES)
    window = PageArguments(**page)
    return connections(await tasks_of_agents(info.context, agents, page=window, columns=columns))


@strawberry.type(description="A coding agent of a workspace, under a name of its own.")
class Agent(Node):
    """See models.Agent."""

    workspace_id: strawberry.ID = strawberry.field(description="The workspace it works in.")
    name: str = strawberry.field(description="Unique in the workspace; it never changes.")
    role: str | None = strawberry.field(description="What it is for, in words.")
    executor: Executor | None = strawberry.field(description="What program runs as it.")
    engine: str | None = strawberry.field(description="What it says it is, in words.")
    execution_mode: ExecutionMode = strawberry.field(
        description="Where its model credential comes from."
    )
    model: str | None = strawberry.field(description="Which model its program uses.")
    system_prompt: str | None = strawberry.field(description="What it is always told.")
    command: list[str] | None = strawberry.field(
        description="Program and arguments of its own, in place of its executor's."
    )
    status: AgentStatus = strawberry.field(description="What it is doing.")
    status_word: str | None = strawberry.field(
        description="The word it last reported its status with; null once the server set it."
    )
    activity: str | None = strawberry.field(description="What it is doing, in words.")
    parent_name: str | None = strawberry.field(description="Name of the agent that started it.")
    port: int | None = strawberry.field(description="Where it listens on its own machine.")
    was_active: bool = strawberry.field(description="Whether it was ever anything but IDLE.")
    last_seen_at: datetime | None = strawberry.field(description="When it last reported.")
    created_at: datetime = strawberry.field(description="When it was made known.")
    updated_at: datetime = strawberry.field(
        description="When it was last changed; a heartbeat alone does not count."
    )
    version: int = strawberry.field(description="Counts changes; see expectedVersion.")

    @strawberry.field(
        description="Whether a model credential is stored; it is never shown.",
        metadata=reads("api_key_encrypted"),
    )
    def has_api_key(self) -> bool:
        row: Any = self
        return row.api_key_encrypted is not None

    @strawberry.field(
        description="Facts that one client or dialect keeps with it.", metadata=reads("meta")
    )
    def metadata(self) -> JSON:
        row: Any = self
        return JSON(row.meta)

    @strawberry.field(
        description="The workspace it works in.", metadata=link(WorkspaceRow, "workspace_id")
    )
    async def workspace(
        self, info: Info
    ) -> Annotated["Workspace", strawberry.lazy("schema.workspace")]:
        found: Any = await follow(info, WorkspaceRow, self.workspace_id)
        return found

    @strawberry.field(
        description="What the runs it was given used, from kept sums.",
        metadata=reads("id", "workspace_id"),
    )
    async def usage(self, info: Info) -> Usage:
        found: Any = await usage_of(info.context, self.workspace_id, "agent", self.id)
        return found

    @strawberry.field(
        description="Its newest reports, newest first.",
        metadata=reads("workspace_id", "name", **NEWEST),
    )
    async def latest_progress(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many: 1 to 20.")] = 1,
    ) -> list[AgentProgress]:
        number = check.integer(first, field="first", minimum=1, maximum=20)
        found: Any = await agent_reports.newest_progress(
            info.context, self.workspace_id, self.name, number=number
        )
        return found

    @strawberry.field(
        description="Tasks it is to do, in the order of the board.",
        metadata=reads("id", "workspace_id", **PAGED, **level(_tasks)),
    )
    async def tasks(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Task]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _tasks, self, **asdict(page))


@strawberry.input(description="Conditions on agents; those given combine with AND.")
class AgentFilter:
    """See resolvers.agents.AgentFilter."""

    names: list[str] | None = strawberry.field(
        default=None, description="One of these names; at most 100, as in all lists here."
    )
    status: list[AgentStatus] | None = strawberry.field(
        default=None, description="One of these statuses."
    )
    parent_names: list[str] | None = strawberry.field(
        default=None, description="Started by one of these agents."
    )
    finished_children: bool | None = strawberry.field(
        default=None,
        description="Only agents that have a parent and are COMPLETED, FAILED or STOPPED (true), "
        "or only the others (false).",
    )
    search: str | None = strawberry.field(
        default=None, description="Part of name or role, in any case; up to 500 characters."
    )


def conditions(filter: AgentFilter | None) -> AgentConditions:
    """The conditions of a filter."""
    return AgentConditions() if filter is None else AgentConditions(**vars(filter))


@strawberry.input(description="How an agent is set up; absent fields stay, null clears.")
class AgentFieldsInput:
    """See resolvers.agents.update_agent."""

    role: str | None = strawberry.field(
        default=strawberry.UNSET, description="What it is for, up to 64 characters."
    )
    executor: Executor | None = strawberry.field(
        default=strawberry.UNSET, description="What program runs as it."
    )
    engine: str | None = strawberry.field(
        default=strawberry.UNSET, description="In words, up to 100 characters."
    )
    execution_mode: ExecutionMode | None = strawberry.field(
        default=strawberry.UNSET,
        description="Where its model credential comes from; not null.",
    )
    model: str | None = strawberry.field(
        default=strawberry.UNSET, description="Which model, up to 100 characters."
    )
    system_prompt: str | None = strawberry.field(
        default=strawberry.UNSET, description="Up to 100,000 characters."
    )
    command: list[str] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Program and arguments, up to 100; for the site owner alone, and only where "
        "the operator allows it.",
    )
    api_key: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Model credential, up to 4,096 characters; kept encrypted and never shown.",
    )
    parent_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="Name of the agent that started it."
    )
    metadata: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="An object of up to 64 KiB; not null."
    )


@strawberry.input(description="A new agent.")
class CreateAgentInput(AgentFieldsInput):
    """See resolvers.agents.create_agent."""

    workspace_id: strawberry.ID = strawberry.field(description="Where.")
    name: str = strawberry.field(
        description="One line, 1 to 100 characters, unique in the workspace."
    )


@strawberry.input(description="Changes of an agent; absent fields stay, null clears.")
class UpdateAgentInput(AgentFieldsInput):
    """See resolvers.agents.update_agent."""

    id: strawberry.ID = strawberry.field(description="The agent's id.")
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with CONFLICT unless it is at this version."
    )


@strawberry.input(description="A heartbeat; absent fields stay, null clears.")
class ReportAgentStatusInput:
    """See resolvers.agent_reports.report_agent_status."""

    workspace_id: strawberry.ID = strawberry.field(description="Where.")
    name: str = strawberry.field(
        description="The agent's name; one that is not known yet is created."
    )
    status: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Any word of 1 to 50 characters, not null; working, idle, done … are "
        "understood, any other means ACTIVE.",
    )
    activity: str | None = strawberry.field(
        default=strawberry.UNSET, description="What it does, up to 500 characters."
    )
    parent_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="Name of the agent that started it."
    )
    port: int | None = strawberry.field(
        default=strawberry.UNSET, description="Where it listens, 1 to 65,535."
    )


@strawberry.input(description="One line of what an agent is doing; counts as a heartbeat.")
class ReportAgentProgressInput:
    """See resolvers.agent_reports.report_agent_progress."""

    workspace_id: strawberry.ID = strawberry.field(description="Where.")
    agent_name: str = strawberry.field(description="Who; need not be known.")
    task_name: str | None = strawberry.field(
        default=None, description="On what, up to 500 characters."
    )
    step: str | None = strawberry.field(
        default=None, description="Which step of it, up to 500 characters."
    )
    file: str | None = strawberry.field(
        default=None, description="In which file, up to 1,024 characters."
    )
    detail: str | None = strawberry.field(
        default=None, description="What else, up to 4,000 characters."
    )
