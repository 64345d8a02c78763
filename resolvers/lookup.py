"""Finding things without knowing their kind: by id, or by words; and what can execute runs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

from models import Agent, Sprint, Story, Task, Workspace, table_of
from models.enums import Executor, Permission
from models.errors import DatabaseBusyError
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ForbiddenError, NotFoundError, UnavailableError
from resolvers.filtering import SEARCH_LENGTH, text_contains
from resolvers.paging import PageArguments
from resolvers.run_queries import get_run
from resolvers.task_access import get_task
from resolvers.task_filters import TaskFilter
from resolvers.task_queries import TaskOrder, list_tasks, visible_workspaces
from resolvers.users import get_user
from resolvers.workspaces import get_workspace

WORKSPACE = table_of(Workspace).c
OF_A_WORKSPACE: tuple[type[SQLModel], ...] = (Story, Sprint, Agent)


async def find_entity(ctx: Context, *, entity_id: str) -> Any:
    """A task, run, workspace, story, sprint, agent or user by its id; None when not visible."""
    if not check.is_id(entity_id):
        return None
    for get in (_task, _run, _workspace, _user):
        try:
            return await get(ctx, entity_id)
        except (NotFoundError, ForbiddenError):
            continue
    for model in OF_A_WORKSPACE:
        columns = table_of(model).c
        found = await (await ctx.reader()).find(
            model,
            columns.id == entity_id,
            columns.workspace_id.in_(visible_workspaces(ctx)),
        )
        if found is not None:
            return found
    return None


async def _task(ctx: Context, entity_id: str) -> Any:
    return await get_task(ctx, task_id=entity_id)


async def _run(ctx: Context, entity_id: str) -> Any:
    return await get_run(ctx, run_id=entity_id)


async def _workspace(ctx: Context, entity_id: str) -> Any:
    return await get_workspace(ctx, workspace_id=entity_id)


async def _user(ctx: Context, entity_id: str) -> Any:
    return await get_user(ctx, user_id=entity_id)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, of each kind the first few."""

    tasks: Sequence[Task]
    stories: Sequence[Story]
    agents: Sequence[Agent]
    workspaces: Sequence[Workspace]


async def search(
    ctx: Context, *, query: str, workspace_id: str | None = None, first: int = 20
) -> Found:
    """Tasks, stories, agents and workspaces that have words in their texts, newest first.

    Args:
        ctx: needs ``read``.
        query: 1 to 500 characters, found anywhere, in any case.
        workspace_id: only in this one; None for all that are visible.
        first: how many of each kind, 1 to 50.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, UnauthenticatedError.
    """
    words = check.text(query.strip(), field="query", maximum=SEARCH_LENGTH, minimum=1)
    check.integer(first, field="first", minimum=1, maximum=50)
    tasks = await list_tasks(
        ctx,
        workspace_id=workspace_id,
        filter_=TaskFilter(search=words, archived=None),
        order=TaskOrder.UPDATED_AT_DESC,
        page=PageArguments(first=first),
    )
    scope = visible_workspaces(ctx)
    if workspace_id is not None:
        scope = scope.where(WORKSPACE.id == workspace_id)
    return Found(
        tasks.nodes,
        await _matching(ctx, Story, words, scope, first, "title", "description"),
        await _matching(ctx, Agent, words, scope, first, "name", "activity"),
        await _matching(ctx, Workspace, words, scope, first, "name", "description"),
    )


async def _matching(
    ctx: Context, model: Any, words: str, scope: sa.Select[Any], first: int, *names: str
) -> Any:
    columns = table_of(model).c
    workspace_id = columns.id if model is Workspace else columns.workspace_id
    return await (await ctx.reader()).records(
        model,
        select_all(model)
        .where(workspace_id.in_(scope), text_contains(words, *(columns[n] for n in names)))
        .order_by(columns.updated_at.desc(), columns.id.desc())
        .limit(first),
    )


@dataclass(frozen=True, slots=True)
class ExecutorFacts:
    """Whether this server can run an executor, and if not, what is missing.

    ``version`` and ``credential_configured`` are None where they are not known.
    """

    executor: Executor
    is_available: bool
    is_default: bool
    reason: str | None
    version: str | None = None
    credential_configured: bool | None = None


async def list_executors(ctx: Context) -> list[ExecutorFacts]:
    """All executors there are names for, with whether this server can run them.

    Raises:
        UnauthenticatedError, ForbiddenError: nobody asks, or the key may not read.
    """
    ctx.require_scope(Permission.READ)
    return list(await asyncio.gather(*(_look_at(ctx, executor) for executor in Executor)))


async def _look_at(ctx: Context, executor: Executor) -> ExecutorFacts:
    trust, probe = ctx.services.trust, ctx.services.probe
    is_configured = executor in (trust.executors or {})
    is_default = executor == trust.default_executor
    if probe is None:
        reason = None if is_configured else "Not configured"
        return ExecutorFacts(executor, is_configured, is_default, reason)
    found = await probe(executor)
    return ExecutorFacts(
        executor,
        found.reason is None,
        is_default,
        found.reason,
        found.version,
        found.credential_configured,
    )


async def database_answers(ctx: Context) -> bool:
    """Whether the database can be read now; for everybody."""
    try:
        await (await ctx.reader()).scalar(sa.select(1))
    except (UnavailableError, DatabaseBusyError):
        return False
    return True
