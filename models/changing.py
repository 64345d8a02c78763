"""Changing a row that was read: its record afterwards is known without reading it again."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

import orjson
import sqlalchemy as sa
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import UTCDateTime

from models.base import column_names, record_of, table_of
from models.commands import KEPT, NEW, Command, Values, in_utc

VERSION_READ = "version_read"
"""Parameter: the version the record was read at."""


class Changing(NamedTuple):
    """How some columns of a row at a version are changed.

    Attributes:
        command: the UPDATE; parameters ``key``, ``version_read`` and ``new_…``.
        make: the record after it and the command's values, out of the record before it and the
            columns' new values.
    """

    command: Command
    make: Callable[[Any, Mapping[str, Any]], tuple[Any, Values]]


@lru_cache(maxsize=KEPT)
def changing(model: type[SQLModel], names: tuple[str, ...]) -> Changing:
    """How these columns are changed."""
    table = table_of(model)
    command = Command(
        lambda _dialect: (
            sa.update(table)
            .where(table.c.id == sa.bindparam("key"), table.c.version == sa.bindparam(VERSION_READ))
            .values({name: sa.bindparam(NEW + name) for name in names})
        )
    )
    return Changing(command, _making(model, names))


def _making(
    model: type[SQLModel], names: tuple[str, ...]
) -> Callable[[Any, Mapping[str, Any]], tuple[Any, Values]]:
    """``make`` of :class:`Changing`.

    Values come out as they would be read: words of enums as text, times in UTC, JSON as plain
    lists and objects. All but JSON are written so too: drivers know plain values best.
    """
    columns = table_of(model).c
    scope: dict[str, Any] = {"record": record_of(model), "new": object.__new__}
    lines = ["after = new(record)"]
    values = [f"'key': before.id, {VERSION_READ!r}: before.version"]
    for name in column_names(model):
        if name not in names:
            lines.append(f"after.{name} = before.{name}")
            continue
        type_ = columns[name].type
        scope[f"as_{name}"] = _reading(type_)
        lines += [
            f"given_{name} = given[{name!r}]",
            f"after.{name} = None if given_{name} is None else as_{name}(given_{name})",
        ]
        written = f"given_{name}" if isinstance(type_, sa.JSON) else f"after.{name}"
        values.append(f"{NEW + name!r}: {written}")
    lines.append(f"return after, {{{', '.join(values)}}}")
    body = "".join(f"    {line}\n" for line in lines)
    exec(f"def make(before, given):\n{body}", scope)  # noqa: S102  # names of ours
    return cast("Callable[[Any, Mapping[str, Any]], tuple[Any, Values]]", scope["make"])


def _reading(type_: sa.types.TypeEngine[Any]) -> Callable[[Any], Any]:
    """How a value that is written to a column of a type would be read."""
    if isinstance(type_, UTCDateTime):
        return in_utc
    if isinstance(type_, sa.JSON):
        return _plain_json
    plain = type_.impl_instance if isinstance(type_, sa.types.TypeDecorator) else type_
    return plain.python_type


def _plain_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))
