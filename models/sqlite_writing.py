"""Writing SQLite: one connection, used in the event loop, and one commit for several transactions.

A commit costs as much as the statements of a usual operation: pages are written, and with
``synchronous = FULL`` the disk is waited for, in a thread, so that the loop goes on. So
transactions that come while others run join them: each in a savepoint, one behind the other, and
all are acknowledged by one COMMIT, or none is. What a transaction reads, it reads behind its
predecessors; that is why an error is not raised before their commit either.

Statements that find few rows by key run where they are asked for, and so does the COMMIT of few
rows that does not wait for the disk: handing it to a thread costs as much again. All else runs in
the writer's thread: other statements, other commits, a BEGIN that finds another process writing.
"""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from models.commands import Command, Values
from models.errors import DatabaseBusyError
from models.shared_commit import Group, Member
from models.sqlite_reading import LOOK_EVERY, LOOP_SECONDS
from models.uninterrupted import uninterrupted
from models.write_ahead_log import WriteAheadLog

T = TypeVar("T")

LOOP_ROWS = 256
"""Most rows changed by a commit that is made in the loop: a millisecond or two."""


class SqliteWriter:
    """The way to write a SQLite database: a fair, bounded queue in front of one connection."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        wait: float,
        flushes: bool,
        committed: Callable[[], None],
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            engine: makes the connection; its driver must not check threads, not wait itself, and
                not copy the log.
            wait: longest wait for a turn, and for another process; seconds.
            flushes: whether a COMMIT waits for the disk.
            committed: called after each COMMIT, before anybody is told of it.
        """
        self._engine = engine
        self._wait = wait
        self._flushes = flushes
        self._tell_committed = committed
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-writer")
        self._queue: deque[asyncio.Future[None]] = deque()
        self._is_taken = False
        self._group: Group | None = None
        self._commit_is_due = False
        self._connection: sa.Connection | None = None
        self._driver: sqlite3.Connection | None = None
        self._log: WriteAheadLog | None = None
        self._rows_before = 0
        self._deadline = float("inf")

    @property
    def waiting(self) -> int:
        """How many transactions wait for their turn."""
        return sum(not turn.done() for turn in self._queue)

    @property
    def dialect(self) -> sa.Dialect:
        """What commands are compiled for."""
        return self._engine.dialect

    async def transaction(self) -> "SqliteWrite":
        """Wait for a turn and begin a transaction, behind those that wait for their commit.

        Raises:
            DatabaseBusyError: the turn did not come in time.
            DBAPIError: another process holds the database, or it cannot be opened.
        """
        if self._is_taken:
            await self.acquire()
        else:
            self._is_taken = True
        is_first = self._group is None
        try:
            if is_first:
                await self._begin_group()
            else:
                self.driver.execute("SAVEPOINT member")
        except BaseException as error:
            self.pass_on()
            if isinstance(error, sqlite3.Error):
                raise _wrapped("BEGIN IMMEDIATE", error) from error
            raise
        return SqliteWrite(self, self.driver, is_first=is_first)

    async def close(self) -> None:
        """Wait for open transactions and close the connection."""
        await self.acquire()
        while (group := self._group) is not None:
            self._start_commit()
            await group.settled()
            await self.acquire()
        if self._connection is not None:
            self._connection.close()
            self._connection = self._driver = None
        self._thread.shutdown(wait=False)
        self._engine.dispose()
        self._is_taken = False

    # --- turns ---

    async def acquire(self) -> None:
        """Wait for a turn.

        Raises:
            DatabaseBusyError: it did not come in time.
        """
        if not self._is_taken:
            self._is_taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(self._wait):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.pass_on()  # it came at the very moment of giving up
            else:
                turn.cancel()  # who passes a turn on finds it in the queue, and goes past it
            if isinstance(error, TimeoutError):
                raise DatabaseBusyError("too many writers are waiting") from None
            raise

    def pass_on(self) -> None:
        """The end of a turn: the next one's, or a commit's if that has been put off long enough."""
        group = self._group
        if group is not None and group.is_full:
            self._start_commit()
        elif (turn := self._next()) is not None:
            turn.set_result(None)
        else:
            self._is_taken = False
            if group is not None and not self._commit_is_due:
                self._commit_is_due = True
                asyncio.get_running_loop().call_soon(self._commit_if_quiet, 0)

    def _next(self) -> asyncio.Future[None] | None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                return turn
        return None

    def _commit_if_quiet(self, joined: int) -> None:
        """Commit, unless this round of the loop still brought somebody: then so may the next.

        What came in while others ran is read only then. Half of those who always write again as
        soon as they are answered would else be too late for the commit of the other half, for ever.
        """
        group = self._group
        if self._is_taken or group is None:
            self._commit_is_due = False
        elif len(group.members) > joined and not group.is_full:
            asyncio.get_running_loop().call_soon(self._commit_if_quiet, len(group.members))
        else:
            self._commit_is_due = False
            self._is_taken = True
            self._start_commit()

    def _start_commit(self) -> None:
        group, self._group = self._group, None
        assert group is not None  # noqa: S101  # narrows for the type checker
        if self._waits_for_disk():
            done = asyncio.get_running_loop().run_in_executor(self._thread, self._commit)
            done.add_done_callback(lambda result: self._committed(group, result.exception()))
            return
        failure: sqlite3.Error | None = None
        try:
            self._commit()
        except sqlite3.Error as error:
            failure = error
        self._committed(group, failure)

    def _waits_for_disk(self) -> bool:
        """Whether the COMMIT that is due would keep the loop."""
        assert self._log is not None  # noqa: S101  # opened with the connection
        changed = self.driver.total_changes - self._rows_before
        return self._flushes or self._log.is_new or changed > LOOP_ROWS

    def _commit(self) -> None:
        driver = self.driver
        try:
            driver.execute("COMMIT")
        except sqlite3.Error:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            raise

    def _committed(self, group: Group, failure: BaseException | None) -> None:
        self._tell_committed()
        group.settle(failure)
        log = self._log
        assert log is not None  # noqa: S101  # opened with the connection that has committed
        if failure is None:
            log.is_new = False
        if log.is_due():
            done = asyncio.get_running_loop().run_in_executor(self._thread, log.copy)
            done.add_done_callback(lambda _: self.pass_on())
            return
        if log.take_flush():
            asyncio.get_running_loop().run_in_executor(None, log.flush)
        self.pass_on()

    # --- the connection, in the hands of whose turn it is ---

    @property
    def driver(self) -> sqlite3.Connection:
        """The driver's connection; it begins and ends transactions."""
        assert self._driver is not None  # noqa: S101  # a turn begins by opening it
        return self._driver

    def usable(self) -> sa.Connection:
        """SQLAlchemy's connection over the same, inside a transaction.

        Raises:
            DBAPIError: SQLite has undone the transaction because of an earlier error.
        """
        self.require_transaction()
        assert self._connection is not None  # noqa: S101  # a turn begins by opening it
        return self._connection

    def require_transaction(self) -> sqlite3.Connection:
        """The driver's connection, inside a transaction; raises as ``usable`` does."""
        driver = self._driver
        if driver is None or not driver.in_transaction:
            raise _undone()
        return driver

    @contextmanager
    def budget(self) -> Iterator[None]:
        """Interrupt a SELECT that keeps the loop too long; its transaction does not suffer."""
        self._deadline = time.monotonic() + LOOP_SECONDS
        try:
            yield
        finally:
            self._deadline = float("inf")

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run something on the connection in the writer's thread, to its end."""
        loop = asyncio.get_running_loop()
        return await uninterrupted(loop.run_in_executor(self._thread, work))

    async def _begin_group(self) -> None:
        if self._driver is None:
            await self.in_thread(self._open)
        try:
            self.driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # another process writes
            await self.in_thread(self._begin_with_patience)
        self._rows_before = self.driver.total_changes
        self._group = Group()

    def _open(self) -> None:
        connection = self._engine.connect()
        connection.begin()  # for SQLAlchemy's eyes, once for all: it never ends one by itself then
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(self._is_late, LOOK_EVERY)
        self._connection, self._driver = connection, driver
        self._log = WriteAheadLog(driver, flushes=self._flushes)

    def _begin_with_patience(self) -> None:
        driver = self.driver
        driver.execute(f"PRAGMA busy_timeout = {int(self._wait * 1000)}")
        try:
            driver.execute("BEGIN IMMEDIATE")
        finally:
            driver.execute("PRAGMA busy_timeout = 0")

    def join(self, member: Member, *, is_first: bool) -> Group:
        """Keep what a transaction did, to be committed with its group."""
        assert self._group is not None  # noqa: S101  # begun by this transaction or before it
        self.require_transaction()
        if not is_first:
            self.driver.execute("RELEASE member")
        self._group.members.append(member)
        return self._group

    def undo(self, *, is_first: bool) -> Group | None:
        """Undo what a transaction did; the group that it was behind, if any.

        Some errors make SQLite undo everything: then the whole group has failed.
        """
        group, driver = self._group, self.driver
        assert group is not None  # noqa: S101  # begun by this transaction or before it
        try:
            if is_first:
                self._group = None
                if driver.in_transaction:
                    driver.execute("ROLLBACK")
                return None
            self.require_transaction()
            driver.execute("ROLLBACK TO member")
            driver.execute("RELEASE member")
        except DBAPIError as error:  # undone by SQLite: everybody's
            self._group = None
            group.settle(error.orig)
        except sqlite3.Error as error:
            self._group = None
            self._give_up()
            group.settle(error)
        return group

    def _give_up(self) -> None:
        """Close a connection whose state is not known; the next transaction opens another."""
        connection, self._connection, self._driver = self._connection, None, None
        self._log = None
        if connection is not None:
            connection.invalidate()
            connection.close()


class SqliteWrite:
    """One transaction of the writer, begun: statements, then ``commit`` or ``rollback``."""

    def __init__(self, writer: SqliteWriter, driver: sqlite3.Connection, *, is_first: bool) -> None:
        self._writer = writer
        self._driver, self._cursor = driver, driver.cursor()
        self._is_first = is_first
        self._dialect = writer.dialect

    async def commit(self, after_commit: Sequence[Callable[[], None]]) -> None:
        """Commit with those that came meanwhile; then ``after_commit``, in the same order.

        A cancellation does not interrupt it: it is raised afterwards.

        Raises:
            DBAPIError: nothing was written.
        """
        member = Member(after_commit)
        try:
            group = self._writer.join(member, is_first=self._is_first)
        except (sqlite3.Error, DBAPIError):
            await self.rollback()
            raise
        self._writer.pass_on()
        await group.settled()
        _require_success(group)
        if member.failure is not None:
            raise member.failure

    async def rollback(self) -> None:
        """Undo everything; those in front of it are committed before this returns.

        Raises:
            DBAPIError: they were not, so whatever was found behind them is not true.
        """
        group = self._writer.undo(is_first=self._is_first)
        self._writer.pass_on()
        if group is not None:
            await group.settled()
            _require_success(group)

    # --- statements ---

    async def fetch(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        """All rows of a statement; a SELECT that is quick runs in the loop."""
        connection = self._writer.usable()

        def fetch() -> Sequence[sa.Row[Any]]:
            return connection.execute(statement).fetchall()

        if isinstance(statement, sa.SelectBase):
            try:
                with self._writer.budget():
                    return fetch()
            except OperationalError as error:
                if str(error.orig) != "interrupted":
                    raise
        return await self._writer.in_thread(fetch)

    async def execute(self, statement: sa.Executable, rows: Sequence[Values] | None = None) -> int:
        """Run a statement, once per row, in the writer's thread; the number of rows it touched."""
        connection = self._writer.usable()
        return await self._writer.in_thread(lambda: connection.execute(statement, rows).rowcount)

    def run_now(self, command: Command, values: Values) -> Sequence[Sequence[Any]]:
        """Run a command in the loop; the rows it returns."""
        if not self._driver.in_transaction:
            raise _undone()
        ready = command.ready(self._dialect)
        try:
            return ready.rows(self._cursor.execute(ready.text, ready.bind(values)).fetchall())
        except sqlite3.Error as error:
            raise _wrapped(ready.text, error) from error

    def touch_now(self, command: Command, values: Values) -> int:
        """Run a command that returns no rows in the loop; the number of rows it touched."""
        if not self._driver.in_transaction:
            raise _undone()
        ready = command.ready(self._dialect)
        try:
            return self._cursor.execute(ready.text, ready.bind(values)).rowcount
        except sqlite3.Error as error:
            raise _wrapped(ready.text, error) from error

    async def run(self, command: Command, values: Values) -> Sequence[Sequence[Any]]:
        """See ``Writing``."""
        return self.run_now(command, values)

    async def touch(self, command: Command, values: Values) -> int:
        """See ``Writing``."""
        return self.touch_now(command, values)


def _require_success(group: Group) -> None:
    if group.failure is not None:
        raise _wrapped("COMMIT", group.failure) from group.failure


def _undone() -> BaseException:
    return _wrapped("", sqlite3.OperationalError("disk I/O error: the transaction was undone"))


def _wrapped(statement: str, error: BaseException) -> BaseException:
    """The driver's error as SQLAlchemy would raise it."""
    return DBAPIError.instance(statement, None, error, sqlite3.Error)
