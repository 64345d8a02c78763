"""Finding workspaces: by slug or number, in lists; and what is told beside each of a page."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from models import EventStream, TaskTotal, Workspace, table_of
from models.base import column_names
from models.enums import Permission, TaskStatus, WorkspaceStatus
from models.prepared import DialectName, Prepared, one_of
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.events import Position
from resolvers.filtering import text_search
from resolvers.loading import (
    STATEMENTS_KEPT,
    Columns,
    columns_to_read,
    loader,
    with_columns,
)
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
from resolvers.task_queries import visible_workspaces
from resolvers.workspace_fields import SLUG_LENGTH
from resolvers.workspaces import WORKSPACE

STREAM = table_of(EventStream).c
TOTAL = table_of(TaskTotal).c
NUMBER_MAX = 2**31 - 1


class WorkspaceOrder(StrEnum):
    """Orders of a list of workspaces; ids break ties."""

    NAME_ASC = "NAME_ASC"
    NUMBER_ASC = "NUMBER_ASC"
    CREATED_AT_ASC = "CREATED_AT_ASC"
    CREATED_AT_DESC = "CREATED_AT_DESC"
    UPDATED_AT_DESC = "UPDATED_AT_DESC"


_ORDERS: dict[WorkspaceOrder, tuple[Order, ...]] = {
    WorkspaceOrder.NAME_ASC: (Order(WORKSPACE.name), Order(WORKSPACE.id)),
    WorkspaceOrder.NUMBER_ASC: (Order(WORKSPACE.number), Order(WORKSPACE.id)),
    WorkspaceOrder.CREATED_AT_ASC: (Order(WORKSPACE.created_at), Order(WORKSPACE.id)),
    WorkspaceOrder.CREATED_AT_DESC: (Order(WORKSPACE.created_at, True), Order(WORKSPACE.id, True)),
    WorkspaceOrder.UPDATED_AT_DESC: (Order(WORKSPACE.updated_at, True), Order(WORKSPACE.id, True)),
}


_ORDER_NAMES = {name: names_of(order) for name, order in _ORDERS.items()}


@dataclass(frozen=True, slots=True)
class WorkspaceFilter:
    """Conditions on workspaces; those given combine with AND.

    ``status``: one of these. ``search``: part of name, slug or description in any case, or the
    number; up to 500 characters.
    """

    status: Collection[WorkspaceStatus] | None = None
    search: str | None = None


_UNFILTERED = WorkspaceFilter()


async def list_workspaces(
    ctx: Context,
    *,
    filter_: WorkspaceFilter | None = None,
    order: WorkspaceOrder = WorkspaceOrder.NAME_ASC,
    page: PageArguments | Slice | None = None,
    columns: Columns = None,
) -> Page[Workspace]:
    """A page of the workspaces the principal may see.

    Raises:
        UnauthenticatedError, ForbiddenError: nobody asks, or the key may not read.
        InvalidError: page arguments or filters that cannot be accepted.
    """
    page = page or PageArguments()
    names = with_columns(Workspace, columns, *_ORDER_NAMES[order])
    if (filter_ is None or filter_ == _UNFILTERED) and is_numbered(page):
        found = await _read_unfiltered(ctx, order, page, names)
    else:
        found = await read_page(
            ctx,
            Workspace,
            _filtered(ctx, filter_ or _UNFILTERED, names),
            order=_ORDERS[order],
            page=page,
            columns=names,
        )
    if not ctx.in_transaction:
        ctx.live_workspaces.update(workspace.id for workspace in found.nodes)
    return found


def _filtered(ctx: Context, chosen: WorkspaceFilter, columns: Columns) -> sa.Select[Any]:
    statement = sa.select(*columns_to_read(Workspace, columns)).where(
        WORKSPACE.id.in_(visible_workspaces(ctx))
    )
    if chosen.status is not None:
        statement = statement.where(WORKSPACE.status.in_(sorted(chosen.status)))
    if chosen.search is not None and chosen.search.strip():
        statement = statement.where(
            text_search(
                chosen.search.strip(),
                WORKSPACE.name,
                WORKSPACE.slug,
                WORKSPACE.description,
                number=WORKSPACE.number,
            )
        )
    return statement


async def _read_unfiltered(
    ctx: Context, order: WorkspaceOrder, page: PageArguments | Slice, columns: Columns
) -> Page[Workspace]:
    ctx.require_scope(Permission.READ)
    visible = ctx.authenticated().readable_workspaces
    return await read_prepared_page(
        ctx,
        _page(order, columns, of_all=visible is None),
        *(() if visible is None else (list(visible),)),
        order=_ORDER_NAMES[order],
        page=page,
        count=lambda: capped_count(ctx, _filtered(ctx, _UNFILTERED, None)),
    )


@lru_cache(maxsize=STATEMENTS_KEPT)
def _page(order: WorkspaceOrder, columns: Columns, *, of_all: bool) -> Prepared[Workspace]:
    def build(dialect: DialectName) -> sa.Select[Any]:
        rows = sa.select(*columns_to_read(Workspace, columns))
        ordered = rows.order_by(*directions(_ORDERS[order], table_of(Workspace)))
        is_visible = sa.true() if of_all else one_of(dialect, WORKSPACE.id, "visible")
        return limit_and_offset(ordered.where(WORKSPACE.deleted_at.is_(None), is_visible))

    given = [] if of_all else ["visible"]
    read = columns or column_names(Workspace)
    return Prepared(Workspace, read, [*given, "size", "offset"], build)


async def get_workspace_by_slug(
    ctx: Context,
    *,
    slug: str,
    permission: Permission = Permission.READ,
    columns: Columns = None,
) -> Workspace:
    """A workspace by its short name; else as ``get_workspace``."""
    known = len(slug) <= SLUG_LENGTH and slug.isascii() and slug.isprintable()
    return await _get_by(ctx, "slug", slug if known else None, permission, columns)


async def get_workspace_by_number(
    ctx: Context,
    *,
    number: int,
    permission: Permission = Permission.READ,
    columns: Columns = None,
) -> Workspace:
    """A workspace by its number, counted from 1; else as ``get_workspace``."""
    known = 1 <= number <= NUMBER_MAX
    return await _get_by(ctx, "number", number if known else None, permission, columns)


async def is_closed_to_key(ctx: Context, *, number: int) -> bool:
    """Whether a workspace is hidden only because the key opens another one, not its holder.

    So a language whose contract tells the two apart can do so without telling of other tenants.
    """
    principal = ctx.authenticated()
    if principal.workspace_id is None or not 1 <= number <= NUMBER_MAX:
        return False
    found = await (await ctx.reader()).scalar(
        sa.select(WORKSPACE.id).where(WORKSPACE.number == number, WORKSPACE.deleted_at.is_(None))
    )
    visible = replace(principal, workspace_id=None).readable_workspaces
    return found not in {None, principal.workspace_id} and (visible is None or found in visible)


async def _get_by(
    ctx: Context, name: str, value: Any, permission: Permission, columns: Columns
) -> Workspace:
    ctx.authenticated()
    prepared = _live_workspace_by(name, with_columns(Workspace, columns, "id"))
    found = await (await ctx.reader()).fetch(prepared, value) if value is not None else []
    if not found:
        raise NotFoundError("Workspace")
    ctx.require(permission, found[0].id)
    if not ctx.in_transaction:
        ctx.live_workspaces.add(found[0].id)
    return found[0]


@lru_cache(maxsize=STATEMENTS_KEPT)
def _live_workspace_by(name: str, columns: Columns) -> Prepared[Workspace]:
    def build(_dialect: DialectName) -> sa.Select[Any]:
        return sa.select(*columns_to_read(Workspace, columns)).where(
            WORKSPACE[name] == sa.bindparam(name), WORKSPACE.deleted_at.is_(None)
        )

    return Prepared(Workspace, columns or column_names(Workspace), [name], build)


async def totals_of(ctx: Context, workspace_id: str) -> dict[TaskStatus, int]:
    """How many tasks (archived ones apart) stand in each status; batched over a page.

    For workspaces that were read as visible ones.
    """

    async def load(ids: Sequence[str]) -> Sequence[dict[TaskStatus, int]]:
        rows = await (await ctx.reader()).rows(
            sa.select(TOTAL.workspace_id, TOTAL.status, TOTAL.total).where(
                TOTAL.workspace_id.in_(ids), TOTAL.archived.is_(False)
            )
        )
        found: dict[str, dict[TaskStatus, int]] = {key: dict.fromkeys(TaskStatus, 0) for key in ids}
        for row in rows:
            found[row.workspace_id][TaskStatus(row.status)] = int(row.total)
        return [found[key] for key in ids]

    return await loader(ctx, "totals_of", load).load(workspace_id)


async def head_of(ctx: Context, workspace_id: str) -> Position:
    """The head of a workspace's log in this snapshot; batched over a page.

    For workspaces that were read as visible ones.
    """

    async def load(ids: Sequence[str]) -> Sequence[Position]:
        rows: Sequence[sa.Row[Any]] = await (await ctx.reader()).rows(
            sa.select(STREAM.id, STREAM.epoch, STREAM.seq).where(STREAM.id.in_(ids))
        )
        found = {row.id: Position(row.id, row.epoch, row.seq) for row in rows}
        return [found[key] for key in ids]

    return await loader(ctx, "head_of", load).load(workspace_id)
