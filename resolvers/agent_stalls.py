"""Agents that fall silent: found by asking, or by the server's own sweep."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import Agent, Workspace, table_of
from models.enums import AgentStatus, WorkspaceStatus
from models.transaction import select_all
from resolvers import validation as check
from resolvers.agents import AGENT, change_agent, refuse_agents
from resolvers.context import Context
from resolvers.errors import ConflictError, NotFoundError
from resolvers.operation import operation
from resolvers.stamps import restores
from resolvers.workspaces import get_active_workspace

WORKSPACE = table_of(Workspace).c
STALL_TIMEOUT_SECONDS = 600
STALLS_AT_ONCE = 1_000
MINUTES_MAX = 1_440

LIVELY = (AgentStatus.STARTING, AgentStatus.ACTIVE, AgentStatus.WORKING)
"""Statuses in which an agent is expected to be heard of."""


@dataclass(frozen=True, slots=True)
class StalledAgents:
    """The agents that a check found silent, oldest sign of life first."""

    workspace_id: str
    agents: list[Agent]

    def to_stamp(self) -> dict[str, Any]:
        """For a retried request."""
        ids = [agent.id for agent in self.agents]
        return {"kind": "stalled_agents", "workspace_id": self.workspace_id, "ids": ids}


@restores("stalled_agents")
async def _restore_stalled(ctx: Context, stamp: dict[str, Any]) -> StalledAgents:
    found = await (await ctx.reader()).records(
        Agent, select_all(Agent).where(AGENT.id.in_(stamp["ids"]))
    )
    place = {agent_id: index for index, agent_id in enumerate(stamp["ids"])}
    return StalledAgents(stamp["workspace_id"], sorted(found, key=lambda agent: place[agent.id]))


@operation
async def detect_stalled_agents(
    ctx: Context, *, workspace_id: str, timeout_seconds: int = STALL_TIMEOUT_SECONDS
) -> StalledAgents:
    """Set agents to STALLED that ought to be at work and were not heard of for too long.

    Their next heartbeat with a status sets them right again.

    Args:
        ctx: needs ``write`` in the workspace; not for agents.
        workspace_id: where.
        timeout_seconds: how long silence is taken for work, 10 to 86,400.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    refuse_agents(ctx)
    await get_active_workspace(ctx, workspace_id=workspace_id)
    seconds = check.integer(timeout_seconds, field="timeoutSeconds", minimum=10, maximum=86_400)
    last_sign = sa.func.coalesce(AGENT.last_seen_at, AGENT.created_at)
    silent = await ctx.transaction.records(
        Agent,
        select_all(Agent)
        .where(
            AGENT.workspace_id == workspace_id,
            AGENT.status.in_(LIVELY),
            last_sign < ctx.now - timedelta(seconds=seconds),
        )
        .order_by(last_sign, AGENT.id)
        .limit(STALLS_AT_ONCE)
        .with_for_update(),
    )
    stalled = [
        await change_agent(
            ctx,
            agent,
            "agent.status_changed",
            reason="heartbeat_missing",
            status=AgentStatus.STALLED,
            status_word=None,
        )
        for agent in silent
    ]
    return StalledAgents(workspace_id, stalled)


async def sweep_stalled_agents(ctx: Context) -> int:
    """Look for stalled agents in every workspace that has agents at work; how many were found.

    A workspace's setting ``stall_timeout_minutes`` says how long silence is taken for work; 10
    minutes where it is absent.
    """
    reader = await ctx.reader()
    rows = await reader.rows(
        sa.select(WORKSPACE.id, WORKSPACE.settings)
        .where(
            WORKSPACE.status == WorkspaceStatus.ACTIVE,
            WORKSPACE.deleted_at.is_(None),
            WORKSPACE.id.in_(
                sa.select(AGENT.workspace_id).where(AGENT.status.in_(LIVELY)).distinct()
            ),
        )
        .order_by(WORKSPACE.id)
    )
    await ctx.release()
    found = 0
    for row in rows:
        with suppress(NotFoundError, ConflictError):  # deleted or archived meanwhile
            stalled = await detect_stalled_agents(
                ctx, workspace_id=row.id, timeout_seconds=_stall_timeout(row.settings)
            )
            found += len(stalled.agents)
    return found


def _stall_timeout(settings: dict[str, Any]) -> int:
    minutes = settings.get("stall_timeout_minutes")
    if isinstance(minutes, int) and not isinstance(minutes, bool) and 1 <= minutes <= MINUTES_MAX:
        return minutes * 60
    return STALL_TIMEOUT_SECONDS
