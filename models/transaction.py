"""Statements in a snapshot or a transaction, with rows read into light records."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Protocol, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from models.base import column_names, record_of, table_of
from models.changing import changing
from models.commands import NEW, Command, Values, inserting, updating
from models.prepared import Prepared
from models.uninterrupted import uninterrupted

TOUCHES_MAX = 64
"""Rows that are inserted one by one where that needs no wait: a millisecond at most."""
M = TypeVar("M", bound=SQLModel)
DialectName = Literal["sqlite", "postgresql"]


Fetch = Callable[[sa.Executable], Awaitable[Sequence[sa.Row[Any]]]]
"""Runs a statement on one connection and returns all its rows."""


FetchPrepared = Callable[[Prepared[Any], tuple[Any, ...]], Awaitable[list[Any]]]
"""Runs a prepared statement with its values on one connection and returns all its records."""


FetchNow = Callable[[Prepared[Any], tuple[Any, ...]], list[Any] | None]
"""The same without waiting; None where it would take too long."""


class RowNotFoundError(LookupError):
    """A row that had to be there is not."""


class Reader:
    """Statements over one snapshot.

    Statements of sibling resolvers queue up: a database connection does one thing at a time.
    Methods that take a model return records typed as that model (see ``models.base.Record``).
    """

    def __init__(
        self,
        fetch: Fetch,
        dialect: DialectName,
        prepared: FetchPrepared | None = None,
        now: FetchNow | None = None,
    ) -> None:
        self.dialect = dialect
        self.statements = 0
        self._fetch = fetch
        self._fetch_prepared = prepared
        self._fetch_now = now
        self._turn = asyncio.Lock()
        self._is_over = False

    @property
    def is_busy(self) -> bool:
        """Whether a statement is under way."""
        return self._turn.locked()

    def end(self) -> None:
        """Begin no statement any more."""
        self._is_over = True

    async def idle(self) -> None:
        """Wait for the end of the statement under way, and of those that wait for their turns."""
        async with self._turn:
            pass

    def _require_snapshot(self) -> None:
        if self._is_over:
            raise RuntimeError("the snapshot was given back")

    async def rows(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        """All rows of a statement."""
        async with self._turn:
            self._require_snapshot()
            self.statements += 1
            return await self._fetch(statement)

    async def fetch(self, prepared: Prepared[M], *values: Any) -> list[M]:
        """All records of a prepared statement with values for its parameters."""
        self.statements += 1
        self._require_snapshot()
        if self._fetch_now is not None and not self._turn.locked():
            found = self._fetch_now(prepared, values)
            if found is not None:
                return found
        async with self._turn:
            self._require_snapshot()
            if self._fetch_prepared is not None:
                return await self._fetch_prepared(prepared, values)
            rows = await self._fetch(prepared.statement(self.dialect, values))
        return prepared.records(rows)

    async def first(self, statement: sa.Executable) -> sa.Row[Any] | None:
        """The first row, or None; for statements that have few."""
        rows = await self.rows(statement)
        return rows[0] if rows else None

    async def scalar(self, statement: sa.Executable) -> Any:
        """The first column of the first row, or None."""
        row = await self.first(statement)
        return None if row is None else row[0]

    async def scalars(self, statement: sa.Executable) -> list[Any]:
        """The first column of all rows."""
        return [row[0] for row in await self.rows(statement)]

    async def records(
        self, model: type[M], statement: sa.Select[Any], columns: Sequence[str] | None = None
    ) -> list[M]:
        """All rows as records; the statement selects these columns, by default all."""
        record: Any = record_of(model, columns)
        return [record(*row) for row in await self.rows(statement)]

    async def find(self, model: type[M], *conditions: sa.ColumnElement[bool]) -> M | None:
        """The one record that meets the conditions, or None."""
        row = await self.first(select_all(model).where(*conditions).limit(1))
        if row is None:
            return None
        record: Any = record_of(model)
        return record(*row)  # type: ignore[no-any-return]  # see Record

    async def find_by_id(self, model: type[M], entity_id: str) -> M | None:
        """The record with this id, or None."""
        return await self.find(model, table_of(model).c.id == entity_id)


class Writing(Protocol):
    """What a transaction is written through; every call runs to its end, cancelled or not."""

    async def fetch(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        """All rows of a statement."""
        ...

    async def execute(self, statement: sa.Executable, rows: Sequence[Values] | None = None) -> int:
        """Run a statement, once per row; the number of rows it touched."""
        ...

    async def run(self, command: Command, values: Values) -> Sequence[Sequence[Any]]:
        """Run a command; the rows it returns."""
        ...

    async def touch(self, command: Command, values: Values) -> int:
        """Run a command; the number of rows it touched."""
        ...

    @property
    def run_now(self) -> Callable[[Command, Values], Sequence[Sequence[Any]]] | None:
        """``run`` without waiting, while no other statement runs; None where it has to wait."""
        ...

    @property
    def touch_now(self) -> Callable[[Command, Values], int] | None:
        """The same of ``touch``."""
        ...


class AsyncWriting:
    """Writing through an async connection of SQLAlchemy."""

    run_now = None
    touch_now = None

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def fetch(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        """See ``Writing``."""
        return (await uninterrupted(self._connection.execute(statement))).fetchall()

    async def execute(self, statement: sa.Executable, rows: Sequence[Values] | None = None) -> int:
        """See ``Writing``."""
        return (await uninterrupted(self._connection.execute(statement, rows))).rowcount

    async def run(self, command: Command, values: Values) -> Sequence[Sequence[Any]]:
        """See ``Writing``."""
        statement = command.statement("postgresql")
        result = await uninterrupted(self._connection.execute(statement, values))
        return command.rows(result.fetchall()) if result.returns_rows else ()

    async def touch(self, command: Command, values: Values) -> int:
        """See ``Writing``."""
        statement = command.statement("postgresql")
        return (await uninterrupted(self._connection.execute(statement, values))).rowcount


class Transaction(Reader):
    """Statements of one write transaction."""

    def __init__(self, writing: Writing, dialect: DialectName) -> None:
        super().__init__(writing.fetch, dialect)
        self._writing = writing
        self._run_now, self._touch_now = writing.run_now, writing.touch_now
        self.after_commit: list[Callable[[], None]] = []

    async def execute(self, statement: sa.Executable) -> int:
        """Run a statement; the number of rows it touched."""
        async with self._turn:
            self.statements += 1
            return await self._writing.execute(statement)

    async def run(self, command: Command, values: Values) -> Sequence[Sequence[Any]]:
        """Run a command with values for its parameters; the rows it returns."""
        self.statements += 1
        if self._run_now is not None and not self._turn.locked():
            return self._run_now(command, values)
        async with self._turn:
            return await self._writing.run(command, values)

    async def touch(self, command: Command, values: Values) -> int:
        """Run a command that returns no rows; the number of rows it touched."""
        self.statements += 1
        if self._touch_now is not None and not self._turn.locked():
            return self._touch_now(command, values)
        async with self._turn:
            return await self._writing.touch(command, values)

    async def run_records(self, _model: type[M], command: Command, values: Values) -> list[M]:
        """Run a command of this model; its records alone."""
        return [row[0] for row in await self.run(command, values)]

    async def insert(self, model: type[M], /, **values: Any) -> M:
        """Insert a row, with the model's defaults for what is not given; the record."""
        complete = _with_defaults(model, values)
        await self.touch(inserting(model), complete)
        record: Any = record_of(model)
        return record(*(complete[name] for name in column_names(model)))  # type: ignore[no-any-return]  # see Record

    async def insert_unless_exists(self, model: type[M], /, **values: Any) -> M | None:
        """Like :meth:`insert`; None, and nothing changed, where a unique value is taken already."""
        complete = _with_defaults(model, values)
        table = table_of(model)
        statement = upsert(self, model).values(complete).on_conflict_do_nothing()
        row = await self.first(statement.returning(*table.c))
        if row is None:
            return None
        record: Any = record_of(model)
        return record(*row)  # type: ignore[no-any-return]  # see Record

    async def insert_many(self, model: type[M], rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert rows, with the model's defaults for what is not given."""
        complete = [_with_defaults(model, row) for row in rows]
        if len(complete) <= (1 if self._touch_now is None else TOUCHES_MAX):
            command = inserting(model)
            for row in complete:
                await self.touch(command, row)
        else:
            async with self._turn:
                self.statements += 1
                await self._writing.execute(sa.insert(table_of(model)), complete)

    async def update(
        self, model: type[M], /, *conditions: sa.ColumnElement[bool], **changes: Any
    ) -> M | None:
        """Change the one row that meets the conditions; its record after the change, or None."""
        table = table_of(model)
        statement = sa.update(table).where(*conditions).values(changes).returning(*table.c)
        row = await self.first(statement)
        if row is None:
            return None
        record: Any = record_of(model)
        return record(*row)  # type: ignore[no-any-return]  # see Record

    async def update_by_id(self, model: type[M], entity_id: str, /, **changes: Any) -> M:
        """Change the row with this id; its record after the change.

        Raises:
            RowNotFoundError: there is no such row.
        """
        if any(isinstance(value, sa.ClauseElement) for value in changes.values()):
            found = await self.update(model, table_of(model).c.id == entity_id, **changes)
        else:
            found = await self._update_row(model, entity_id, changes)
        if found is None:
            raise RowNotFoundError(f"{model.__name__} {entity_id}")
        return found

    async def change(self, model: type[M], before: M, changes: Mapping[str, Any]) -> M:
        """Change the row of a record that this transaction has read; its record after the change.

        Args:
            model: has a ``version``, which every change of a row raises.
            before: the record. Where the row is not at its version any more, because this
                transaction has changed it since, the row is read again.
            changes: values by column; no SQL.

        Raises:
            RowNotFoundError: there is no such row.
        """
        row: Any = before
        how = changing(model, tuple(changes))
        after, values = how.make(row, changes)
        if await self.touch(how.command, values) == 0:
            return await self.update_by_id(model, row.id, **changes)
        return cast("M", after)

    async def _update_row(
        self, model: type[M], entity_id: str, changes: Mapping[str, Any]
    ) -> M | None:
        values = {NEW + name: value for name, value in changes.items()}
        command = updating(model, tuple(changes))
        found = await self.run_records(model, command, {"key": entity_id, **values})
        return found[0] if found else None

    async def delete_by_id(self, model: type[M], entity_id: str) -> None:
        """Delete the row with this id, if there is one."""
        table = table_of(model)
        await self.execute(sa.delete(table).where(table.c.id == entity_id))

    async def next_number(self, scope: str, name: str, *, first: int = 1) -> int:
        """The next number of a counter row, without gaps in what is committed.

        Args:
            scope: a workspace id or ``site``.
            name: what is counted, for example ``task``.
            first: what a new counter starts with.
        """
        rows = await self.run(_counting(), {"scope": scope, "name": name, "first": first})
        return int(rows[0][0])


@cache
def _counting() -> Command:
    """Advance a counter, or make it; parameters ``scope``, ``name`` and ``first``."""
    from models.workspace import Counter  # tables import nothing of this

    table = table_of(Counter)

    def build(dialect: DialectName) -> sa.Executable:
        names = {"scope": "scope", "name": "name", "value": "first"}
        values = {
            column: sa.bindparam(name, type_=table.c[column].type) for column, name in names.items()
        }
        insert = upserting(dialect, table).values(values)
        statement: sa.Executable = insert.on_conflict_do_update(
            index_elements=["scope", "name"], set_={"value": table.c.value + 1}
        ).returning(table.c.value)
        return statement

    return Command(build)


def upserting(dialect: DialectName, table: sa.Table) -> Any:
    """An INSERT of a dialect that knows ``on_conflict_do_update`` and ``_nothing``."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def upsert(reader: Reader, model: type[SQLModel]) -> Any:
    """An INSERT of the reader's dialect that knows ``on_conflict_do_update`` and ``_nothing``."""
    return upserting(reader.dialect, table_of(model))


def select_all(model: type[SQLModel]) -> sa.Select[Any]:
    """SELECT of all columns of a model, in the order its records take them."""
    return sa.select(*table_of(model).columns)


@cache
def _defaults(
    model: type[SQLModel],
) -> tuple[dict[str, Any], tuple[tuple[str, Callable[[], Any]], ...]]:
    """Defaults that are the same for all rows, and what makes the others."""
    same: dict[str, Any] = {}
    made: list[tuple[str, Callable[[], Any]]] = []
    for name, field in model.model_fields.items():
        factory: Any = field.default_factory
        if factory is not None:
            made.append((name, factory))
        elif not field.is_required():
            same[name] = field.default
    return same, tuple(made)


def _with_defaults(model: type[SQLModel], values: Mapping[str, Any]) -> dict[str, Any]:
    same, made = _defaults(model)
    complete = {**same, **values}
    for name, factory in made:
        if name not in complete:
            complete[name] = factory()
    return complete
