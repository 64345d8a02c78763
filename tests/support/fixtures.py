"""Fixtures everybody uses: a fresh database of each kind, and contexts to call operations with."""

import asyncio
import os
import shutil
import uuid
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
from tests.support.fakes import RecordingDispatcher, RecordingWakeUps, no_git

POSTGRES = os.environ.get("DRAGOMAN_TEST_POSTGRES", "postgresql+asyncpg://root@127.0.0.1:5432")
BOTH = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
]


async def postgres_admin(*statements: str) -> None:
    engine = create_async_engine(f"{POSTGRES}/postgres", isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
    finally:
        await engine.dispose()


def _run_apart(work: Coroutine[Any, Any, Any]) -> None:
    """Run to the end in a loop of its own: a template is first asked for inside a test's loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[str]:
    """A PostgreSQL database that tests copy."""
    name = f"dragoman_template_{uuid.uuid4().hex[:12]}"
    _run_apart(postgres_admin(f"CREATE DATABASE {name}"))
    _run_apart(migrate(f"{POSTGRES}/{name}"))
    yield name
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
    name = f"dragoman_test_{uuid.uuid4().hex[:12]}"
    source = request.getfixturevalue("postgres_template")
    await postgres_admin(f"CREATE DATABASE {name} TEMPLATE {source}")
    try:
        yield f"{POSTGRES}/{name}"
    finally:
        await postgres_admin(f"DROP DATABASE {name} WITH (FORCE)")


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
