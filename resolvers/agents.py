"""Agents of a workspace: create, look up, list, change, delete."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from models import Agent, AgentProgress, Run, Task, table_of
from models.enums import AgentStatus, ExecutionMode, Executor, Permission
from models.lifecycle import RUN_LIVE
from models.transaction import select_all
from resolvers import validation as check
from resolvers.belongings import Deletion, detach, get_belonging
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    LimitExceededError,
    NotFoundError,
    OperationError,
)
from resolvers.filtering import bounded, text_contains
from resolvers.loading import Columns, columns_to_read, with_columns
from resolvers.operation import operation
from resolvers.paging import Order, Page, PageArguments
from resolvers.siblings import Parents, in_workspaces, only, read_pages
from resolvers.task_access import check_version
from resolvers.task_runs import end_run
from resolvers.validation import Unset
from resolvers.workspaces import get_active_workspace, get_workspace

AGENT = table_of(Agent).c
PROGRESS = table_of(AgentProgress).c
RUN = table_of(Run).c
TASK = table_of(Task).c

NAME_LENGTH = 100
API_KEY_LENGTH = 4_096
ARGUMENT_LENGTH = 4_096
FINISHED = (AgentStatus.COMPLETED, AgentStatus.FAILED, AgentStatus.STOPPED)

_LINES = {"role": 64, "engine": 100, "model": 100, "parent_name": NAME_LENGTH}


@dataclass(frozen=True, slots=True)
class AgentFilter:
    """Conditions on agents; those given combine with AND. Collections mean "one of".

    ``finished_children``: only agents that have a parent and are COMPLETED, FAILED or STOPPED
    (True), or only the others (False). ``search``: a part of name or role, in any case.
    """

    names: Collection[str] | None = None
    status: Collection[str] | None = None
    parent_names: Collection[str] | None = None
    finished_children: bool | None = None
    search: str | None = None


async def get_agent(
    ctx: Context, *, agent_id: str, permission: Permission = Permission.READ
) -> Agent:
    """An agent the principal may see; inside an operation its row is locked.

    Raises:
        NotFoundError, ForbiddenError, ConflictError: see ``get_belonging``.
    """
    return await get_belonging(ctx, Agent, entity_id=agent_id, permission=permission)


async def get_agent_by_name(ctx: Context, *, workspace_id: str, name: str) -> Agent:
    """The agent of this name; not locked.

    Raises:
        NotFoundError: no such agent or workspace; and what ``get_workspace`` raises.
    """
    await get_workspace(ctx, workspace_id=workspace_id)
    wanted = check.text(name, field="name", maximum=NAME_LENGTH)
    found = await (await ctx.reader()).find(
        Agent, AGENT.workspace_id == workspace_id, AGENT.name == wanted
    )
    if found is None:
        raise NotFoundError("Agent")
    return found


async def list_agents(
    ctx: Context,
    *,
    workspace_id: str,
    filter_: AgentFilter | None = None,
    page: PageArguments | None = None,
) -> Page[Agent]:
    """A page of the agents of a workspace, by name.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError: the workspace is not visible.
        InvalidError: page arguments or filters that cannot be accepted.
    """
    page = page or PageArguments()
    return only(await agents_of_workspaces(ctx, [workspace_id], filter_=filter_, page=page))


async def agents_of_workspaces(
    ctx: Context,
    workspace_ids: Sequence[str],
    *,
    filter_: AgentFilter | None = None,
    page: PageArguments,
    columns: Columns = None,
) -> list[Page[Agent] | OperationError]:
    """The same page of the agents of each workspace; a refusal where one is not visible.

    Raises:
        InvalidError: page arguments or filters that cannot be accepted.
    """
    names = with_columns(Agent, columns, "name", "id")

    async def read(ids: list[str]) -> list[Page[Agent]]:
        return await read_pages(
            ctx,
            Agent,
            _filtered(ctx, filter_ or AgentFilter(), names),
            Parents(ids, lambda parent: AGENT.workspace_id == parent),
            order=[Order(AGENT.name), Order(AGENT.id)],
            page=page,
            columns=names,
        )

    return await in_workspaces(ctx, workspace_ids, lambda key: key, read)


def _filtered(ctx: Context, chosen: AgentFilter, columns: Columns) -> sa.Select[Any]:
    statement = sa.select(*columns_to_read(Agent, columns))
    for column, values in (
        (AGENT.name, chosen.names),
        (AGENT.status, chosen.status),
        (AGENT.parent_name, chosen.parent_names),
    ):
        if values is not None:
            statement = statement.where(column.in_(bounded(ctx, str(column.key), values)))
    if chosen.finished_children is not None:
        finished = sa.and_(AGENT.parent_name.is_not(None), AGENT.status.in_(FINISHED))
        statement = statement.where(finished if chosen.finished_children else sa.not_(finished))
    if chosen.search is not None and chosen.search.strip():
        statement = statement.where(text_contains(chosen.search.strip(), AGENT.name, AGENT.role))
    return statement


def refuse_agents(ctx: Context) -> None:
    """Let no agent set up or remove agents, itself included: it only reports.

    Raises:
        UnauthenticatedError, ForbiddenError.
    """
    if ctx.authenticated().kind == "agent":
        raise ForbiddenError("An agent may report on itself, but not manage agents")


@operation
async def create_agent(ctx: Context, *, workspace_id: str, name: str, **fields: Any) -> Agent:
    """Make an agent known.

    Args:
        ctx: needs ``write`` in the workspace; not for agents.
        workspace_id: where.
        name: one line, 1 to 100 characters, unique in the workspace; it never changes.
        fields: any of the fields of :func:`update_agent`.

    Raises:
        ConflictError: there is an agent of this name.
        InvalidError, NotFoundError, ForbiddenError, LimitExceededError.
    """
    refuse_agents(ctx)
    await get_active_workspace(ctx, workspace_id=workspace_id)
    values = _checked(ctx, **fields)
    agent = await insert_agent(ctx, workspace_id=workspace_id, name=check_name(name), **values)
    if agent is None:
        raise ConflictError(f"There is an agent {name.strip()} already", field="name")
    return agent


def check_name(name: str) -> str:
    """A name an agent can have.

    Raises:
        InvalidError: empty, too long, more than a line.
    """
    return check.line(name, field="name", maximum=NAME_LENGTH)


async def insert_agent(
    ctx: Context, *, workspace_id: str, name: str, **values: Any
) -> Agent | None:
    """Insert a checked agent with its event; None where one of this name exists."""
    number = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(AGENT.workspace_id == workspace_id)
    )
    if number >= ctx.limits.agents_per_workspace:
        raise LimitExceededError(
            "The workspace has its maximum of agents", limit=ctx.limits.agents_per_workspace
        )
    agent = await ctx.transaction.insert_unless_exists(
        Agent,
        workspace_id=workspace_id,
        name=name,
        created_at=ctx.now,
        updated_at=ctx.now,
        **values,
    )
    if agent is not None:
        ctx.emit("agent.created", agent, workspace_id=workspace_id)
    return agent


@operation
async def update_agent(
    ctx: Context, *, agent_id: str, expected_version: int | None = None, **fields: Any
) -> Agent:
    """Change how an agent is set up; what is not given stays, None clears.

    Args:
        ctx: needs ``write``; not for agents.
        agent_id: which.
        expected_version: refuse with CONFLICT unless the agent is at this version.
        fields: role, executor, engine (free text), execution_mode, model, system_prompt,
            parent_name, metadata; api_key, which is kept encrypted and never shown; command, an
            argument list for the site owner alone, and only where the operator allows it.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    refuse_agents(ctx)
    agent = await get_agent(ctx, agent_id=agent_id, permission=Permission.WRITE)
    check_version(agent.version, expected_version)
    values = _checked(ctx, **fields)
    changes = {name: value for name, value in values.items() if getattr(agent, name) != value}
    if not changes:
        return agent
    return await change_agent(ctx, agent, "agent.updated", changed=_shown(changes), **changes)


async def change_agent(
    ctx: Context,
    agent: Agent,
    event: str,
    *,
    changed: Sequence[str] | None = None,
    reason: str | None = None,
    **changes: Any,
) -> Agent:
    """Write a change of an agent: version, time and event in one place."""
    after = await ctx.transaction.update_by_id(
        Agent, agent.id, updated_at=ctx.now, version=agent.version + 1, **changes
    )
    ctx.emit(
        event,
        after,
        workspace_id=agent.workspace_id,
        changed=changed,
        reason=reason,
        from_status=agent.status if after.status != agent.status else None,
    )
    return after


def _shown(changes: Collection[str]) -> list[str]:
    shown = {"api_key_encrypted": "api_key", "meta": "metadata"}
    return sorted(shown.get(name, name) for name in changes)


@operation
async def delete_agent(ctx: Context, *, agent_id: str, force: bool = False) -> Deletion:
    """Delete an agent, its keys and what it reported; its tasks and ended runs stay, without it.

    Args:
        ctx: needs ``write``, with ``force`` and live runs also ``execute``; not for agents.
        agent_id: which.
        force: also while it has live runs, which are cancelled or stopped; otherwise a CONFLICT.
    """
    refuse_agents(ctx)
    agent = await get_agent(ctx, agent_id=agent_id, permission=Permission.WRITE)
    live = await ctx.transaction.records(
        Run,
        select_all(Run)
        .where(RUN.agent_id == agent.id, RUN.status.in_(sorted(RUN_LIVE)))
        .order_by(RUN.created_at, RUN.id)
        .with_for_update(),
    )
    if live and not force:
        raise ConflictError("The agent has runs that have not ended; stop them first")
    if live:
        ctx.require(Permission.EXECUTE, agent.workspace_id, kind="Agent")
    for run in live:
        await end_run(ctx, run, reason="agent_deleted")
    left = await detach(ctx, Task, "agent_id", TASK.agent_id == agent.id)
    await ctx.transaction.execute(
        sa.delete(table_of(AgentProgress)).where(
            PROGRESS.workspace_id == agent.workspace_id, PROGRESS.agent_name == agent.name
        )
    )
    await ctx.transaction.delete_by_id(Agent, agent.id)
    ctx.emit("agent.deleted", agent, workspace_id=agent.workspace_id, **left)
    ctx.after_commit(lambda: ctx.services.wakeups.principal(f"agent:{agent.id}"))
    return Deletion(agent.id, agent.workspace_id)


def _checked(ctx: Context, **fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Unset):
            continue
        if name == "api_key":
            values["api_key_encrypted"] = _sealed(ctx, value)
        elif name == "metadata":
            values["meta"] = check.json_object(
                value, field=name, maximum_bytes=ctx.limits.json_bytes
            )
        elif name in _LINES:
            values[name] = check.optional_line(value, field=name, maximum=_LINES[name])
        else:
            values[name] = _checked_setup(ctx, name, value)
    return values


def _checked_setup(ctx: Context, name: str, value: Any) -> Any:
    match name:
        case "command":
            return _command(ctx, value)
        case "system_prompt":
            return check.optional_text(value, field=name, maximum=ctx.limits.description)
        case "executor":
            return None if value is None else check.word(value, Executor, field=name)
        case "execution_mode":
            if value is None:
                raise InvalidError(f"{name} must not be null", field=name)
            return check.word(value, ExecutionMode, field=name)
    raise TypeError(f"an agent has no field {name} to set")


def _sealed(ctx: Context, api_key: str | None) -> bytes | None:
    if api_key is None:
        return None
    secret = check.line(api_key, field="api_key", maximum=API_KEY_LENGTH)
    return ctx.services.secrets.encrypt(secret)


def _command(ctx: Context, command: Sequence[str] | None) -> list[str] | None:
    """An argument list of an agent's own.

    It is what the server executes, so it takes the site owner and the operator's word; anybody
    else chooses among the operator's executors.
    """
    principal = ctx.authenticated()
    if not (principal.is_site_owner or principal.kind == "system"):
        raise ForbiddenError("Only the site owner may give an agent a command", field="command")
    if command is None:
        return None
    if not ctx.services.trust.allow_agent_commands:
        raise ForbiddenError(
            "Agents' own commands are not allowed on this server: "
            "set DRAGOMAN_ALLOW_AGENT_COMMANDS=1",
            field="command",
        )
    if not 1 <= len(command) <= ctx.limits.list_items or not command[0].strip():
        raise InvalidError(
            f"command is a program and its arguments, at most {ctx.limits.list_items} in all",
            field="command",
        )
    return [check.text(argument, field="command", maximum=ARGUMENT_LENGTH) for argument in command]
