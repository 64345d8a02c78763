"""Bring a database to the newest shape; cheap when it is there already.

One SELECT shows the revision; Alembic is imported and run only when that is old. Every migration
runs in one transaction (SQLite: BEGIN IMMEDIATE, PostgreSQL: under an advisory lock), so a server
killed in the middle leaves the old shape, and two that start together do not run it twice.
A server lets a process of its own do it: what Alembic leaves behind would stay for good.
"""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

import migrations

HEAD = "0004"
LOCK = 0x647261676F  # any number of our own
DIRECTORY = Path(migrations.__file__).parent
DATABASE = "DRAGOMAN_DATABASE_URL"
APART = "import gc; gc.disable(); from server.migrations import main; main()"
"""What it makes is no garbage until it ends, as in ``dragoman serve``."""


class NewerDatabaseError(Exception):
    """The database was made by a newer version of the program."""


async def migrate(url: str) -> str | None:
    """Migrate the database at a SQLAlchemy URL.

    Returns:
        The revision it had before (None for an empty one) when something was done, else HEAD.

    Raises:
        NewerDatabaseError: its revision is not known here.
    """
    engine = create_async_engine(url, **_options(url))
    try:
        async with engine.connect() as connection:
            found = await _revision(connection)
        if found == HEAD:
            return HEAD
        if engine.dialect.name == "sqlite":
            async with engine.connect() as connection:
                await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            if found is None and engine.url.database:
                # Everything the board knows is in there; the files beside it get the same mode.
                await asyncio.to_thread(os.chmod, engine.url.database, 0o600)
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            await connection.run_sync(_upgrade)
        return found
    finally:
        await engine.dispose()


class MigrationFailedError(Exception):
    """The process that migrates did not succeed, and has told why on stderr."""


@asynccontextmanager
async def migrated_apart(url: str) -> AsyncIterator[str | None]:
    """Migrate the database in a process of its own, while the block runs; done when that ends.

    It ends with this process, however that ends.

    Yields:
        What :func:`migrate` returns.

    Raises:
        MigrationFailedError
    """
    found = await revision_of(url)
    if found == HEAD:
        yield found
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", APART),
        env={**os.environ, DATABASE: url},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield found
        if await process.wait() != 0:
            raise MigrationFailedError
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main() -> None:
    """Migrate the database that the environment names, or give up when stdin ends."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        asyncio.run(migrate(os.environ[DATABASE]))
    except (NewerDatabaseError, OSError) as error:
        sys.exit(f"dragoman: {error}")


def _end_with_stdin() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


async def revision_of(url: str) -> str | None:
    """The revision of a database; None when it has none."""
    engine = create_async_engine(url, **_options(url))
    try:
        async with engine.connect() as connection:
            return await _revision(connection)
    finally:
        await engine.dispose()


def _options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 30}}
    return {}


async def _revision(connection: AsyncConnection) -> str | None:
    try:
        row = (await connection.exec_driver_sql("SELECT version_num FROM alembic_version")).first()
    except DBAPIError:
        await connection.rollback()
        return None
    return None if row is None else str(row[0])


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    if connection.dialect.name == "sqlite":
        # Python's driver begins a transaction only before INSERT and the like, never before DDL.
        connection.connection.driver_connection._conn.isolation_level = None  # type: ignore[union-attr]  # noqa: SLF001  # aiosqlite's sqlite3 connection
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if "Can't locate revision" in str(error):
            raise NewerDatabaseError(
                "The database was made by a newer version of Dragoman: upgrade the program"
            ) from error
        raise
