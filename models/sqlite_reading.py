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
from sqlalchemy.exc import DBAPIError

from models.errors import DatabaseBusyError, translation
from models.prepared import Prepared
from models.uninterrupted import uninterrupted

T = TypeVar("T")

LOOP_SECONDS = 0.005
"""How long one statement may keep the loop."""
LOOK_EVERY = 1_000
"""Steps of SQLite's machine between two looks at the clock."""
NEVER = float("inf")
"""The deadline between statements: SQLite counts its steps on, and may look at the next BEGIN."""


class SqliteReadConnection:
    """One connection that cannot write; statements on it never overlap (its user sees to that)."""

    def __init__(self, connection: sa.Connection, *, statement_timeout: float) -> None:
        self._connection = connection
        self._statement_timeout = statement_timeout
        self._deadline = NEVER
        self.epoch = 0
        self.is_sound = True
        """Whether no statement has failed."""
        driver: Any = connection.connection.driver_connection
        self._driver: sqlite3.Connection = driver
        self._cursor = self._driver.cursor()
        self._driver.set_progress_handler(self._is_late, LOOK_EVERY)

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def begin(self, epoch: int) -> None:
        """Begin a snapshot; it is taken by the first statement.

        Args:
            epoch: while the pool's is the same, the snapshot is as good as a new one.
        """
        self.epoch, self.is_sound = epoch, True
        self._driver.execute("BEGIN")

    def end(self) -> None:
        """Give the snapshot up."""
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
            DatabaseBusyError: it took longer than the statement timeout.
        """

        def run() -> Sequence[sa.Row[Any]]:
            return self._connection.execute(statement).fetchall()

        self._deadline = time.monotonic() + LOOP_SECONDS
        try:
            return run()
        except DBAPIError as error:
            if not _was_interrupted(error):
                raise self._failed("", error) from error
        finally:
            self._deadline = NEVER
        return await self._in_thread(run)

    def fetch_now(self, prepared: Prepared[Any], values: tuple[Any, ...]) -> list[Any] | None:
        """All records of a prepared statement; None where that takes too long for the loop."""
        ready = prepared.ready(self._connection.dialect)
        self._deadline = time.monotonic() + LOOP_SECONDS
        try:
            rows = self._cursor.execute(ready.text, ready.values(*values)).fetchall()
        except sqlite3.Error as error:
            if _was_interrupted(error):
                return None
            raise self._failed(ready.text, error) from error
        finally:
            self._deadline = NEVER
        return ready.records(rows)

    async def fetch_slowly(self, prepared: Prepared[Any], values: tuple[Any, ...]) -> list[Any]:
        """All records of a prepared statement, read in a thread.

        Raises:
            DatabaseBusyError: it took longer than the statement timeout.
        """
        ready = prepared.ready(self._connection.dialect)
        given = ready.values(*values)
        rows = await self._in_thread(lambda: self._driver.execute(ready.text, given).fetchall())
        return ready.records(rows)

    async def _in_thread(self, run: Callable[[], T]) -> T:
        self._deadline = time.monotonic() + self._statement_timeout
        try:
            return await uninterrupted(asyncio.to_thread(run))
        except (DBAPIError, sqlite3.Error) as error:
            if _was_interrupted(error):
                raise DatabaseBusyError("a statement took too long") from error
            raise self._failed("", error) from error
        finally:
            self._deadline = NEVER

    def _failed(self, statement: str, error: DBAPIError | sqlite3.Error) -> Exception:
        self.is_sound = False
        if isinstance(error, sqlite3.Error):
            error = DBAPIError(statement, None, error)
        return translation(error) or error


def _was_interrupted(error: DBAPIError | sqlite3.Error) -> bool:
    return str(error.orig if isinstance(error, DBAPIError) else error) == "interrupted"


class SqliteReadPool:
    """Read connections of one database (``engine``), opened as they are needed and kept.

    Beginning and ending a snapshot costs as much as a statement. Requests that are answered in one
    turn of the event loop had all arrived before it began: the snapshot that the first of them
    took and gave back is the next one's, until the turn ends or this process commits something.
    """

    def __init__(
        self, engine: sa.Engine, *, size: int, wait: float, statement_timeout: float
    ) -> None:
        self.engine = engine
        self._wait = wait
        self._statement_timeout = statement_timeout
        self._places = asyncio.Semaphore(size)
        self._free: list[SqliteReadConnection] = []
        self._kept: SqliteReadConnection | None = None
        self._epoch = 0
        self._turn_is_watched = False

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SqliteReadConnection]:
        """A connection with a snapshot that nobody else uses.

        Raises:
            DatabaseBusyError: none was free in time.
        """
        connection = self.take_now()
        if connection is None:
            try:
                async with asyncio.timeout(self._wait):
                    await self._places.acquire()
            except TimeoutError:
                raise DatabaseBusyError("no database connection was free in time") from None
            connection = self._begun()
        try:
            yield connection
        finally:
            self.give_back(connection)

    def take_now(self) -> SqliteReadConnection | None:
        """A connection with a snapshot, if one is free, to be given back; else None."""
        if (kept := self._kept) is not None:
            self._kept = None
            return kept
        if self._places.locked():
            return None
        with suppress(StopIteration):
            self._places.acquire().send(None)  # it is free, so this does not wait
        return self._begun()

    def _begun(self) -> SqliteReadConnection:
        try:
            connection = self._free.pop() if self._free else self._open()
            connection.begin(self._epoch)
        except BaseException:
            self._places.release()
            raise
        if not self._turn_is_watched:
            self._turn_is_watched = True
            asyncio.get_running_loop().call_soon(self._end_turn)
        return connection

    def give_back(self, connection: SqliteReadConnection) -> None:
        """Give a snapshot up, or keep it for who asks in the same turn."""
        if self._kept is None and connection.epoch == self._epoch and connection.is_sound:
            self._kept = connection
        else:
            self._end(connection)

    def renew(self) -> None:
        """Something has been committed: who asks now gets a snapshot that has it."""
        self._epoch += 1
        if (kept := self._kept) is not None:
            self._kept = None
            self._end(kept)

    def _end_turn(self) -> None:
        self._turn_is_watched = False
        self.renew()

    def _end(self, connection: SqliteReadConnection) -> None:
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
        self.renew()
        while self._free:
            self._free.pop().close()
        self.engine.dispose()
