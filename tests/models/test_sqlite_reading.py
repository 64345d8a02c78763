"""Reading SQLite in the event loop: fast statements stay there, slow ones do not hold it up."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from models import TaskTotal
from models.database import Database, DatabaseOptions
from models.errors import DatabaseBusyError
from models.prepared import Prepared
from models.transaction import Reader

COUNT_FOR_LONG = sa.text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :size)"
    " SELECT count(*) AS total FROM n"
)


def _counting(_dialect: str) -> Any:
    return COUNT_FOR_LONG.columns(total=sa.Integer())


PREPARED = Prepared(TaskTotal, ["total"], ["size"], _counting)


async def _by_sqlalchemy(reader: Reader, size: int) -> int:
    return int(await reader.scalar(COUNT_FOR_LONG.bindparams(size=size)))


async def _by_prepared(reader: Reader, size: int) -> int:
    (found,) = await reader.fetch(PREPARED, size)
    return found.total


Count = Callable[[Reader, int], Awaitable[int]]
"""Counts up to a number, which takes as long as one likes."""


@pytest.fixture(params=[_by_sqlalchemy, _by_prepared])
def count(request: pytest.FixtureRequest) -> Count:
    found: Count = request.param
    return found


@asynccontextmanager
async def _opened(path: Path, template: Path, options: DatabaseOptions) -> AsyncIterator[Database]:
    path.write_bytes(template.read_bytes())
    database = Database(f"sqlite+aiosqlite:///{path}", options)
    yield database
    await database.close()


@pytest.fixture
async def small(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Database]:
    options = DatabaseOptions(readers=1, writer_wait=0.2, statement_timeout=0.5)
    async with _opened(tmp_path / "small.db", sqlite_template, options) as database:
        yield database


@pytest.fixture
async def patient(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Database]:
    options = DatabaseOptions(readers=1, statement_timeout=60)
    async with _opened(tmp_path / "patient.db", sqlite_template, options) as database:
        yield database


async def test_a_slow_statement_does_not_hold_the_loop(patient: Database, count: Count) -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - began)

    watcher = asyncio.create_task(watch())
    async with patient.read() as reader:
        size, began = 3_000_000, time.monotonic()
        assert await count(reader, size) == size
        took = time.monotonic() - began
        assert await reader.scalar(sa.text("SELECT 1")) == 1
    watcher.cancel()
    assert longest < took / 2


async def test_siblings_of_a_slow_statement_have_their_turns(small: Database) -> None:
    sizes = [300_000, 3, 200_000, 5, 7]
    async with small.read() as reader:
        counts = [_by_prepared(reader, size) for size in sizes]
        others = [_by_sqlalchemy(reader, size) for size in sizes]
        assert await asyncio.gather(*counts, *others) == sizes + sizes


async def test_a_quick_sibling_does_not_cut_a_slow_statement_short(small: Database) -> None:
    began = time.monotonic()
    async with small.read() as reader:
        both = [_by_prepared(reader, 10**12), _by_prepared(reader, 3)]
        slow, quick = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(slow, DatabaseBusyError)
    assert quick == 3
    assert time.monotonic() - began >= small.options.statement_timeout


async def test_a_statement_without_end_is_ended(small: Database, count: Count) -> None:
    with pytest.raises(DatabaseBusyError, match="too long"):
        async with small.read() as reader:
            await count(reader, 10**12)
    async with small.read() as reader:
        assert await reader.scalar(sa.text("SELECT 1")) == 1


async def test_readers_are_bounded_and_given_back(small: Database) -> None:
    async with small.read(), small.read():
        with pytest.raises(DatabaseBusyError):
            async with small.read():
                pass
    async with small.read() as reader:
        assert await reader.scalar(sa.text("SELECT 1")) == 1


async def test_a_cancelled_slow_read_gives_its_connection_back(
    small: Database, count: Count
) -> None:
    async def read() -> None:
        async with small.read() as reader:
            await count(reader, 2_000_000)

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
