"""SELECTs that are compiled once: hot reads cost what the driver costs.

SQLAlchemy spends more on finding out that it knows a statement than SQLite on running it. A
``Prepared`` is built and compiled once per dialect; after that its text, the order of its values
and the function from rows to records are constants.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import UTCDateTime

from models.base import load_json, record_of, table_of

M = TypeVar("M", bound=SQLModel)
DialectName = Literal["sqlite", "postgresql"]
Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Ready:
    """A prepared statement for one dialect.

    Attributes:
        text: SQL as the driver takes it.
        values: the driver's parameters out of the statement's.
        records: the records of the driver's rows.
    """

    text: str
    values: Callable[..., tuple[Any, ...]]
    records: Callable[[Rows], list[Any]]


class Link(NamedTuple):
    """A record that is read together with one that has its id.

    Attributes:
        name: the attribute of that one that it becomes; None where the id leads nowhere.
        model: its model.
        columns: which of its columns are read; `id` is one.
        by: the column of that one that has its id.
    """

    name: str
    model: type[SQLModel]
    columns: tuple[str, ...]
    by: str


class Prepared(Generic[M]):
    """A SELECT of some columns of a model, with named parameters.

    Args:
        model: whose records come out.
        columns: their attributes; the statement selects these columns, in this order.
        parameters: names of its bind parameters, in the order ``Reader.fetch`` gets their values.
        build: makes the statement, for a dialect; of rows of the model's own table, if there are
            links.
        links: records that are read together with each: the statement is joined with theirs.
    """

    def __init__(
        self,
        model: type[M],
        columns: Sequence[str],
        parameters: Sequence[str],
        build: Callable[[DialectName], sa.Select[Any]],
        links: Sequence[Link] = (),
    ) -> None:
        self.model = model
        self.columns = tuple(columns)
        self.links = tuple(links)
        self.parameters = tuple(parameters)
        self._build = build
        self._ready: dict[str, Ready] = {}

    def ready(self, dialect: sa.Dialect) -> Ready:
        """The statement for a dialect."""
        found = self._ready.get(dialect.name)
        if found is None:
            found = self._ready[dialect.name] = self._compile(dialect)
        return found

    def _compile(self, dialect: sa.Dialect) -> Ready:
        statement = self._linked(cast("DialectName", dialect.name))
        compiled: Any = statement.compile(dialect=dialect)
        processors = compiled._bind_processors  # noqa: SLF001  # what SQLAlchemy itself uses here
        scope: dict[str, Any] = {}
        parts = []
        for number, name in enumerate(compiled.positiontup or ()):
            if name in self.parameters:
                process = processors.get(name)
                scope[f"b{number}"] = process
                parts.append(name if process is None else f"b{number}({name})")
            else:
                value = compiled.binds[name].effective_value
                process = processors.get(name)
                scope[f"c{number}"] = value if process is None else process(value)
                parts.append(f"c{number}")
        arguments = ", ".join(self.parameters)
        values = eval(f"lambda {arguments}: ({''.join(p + ', ' for p in parts)})", scope)  # noqa: S307  # names of ours
        return Ready(str(compiled), values, self._records(statement, dialect))

    def statement(self, dialect: DialectName, values: Sequence[Any]) -> sa.Select[Any]:
        """The statement with its values, to be run by SQLAlchemy."""
        given = dict(zip(self.parameters, values, strict=True))
        return self._linked(dialect).params(given)

    def _linked(self, dialect: DialectName) -> sa.Select[Any]:
        statement = self._build(dialect)
        for link in self.links:
            table = table_of(link.model).alias()
            statement = statement.outerjoin(table, table.c.id == table_of(self.model).c[link.by])
            statement = statement.add_columns(*(table.c[name] for name in link.columns))
        return statement

    @cached_property
    def records(self) -> Callable[[Rows], list[M]]:
        """The records of rows that SQLAlchemy has read."""
        number = len(self.columns) + sum(len(link.columns) for link in self.links)
        return self._filling(["{x}"] * number, {})

    def _records(
        self, statement: sa.Select[Any], dialect: sa.Dialect
    ) -> Callable[[Rows], list[Any]]:
        scope: dict[str, Any] = {
            "moment": datetime.fromisoformat,
            "loads": orjson.loads,
            "load_json": load_json,
        }
        values = []
        for number, column in enumerate(statement.selected_columns):
            value = read_inline(column.type, dialect)
            if value is None:
                scope[f"p{number}"] = _result_processor(column.type, dialect)
                value = f"p{number}({{x}})" if scope[f"p{number}"] else "{x}"
            values.append(value if value == "{x}" else f"None if {{x}} is None else {value}")
        return self._filling(values, scope)

    def _filling(self, values: Sequence[str], scope: dict[str, Any]) -> Callable[[Rows], list[Any]]:
        """A function from rows to records that fills their slots itself, past `__init__`.

        `values` says how a slot's value comes from the row's `{x}`, in terms of `scope`.
        """
        names = [f"x{number}" for number in range(len(values))]
        found = [value.format(x=x) for x, value in zip(names, values, strict=True)]

        def slots(of: str, columns: Sequence[str], start: int) -> list[str]:
            return [f"{of}.{name} = {found[start + i]}" for i, name in enumerate(columns)]

        scope["new"] = object.__new__
        scope["record"] = record_of(self.model, self.columns, [link.name for link in self.links])
        lines = ["one = new(record)", *slots("one", self.columns, 0)]
        start = len(self.columns)
        for link in self.links:
            scope[f"record_{link.name}"] = record_of(link.model, link.columns)
            lines += [
                f"if {names[start + link.columns.index('id')]} is None: one.{link.name} = None",
                "else:",
                f"    to = one.{link.name} = new(record_{link.name})",
                *(f"    {line}" for line in slots("to", link.columns, start)),
            ]
            start += len(link.columns)
        body = [
            "def records(rows):",
            "    made = []",
            f"    for ({', '.join(names)},) in rows:",
            *(f"        {line}" for line in lines),
            "        made.append(one)",
            "    return made",
        ]
        exec("\n".join(body), scope)  # noqa: S102  # names of ours
        return cast("Callable[[Rows], list[Any]]", scope["records"])


class Ids(sa.types.TypeDecorator[list[str]]):
    """A list of ids as one parameter: JSON text for SQLite, an array for PostgreSQL."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """See SQLAlchemy."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(ARRAY(sa.String()))
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value: list[str] | None, dialect: sa.Dialect) -> Any:
        """See SQLAlchemy."""
        return value if dialect.name == "postgresql" else orjson.dumps(value).decode()


def each_of(dialect: DialectName, name: str) -> sa.ColumnElement[str]:
    """A column of the values of a parameter that is a list of ids; its table is `.table`."""
    given = sa.bindparam(name, type_=Ids())
    if dialect == "sqlite":
        return sa.func.json_each(given).table_valued("value", name=f"each_{name}").c.value
    rows = sa.func.unnest(given).table_valued("value", name=f"each_{name}").render_derived()
    return rows.c.value


def one_of(
    dialect: DialectName, column: sa.ColumnElement[Any], name: str
) -> sa.ColumnElement[bool]:
    """SQL: the column is one of the values of a parameter that is a list of ids."""
    return column.in_(sa.select(each_of(dialect, name)))


def first_of_each(
    dialect: DialectName,
    table: sa.Table,
    columns: Sequence[str],
    *,
    parents: sa.ColumnElement[str],
    belongs: Callable[[sa.FromClause], sa.ColumnElement[bool]],
    order: Callable[[sa.FromClause], Sequence[sa.ColumnElement[Any]]],
) -> sa.Select[Any]:
    """The first row of every parent, by an index, in one statement; parents in no order.

    Args:
        dialect: whose way to say it.
        table: the rows'; its key is `id`.
        columns: which to select.
        parents: the column of parents (see :func:`each_of`).
        belongs: whether a row belongs to the current parent.
        order: of a parent's rows.
    """
    inner = table.alias("inner_rows")
    if dialect == "postgresql":
        chosen = (
            sa.select(*(inner.c[name] for name in columns))
            .where(belongs(inner))
            .order_by(*order(inner))
            .limit(1)
            .lateral("chosen")
        )
        joined = sa.join(parents.table, chosen, sa.true())
        return sa.select(*(chosen.c[name] for name in columns)).select_from(joined)
    first: sa.Select[Any] = (
        sa.select(sa.literal_column("inner_rows.rowid"))  # shorter than a UUID to look up
        .where(belongs(inner))
        .order_by(*order(inner))
        .limit(1)
    )
    row: sa.ColumnElement[int] = sa.literal_column(f"{table.name}.rowid")
    return (
        sa.select(*(table.c[name] for name in columns))
        .select_from(parents.table, table)
        .where(row == first.correlate(parents.table).scalar_subquery())
    )


def read_inline(type_: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> str | None:
    """Python that converts the driver's `{x}` where that takes no function of SQLAlchemy's."""
    if isinstance(type_, sa.Float):
        return "{x}"  # both drivers give floats
    if dialect.name == "sqlite" and isinstance(type_, UTCDateTime):
        return "moment({x} + '+00:00')"
    if dialect.name == "sqlite" and isinstance(type_, sa.JSON):
        return "(loads({x}) if type({x}) is str else load_json({x}))"
    return None


def _result_processor(type_: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> Any:
    return type_.dialect_impl(dialect).result_processor(dialect, None)
