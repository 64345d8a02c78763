"""Lists of tasks: orders, totals, and the look-ups that go with a page."""

from enum import StrEnum
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from models import Task, TaskTotal, Workspace, table_of
from models.base import column_names
from models.enums import Permission, TaskStatus
from models.prepared import DialectName, Prepared
from resolvers.context import Context
from resolvers.filtering import number_in
from resolvers.loading import STATEMENTS_KEPT, Columns, columns_to_read, with_columns
from resolvers.paging import (
    Order,
    Page,
    PageArguments,
    Slice,
    capped_count,
    directions,
    is_first_page,
    names_of,
    read_first_page,
    read_page,
)
from resolvers.task_filters import TaskFilter, task_conditions
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
    chosen = filter_ or TaskFilter()
    page = page or PageArguments()
    workspace = None
    if workspace_id is not None:
        await require_workspace(ctx, workspace_id=workspace_id)
        if chosen == _ON_THE_BOARD and is_first_page(page):
            return await _first_of_board(ctx, workspace_id, order, page, columns)
        if chosen.search is not None:
            workspace = await get_workspace(ctx, workspace_id=workspace_id)
    statement = sa.select(*columns_to_read(Task, with_columns(Task, columns, *_ORDER_NAMES[order])))
    statement = statement.where(TASK.deleted_at.is_(None), *task_conditions(ctx, chosen))
    if workspace_id is not None:
        statement = statement.where(TASK.workspace_id == workspace_id)
    else:
        statement = statement.where(TASK.workspace_id.in_(visible_workspaces(ctx)))
    if chosen.search is not None and chosen.search.strip():
        words = chosen.search.strip()
        numbers = {number_in(words), chosen.search_number} - {None}
        known = await narrowed(
            ctx, words, workspace=workspace, numbers=[n for n in numbers if n is not None]
        )
        if known is not None:
            statement = statement.where(known)

    async def count() -> tuple[int, bool]:
        if workspace_id is not None and chosen.is_default:
            return await _kept_total(ctx, workspace_id, chosen), True
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


async def _first_of_board(
    ctx: Context, workspace_id: str, order: TaskOrder, page: PageArguments, columns: Columns
) -> Page[Task]:
    async def count() -> tuple[int, bool]:
        return await _kept_total(ctx, workspace_id, _ON_THE_BOARD), True

    prepared = _board_page(order, with_columns(Task, columns, *_ORDER_NAMES[order]))
    return await read_first_page(
        ctx, prepared, workspace_id, order=_ORDER_NAMES[order], page=page, count=count
    )


@lru_cache(maxsize=STATEMENTS_KEPT)
def _board_page(order: TaskOrder, columns: Columns) -> Prepared[Task]:
    def build(_dialect: DialectName) -> sa.Select[Any]:
        return (
            sa.select(*columns_to_read(Task, columns))
            .where(
                TASK.workspace_id == sa.bindparam("workspace_id"),
                TASK.deleted_at.is_(None),
                TASK.archived_at.is_(None),
            )
            .order_by(*directions(_ORDERS[order], table_of(Task)))
            .limit(sa.bindparam("size", type_=sa.Integer))
        )

    return Prepared(Task, columns or column_names(Task), ["workspace_id", "size"], build)


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


async def _kept_total(ctx: Context, workspace_id: str, chosen: TaskFilter) -> int:
    if chosen == _ON_THE_BOARD:
        (found,) = await (await ctx.reader()).fetch(_BOARD_TOTAL, workspace_id)
        return int(found.total)
    statement = sa.select(sa.func.coalesce(sa.func.sum(TOTAL.total), 0)).where(
        TOTAL.workspace_id == workspace_id
    )
    if chosen.status is not None:
        statement = statement.where(TOTAL.status.in_(sorted(chosen.status)))
    if chosen.archived is not None:
        statement = statement.where(TOTAL.archived.is_(chosen.archived))
    return int(await (await ctx.reader()).scalar(statement))


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
