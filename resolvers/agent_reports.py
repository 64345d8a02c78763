"""What agents report: status, heartbeat and progress; and what follows when they fall silent."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import Agent, AgentProgress, table_of
from models.enums import AgentStatus, Permission
from models.transaction import select_all
from resolvers import validation as check
from resolvers.agents import AGENT, PROGRESS, change_agent, check_name, insert_agent, refuse_agents
from resolvers.context import Context
from resolvers.errors import ForbiddenError, InvalidError
from resolvers.loading import loader
from resolvers.operation import operation, step
from resolvers.validation import UNSET, Unset
from resolvers.workspaces import get_active_workspace, get_workspace

WORD_LENGTH = 50
ACTIVITY_LENGTH = 500
DETAIL_LENGTH = 4_000
PROGRESS_KEPT = 200
"""Reports kept of one agent; older ones make room."""
PROGRESS_LIFETIME = timedelta(hours=24)

STATUS_OF_WORD: dict[str, AgentStatus] = {
    "idle": AgentStatus.IDLE,
    "ready": AgentStatus.IDLE,
    "waiting": AgentStatus.IDLE,
    "starting": AgentStatus.STARTING,
    "initializing": AgentStatus.STARTING,
    "active": AgentStatus.ACTIVE,
    "online": AgentStatus.ACTIVE,
    "working": AgentStatus.WORKING,
    "running": AgentStatus.WORKING,
    "busy": AgentStatus.WORKING,
    "stalled": AgentStatus.STALLED,
    "failed": AgentStatus.FAILED,
    "error": AgentStatus.FAILED,
    "crashed": AgentStatus.FAILED,
    "completed": AgentStatus.COMPLETED,
    "done": AgentStatus.COMPLETED,
    "finished": AgentStatus.COMPLETED,
    "stopped": AgentStatus.STOPPED,
    "offline": AgentStatus.STOPPED,
}


def status_of_word(word: str) -> AgentStatus:
    """The canonical status of a word an agent reports; one nobody knows means that it is alive."""
    return STATUS_OF_WORD.get(word.strip().lower(), AgentStatus.ACTIVE)


@operation
async def report_agent_status(
    ctx: Context,
    *,
    workspace_id: str,
    name: str,
    status: str | Unset = UNSET,
    activity: str | Unset | None = UNSET,
    parent_name: str | Unset | None = UNSET,
    port: int | Unset | None = UNSET,
) -> Agent:
    """Take an agent's heartbeat, with what changed since the last; an unknown agent is created.

    A heartbeat that changes nothing is no event and no new version.

    Args:
        ctx: needs ``write`` in the workspace; an agent may report for itself only.
        workspace_id: where.
        name: the agent's name.
        status: what it calls its state, 1 to 50 characters; kept as the status word and
            translated (see ``STATUS_OF_WORD``).
        activity: what it does, up to 500 characters; None clears.
        parent_name: the agent that started it; None clears.
        port: where it listens on its own machine, 1 to 65,535; None clears.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError, LimitExceededError.
    """
    await get_active_workspace(ctx, workspace_id=workspace_id)
    wanted, given = check_name(name), _checked(status, activity, parent_name, port)
    agent = await _lock_by_name(ctx, workspace_id, wanted)
    _refuse_foreign(ctx, agent)
    if agent is None:
        created = await insert_agent(
            ctx, workspace_id=workspace_id, name=wanted, last_seen_at=ctx.now, **given
        )
        if created is not None:
            return created
        agent = await _lock_by_name(ctx, workspace_id, wanted)
        assert agent is not None  # noqa: S101  # somebody else has just committed it
    return await _heard(ctx, agent, given)


async def _heard(ctx: Context, agent: Agent, given: dict[str, Any]) -> Agent:
    if agent.was_active:
        given.pop("was_active", None)
    changes = {name: value for name, value in given.items() if getattr(agent, name) != value}
    if not changes:
        return await ctx.transaction.update_by_id(Agent, agent.id, last_seen_at=ctx.now)
    if {"status", "status_word"} & changes.keys():
        return await change_agent(
            ctx, agent, "agent.status_changed", last_seen_at=ctx.now, **changes
        )
    return await change_agent(
        ctx, agent, "agent.updated", changed=sorted(changes), last_seen_at=ctx.now, **changes
    )


def _checked(
    status: str | Unset,
    activity: str | Unset | None,
    parent_name: str | Unset | None,
    port: int | Unset | None,
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if not isinstance(status, Unset):
        if status is None:
            raise InvalidError("status must not be null", field="status")
        word = check.line(status, field="status", maximum=WORD_LENGTH)
        canonical = status_of_word(word)
        values.update(status=canonical, status_word=word)
        values["was_active"] = canonical != AgentStatus.IDLE
    if not isinstance(activity, Unset):
        values["activity"] = check.optional_text(
            activity, field="activity", maximum=ACTIVITY_LENGTH
        )
    if not isinstance(parent_name, Unset):
        values["parent_name"] = check.optional_line(parent_name, field="parentName", maximum=100)
    if not isinstance(port, Unset):
        values["port"] = (
            None if port is None else check.integer(port, field="port", minimum=1, maximum=65_535)
        )
    return values


async def _lock_by_name(ctx: Context, workspace_id: str, name: str) -> Agent | None:
    found = await ctx.transaction.records(
        Agent,
        select_all(Agent)
        .where(AGENT.workspace_id == workspace_id, AGENT.name == name)
        .with_for_update(),
    )
    return found[0] if found else None


def _refuse_foreign(ctx: Context, agent: Agent | None) -> None:
    principal = ctx.authenticated()
    if principal.kind == "agent" and (agent is None or agent.id != principal.id):
        raise ForbiddenError("An agent may report on itself only")


@operation
async def report_agent_progress(
    ctx: Context,
    *,
    workspace_id: str,
    agent_name: str,
    task_name: str | None = None,
    step: str | None = None,
    file: str | None = None,
    detail: str | None = None,
) -> AgentProgress:
    """Keep one line of what an agent is doing; it counts as a heartbeat of an agent that is known.

    The newest 200 reports of an agent are kept.

    Args:
        ctx: needs ``write`` in the workspace; an agent may report for itself only.
        workspace_id: where.
        agent_name: who, 1 to 100 characters; need not be known.
        task_name: on what, up to 500 characters.
        step: which step of it, up to 500 characters.
        file: in which file, up to 1,024 characters.
        detail: more, up to 4,000 characters.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    await get_active_workspace(ctx, workspace_id=workspace_id)
    name = check_name(agent_name)
    agent = await _lock_by_name(ctx, workspace_id, name)
    _refuse_foreign(ctx, agent)
    report = await ctx.transaction.insert(
        AgentProgress,
        workspace_id=workspace_id,
        agent_name=name,
        task_name=check.optional_text(task_name, field="taskName", maximum=500),
        step=check.optional_text(step, field="step", maximum=500),
        file=check.optional_text(file, field="file", maximum=1024),
        detail=check.optional_text(detail, field="detail", maximum=DETAIL_LENGTH),
        created_at=ctx.now,
    )
    outdated = (
        sa.select(PROGRESS.id)
        .where(PROGRESS.workspace_id == workspace_id, PROGRESS.agent_name == name)
        .order_by(PROGRESS.created_at.desc(), PROGRESS.id.desc())
        .offset(PROGRESS_KEPT)
    )
    await ctx.transaction.execute(
        sa.delete(table_of(AgentProgress)).where(PROGRESS.id.in_(outdated))
    )
    if agent is not None:
        await ctx.transaction.update_by_id(Agent, agent.id, last_seen_at=ctx.now)
    ctx.emit("agent.progress", report, workspace_id=workspace_id, entity_type="progress")
    return report


async def list_progress(
    ctx: Context, *, workspace_id: str, agent_name: str, limit: int = 20
) -> list[AgentProgress]:
    """The newest reports of an agent, newest first; none of an unknown one.

    Args:
        ctx: needs ``read``.
        workspace_id: where.
        agent_name: whose.
        limit: how many at most, 1 to 200.
    """
    await get_workspace(ctx, workspace_id=workspace_id)
    number = check.integer(limit, field="limit", minimum=1, maximum=PROGRESS_KEPT)
    return await newest_progress(ctx, workspace_id, agent_name, number=number)


async def newest_progress(
    ctx: Context, workspace_id: str, agent_name: str, *, number: int
) -> list[AgentProgress]:
    """The newest reports of an agent, newest first, batched over the agents of a page.

    For an agent that is visible already.
    """

    async def load(keys: Sequence[tuple[str, str]]) -> Sequence[list[AgentProgress]]:
        ranked = _ranked().where(
            PROGRESS.workspace_id.in_({key[0] for key in keys}),
            PROGRESS.agent_name.in_({key[1] for key in keys}),
        )
        groups: dict[tuple[str, str], list[AgentProgress]] = {key: [] for key in keys}
        for report in await _up_to(ctx, ranked, number):
            groups.setdefault((report.workspace_id, report.agent_name), []).append(report)
        return [groups[key] for key in keys]

    name = check.text(agent_name, field="agentName", maximum=ctx.limits.short_text)
    return await loader(ctx, ("newest_progress", number), load).load((workspace_id, name))


async def latest_progress(ctx: Context, *, workspace_id: str) -> list[AgentProgress]:
    """The newest report of each agent of a workspace, newest first; at most 1,000."""
    await get_workspace(ctx, workspace_id=workspace_id)
    ranked = _ranked().where(PROGRESS.workspace_id == workspace_id)
    found = await _up_to(ctx, ranked, 1)
    newest_first = sorted(found, key=lambda report: (report.created_at, report.id), reverse=True)
    return newest_first[: ctx.limits.agents_per_workspace]


def _ranked() -> sa.Select[Any]:
    rank = sa.func.row_number().over(
        partition_by=(PROGRESS.workspace_id, PROGRESS.agent_name),
        order_by=(PROGRESS.created_at.desc(), PROGRESS.id.desc()),
    )
    return sa.select(*PROGRESS, rank.label("rank"))


async def _up_to(ctx: Context, ranked: sa.Select[Any], number: int) -> list[AgentProgress]:
    table = ranked.subquery()
    columns = [table.c[column.key] for column in PROGRESS]
    return await (await ctx.reader()).records(
        AgentProgress,
        sa.select(*columns).where(table.c.rank <= number).order_by(table.c.rank),
    )


@step
async def purge_agent_progress(ctx: Context, *, workspace_id: str | None = None) -> int:
    """Forget reports older than 24 hours, of one workspace or (None) of all; how many.

    Args:
        ctx: needs ``write`` in the workspace; for all of them ``admin`` on the whole site.
        workspace_id: where.
    """
    condition = [PROGRESS.created_at < ctx.now - PROGRESS_LIFETIME]
    if workspace_id is None:
        ctx.require_site(Permission.ADMIN)
    else:
        await get_workspace(ctx, workspace_id=workspace_id, permission=Permission.WRITE)
        refuse_agents(ctx)
        condition.append(PROGRESS.workspace_id == workspace_id)
    return await ctx.transaction.execute(sa.delete(table_of(AgentProgress)).where(*condition))
