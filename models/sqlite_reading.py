"""Reading SQLite in the event loop: no thread is asked unless a statement turns out to be slow.

Handing a statement to a thread and its rows back costs several times what a keyed read takes. So
statements run where they are asked for, under a budget of time; one that uses it up is interrupted
and run again in a thread, in the same snapshot. Reads only: an interrupted write would roll its
whole transaction back.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from models.prepared import Prepared
from models.uninterrupted import uninterrupted

T = TypeVar("T")

LOOP_SECONDS = 0.005
"""How long one statement may keep the loop."""
LOOK_EVERY = 1_000
"""Steps of SQLite's machine between two looks at the clock."""


class SlowReadError(Exception):
    """A statement took longer than any may."""


class NoConnectionError(Exception):
    """All connections were in use for too long."""


class SqliteReadConnection:
    """One connection that cannot write; statements on it never overlap (its user sees to that)."""

    def __init__(self, connection: sa.Connection, *, statement_timeout: float) -> None:
        self._connection = connection
        self._statement_timeout = statement_timeout
        self._deadline = float("inf")
        driver: Any = connection.connection.driver_connection
        self._driver: sqlite3.Connection = driver
        self._driver.set_progress_handler(self._is_late, LOOK_EVERY)

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def begin(self) -> None:
        """Begin a snapshot; it is taken by the first statement."""
        self._deadline = float("inf")  # the last statement's would count for this one
        self._driver.execute("BEGIN")

    def end(self) -> None:
        """Give the snapshot up."""
        self._deadline = float("inf")
        if self._connection.in_transaction():
            self._connection.rollback()
        else:
            self._driver.rollback()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    async def fetch(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        """All rows of a statement.

        Raises:
            SlowReadError: it took longer than the statement timeout.
        """
        return await self._run(lambda: self._connection.execute(statement).fetchall())

    async def fetch_prepared(self, prepared: Prepared[Any], values: tuple[Any, ...]) -> list[Any]:
        """All records of a prepared statement.

        Raises:
            SlowReadError: it took longer than the statement timeout.
        """
        ready = prepared.ready(self._connection.dialect)
        given = ready.values(*values)
        try:
            rows = await self._run(lambda: self._driver.execute(ready.text, given).fetchall())
        except sqlite3.Error as error:
            raise DBAPIError(ready.text, None, error) from error
        return ready.records(rows)

    async def _run(self, fetch: Callable[[], T]) -> T:
        try:
            self._deadline = time.monotonic() + LOOP_SECONDS
            try:
                return fetch()
            except (OperationalError, sqlite3.OperationalError) as error:
                if not _was_interrupted(error):
                    raise
            self._deadline = time.monotonic() + self._statement_timeout
            try:
                return await uninterrupted(asyncio.to_thread(fetch))
            except (OperationalError, sqlite3.OperationalError) as error:
                if not _was_interrupted(error):
                    raise
                raise SlowReadError("a statement took too long") from error
        finally:
            # SQLite counts its steps over statements: the next BEGIN may be where it looks.
            self._deadline = float("inf")


def _was_interrupted(error: OperationalError | sqlite3.OperationalError) -> bool:
    return str(error.orig if isinstance(error, OperationalError) else error) == "interrupted"


class SqliteReadPool:
    """Read connections of one database (``engine``), opened as they are needed and kept."""

    def __init__(
        self, engine: sa.Engine, *, size: int, wait: float, statement_timeout: float
    ) -> None:
        self.engine = engine
        self._wait = wait
        self._statement_timeout = statement_timeout
        self._places = asyncio.Semaphore(size)
        self._free: list[SqliteReadConnection] = []

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SqliteReadConnection]:
        """A connection with a snapshot of its own.

        Raises:
            NoConnectionError: none was free in time.
        """
        connection = self.take_now()
        if connection is None:
            try:
                async with asyncio.timeout(self._wait):
                    await self._places.acquire()
            except TimeoutError:
                raise NoConnectionError("no database connection was free in time") from None
            connection = self._begun()
        try:
            yield connection
        finally:
            self.give_back(connection)

    def take_now(self) -> SqliteReadConnection | None:
        """A connection with a snapshot, if one is free, to be given back; else None."""
        if self._places.locked():
            return None
        with suppress(StopIteration):
            self._places.acquire().send(None)  # it is free, so this does not wait
        return self._begun()

    def _begun(self) -> SqliteReadConnection:
        try:
            connection = self._free.pop() if self._free else self._open()
            connection.begin()
        except BaseException:
            self._places.release()
            raise
        return connection

    def give_back(self, connection: SqliteReadConnection) -> None:
        """End a snapshot."""
        try:
            connection.end()
            self._free.append(connection)
        finally:
            self._places.release()

    def _open(self) -> SqliteReadConnection:
        return SqliteReadConnection(
            self.engine.connect(), statement_timeout=self._statement_timeout
        )

    def close(self) -> None:
        """Close all connections; none may be in use."""
        while self._free:
            self._free.pop().close()
        self.engine.dispose()
