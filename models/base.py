"""What all tables share: identifiers, clock, column types, and the light records of rows."""

import json
import secrets
import string
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlmodel import SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
SQLModel.metadata.naming_convention = NAMING
metadata = SQLModel.metadata

Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""A JSON column: text in SQLite, ``jsonb`` in PostgreSQL; Python ``None`` is SQL NULL."""


def load_json(text: Any) -> Any:
    """The value of a JSON column; SQLite turns one that is a number alone into its own number."""
    return text if isinstance(text, int | float) else orjson.loads(text)


Id = sa.String(36)
"""A canonical lower-case UUID as text: no conversion at the wire, and prefixes can be searched."""

Tokens = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
"""A count that may pass 2**31; SQLite's INTEGER is that wide anyway."""

RECORD_CLASSES = 4_096
"""How many are remembered: clients choose which columns are read together."""

_PUBLIC_ALPHABET = string.ascii_lowercase + string.digits
PUBLIC_ID_LENGTH = 12
_PUBLIC_IDS = len(_PUBLIC_ALPHABET) ** PUBLIC_ID_LENGTH


def new_id() -> str:
    """A fresh UUIDv4 as canonical text."""
    return str(uuid.uuid4())


def new_public_id() -> str:
    """Twelve random characters of ``[a-z0-9]``, for dialects that show short ids."""
    number = secrets.randbelow(_PUBLIC_IDS)
    characters = []
    for _ in range(PUBLIC_ID_LENGTH):
        number, digit = divmod(number, len(_PUBLIC_ALPHABET))
        characters.append(_PUBLIC_ALPHABET[digit])
    return "".join(characters)


def utcnow() -> datetime:
    """Now, aware, in UTC, to the microsecond."""
    return datetime.now(UTC)


def table_of(model: type[SQLModel]) -> sa.Table:
    """The table of a model class."""
    table = model.__table__  # type: ignore[attr-defined]  # set by SQLModel for table=True
    assert isinstance(table, sa.Table)  # noqa: S101  # narrows for the type checker
    return table


class Record:
    """A row that was read: plain slots named like the model's columns, nothing behind them.

    Readers declare the model class as their result type, because a record has the same
    attributes; it is read-only by convention and costs a tenth of an ORM instance.
    """

    __slots__ = ()
    _columns: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All columns by name."""
        return {name: getattr(self, name) for name in self._columns}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, self._columns[0])!r}>"


@lru_cache(maxsize=RECORD_CLASSES)
def record_class(name: str, columns: tuple[str, ...], links: tuple[str, ...] = ()) -> type[Record]:
    """The record class with these columns; ``cls(*row)`` fills it in that order.

    It has further slots for records it leads to (``links``), which whoever reads these fills.
    The initialiser is generated once per column list: one assignment per column is several
    times faster than a loop over ``setattr``, and pages of hundreds of rows are the common case.
    """
    if not all(column.isidentifier() for column in columns):
        raise ValueError(f"not all of {columns} can be attribute names")
    arguments = ", ".join(columns)
    body = "; ".join(f"self.{column} = {column}" for column in columns)
    scope: dict[str, Any] = {}
    exec(f"def __init__(self, {arguments}):\n    {body}", scope)  # noqa: S102  # identifiers only
    return type(
        name,
        (Record,),
        {"__slots__": columns + links, "_columns": columns, "__init__": scope["__init__"]},
    )


def record_of(
    model: type[SQLModel], columns: Sequence[str] | None = None, links: Iterable[str] = ()
) -> type[Record]:
    """The record class for all columns of a model, or for some of them; and for some links."""
    if columns is None:
        return _whole_record(model)
    return record_class(model.__name__, tuple(columns), tuple(links))


@cache
def _whole_record(model: type[SQLModel]) -> type[Record]:
    return record_class(model.__name__, column_names(model))


@cache
def column_names(model: type[SQLModel]) -> tuple[str, ...]:
    """Attribute names of a model's columns, in table order."""
    return tuple(column.key for column in table_of(model).columns)


class json_contains(sa.sql.expression.ColumnElement[bool]):  # noqa: N801  # reads as a SQL function
    """True where a JSON list column holds a given string."""

    inherit_cache = True
    type = sa.Boolean()

    def __init__(self, column: Any, value: str) -> None:
        self.column = column
        self.value = sa.bindparam(None, value, type_=sa.String(), unique=True)
        self.document = sa.bindparam(None, json.dumps([value]), type_=sa.String(), unique=True)

    _traverse_internals = [  # noqa: RUF012  # the name and shape SQLAlchemy looks for
        ("column", sa.sql.visitors.InternalTraversal.dp_clauseelement),
        ("value", sa.sql.visitors.InternalTraversal.dp_clauseelement),
        ("document", sa.sql.visitors.InternalTraversal.dp_clauseelement),
    ]


@compiles(json_contains, "sqlite")
def _json_contains_sqlite(element: json_contains, compiler: Any, **kw: Any) -> str:
    column = compiler.process(element.column, **kw)
    value = compiler.process(element.value, **kw)
    items = f"SELECT 1 FROM json_each({column}) WHERE value = {value}"  # noqa: S608  # compiled parts
    return f"EXISTS ({items})"


@compiles(json_contains, "postgresql")
def _json_contains_postgresql(element: json_contains, compiler: Any, **kw: Any) -> str:
    column = compiler.process(element.column, **kw)
    document = compiler.process(element.document, **kw)
    return f"{column} @> CAST({document} AS JSONB)"
