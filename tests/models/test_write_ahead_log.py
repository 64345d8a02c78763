"""Where SQLite's commits are made, when its log is copied: the loop never waits for the disk."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

import models.sqlite_writing
import models.write_ahead_log
from models import Counter, table_of
from models.database import Database, DatabaseOptions, Synchronous
from models.write_ahead_log import WriteAheadLog

COUNTER = table_of(Counter).c
PATIENCE = 20.0


@pytest.fixture
def path(tmp_path: Path, sqlite_template: Path) -> Path:
    path = tmp_path / "log.db"
    path.write_bytes(sqlite_template.read_bytes())
    return path


@asynccontextmanager
async def opened(path: Path, synchronous: Synchronous = "NORMAL") -> AsyncIterator[Database]:
    database = Database(f"sqlite+aiosqlite:///{path}", DatabaseOptions(synchronous=synchronous))
    try:
        async with database.write() as transaction:
            await transaction.next_number("site", "x")
        yield database
    finally:
        await database.close()


async def _count(database: Database, *, times: int = 1) -> None:
    async with database.write() as transaction:
        for _ in range(times):
            await transaction.next_number("site", "x")


@contextmanager
def commits_of(database: Database) -> Iterator[list[bool]]:
    """Whether each COMMIT is made in the loop."""
    assert database._sqlite is not None
    here, seen = threading.get_ident(), []

    def look(statement: str) -> None:
        if statement == "COMMIT":
            seen.append(threading.get_ident() == here)

    driver = database._sqlite.writer.driver
    driver.set_trace_callback(look)
    yield seen
    driver.set_trace_callback(None)


def _log_of(database: Database) -> WriteAheadLog:
    assert database._sqlite is not None
    log = database._sqlite.writer._log
    assert log is not None
    return log


async def test_a_commit_that_waits_for_the_disk_is_made_in_the_thread(path: Path) -> None:
    async with opened(path, "FULL") as database:
        with commits_of(database) as commits:
            await _count(database)
    assert commits == [False]


async def test_a_commit_of_many_rows_is_made_in_the_thread(path: Path) -> None:
    async with opened(path) as database:
        with commits_of(database) as commits:
            await _count(database)
            await _count(database, times=models.sqlite_writing.LOOP_ROWS + 1)
            await _count(database)
    assert commits == [True, False, True]


async def test_the_commit_that_begins_the_log_anew_is_made_in_the_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.write_ahead_log, "CHECKPOINT_ROWS", 4)
    async with opened(path) as database:
        with commits_of(database) as commits:
            for _ in range(9):
                await _count(database)
    # The first one, at opening, has been the first row.
    assert commits == [True, True, True, False, True, True, True, False, True]


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
async def test_copying_keeps_neither_the_loop_nor_who_is_committed(
    path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: Synchronous
) -> None:
    copying, may_go_on = threading.Event(), threading.Event()
    copy = WriteAheadLog.copy

    def slow(log: WriteAheadLog) -> None:
        copying.set()
        assert may_go_on.wait(PATIENCE)
        copy(log)

    async with opened(path, synchronous) as database:
        monkeypatch.setattr(WriteAheadLog, "copy", slow)
        monkeypatch.setattr(models.write_ahead_log, "CHECKPOINT_ROWS", 1)
        async with asyncio.timeout(PATIENCE):
            await _count(database)
            await asyncio.to_thread(copying.wait)
            async with database.read() as reader:
                assert await reader.scalar(sa.select(COUNTER.value)) == 2
            waiting = asyncio.create_task(_count(database))
            while database.write_waiters == 0:
                await asyncio.sleep(0)
            may_go_on.set()
            await waiting


@pytest.mark.parametrize(("synchronous", "times"), [("FULL", 0), ("NORMAL", 3)])
async def test_a_log_that_is_not_on_the_disk_yet_is_flushed_while_others_write(
    path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: Synchronous, times: int
) -> None:
    may_end, calls = threading.Event(), []
    flush = WriteAheadLog.flush

    def slow(log: WriteAheadLog) -> None:
        calls.append(threading.current_thread())
        assert may_end.wait(PATIENCE)
        flush(log)

    monkeypatch.setattr(WriteAheadLog, "flush", slow)
    monkeypatch.setattr(models.write_ahead_log, "FLUSH_ROWS", 4)
    async with opened(path, synchronous) as database, asyncio.timeout(PATIENCE):
        for _ in range(14):
            await _count(database)
        may_end.set()
    while len(calls) < times:  # a thread pool begins them in its own time
        await asyncio.sleep(0)
    assert len(calls) == times
    assert threading.main_thread() not in calls


async def test_flushing_waits_for_the_file_of_the_log_and_fails_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[os.stat_result] = []

    def fsync(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor))
        raise OSError(errno.EIO, "the disk is gone")

    async with opened(path) as database:
        log = path.with_name(f"{path.name}-wal").stat()
        monkeypatch.setattr(os, "fsync", fsync)
        _log_of(database).flush()
        await _count(database)
    [seen] = flushed
    assert os.path.samestat(seen, log)


async def test_the_log_stays_short_under_constant_load_with_readers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshots overlap, so that at no time there is none."""
    monkeypatch.setattr(models.write_ahead_log, "CHECKPOINT_ROWS", 20)
    done = False

    async def read(turns: int) -> None:
        while not done:
            async with database.read() as reader:
                await reader.scalar(sa.select(COUNTER.value))
                for _ in range(turns):
                    await asyncio.sleep(0)

    async with opened(path) as database:
        readers = [asyncio.create_task(read(turns)) for turns in (17, 40, 101)]
        for _ in range(2_000):
            await _count(database)
        done = True
        await asyncio.gather(*readers)
        assert path.with_name(f"{path.name}-wal").stat().st_size < 200 * 4_120


async def test_large_rows_make_a_log_long_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.write_ahead_log, "CHECKPOINT_BYTES", 1_000_000)
    async with opened(path) as database:
        for _ in range(40):
            async with database.write() as transaction:
                name = sa.func.hex(sa.func.zeroblob(50_000))
                await transaction.execute(sa.update(table_of(Counter)).values(name=name))
        assert path.with_name(f"{path.name}-wal").stat().st_size < 1_300_000


async def test_a_log_that_cannot_be_copied_is_kept(path: Path) -> None:
    async with opened(path) as database:
        log = _log_of(database)
        async with database.read() as reader:
            await reader.scalar(sa.select(COUNTER.value))
            await _count(database)
            log.copy()
        assert not log.is_due()
        await _count(database)
        async with database.read() as reader:
            assert await reader.scalar(sa.select(COUNTER.value)) == 3
