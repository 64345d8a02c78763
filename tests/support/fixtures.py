"""Fixtures everybody uses: a fresh database of each kind, and contexts to call operations with."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from models.database import Database, DatabaseOptions
from models.enums import Role
from resolvers.context import Context, Services
from resolvers.principal import SYSTEM, Principal
from server.migrations import migrate
from tests.support.databases import drop_orphans, new_name
from tests.support.fakes import RecordingDispatcher, RecordingWakeUps, no_git

POSTGRES = os.environ.get("DRAGOMAN_TEST_POSTGRES", "postgresql+asyncpg://root@127.0.0.1:5432")
BOTH = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
]


async def postgres_admin(*statements: str, database: str = "postgres") -> Any:
    """Run statements one by one; the first value of the last one, if it gives rows."""
    engine = create_async_engine(f"{POSTGRES}/{database}", isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                result = await connection.exec_driver_sql(statement)
            return result.scalar() if result.returns_rows else None
    finally:
        await engine.dispose()


_KEEP_ROWS = """
DO $$ DECLARE name text; filled bool; BEGIN
  CREATE SCHEMA pristine;
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO filled;
    IF filled THEN EXECUTE format('CREATE TABLE pristine.%I AS TABLE %I', name, name); END IF;
  END LOOP;
END $$"""
_LEAVE = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_EMPTY = """
DO $$ DECLARE name text; BEGIN
  SET LOCAL session_replication_role = replica;
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('DELETE FROM %I', name);
  END LOOP;
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'pristine' LOOP
    EXECUTE format('INSERT INTO %I SELECT * FROM pristine.%I', name, name);
  END LOOP;
  FOR name IN SELECT sequencename FROM pg_sequences WHERE last_value IS NOT NULL LOOP
    EXECUTE format('ALTER SEQUENCE %I RESTART', name);
  END LOOP;
END $$"""
_SHAPE = """
SELECT md5(string_agg(attrelid::regclass || '.' || attname, ',' ORDER BY attrelid, attnum))
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = 'public'::regnamespace"""


def _run_apart(work: Coroutine[Any, Any, Any]) -> None:
    """Run to the end in a loop of its own: a template is first asked for inside a test's loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[str]:
    """A PostgreSQL database that tests copy."""
    _run_apart(drop_orphans(POSTGRES.replace("+asyncpg", "")))
    name = new_name("template")
    _run_apart(postgres_admin(f"CREATE DATABASE {name}"))
    _run_apart(migrate(f"{POSTGRES}/{name}"))
    _run_apart(postgres_admin(_KEEP_ROWS, database=name))
    yield name
    _run_apart(postgres_admin(f"DROP DATABASE {name} WITH (FORCE)"))


class PostgresDatabases:
    """Databases that tests use one after the other: to empty one is far quicker than to copy it.

    Commits do not wait for the disk; PostgreSQL itself is never killed here.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        self.shape = ""
        self.free: list[str] = []

    async def take(self) -> str:
        """The name of one as migrations leave it."""
        if self.free:
            return self.free.pop()
        name = new_name("test")
        self.shape = self.shape or await postgres_admin(_SHAPE, database=self.template)
        await postgres_admin(
            f"CREATE DATABASE {name} TEMPLATE {self.template}",
            f"ALTER DATABASE {name} SET synchronous_commit = off",
        )
        return name

    async def give_back(self, name: str) -> None:
        """Close its connections and empty it; one whose tables changed is dropped."""
        if await postgres_admin(_LEAVE, _SHAPE, database=name) == self.shape:
            await postgres_admin(_EMPTY, database=name)
            self.free.append(name)
        else:
            await postgres_admin(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_databases(postgres_template: str) -> Iterator[PostgresDatabases]:
    """The databases of this process."""
    databases = PostgresDatabases(postgres_template)
    yield databases
    for name in databases.free:
        _run_apart(postgres_admin(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that tests copy."""
    path = tmp_path_factory.mktemp("template") / "dragoman.db"
    _run_apart(migrate(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(params=BOTH)
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a fresh, empty database; the test runs once for each kind."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        path = tmp_path / "dragoman.db"
        shutil.copyfile(template, path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    databases: PostgresDatabases = request.getfixturevalue("postgres_databases")
    name = await databases.take()
    try:
        yield f"{POSTGRES}/{name}"
    finally:
        await databases.give_back(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh database, opened."""
    opened = Database(database_url, DatabaseOptions(synchronous="NORMAL"))
    yield opened
    await opened.close()


@pytest.fixture
def services(database: Database) -> Services:
    """Services with a real database; wake-ups and dispatch are recorded, git refuses."""
    from server.security import ArgonPasswords, FernetBox

    return Services(
        database=database,
        wakeups=RecordingWakeUps(),
        dispatcher=RecordingDispatcher(),
        clock=lambda: datetime.now(UTC),
        passwords=ArgonPasswords(fast=True),
        secrets=FernetBox.generate(),
        git=no_git(),
    )


MakeContext = Callable[[Principal | None], Context]


@pytest.fixture
async def as_principal(services: Services) -> AsyncIterator[MakeContext]:
    """Makes a context for any principal; its snapshot is given back when the test ends."""
    made: list[Context] = []

    def make(principal: Principal | None) -> Context:
        made.append(Context(services, principal))
        return made[-1]

    yield make
    for ctx in made:
        await ctx.release()


@pytest.fixture
def system(as_principal: MakeContext) -> Context:
    """The server's own context."""
    return as_principal(SYSTEM)


@pytest.fixture
async def owner(system: Context, as_principal: MakeContext) -> Context:
    """The context of the site owner."""
    from resolvers.users import create_first_user

    user, _key = await create_first_user(system)
    return as_principal(
        Principal(kind="user", id=user.id, name=user.name, role=Role.ADMIN, is_site_owner=True)
    )


def with_changes(principal: Principal, **changes: Any) -> Principal:
    """A principal that differs in some things."""
    return replace(principal, **changes)
