"""Changing a row that was read: its record afterwards is known without reading it again."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import orjson
import sqlalchemy as sa
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import UTCDateTime

from models.base import Record, column_names, record_of, table_of
from models.commands import KEPT, NEW, Command

VERSION_READ = "version_read"
"""Parameter: the version the record was read at."""


@lru_cache(maxsize=KEPT)
def changing(model: type[SQLModel], names: tuple[str, ...]) -> Command:
    """UPDATE of columns of a row at a version; parameters ``key``, ``version_read``, ``new_…``."""
    table = table_of(model)
    return Command(
        lambda _dialect: (
            sa.update(table)
            .where(table.c.id == sa.bindparam("key"), table.c.version == sa.bindparam(VERSION_READ))
            .values({name: sa.bindparam(NEW + name) for name in names})
        )
    )


@lru_cache(maxsize=KEPT)
def changed(
    model: type[SQLModel], names: tuple[str, ...]
) -> Callable[[Record, Mapping[str, Any]], Record]:
    """What makes the record after a change of these columns out of the one before it.

    Values come out as they would be read: words of enums as text, times in UTC, JSON as plain
    lists and objects.
    """
    columns = table_of(model).c
    scope: dict[str, Any] = {"record": record_of(model)}
    values = []
    for name in column_names(model):
        if name not in names:
            values.append(f"before.{name}")
            continue
        scope[f"as_{name}"] = _reading(columns[name].type)
        values.append(f"None if v[{name!r}] is None else as_{name}(v[{name!r}])")
    made = eval(f"lambda before, v: record({', '.join(values)})", scope)  # noqa: S307  # names of ours
    return cast("Callable[[Record, Mapping[str, Any]], Record]", made)


def _reading(type_: sa.types.TypeEngine[Any]) -> Callable[[Any], Any]:
    """How a value that is written to a column of a type would be read."""
    if isinstance(type_, UTCDateTime):
        return _in_utc
    if isinstance(type_, sa.JSON):
        return _plain_json
    plain = type_.impl_instance if isinstance(type_, sa.types.TypeDecorator) else type_
    return plain.python_type


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _plain_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))
