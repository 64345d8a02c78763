"""Keyset pages: stable under inserts, as fast on the last page as on the first."""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar

import orjson
import sqlalchemy as sa
from sqlmodel import SQLModel

from models.prepared import Prepared
from resolvers.context import Context
from resolvers.errors import InvalidError

M = TypeVar("M", bound=SQLModel)
CURSOR_LENGTH = 2_000


@dataclass(slots=True)
class PageArguments:
    """Relay's four arguments: ``first`` with ``after``, or ``last`` with ``before``.

    Nobody changes one; it is not frozen because making one would take twice as long.
    """

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """A page by number of rows, for REST languages that count them; it has no cursors.

    Whoever makes one bounds it. Rows that are added meanwhile shift what follows.
    """

    limit: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """One column of an order; the last one of a list must be unique."""

    column: sa.ColumnElement[Any]
    descending: bool = False


@dataclass(slots=True)
class Page(Generic[M]):
    """A page of records, in order, with cursors and a way to count them all.

    Attributes:
        nodes: the records.
        order: names of the columns they are ordered by.
        has_next_page: whether there is more behind.
        has_previous_page: whether there is more in front.
        count: counts when asked: the number, and whether it is exact.
    """

    nodes: list[M]
    order: Sequence[str]
    has_next_page: bool
    has_previous_page: bool
    count: Callable[[], Awaitable[tuple[int, bool]]]
    _counting: asyncio.Lock | None = None
    _counted: tuple[int, bool] | None = None

    async def total(self) -> tuple[int, bool]:
        """What `count` counts, once for all who ask: a page may stand at several places."""
        if self._counting is None:
            self._counting = asyncio.Lock()
        async with self._counting:
            if self._counted is None:
                self._counted = await self.count()
            return self._counted

    def cursor(self, node: M) -> str:
        """The place of a record of the page in the list."""
        return _encode([getattr(node, name) for name in self.order])

    @property
    def cursors(self) -> list[str]:
        """The cursors of all records."""
        return [self.cursor(node) for node in self.nodes]


async def read_page(
    ctx: Context,
    model: type[M],
    statement: sa.Select[Any],
    *,
    order: Sequence[Order],
    page: PageArguments | Slice,
    count: Callable[[], Awaitable[tuple[int, bool]]] | None = None,
    columns: Sequence[str] | None = None,
) -> Page[M]:
    """One page of a statement that selects all columns of a model, or some.

    Args:
        ctx: gives the snapshot and the limits.
        model: whose records.
        statement: the filtered rows, without order.
        order: the order, ending in a unique column.
        page: which page.
        count: how to count all rows; by default with a capped COUNT.
        columns: names of the selected columns, where these are not all.

    Raises:
        InvalidError: a page size out of bounds, contradictory arguments, a foreign cursor.
    """
    counted = count or (lambda: capped_count(ctx, statement))
    if isinstance(page, Slice):
        return await _read_slice(
            ctx, model, statement, order=order, page=page, count=counted, columns=columns
        )
    window = window_of(ctx, order, page)
    limited = window.limit(statement)
    nodes = await (await ctx.reader()).records(model, limited, columns)
    return window.page(nodes, counted)


async def _read_slice(
    ctx: Context,
    model: type[M],
    statement: sa.Select[Any],
    *,
    order: Sequence[Order],
    page: Slice,
    count: Callable[[], Awaitable[tuple[int, bool]]],
    columns: Sequence[str] | None,
) -> Page[M]:
    ordered = statement.order_by(*(_direction(item, backwards=False) for item in order))
    nodes = await (await ctx.reader()).records(
        model, ordered.limit(page.limit + 1).offset(page.offset), columns
    )
    return Page(
        nodes=nodes[: page.limit],
        order=names_of(order),
        has_next_page=len(nodes) > page.limit,
        has_previous_page=page.offset > 0,
        count=count,
    )


async def read_prepared_page(
    ctx: Context,
    prepared: Prepared[M],
    *values: Any,
    order: Sequence[str],
    page: PageArguments | Slice,
    count: Callable[[], Awaitable[tuple[int, bool]]],
    is_sibling: bool = False,
) -> Page[M]:
    """A page of a prepared statement, whose last parameters are its LIMIT and its OFFSET.

    Where it has everything, nothing is counted.

    Args:
        ctx: gives the snapshot and the limits.
        prepared: selects at least the columns of the order.
        values: for its other parameters.
        order: names of the columns of its order.
        page: for which :func:`is_numbered` holds.
        count: how to count all rows.
        is_sibling: whether it may be one page of several that are counted together: then it always
            is, so that statements do not depend on what stands where.

    Raises:
        InvalidError: a page size out of bounds.
    """
    if isinstance(page, Slice):
        size, offset = page.limit, page.offset
    else:
        size, offset = _size(ctx, "first", page.first), 0
    nodes = await (await ctx.reader()).fetch(prepared, *values, size + 1, offset)
    more = len(nodes) > size
    if not more and offset == 0 and not is_sibling:
        count = partial(_known, len(nodes))
    return Page(nodes[:size] if more else nodes, order, more, offset > 0, count)


async def _known(number: int) -> tuple[int, bool]:
    return number, True


def is_numbered(page: PageArguments | Slice) -> bool:
    """Whether numbers tell where the page lies: it is a slice, or begins where its list begins."""
    if isinstance(page, Slice):
        return True
    return page.after is None and page.before is None and page.last is None


def limit_and_offset(statement: sa.Select[Any]) -> sa.Select[Any]:
    """The statement for :func:`read_prepared_page`: with parameters ``size`` and ``offset``."""
    size, offset = (sa.bindparam(name, type_=sa.Integer) for name in ("size", "offset"))
    return statement.limit(size).offset(offset)


def names_of(order: Sequence[Order]) -> tuple[str, ...]:
    """The names of the columns of an order."""
    return tuple(str(item.column.key) for item in order)


def directions(order: Sequence[Order], table: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """SQL: an order of the rows of a table (or an alias of it)."""
    named = [(table.c[str(item.column.key)], item.descending) for item in order]
    return [column.desc() if descending else column.asc() for column, descending in named]


async def capped_count(ctx: Context, statement: sa.Select[Any]) -> tuple[int, bool]:
    """The number of rows of a statement up to the limit for filtered counts; whether exact."""
    maximum = ctx.limits.filtered_count_max
    rows = statement.with_only_columns(sa.literal(1)).order_by(None).limit(maximum + 1).subquery()
    found = int(await (await ctx.reader()).scalar(sa.select(sa.func.count()).select_from(rows)))
    return min(found, maximum), found <= maximum


@dataclass(frozen=True, slots=True)
class Window:
    """What part of a list a page shows.

    Attributes:
        order: of the list.
        size: how many records at most.
        backwards: whether it is read from its end.
        key: the values, in the order's columns, of the record it begins behind; None for none.
    """

    order: Sequence[Order]
    size: int
    backwards: bool
    key: Sequence[Any] | None

    def limit(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        """The page's rows in the direction of reading, and one more where there is more."""
        if self.key is not None:
            statement = statement.where(_beyond(self.order, self.key, backwards=self.backwards))
        directed = (_direction(item, backwards=self.backwards) for item in self.order)
        return statement.order_by(*directed).limit(self.size + 1)

    def page(self, nodes: list[M], count: Callable[[], Awaitable[tuple[int, bool]]]) -> Page[M]:
        """The page of the records of a limited statement."""
        more = len(nodes) > self.size
        nodes = nodes[: self.size]
        if self.backwards:
            nodes.reverse()
        follows = self.key is not None
        return Page(
            nodes=nodes,
            order=names_of(self.order),
            has_next_page=follows if self.backwards else more,
            has_previous_page=more if self.backwards else follows,
            count=count,
        )


def window_of(ctx: Context, order: Sequence[Order], page: PageArguments) -> Window:
    """The window that a page's arguments ask for.

    Raises:
        InvalidError: a page size out of bounds, contradictory arguments, a foreign cursor.
    """
    size, backwards, cursor = _window(ctx, page)
    field = "before" if backwards else "after"
    key = None if cursor is None else _decode(cursor, order, field=field)
    return Window(order, size, backwards, key)


def _window(ctx: Context, page: PageArguments) -> tuple[int, bool, str | None]:
    if page.first is not None and page.last is not None:
        raise InvalidError("Give first or last, not both", field="first")
    if page.after is not None and page.before is not None:
        raise InvalidError("Give after or before, not both", field="after")
    backwards = page.last is not None or (page.before is not None and page.first is None)
    if backwards and page.after is not None:
        raise InvalidError("after goes with first", field="after")
    if page.first is not None and page.before is not None:
        raise InvalidError("before goes with last", field="before")
    name, size = ("last", page.last) if backwards else ("first", page.first)
    size = _size(ctx, name, size)
    return size, backwards, page.before if backwards else page.after


def _size(ctx: Context, name: str, size: int | None) -> int:
    limits = ctx.limits
    size = limits.page_size if size is None else size
    if not 0 <= size <= limits.page_size_max:
        raise InvalidError(
            f"{name} must be between 0 and {limits.page_size_max}",
            field=name,
            limit=limits.page_size_max,
        )
    return size


def _direction(item: Order, *, backwards: bool) -> sa.ColumnElement[Any]:
    return item.column.desc() if item.descending != backwards else item.column.asc()


def _beyond(
    order: Sequence[Order], key: Sequence[Any], *, backwards: bool
) -> sa.ColumnElement[bool]:
    """Rows strictly behind a key: (a, b) > (x, y), or by column where directions differ."""
    if len({item.descending for item in order}) == 1:
        columns = sa.tuple_(*(item.column for item in order))
        values = sa.tuple_(
            *(
                sa.bindparam(None, value, item.column.type)
                for item, value in zip(order, key, strict=True)
            )
        )
        return columns < values if order[0].descending != backwards else columns > values
    alternatives = []
    for index, item in enumerate(order):
        smaller = item.descending != backwards
        behind = item.column < key[index] if smaller else item.column > key[index]
        same = [order[i].column == key[i] for i in range(index)]
        alternatives.append(sa.and_(*same, behind))
    return sa.or_(*alternatives)


def _encode(values: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def _decode(cursor: str, order: Sequence[Order], *, field: str) -> list[Any]:
    try:
        return _values(cursor, order)
    except (ValueError, TypeError, OverflowError, binascii.Error):
        raise InvalidError(f"{field} is not a cursor of this list", field=field) from None


def _values(cursor: str, order: Sequence[Order]) -> list[Any]:
    if len(cursor) > CURSOR_LENGTH:
        raise ValueError(cursor[:20])
    raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    values = orjson.loads(raw)
    if not isinstance(values, list) or len(values) != len(order):
        raise ValueError(cursor)
    return [_typed(value, item.column) for value, item in zip(values, order, strict=True)]


def _typed(value: Any, column: sa.ColumnElement[Any]) -> Any:
    # SQLModel's own column types are decorators that know no Python type; what they wrap does.
    wanted = getattr(column.type, "impl_instance", column.type).python_type
    if wanted is datetime and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError(value)
        return moment.astimezone(UTC)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise TypeError(value)
    if isinstance(value, int) and abs(value) >= _largest(column):
        raise ValueError(value)
    if isinstance(value, str) and "\x00" in value:
        raise ValueError(value)
    return value


def _largest(column: sa.ColumnElement[Any]) -> int:
    return 2**63 if isinstance(column.type, sa.BigInteger) else 2**31
