"""Agents: root queries and mutations."""

from typing import Annotated, Any

import strawberry

from resolvers import agent_reports, agent_stalls, agents
from schema.agent import (
    NEWEST,
    Agent,
    AgentFilter,
    AgentProgress,
    CreateAgentInput,
    ReportAgentProgressInput,
    ReportAgentStatusInput,
    UpdateAgentInput,
    conditions,
)
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
    or_none,
    page_arguments,
)
from schema.context import Info

AgentId = Annotated[strawberry.ID, strawberry.argument(description="The agent's id.")]
WorkspaceId = Annotated[strawberry.ID, strawberry.argument(description="Which workspace.")]


@strawberry.type(description="An agent after a mutation.")
class AgentPayload:
    """What mutations of an agent return."""

    agent: Agent = strawberry.field(description="The agent as it is now.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.agent.workspace_id)


@strawberry.type(description="A report that was kept.")
class AgentProgressPayload:
    """What reportAgentProgress returns."""

    progress: AgentProgress = strawberry.field(description="The report.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.progress.workspace_id)


@strawberry.type(description="An agent that is gone.")
class DeleteAgentPayload:
    """What deleteAgent returns."""

    workspace_id: strawberry.Private[str]
    agent_id: strawberry.ID = strawberry.field(description="The id it had.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type(description="Agents that were found silent.")
class CheckStalledAgentsPayload:
    """What checkStalledAgents returns."""

    workspace_id: strawberry.Private[str]
    agents: list[Agent] = strawberry.field(
        description="Agents that are STALLED since this check; at most 1,000."
    )

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type
class AgentQuery:
    """Root fields about agents."""

    @strawberry.field(description="An agent by its id; null when there is none you may see.")
    async def agent(self, info: Info, id: AgentId) -> Agent | None:
        found: Any = await or_none(agents.get_agent(info.context, agent_id=id))
        return found

    @strawberry.field(description="Agents of a workspace, by name.", metadata=PAGED)
    async def agents(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        filter: Annotated[
            AgentFilter | None, strawberry.argument(description="Which agents.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Agent]:
        page = await agents.list_agents(
            info.context,
            workspace_id=workspace_id,
            filter_=conditions(filter),
            page=page_arguments(first, after, last, before),
        )
        return connection(page)

    @strawberry.field(
        description="The newest reports of an agent, newest first; none of an unknown one.",
        metadata=NEWEST,
    )
    async def agent_progress(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        agent_name: Annotated[str, strawberry.argument(description="Whose.")],
        first: Annotated[int, strawberry.argument(description="How many: 1 to 200.")] = 20,
    ) -> list[AgentProgress]:
        found: Any = await agent_reports.list_progress(
            info.context, workspace_id=workspace_id, agent_name=agent_name, limit=first
        )
        return found


@strawberry.type
class AgentMutation:
    """Root mutations of agents."""

    @strawberry.mutation(description="Make an agent known.")
    async def create_agent(
        self, info: Info, input: Annotated[CreateAgentInput, INPUT]
    ) -> AgentPayload:
        values = fields_of(input)
        return await _agent(info, lambda ctx: agents.create_agent(ctx, **values))

    @strawberry.mutation(description="Change how an agent is set up.")
    async def update_agent(
        self, info: Info, input: Annotated[UpdateAgentInput, INPUT]
    ) -> AgentPayload:
        values = fields_of(input, leave_out=frozenset({"id"}))
        return await _agent(info, lambda ctx: agents.update_agent(ctx, agent_id=input.id, **values))

    @strawberry.mutation(
        description="Delete an agent, its keys and its reports; its tasks stay, without it."
    )
    async def delete_agent(
        self,
        info: Info,
        id: AgentId,
        force: Annotated[
            bool,
            strawberry.argument(description="Also with runs that have not ended: these end."),
        ] = False,
    ) -> DeleteAgentPayload:
        gone = await mutate(info, lambda ctx: agents.delete_agent(ctx, agent_id=id, force=force))
        return DeleteAgentPayload(workspace_id=gone.workspace_id, agent_id=strawberry.ID(gone.id))

    @strawberry.mutation(
        description="An agent's heartbeat, with what changed; an unknown agent is created. An "
        "agent's own key may report for that agent only."
    )
    async def report_agent_status(
        self, info: Info, input: Annotated[ReportAgentStatusInput, INPUT]
    ) -> AgentPayload:
        values = fields_of(input)
        return await _agent(info, lambda ctx: agent_reports.report_agent_status(ctx, **values))

    @strawberry.mutation(
        description="Keep one line of what an agent is doing: the newest 200 of each agent."
    )
    async def report_agent_progress(
        self, info: Info, input: Annotated[ReportAgentProgressInput, INPUT]
    ) -> AgentProgressPayload:
        values = fields_of(input)
        kept: Any = await mutate(
            info, lambda ctx: agent_reports.report_agent_progress(ctx, **values)
        )
        return AgentProgressPayload(progress=kept)

    @strawberry.mutation(
        description="Set agents to STALLED that ought to be at work and were not heard of."
    )
    async def check_stalled_agents(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        timeout_seconds: Annotated[
            int,
            strawberry.argument(description="How long silence is taken for work: 10 to 86,400."),
        ] = agent_stalls.STALL_TIMEOUT_SECONDS,
    ) -> CheckStalledAgentsPayload:
        found = await mutate(
            info,
            lambda ctx: agent_stalls.detect_stalled_agents(
                ctx, workspace_id=workspace_id, timeout_seconds=timeout_seconds
            ),
        )
        stalled: Any = found.agents
        return CheckStalledAgentsPayload(workspace_id=found.workspace_id, agents=stalled)


async def _agent(info: Info, run: Any) -> AgentPayload:
    agent: Any = await mutate(info, run)
    return AgentPayload(agent=agent)
