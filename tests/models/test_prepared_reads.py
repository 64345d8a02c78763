"""Prepared reads give the records that SQLAlchemy gives, whatever stands in the columns."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import UTCDateTime

from models import Agent, Run, Story, Task, Workspace, new_id, table_of, utcnow
from models.base import column_names
from models.database import Database
from models.prepared import Link, Prepared
from models.transaction import select_all

ROWS = 60
EXTREMES: list[tuple[type[Any], list[Any]]] = [
    (sa.JSON, [{}, [], {"ä": [1, 2.5, None, True, {"“”": "\\"}]}, "text", 0, -7, 2.25, True]),
    (UTCDateTime, [datetime.min.replace(tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), utcnow()]),
    (sa.Float, [0.0, -0.5, 1 / 3, 1e300, 5e-324, 7.0, float(2**53)]),
    (sa.Boolean, [True, False]),
    (sa.BigInteger, [0, -1, 2**62]),
    (sa.Integer, [0, -1, 2**31 - 1]),
    (sa.LargeBinary, [b"", b"\x00\xff"]),
    (sa.String, ["", "plain", "é “quoted” \\ 🦡", "1", "null", "2026-01-01 00:00:00.000000"]),
]
"""Values by the type of a column; the first type that fits counts."""


def _some(column: sa.Column[Any], dice: random.Random) -> Any:
    type_ = column.type
    if isinstance(type_, sa.types.TypeDecorator) and not isinstance(type_, UTCDateTime):
        type_ = type_.impl_instance
    values = next(values for kind, values in EXTREMES if isinstance(type_, kind))
    if isinstance(type_, sa.String) and type_.length is not None:
        values = [value for value in values if len(value) <= type_.length]
    return dice.choice([*values, None] if column.nullable else values)


def _row(model: type[SQLModel], dice: random.Random, **given: Any) -> dict[str, Any]:
    """A row with anything in every column that refers to nothing and need not be unique."""
    table = table_of(model)
    unique = {
        column.key
        for constraint in table.constraints
        if isinstance(constraint, sa.UniqueConstraint)
        for column in constraint.columns
    }
    free = [
        column
        for column in table.columns
        if not (column.primary_key or column.foreign_keys or column.unique or column.key in unique)
    ]
    return {column.key: _some(column, dice) for column in free} | given


def _prepared(model: type[SQLModel], columns: tuple[str, ...]) -> Prepared[Any]:
    table = table_of(model)
    statement = sa.select(*(table.c[name] for name in columns)).order_by(table.c.id)
    return Prepared(model, columns, [], lambda _dialect: statement)


def _values(record: Any) -> dict[str, tuple[type, object]]:
    return {name: (type(value), value) for name, value in record.as_dict().items()}


@pytest.mark.parametrize("model", [Task, Run, Agent])
async def test_prepared_reads_give_what_sqlalchemy_gives(
    database: Database, model: type[SQLModel]
) -> None:
    dice = random.Random(11)  # noqa: S311  # nothing secret
    at = utcnow()
    async with database.write() as transaction:
        workspace = await transaction.insert(
            Workspace, name="W", slug="w", number=1, created_at=at, updated_at=at
        )
        places: dict[str, Any] = {"workspace_id": workspace.id, "id": ""}
        for number in range(ROWS):
            places["id"] = new_id()
            own = {"number": number} if model is Task else {}
            own |= {"name": f"agent {number}"} if model is Agent else {}
            await transaction.insert(model, **_row(model, dice, **places, **own))
    names = column_names(model)
    some = tuple(name for name in names if name == "id" or dice.random() < 1 / 2)
    async with database.read() as reader:
        for columns in (names, some):
            found = await reader.fetch(_prepared(model, columns))
            whole = await reader.records(model, select_all(model).order_by(table_of(model).c.id))
            assert len(found) == ROWS
            for one, other in zip(found, whole, strict=True):
                expected = _values(other)
                assert _values(one) == {name: expected[name] for name in columns}


async def test_records_are_read_with_those_they_lead_to(database: Database) -> None:
    at = utcnow()
    stamps: dict[str, Any] = {"created_at": at, "updated_at": at}
    links = (
        Link("story", Story, ("number", "id", "created_at"), "story_id"),
        Link("workspace", Workspace, column_names(Workspace), "workspace_id"),
    )

    def build(_dialect: str) -> sa.Select[Any]:
        task = table_of(Task).c
        return (
            sa.select(task.id, task.title)
            .join(table_of(Workspace), table_of(Workspace).c.id == task.workspace_id)
            .where(table_of(Workspace).c.name == sa.bindparam("name"))
            .order_by(task.number)
        )

    prepared = Prepared(Task, ["id", "title"], ["name"], build, links)
    async with database.write() as transaction:
        workspace = await transaction.insert(Workspace, name="W", slug="w", number=1, **stamps)
        place: dict[str, Any] = {"workspace_id": workspace.id, **stamps}
        story = await transaction.insert(Story, title="S", number=3, **place)
        for number, story_id in enumerate((story.id, None)):
            await transaction.insert(
                Task, title=f"T{number}", number=number, story_id=story_id, **place
            )
        written = await transaction.fetch(prepared, "W")
    async with database.read() as reader:
        read = await reader.fetch(prepared, "W")
        assert await reader.fetch(prepared, "another") == []
        workspaces: list[Any] = await reader.records(Workspace, select_all(Workspace))
    for found in (written, read):
        one, other = list[Any](found)
        assert one.as_dict() == {"id": one.id, "title": "T0"}
        assert _values(one.story) == {
            "number": (int, 3),
            "id": (str, story.id),
            "created_at": (datetime, at),
        }
        assert one.workspace.as_dict() == workspaces[0].as_dict()
        assert (other.title, other.story, other.workspace.id) == ("T1", None, workspace.id)
