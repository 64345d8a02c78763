"""Statements of single rows, found by key, that are compiled once per dialect.

SQLAlchemy spends several times longer on a statement it knows already than SQLite on running it.
What operations do again and again (insert a row, change one by its id, advance a counter) is
compiled once; after that its text, the order of its values and the way back from a row are
constants.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, cast

import orjson
import sqlalchemy as sa
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import UTCDateTime

from models.base import column_names, load_json, record_of, table_of
from models.prepared import read_inline

DialectName = Literal["sqlite", "postgresql"]
Values = Mapping[str, Any]
KEPT = 512
"""How many commands that depend on a call's columns are kept."""
WIDE = 20
"""From so many columns on, SQLite hands a row over as one JSON array: its driver describes each
column of each execution, which takes longer for a task than finding it."""
PACKED_MAX = 100
"""Arguments that a function of SQLite may have."""
NEW = "new_"
"""Prefix of the parameters of an UPDATE: its columns' own names are SQLAlchemy's."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A command for SQLite's driver."""

    text: str
    bind: Callable[[Values], tuple[Any, ...]]
    """The driver's parameters."""
    rows: Callable[[Sequence[Any]], list[tuple[Any, ...]]]
    """What ``Command`` says it returns out of the driver's rows."""


class Command:
    """A statement with named parameters that touches few rows, found by an index."""

    def __init__(
        self,
        build: Callable[[DialectName], sa.Executable],
        *,
        columns: Sequence[str] | None = None,
        model: type[SQLModel] | None = None,
    ) -> None:
        """Prepare; nothing is compiled yet.

        Args:
            build: makes the statement, for a dialect.
            columns: of an INSERT: the attributes its values are given for.
            model: of a statement whose rows begin with all columns of a model: each comes as a
                record of it, and what follows.
        """
        self._build = build
        self._model = model
        self._columns = columns
        self._statements: dict[str, sa.Executable] = {}
        self._ready: Ready | None = None

    def statement(self, dialect: DialectName) -> sa.Executable:
        """The statement, for SQLAlchemy to run."""
        found = self._statements.get(dialect)
        if found is None:
            found = self._statements[dialect] = self._build(dialect)
        return found

    def rows(self, rows: Sequence[Any]) -> Sequence[Any]:
        """What it returns out of rows that SQLAlchemy has read."""
        if self._model is None:
            return rows
        record: Any = record_of(self._model)
        width = len(column_names(self._model))
        return [(record(*row[:width]), *row[width:]) for row in rows]

    def ready(self, dialect: sa.Dialect) -> Ready:
        """The statement, for SQLite's driver."""
        if self._ready is None:
            self._ready = self._compile(dialect)
        return self._ready

    def _compile(self, dialect: sa.Dialect) -> Ready:
        statement: Any = self.statement("sqlite")
        returned = [column.type for column in getattr(statement, "exported_columns", ())]
        packed: list[int] = []
        if isinstance(statement, sa.Select) and len(returned) >= WIDE:
            statement, packed = _packed(statement)
        compiled: Any = statement.compile(dialect=dialect, column_keys=self._columns)
        scope: dict[str, Any] = {}
        parts = []
        for number, name in enumerate(compiled.positiontup or ()):
            bind = compiled.binds[name]
            process = _bind_processor(bind.type, dialect, compiled._bind_processors.get(name))  # noqa: SLF001  # what SQLAlchemy itself uses
            if bind.required or bind.value is None:
                value = f"v[{name!r}]"
                scope[f"b{number}"] = process
                parts.append(value if process is None else f"b{number}({value})")
            else:
                constant = bind.effective_value
                scope[f"b{number}"] = constant if process is None else process(constant)
                parts.append(f"b{number}")
        bind_all = eval(f"lambda v: {_tuple(parts)}", scope)  # noqa: S307  # names of ours
        return Ready(str(compiled), bind_all, _rows(returned, dialect, packed, self._model))


def _packed(statement: sa.Select[Any]) -> tuple[sa.Select[Any], list[int]]:
    """The statement with columns in one array, in front of the others; which they are.

    Numbers that may have a fraction stay outside: SQLite writes fifteen digits of them.
    """
    columns = list(statement.selected_columns)
    exact = [
        number
        for number, column in enumerate(columns)
        if not isinstance(column.type, sa.Float | sa.JSON | sa.LargeBinary)
    ]
    packed = exact[:PACKED_MAX]
    array = sa.func.json_array(*(columns[number] for number in packed))
    others = [column for number, column in enumerate(columns) if number not in packed]
    return statement.with_only_columns(array, *others, maintain_column_froms=True), packed


def _rows(
    types: Sequence[Any],
    dialect: sa.Dialect,
    packed: Sequence[int],
    model: type[SQLModel] | None,
) -> Callable[[Sequence[Any]], Any]:
    """What makes Python's values of the driver's rows, or records of a model that fill themselves.

    Slots of a record are filled past `__init__`, which takes as long again.
    """
    names = [f"x{number}" for number in range(len(types))]
    scope: dict[str, Any] = {
        "loads": orjson.loads,
        "load_json": load_json,
        "moment": datetime.fromisoformat,
    }
    values = []
    for name, type_ in zip(names, types, strict=True):
        value = read_inline(type_, dialect)
        if value is None:
            process = type_.dialect_impl(dialect).result_processor(dialect, None)
            scope[f"read_{name}"] = process
            value = "{x}" if process is None else f"read_{name}({{x}})"
        or_null = "" if value == "{x}" else f"None if {name} is None else "
        values.append(or_null + value.format(x=name))
    if values == names and not packed and model is None:
        return list
    given = ["array", *(name for number, name in enumerate(names) if number not in packed)]
    lines = [f"for {_tuple(given if packed else names)} in rows:"]
    if packed:
        lines.append(f"    {_tuple([names[number] for number in packed])} = loads(array)")
    if model is not None:
        scope |= {"record": record_of(model), "new": object.__new__}
        columns = column_names(model)
        lines.append("    one = new(record)")
        lines += [f"    one.{name} = {values[i]}" for i, name in enumerate(columns)]
        values = ["one", *values[len(columns) :]]
    lines.append(f"    made.append({_tuple(values)})")
    body = "".join(f"    {line}\n" for line in ("made = []", *lines, "return made"))
    exec(f"def made_of(rows):\n{body}", scope)  # noqa: S102  # names of ours
    return cast("Callable[[Sequence[Any]], Any]", scope["made_of"])


def _tuple(parts: Sequence[str]) -> str:
    return f"({''.join(part + ', ' for part in parts)})"


def _bind_processor(type_: sa.types.TypeEngine[Any], dialect: sa.Dialect, common: Any) -> Any:
    """What makes the driver's value of Python's; ``common`` is SQLAlchemy's, where ours is none."""
    if isinstance(type_, UTCDateTime):
        return _moment_text
    if isinstance(type_, sa.Boolean):
        return None  # the driver takes them
    if isinstance(type_, sa.JSON) and type_.none_as_null:
        write: Any = dialect._json_serializer or json.dumps  # noqa: SLF001  # as SQLAlchemy does
        return lambda value: None if value is None else write(value)
    return common


def _moment_text(moment: datetime | None) -> str | None:
    """As SQLAlchemy stores it, which takes five times as long."""
    if moment is None:
        return None
    return in_utc(moment).isoformat(" ", "microseconds")[:26]


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC.

    Raises:
        ValueError: it has no timezone.
    """
    if moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        raise ValueError("a time must have a timezone")
    return moment.astimezone(UTC)


@lru_cache(maxsize=KEPT)
def inserting(model: type[SQLModel]) -> Command:
    """INSERT of a whole row; parameters are the model's columns."""
    return Command(lambda _dialect: sa.insert(table_of(model)), columns=column_names(model))


@lru_cache(maxsize=KEPT)
def updating(model: type[SQLModel], names: tuple[str, ...]) -> Command:
    """UPDATE of columns of the row with an id, returning all; parameters ``key`` and ``new_…``."""
    table = table_of(model)
    return Command(
        lambda _dialect: (
            sa.update(table)
            .where(table.c.id == sa.bindparam("key"))
            .values({name: sa.bindparam(NEW + name) for name in names})
            .returning(*table.c)
        ),
        model=model,
    )
