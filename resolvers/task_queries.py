"""Lists of tasks: orders, totals, and the look-ups that go with a page."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from models import Agent, Sprint, Story, Task, TaskTotal, Workspace, table_of
from models.base import column_names
from models.enums import Permission, TaskStatus
from models.prepared import DialectName, Prepared
from resolvers.context import Context
from resolvers.errors import (
    ForbiddenError,
    NotFoundError,
    OperationError,
    UnauthenticatedError,
)
from resolvers.filtering import number_in
from resolvers.loading import STATEMENTS_KEPT, Columns, columns_to_read, with_columns
from resolvers.paging import (
    Order,
    Page,
    PageArguments,
    Slice,
    capped_count,
    directions,
    is_numbered,
    limit_and_offset,
    names_of,
    read_page,
    read_prepared_page,
)
from resolvers.siblings import SPRINT, Parents, Through, in_workspaces, read_pages, through_sprint
from resolvers.task_filters import TaskFilter, flag_conditions, task_conditions
from resolvers.task_search import narrowed
from resolvers.workspaces import get_workspace, require_workspace

TASK = table_of(Task).c
TOTAL = table_of(TaskTotal).c
WORKSPACE = table_of(Workspace).c
REPOSITORIES_MAX = 1_000


class TaskOrder(StrEnum):
    """Orders of a list of tasks; ids break ties."""

    POSITION_ASC = "POSITION_ASC"
    CREATED_AT_ASC = "CREATED_AT_ASC"
    CREATED_AT_DESC = "CREATED_AT_DESC"
    UPDATED_AT_ASC = "UPDATED_AT_ASC"
    UPDATED_AT_DESC = "UPDATED_AT_DESC"
    PRIORITY_DESC = "PRIORITY_DESC"
    NUMBER_ASC = "NUMBER_ASC"
    NUMBER_DESC = "NUMBER_DESC"
    TITLE_ASC = "TITLE_ASC"


_ORDERS: dict[TaskOrder, tuple[Order, ...]] = {
    TaskOrder.POSITION_ASC: (Order(TASK.position), Order(TASK.id)),
    TaskOrder.CREATED_AT_ASC: (Order(TASK.created_at), Order(TASK.id)),
    TaskOrder.CREATED_AT_DESC: (Order(TASK.created_at, True), Order(TASK.id, True)),
    TaskOrder.UPDATED_AT_ASC: (Order(TASK.updated_at), Order(TASK.id)),
    TaskOrder.UPDATED_AT_DESC: (Order(TASK.updated_at, True), Order(TASK.id, True)),
    TaskOrder.PRIORITY_DESC: (
        Order(TASK.priority_level, True),
        Order(TASK.position),
        Order(TASK.id),
    ),
    TaskOrder.NUMBER_ASC: (Order(TASK.number), Order(TASK.id)),
    TaskOrder.NUMBER_DESC: (Order(TASK.number, True), Order(TASK.id, True)),
    TaskOrder.TITLE_ASC: (Order(TASK.title), Order(TASK.id)),
}


_ON_THE_BOARD = TaskFilter()
_ORDER_NAMES = {name: names_of(order) for name, order in _ORDERS.items()}


async def list_tasks(
    ctx: Context,
    *,
    workspace_id: str | None = None,
    filter_: TaskFilter | None = None,
    order: TaskOrder = TaskOrder.POSITION_ASC,
    page: PageArguments | Slice | None = None,
    columns: Columns = None,
) -> Page[Task]:
    """A page of the tasks of one workspace, or of all that the principal may see.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError: the workspace is not visible.
        InvalidError: page arguments or filters that cannot be accepted.
    """
    chosen = filter_ or _ON_THE_BOARD
    page = page or PageArguments()
    workspace = None
    if workspace_id is not None:
        await require_workspace(ctx, workspace_id=workspace_id)
        plain = chosen.plain
        if plain is not None and is_numbered(page):
            return await _prepared_page(ctx, workspace_id, plain, order, page, columns)
        if chosen.search is not None:
            workspace = await get_workspace(ctx, workspace_id=workspace_id)
    statement = await _statement(ctx, chosen, order, columns, workspace=workspace)
    if workspace_id is not None:
        statement = statement.where(TASK.workspace_id == workspace_id)
    else:
        statement = statement.where(TASK.workspace_id.in_(visible_workspaces(ctx)))

    async def count() -> tuple[int, bool]:
        if workspace_id is not None and chosen.is_default:
            return (await _kept_totals(ctx, [workspace_id], chosen))[0]
        return await capped_count(ctx, statement)

    return await read_page(
        ctx,
        Task,
        statement,
        order=_ORDERS[order],
        page=page,
        count=count,
        columns=with_columns(Task, columns, *_ORDER_NAMES[order]),
    )


async def tasks_of_workspaces(
    ctx: Context,
    workspace_ids: Sequence[str],
    *,
    filter_: TaskFilter | None = None,
    order: TaskOrder = TaskOrder.POSITION_ASC,
    page: PageArguments,
    columns: Columns = None,
) -> list[Page[Task] | OperationError]:
    """The same page of the tasks of each workspace; a refusal where one is not visible.

    Raises:
        InvalidError: page arguments or filters that cannot be accepted.
    """
    chosen = filter_ or TaskFilter()
    if len(workspace_ids) == 1:
        try:
            alone: Page[Task] | OperationError = await list_tasks(
                ctx,
                workspace_id=workspace_ids[0],
                filter_=chosen,
                order=order,
                page=page,
                columns=columns,
            )
        except (NotFoundError, ForbiddenError, UnauthenticatedError) as error:
            alone = error
        return [alone]

    async def read(ids: list[str]) -> list[Page[Task]]:
        async def counts(keys: list[str]) -> list[tuple[int, bool]]:
            return await _kept_totals(ctx, keys, chosen)

        return await read_pages(
            ctx,
            Task,
            await _statement(ctx, chosen, order, columns),
            Parents(ids, lambda parent: TASK.workspace_id == parent),
            order=_ORDERS[order],
            page=page,
            columns=with_columns(Task, columns, *_ORDER_NAMES[order]),
            counts=counts if chosen.is_default else None,
        )

    return await in_workspaces(ctx, workspace_ids, lambda key: key, read)


async def tasks_of_stories(
    ctx: Context, stories: Sequence[Story], *, page: PageArguments, columns: Columns = None
) -> list[Page[Task] | OperationError]:
    """The same page of each story's tasks, archived ones too; else as those of workspaces."""
    return await _tasks_of(
        ctx, stories, TASK.story_id.__eq__, TaskFilter(archived=None), page, columns
    )


async def tasks_of_sprints(
    ctx: Context, sprints: Sequence[Sprint], *, page: PageArguments, columns: Columns = None
) -> list[Page[Task] | OperationError]:
    """The same page of each sprint's tasks, archived ones too; else as those of workspaces."""
    return await _tasks_of(
        ctx,
        sprints,
        SPRINT.id.__eq__,
        TaskFilter(archived=None),
        page,
        columns,
        through_sprint(TASK),
    )


async def tasks_of_agents(
    ctx: Context, agents: Sequence[Agent], *, page: PageArguments, columns: Columns = None
) -> list[Page[Task] | OperationError]:
    """The same page of the tasks that each agent is to do; else as those of workspaces."""
    return await _tasks_of(ctx, agents, TASK.agent_id.__eq__, TaskFilter(), page, columns)


async def _tasks_of(
    ctx: Context,
    siblings: Sequence[Any],
    belongs: Callable[[Any], sa.ColumnElement[bool]],
    chosen: TaskFilter,
    page: PageArguments,
    columns: Columns,
    through: Through | None = None,
) -> list[Page[Task] | OperationError]:
    order = TaskOrder.POSITION_ASC

    async def read(allowed: list[Any]) -> list[Page[Task]]:
        statement = await _statement(ctx, chosen, order, columns)
        workspaces = {one.workspace_id for one in allowed}
        return await read_pages(
            ctx,
            Task,
            statement.where(TASK.workspace_id.in_(workspaces)),
            Parents([one.id for one in allowed], belongs, through),
            order=_ORDERS[order],
            page=page,
            columns=with_columns(Task, columns, *_ORDER_NAMES[order]),
        )

    return await in_workspaces(ctx, siblings, lambda one: one.workspace_id, read)


async def _statement(
    ctx: Context,
    chosen: TaskFilter,
    order: TaskOrder,
    columns: Columns,
    *,
    workspace: Workspace | None = None,
) -> sa.Select[Any]:
    """The filtered tasks, without order; where they are of one workspace, a search is narrower."""
    statement = sa.select(*columns_to_read(Task, with_columns(Task, columns, *_ORDER_NAMES[order])))
    statement = statement.where(TASK.deleted_at.is_(None), *task_conditions(ctx, chosen))
    if chosen.search is not None and chosen.search.strip():
        words = chosen.search.strip()
        numbers = {number_in(words), chosen.search_number} - {None}
        known = await narrowed(
            ctx, words, workspace=workspace, numbers=[n for n in numbers if n is not None]
        )
        if known is not None:
            statement = statement.where(known)
    return statement


async def _prepared_page(
    ctx: Context,
    workspace_id: str,
    chosen: TaskFilter,
    order: TaskOrder,
    page: PageArguments | Slice,
    columns: Columns,
) -> Page[Task]:
    async def count() -> tuple[int, bool]:
        if chosen.is_default:
            return (await _kept_totals(ctx, [workspace_id], chosen))[0]
        maximum = ctx.limits.filtered_count_max
        reader = await ctx.reader()
        (found,) = await reader.fetch(_counted(chosen), workspace_id, maximum + 1)
        return min(found.total, maximum), found.total <= maximum

    names = with_columns(Task, columns, *_ORDER_NAMES[order])
    return await read_prepared_page(
        ctx,
        _page(chosen, order, names),
        workspace_id,
        order=_ORDER_NAMES[order],
        page=page,
        count=count,
    )


@lru_cache(maxsize=STATEMENTS_KEPT)
def _page(chosen: TaskFilter, order: TaskOrder, columns: Columns) -> Prepared[Task]:
    def build(_dialect: DialectName) -> sa.Select[Any]:
        ordered = sa.select(*columns_to_read(Task, columns)).order_by(
            *directions(_ORDERS[order], table_of(Task))
        )
        return limit_and_offset(ordered.where(*_of_workspace(chosen)))

    read = columns or column_names(Task)
    return Prepared(Task, read, ["workspace_id", "size", "offset"], build)


@lru_cache(maxsize=STATEMENTS_KEPT)
def _counted(chosen: TaskFilter) -> Prepared[TaskTotal]:
    def build(_dialect: DialectName) -> sa.Select[Any]:
        rows = sa.select(sa.literal(1)).where(*_of_workspace(chosen))
        bounded = rows.limit(sa.bindparam("maximum", type_=sa.Integer)).subquery()
        return sa.select(sa.func.count().label("total")).select_from(bounded)

    return Prepared(TaskTotal, ["total"], ["workspace_id", "maximum"], build)


def _of_workspace(plain: TaskFilter) -> list[sa.ColumnElement[bool]]:
    """SQL: the live tasks of the workspace with the id ``workspace_id`` under a plain filter."""
    belongs = TASK.workspace_id == sa.bindparam("workspace_id")
    return [belongs, TASK.deleted_at.is_(None), *flag_conditions(plain)]


async def list_task_repositories(ctx: Context, *, workspace_id: str) -> list[str]:
    """The distinct repositories of a workspace's live tasks, sorted; internal tasks apart.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError.
    """
    await get_workspace(ctx, workspace_id=workspace_id)
    return await (await ctx.reader()).scalars(
        sa.select(TASK.repository)
        .where(
            TASK.workspace_id == workspace_id,
            TASK.deleted_at.is_(None),
            TASK.internal.is_(False),
            TASK.repository.is_not(None),
        )
        .distinct()
        .order_by(TASK.repository)
        .limit(REPOSITORIES_MAX)
    )


def visible_workspaces(ctx: Context) -> sa.Select[Any]:
    """SQL: ids of the live workspaces the principal may read.

    Raises:
        UnauthenticatedError, ForbiddenError: nobody asks, or the key may not read.
    """
    principal = ctx.authenticated()
    ctx.require_scope(Permission.READ)
    statement = sa.select(WORKSPACE.id).where(WORKSPACE.deleted_at.is_(None))
    visible = principal.readable_workspaces
    return statement if visible is None else statement.where(WORKSPACE.id.in_(sorted(visible)))


async def _kept_totals(
    ctx: Context, workspace_ids: list[str], chosen: TaskFilter
) -> list[tuple[int, bool]]:
    """The totals of workspaces under a default filter, and that they are exact."""
    reader = await ctx.reader()
    if chosen == _ON_THE_BOARD and len(workspace_ids) == 1:
        (found,) = await reader.fetch(_BOARD_TOTAL, *workspace_ids)
        return [(int(found.total), True)]
    statement = (
        sa.select(TOTAL.workspace_id, sa.func.sum(TOTAL.total).label("total"))
        .where(TOTAL.workspace_id.in_(workspace_ids))
        .group_by(TOTAL.workspace_id)
    )
    if chosen.status is not None:
        statement = statement.where(TOTAL.status.in_(sorted(chosen.status)))
    if chosen.archived is not None:
        statement = statement.where(TOTAL.archived.is_(chosen.archived))
    totals = {row.workspace_id: int(row.total) for row in await reader.rows(statement)}
    return [(totals.get(workspace_id, 0), True) for workspace_id in workspace_ids]


def _board_total(_dialect: DialectName) -> sa.Select[Any]:
    total = sa.func.coalesce(sa.func.sum(TOTAL.total), 0).label("total")
    return sa.select(total).where(
        TOTAL.workspace_id == sa.bindparam("workspace_id"), TOTAL.archived.is_(False)
    )


_BOARD_TOTAL = Prepared(TaskTotal, ["total"], ["workspace_id"], _board_total)


async def task_totals(ctx: Context, *, workspace_id: str) -> dict[TaskStatus, int]:
    """How many tasks (archived ones apart) stand in each status, from the kept totals."""
    ctx.require(Permission.READ, workspace_id)
    rows = await (await ctx.reader()).rows(
        sa.select(TOTAL.status, TOTAL.total).where(
            TOTAL.workspace_id == workspace_id, TOTAL.archived.is_(False)
        )
    )
    found = {row.status: int(row.total) for row in rows}
    return {status: found.get(status, 0) for status in TaskStatus}
