"""Reading SQLite in the event loop: fast statements stay there, slow ones do not hold it up."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.database import Database, DatabaseBusyError, DatabaseOptions

COUNT_FOR_LONG = sa.text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :size)"
    " SELECT count(*) FROM n"
)


@pytest.fixture
async def small(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Database]:
    path = tmp_path / "small.db"
    path.write_bytes(sqlite_template.read_bytes())
    options = DatabaseOptions(readers=1, writer_wait=0.2, statement_timeout=0.5)
    database = Database(f"sqlite+aiosqlite:///{path}", options)
    yield database
    await database.close()


async def test_a_slow_statement_does_not_hold_the_loop(small: Database) -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - began)

    watcher = asyncio.create_task(watch())
    async with small.read() as reader:
        size = 300_000
        assert await reader.scalar(COUNT_FOR_LONG.bindparams(size=size)) == size
        assert await reader.scalar(sa.text("SELECT 1")) == 1
    watcher.cancel()
    assert longest < 0.1


async def test_a_statement_without_end_is_ended(small: Database) -> None:
    with pytest.raises(DatabaseBusyError, match="too long"):
        async with small.read() as reader:
            await reader.scalar(COUNT_FOR_LONG.bindparams(size=10**12))
    async with small.read() as reader:
        assert await reader.scalar(sa.text("SELECT 1")) == 1


async def test_readers_are_bounded_and_given_back(small: Database) -> None:
    async with small.read(), small.read():
        with pytest.raises(DatabaseBusyError):
            async with small.read():
                pass
    async with small.read() as reader:
        assert await reader.scalar(sa.text("SELECT 1")) == 1


async def test_a_cancelled_slow_read_gives_its_connection_back(small: Database) -> None:
    async def read() -> None:
        async with small.read() as reader:
            await reader.scalar(COUNT_FOR_LONG.bindparams(size=2_000_000))

    for _ in range(3):
        task = asyncio.create_task(read())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with small.read(), small.read() as reader:
        assert await reader.scalar(sa.text("SELECT 1")) == 1


async def test_an_old_budget_does_not_count_for_the_next_reader(small: Database) -> None:
    async with small.read() as reader:
        await reader.scalar(sa.text("SELECT 1"))
        await asyncio.sleep(0.01)
    for _ in range(200):
        async with small.read() as reader:
            assert await reader.scalar(sa.text("SELECT 1")) == 1
