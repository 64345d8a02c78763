"""The way to the database: one fair writer lane, snapshot reads, the same on SQLite and PostgreSQL.

SQLite has one writer connection whose every transaction begins IMMEDIATE (a deferred
read-then-write fails under contention whatever the busy timeout); waiting for it is fair and
bounded. Readers have connections of their own that cannot write. PostgreSQL uses one pool.
"""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from models.base import load_json
from models.errors import (
    LostConnectionError,
    Translated,
    UnknownOutcomeError,
    raise_translation,
    translation,
)
from models.postgresql_reading import fetch_prepared_with, fetch_with
from models.sqlite_reading import SqliteReadConnection, SqliteReadPool
from models.sqlite_writing import SqliteWrite, SqliteWriter
from models.transaction import AsyncWriting, Reader, Transaction
from models.uninterrupted import opened, uninterrupted

Synchronous = Literal["FULL", "NORMAL"]

PING_AFTER_SECONDS = 1.0
"""A PostgreSQL connection that was idle for longer is asked whether it lives."""
CACHED_STATEMENTS = 512
"""Statements a SQLite connection keeps prepared."""
WAL_RESET_FIXED = (3, 51, 3)
"""SQLite before this version may corrupt a WAL database when several connections checkpoint."""


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How the database is used. Times are seconds."""

    synchronous: Synchronous = "FULL"
    writer_wait: float = 5.0
    readers: int = 4
    statement_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class _Sqlite:
    """The two ways into a SQLite file."""

    writer: SqliteWriter
    readers: SqliteReadPool


class Database:
    """One database, opened. Make it with :meth:`connect`, end it with :meth:`close`."""

    def __init__(self, url: str, options: DatabaseOptions | None = None) -> None:
        """Prepare the engines; nothing is connected yet.

        Args:
            url: ``sqlite+aiosqlite:///file`` or ``postgresql+asyncpg://…``.
            options: durability and limits.

        Raises:
            ValueError: for any other kind of URL.
        """
        self.url = make_url(url)
        self.options = options or DatabaseOptions()
        backend = self.url.get_backend_name()
        if backend == "sqlite":
            self.dialect: Literal["sqlite", "postgresql"] = "sqlite"
            self._sqlite: _Sqlite | None = self._open_sqlite()
            self.begin_writing: BeginWriting = self._sqlite.writer.transaction
        elif backend == "postgresql":
            self.dialect = "postgresql"
            self._sqlite = None
            self._engine = self._postgresql_engine()
            self.begin_writing = self._begin_on_postgresql
        else:
            raise ValueError(f"{backend} is not supported: use sqlite or postgresql")
        self.on_write_wait: Callable[[float], None] | None = None
        """Told how long each write waited for its turn and its connection, in seconds."""

    @property
    def read_engine(self) -> sa.Engine:
        """The engine that reads run through, for whoever wants to listen to its events."""
        return self._engine.sync_engine if self._sqlite is None else self._sqlite.readers.engine

    @property
    def write_waiters(self) -> int:
        """How many writes wait for their turn."""
        return 0 if self._sqlite is None else self._sqlite.writer.waiting

    @property
    def path(self) -> Path | None:
        """The SQLite file, or None."""
        return Path(self.url.database or "") if self.dialect == "sqlite" else None

    def _sqlite_engine(self, *, timeout: float) -> sa.Engine:
        return sa.create_engine(
            self.url.set(drivername="sqlite+pysqlite"),
            poolclass=sa.NullPool,
            json_serializer=_dump_json,
            json_deserializer=load_json,
            connect_args={
                "timeout": timeout,
                "isolation_level": None,
                "check_same_thread": False,
                "cached_statements": CACHED_STATEMENTS,
            },
        )

    def _open_sqlite(self) -> _Sqlite:
        readers = self._sqlite_reader()
        return _Sqlite(self._sqlite_writer(committed=readers.renew), readers)

    def _sqlite_writer(self, *, committed: Callable[[], None]) -> SqliteWriter:
        engine = self._sqlite_engine(timeout=0)
        _on_connect(
            engine,
            f"busy_timeout = {int(self.options.writer_wait * 1000)}",
            "journal_mode = WAL",
            f"synchronous = {self.options.synchronous}",
            "wal_autocheckpoint = 0",  # see models.write_ahead_log
            "foreign_keys = ON",
            "cache_size = -16384",
            "temp_store = MEMORY",
            "busy_timeout = 0",
        )
        flushes = self.options.synchronous == "FULL"
        return SqliteWriter(
            engine, wait=self.options.writer_wait, flushes=flushes, committed=committed
        )

    def _sqlite_reader(self) -> SqliteReadPool:
        options = self.options
        engine = self._sqlite_engine(timeout=options.writer_wait)
        _on_connect(engine, "query_only = ON", "cache_size = -16384", "temp_store = MEMORY")
        return SqliteReadPool(
            engine,
            size=2 * options.readers,
            wait=options.writer_wait,
            statement_timeout=options.statement_timeout,
        )

    def _postgresql_engine(self) -> AsyncEngine:
        options = self.options
        engine = create_async_engine(
            self.url,
            pool_size=options.readers + 2,
            max_overflow=options.readers + 2,
            pool_timeout=options.writer_wait,
            pool_use_lifo=True,
            json_serializer=_dump_json,
            json_deserializer=orjson.loads,
            connect_args={
                "server_settings": {
                    "application_name": "dragoman",
                    "timezone": "UTC",
                    "lock_timeout": f"{int(options.writer_wait * 1000)}",
                    "statement_timeout": f"{int(options.statement_timeout * 1000)}",
                    "idle_in_transaction_session_timeout": "60000",
                }
            },
        )
        _ping_idle(engine.sync_engine)
        return engine

    def write(self) -> "WriteBlock":
        """One write transaction: committed when the block ends, rolled back when it raises.

        On SQLite, transactions at the same time share a commit (see ``models.sqlite_writing``).
        Cancellation never interrupts a commit: it is delivered after the commit is through.

        Raises:
            DatabaseBusyError: the turn to write or the database was not free in time.
            StorageFullError: the disk is full.
        """
        return WriteBlock(self)

    async def _begin_on_postgresql(self) -> "PostgresqlWrite":
        return await PostgresqlWrite.begin(await self._connect())

    def read_now(self) -> tuple[Reader, Callable[[], None]] | None:
        """A snapshot that can be had without waiting, and what gives it back; SQLite only."""
        if self._sqlite is None:
            return None
        readers = self._sqlite.readers
        with Translated():
            snapshot = readers.take_now()
        if snapshot is None:
            return None
        return self._sqlite_reading(snapshot), partial(readers.give_back, snapshot)

    def _sqlite_reading(self, snapshot: SqliteReadConnection) -> Reader:
        return Reader(snapshot.fetch, self.dialect, snapshot.fetch_slowly, snapshot.fetch_now)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Reader]:
        """One read-only snapshot, taken at the first statement.

        Raises:
            DatabaseBusyError: no connection was free in time.
        """
        with Translated():
            if self._sqlite is not None:
                async with self._sqlite.readers.snapshot() as snapshot:
                    yield self._sqlite_reading(snapshot)
                return
            connection = await self._connect()
            try:
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                await uninterrupted(_begin(connection))
                try:
                    yield Reader(
                        fetch_with(connection), self.dialect, fetch_prepared_with(connection)
                    )
                finally:
                    await uninterrupted(connection.rollback())
            finally:
                await uninterrupted(connection.close())

    async def _connect(self) -> AsyncConnection:
        with Translated():
            return await opened(_open(self._engine))

    async def close(self) -> None:
        """Close all connections."""
        if self._sqlite is None:
            await self._engine.dispose()
        else:
            await self._sqlite.writer.close()
            self._sqlite.readers.close()


BeginWriting = Callable[[], Coroutine[Any, Any, "SqliteWrite | PostgresqlWrite"]]
"""Waits for a turn to write, and begins."""


class WriteBlock:
    """The block of :meth:`Database.write`; its errors are the database's."""

    __slots__ = ("_database", "_transaction", "_writing")

    _writing: "SqliteWrite | PostgresqlWrite"
    _transaction: Transaction

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Transaction:
        database = self._database
        asked = time.perf_counter()
        try:
            self._writing = await database.begin_writing()
        except Exception as error:
            raise_translation(error)
            raise
        if database.on_write_wait is not None:
            database.on_write_wait(time.perf_counter() - asked)
        self._transaction = Transaction(self._writing, database.dialect)
        return self._transaction

    async def __aexit__(self, _kind: object, raised: BaseException | None, _at: object) -> None:
        try:
            if raised is None:
                await self._writing.commit(self._transaction.after_commit)
                return
            await self._writing.rollback()
        except Exception as error:
            raise_translation(error)
            raise
        raise_translation(raised)


def _dump_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _on_connect(engine: sa.Engine, *pragmas: str) -> None:
    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _ping_idle(engine: sa.Engine) -> None:
    """Ask a connection that has been idle for a while whether it still lives, before it is used.

    SQLAlchemy's own way asks every time: that is a good part of a small read.
    """

    @sa.event.listens_for(engine, "checkin")
    def remember(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def ping(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("idle_since", float("inf")) < PING_AFTER_SECONDS:
            return
        dialect: Any = engine.dialect
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise sa.exc.DisconnectionError("the connection is gone") from error


class PostgresqlWrite(AsyncWriting):
    """One transaction on a connection of its own."""

    @classmethod
    async def begin(cls, connection: AsyncConnection) -> "PostgresqlWrite":
        """Begin on a connection that is closed at the end."""
        write = cls(connection)
        try:
            await uninterrupted(_begin(connection))
        except BaseException:
            await uninterrupted(connection.close())
            raise
        return write

    async def commit(self, after_commit: Sequence[Callable[[], None]]) -> None:
        """Commit, then ``after_commit``.

        Raises:
            UnknownOutcomeError: it may have been done or not.
        """
        try:
            await uninterrupted(self._commit(after_commit))
        finally:
            await uninterrupted(self._connection.close())

    async def _commit(self, after_commit: Sequence[Callable[[], None]]) -> None:
        try:
            await self._connection.commit()
        except Exception as error:
            if isinstance(translation(error), LostConnectionError):
                raise UnknownOutcomeError(
                    "the database connection was lost in the very end: look whether it was done"
                ) from error
            raise
        for callback in after_commit:
            callback()

    async def rollback(self) -> None:
        """Undo everything."""
        try:
            await uninterrupted(self._connection.rollback())
        finally:
            await uninterrupted(self._connection.close())


async def _open(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


async def _begin(connection: AsyncConnection) -> None:
    await connection.begin()
