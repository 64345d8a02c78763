"""Lists of siblings: the same page of each parent of a level, in one statement for all of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlmodel import SQLModel
from strawberry.dataloader import DataLoader

from models import Sprint, table_of
from models.base import column_names, record_of
from models.prepared import DialectName, each_of
from resolvers.context import Context
from resolvers.errors import OperationError
from resolvers.paging import (
    Order,
    Page,
    PageArguments,
    Window,
    capped_count,
    directions,
    window_of,
)
from resolvers.workspaces import refused_workspaces

M = TypeVar("M", bound=SQLModel)
S = TypeVar("S")
T = TypeVar("T")
SPRINT = table_of(Sprint).c
Count = tuple[int, bool]
Through = tuple[sa.Table, sa.ColumnElement[bool]]
Counts = Callable[[list[str]], Awaitable[Sequence[Count]]]
"""Counts the rows of parents: for each the number, and whether it is exact."""


@dataclass(frozen=True, slots=True)
class Parents:
    """Whose lists are read.

    Attributes:
        ids: of the parents, in order; one may come twice.
        belongs: SQL: whether a row belongs to the parent with an id.
        through: a table between rows and parents, and how they are joined.
    """

    ids: Sequence[str]
    belongs: Callable[[sa.ColumnElement[str]], sa.ColumnElement[bool]]
    through: Through | None = None


def through_sprint(row: sa.ColumnCollection[str, sa.Column[Any]]) -> Through:
    """The sprint whose workspace and number rows name."""
    return table_of(Sprint), sa.and_(
        row.workspace_id == SPRINT.workspace_id, row.sprint_number == SPRINT.number
    )


async def read_pages(
    ctx: Context,
    model: type[M],
    statement: sa.Select[Any],
    parents: Parents,
    *,
    order: Sequence[Order],
    page: PageArguments,
    columns: tuple[str, ...] | None = None,
    counts: Counts | None = None,
) -> list[Page[M]]:
    """The same page of each parent's list, as ``read_page`` reads that of one.

    Args:
        ctx: gives the snapshot and the limits.
        model: whose records.
        statement: the filtered rows of whatever parent, without order.
        parents: whose lists, and how rows belong to them.
        order: the order of each list, ending in a column that is unique in it.
        page: which page.
        columns: names of the selected columns, where these are not all.
        counts: how to count; by default with one capped COUNT each, in one statement.

    Raises:
        InvalidError: a page size out of bounds, contradictory arguments, a foreign cursor.
    """
    window = window_of(ctx, order, page)
    if parents.through is not None:
        statement = statement.join(*parents.through)
    unique = list(dict.fromkeys(parents.ids))
    if not unique:
        return []

    async def capped(ids: list[str]) -> Sequence[Count]:
        return await _capped_counts(ctx, statement, Parents(ids, parents.belongs))

    totals: DataLoader[str, Count] = DataLoader(load_fn=counts or capped)

    async def total(parent_id: str) -> Count:
        return await totals.load(parent_id)

    if len(unique) == 1:
        own = statement.where(parents.belongs(sa.literal(unique[0])))
        nodes = await (await ctx.reader()).records(model, window.limit(own), columns)
        return [window.page(nodes, lambda: total(unique[0]))] * len(parents.ids)
    found = await records_of_each(ctx, model, statement, parents, window, columns)
    pages = {
        parent_id: window.page(nodes, lambda parent_id=parent_id: total(parent_id))  # type: ignore[misc]  # mypy cannot infer a lambda's default
        for parent_id, nodes in found.items()
    }
    return [pages[parent_id] for parent_id in parents.ids]


async def records_of_each(
    ctx: Context,
    model: type[M],
    statement: sa.Select[Any],
    parents: Parents,
    window: Window,
    columns: tuple[str, ...] | None = None,
) -> dict[str, list[M]]:
    """The records in each parent's window, and one more where there is more, by the parent's id.

    Args:
        ctx: gives the snapshot.
        model: whose records.
        statement: as ``read_pages`` gets it.
        parents: whose lists.
        window: what part of each.
        columns: names of the selected columns, where these are not all.
    """
    reader = await ctx.reader()
    found: dict[str, list[M]] = {parent_id: [] for parent_id in parents.ids}
    wanted = columns or column_names(model)
    several = _of_each(reader.dialect, table_of(model), statement, parents, window, wanted)
    record: Any = record_of(model, columns)
    rows: Sequence[Sequence[Any]] = await reader.rows(several.params(parents=list(found)))
    for row in rows:
        found[row[0]].append(record(*row[1:]))
    return found


def _of_each(
    dialect: DialectName,
    table: sa.Table,
    statement: sa.Select[Any],
    parents: Parents,
    window: Window,
    columns: Sequence[str],
) -> sa.Select[Any]:
    """The windows of all parents: a parent's id and the columns; each in the order of reading."""
    parent = each_of(dialect, "parents")
    own = window.limit(statement.where(parents.belongs(parent))).correlate(parent.table)
    chosen: Any
    belongs: sa.ColumnElement[bool]
    if dialect == "postgresql":
        chosen, belongs = own.lateral("chosen"), sa.true()
    else:
        chosen = table.alias("chosen")
        rowid: sa.ColumnElement[int] = sa.literal_column(f"{table.name}.rowid")
        rows: sa.Select[Any] = own.with_only_columns(rowid, maintain_column_froms=True)
        belongs = sa.literal_column("chosen.rowid").in_(rows)
    source = sa.select(parent, *(chosen.c[name] for name in columns)).select_from(
        sa.join(parent.table, chosen, belongs)
    )
    ordered = [Order(item.column, item.descending != window.backwards) for item in window.order]
    return source.order_by(*directions(ordered, chosen))


async def _capped_counts(
    ctx: Context, statement: sa.Select[Any], parents: Parents
) -> Sequence[Count]:
    if len(parents.ids) == 1:
        own = statement.where(parents.belongs(sa.literal(parents.ids[0])))
        return [await capped_count(ctx, own)]
    maximum = ctx.limits.filtered_count_max
    reader = await ctx.reader()
    parent = each_of(reader.dialect, "parents")
    rows = (
        statement.where(parents.belongs(parent))
        .with_only_columns(sa.literal(1), maintain_column_froms=True)
        .limit(maximum + 1)
        .correlate(parent.table)
        .subquery()
    )
    counted = sa.select(sa.func.count()).select_from(rows).scalar_subquery()
    several = sa.select(parent, counted).params(parents=list(parents.ids))
    counts: Sequence[Sequence[Any]] = await reader.rows(several)
    found = {parent_id: int(number) for parent_id, number in counts}
    return [(min(found[key], maximum), found[key] <= maximum) for key in parents.ids]


async def in_workspaces(
    ctx: Context,
    siblings: Sequence[S],
    workspace_id: Callable[[S], str],
    read: Callable[[list[S]], Awaitable[Sequence[T]]],
) -> list[T | OperationError]:
    """What is read for each sibling whose workspace may be read in; the refusal for each other.

    Args:
        ctx: whose principal asks.
        siblings: whatever belongs to workspaces.
        workspace_id: of a sibling.
        read: gets the allowed siblings; returns what is found for each, in order.
    """
    refused = await refused_workspaces(ctx, map(workspace_id, siblings))
    allowed = [one for one in siblings if workspace_id(one) not in refused]
    found = iter(await read(allowed) if allowed else ())
    return [refused.get(workspace_id(one)) or next(found) for one in siblings]


def only(found: Sequence[T | OperationError]) -> T:
    """What was found for a single one.

    Raises:
        OperationError: its refusal.
    """
    (one,) = found
    if isinstance(one, OperationError):
        raise one
    return one
