"""Transactions that share a commit on SQLite: acknowledged together, apart in all else."""

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from models import Counter, Event, EventStream, table_of, utcnow
from models.database import Database, DatabaseOptions
from models.errors import StorageFullError
from models.transaction import Transaction

EVENT = table_of(Event).c
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def database(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Database]:
    path = tmp_path / "shared.db"
    path.write_bytes(sqlite_template.read_bytes())
    opened = Database(f"sqlite+aiosqlite:///{path}", DatabaseOptions(synchronous="NORMAL"))
    yield opened
    await opened.close()


@contextmanager
def commits_of(database: Database) -> Iterator[list[str]]:
    """The COMMITs that reach SQLite."""
    assert database._sqlite is not None
    seen: list[str] = []
    driver = database._sqlite.writer.driver

    def look(statement: str) -> None:
        if statement == "COMMIT":
            seen.append(statement)

    driver.set_trace_callback(look)
    yield seen
    driver.set_trace_callback(None)


async def _open(database: Database) -> None:
    async with database.write() as transaction:
        await transaction.insert(EventStream, id="s")


async def _append(database: Database, text: str = "x") -> int:
    """Write one event; its number."""
    async with database.write() as transaction:
        return await _number(transaction, text)


async def _number(transaction: Transaction, text: str) -> int:
    seq = await transaction.next_number("site", "seq")
    await transaction.insert(
        Event,
        stream_id="s",
        seq=seq,
        epoch=1,
        type="t",
        entity_type="t",
        entity_id="e",
        actor_type="system",
        payload={"text": text},
        at=utcnow(),
    )
    return seq


async def _kept(database: Database) -> list[int]:
    async with database.read() as reader:
        return await reader.scalars(sa.select(EVENT.seq).order_by(EVENT.seq))


async def test_writers_at_the_same_time_share_commits(database: Database) -> None:
    await _open(database)
    with commits_of(database) as commits:
        numbers = await asyncio.gather(*(_append(database) for _ in range(200)))
    assert sorted(numbers) == list(range(1, 201)) == await _kept(database)
    assert len(commits) <= 20


async def test_those_whose_request_is_read_a_round_later_come_along(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two halves of clients that write again as soon as they are answered become one."""
    monkeypatch.setattr("models.shared_commit.GROUP_SECONDS", 60)  # however slow the machine is
    await _open(database)

    async def client(*, late: bool) -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        with ours, closing(writer):
            if late:
                await asyncio.sleep(0)
            for _ in range(20):
                ours.send(b"x")
                await reader.readexactly(1)
                await _append(database)

    with commits_of(database) as commits:
        await asyncio.gather(*(client(late=number >= 4) for number in range(8)))
    assert len(commits) <= 25, "eight writers of twenty each: twenty commits and a few"


async def test_one_that_comes_alone_is_committed_alone(database: Database) -> None:
    await _open(database)
    with commits_of(database) as commits:
        for _ in range(3):
            await _append(database)
    assert len(commits) == 3


async def test_nothing_is_acknowledged_when_the_commit_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _open(database)
    assert database._sqlite is not None
    writer = database._sqlite.writer
    told: list[int] = []

    async def write(index: int) -> None:
        async with database.write() as transaction:
            transaction.after_commit.append(lambda: told.append(index))
            await _number(transaction, "x")
            if index == 3:
                raise LookupError  # found behind what was never written: not what it gets to hear

    def fail() -> None:
        writer.driver.execute("ROLLBACK")
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_commit", fail)
        outcomes = await asyncio.gather(*(write(i) for i in range(8)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageFullError] * 8
    assert told == await _kept(database) == []
    assert await _append(database) == 1


async def test_a_full_disk_undoes_those_in_front_and_the_next_one_writes(
    database: Database,
) -> None:
    await _open(database)
    assert database._sqlite is not None
    driver = database._sqlite.writer.driver
    (pages,) = driver.execute("PRAGMA page_count").fetchone()
    driver.execute(f"PRAGMA max_page_count = {pages + 8}")
    long = "x" * 200_000
    outcomes = await asyncio.gather(
        *(_append(database, "x" if i < 4 else long) for i in range(5)), return_exceptions=True
    )
    assert isinstance(outcomes[4], StorageFullError)
    kept = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert await _kept(database) == kept
    driver = database._sqlite.writer.driver
    driver.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert await _append(database, long) == len(kept) + 1


async def test_one_cancelled_during_the_commit_is_committed_and_told_so_afterwards(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.shared_commit.GROUP_SECONDS", 60)
    await _open(database)
    done: list[int] = []
    tasks: list[asyncio.Task[None]] = []

    async def write(index: int) -> None:
        async with database.write() as transaction:
            seq = await _number(transaction, "x")
            transaction.after_commit.append(lambda: done.append(seq))
            if index == 7:
                asyncio.get_running_loop().call_soon(tasks[2].cancel)

    tasks.extend(asyncio.create_task(write(index)) for index in range(8))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    cancelled = [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes]
    assert cancelled == [index == 2 for index in range(8)]
    assert done == await _kept(database) == list(range(1, 9))


async def test_an_error_is_raised_only_behind_the_commit_of_those_in_front(
    database: Database,
) -> None:
    await _open(database)
    order: list[str] = []

    async def write() -> None:
        async with database.write() as transaction:
            transaction.after_commit.append(lambda: order.append("committed"))
            await _number(transaction, "x")

    async def refuse() -> None:
        try:
            async with database.write() as transaction:
                assert await transaction.scalar(sa.select(sa.func.max(EVENT.seq))) == 1
                raise LookupError
        except LookupError:
            order.append("refused")

    await asyncio.gather(write(), refuse())
    assert order == ["committed", "refused"]


async def test_a_slow_select_leaves_the_loop_and_its_transaction_alone(database: Database) -> None:
    await _open(database)
    slow = sa.text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) "
        "SELECT i FROM n"
    ).columns(i=sa.Integer)
    counted = sa.select(sa.func.count()).select_from(slow.subquery())
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    async with database.write() as transaction:
        await _number(transaction, "x")
        assert await transaction.scalar(counted) == 300_000
    ticking.cancel()
    assert ticks > 0
    assert await _kept(database) == [1]


async def test_a_transaction_that_sqlite_has_undone_takes_no_more_statements(
    database: Database,
) -> None:
    await _open(database)
    with pytest.raises(StorageFullError):
        async with database.write() as transaction:
            assert database._sqlite is not None
            database._sqlite.writer.driver.execute("ROLLBACK")
            await _number(transaction, "x")
    async with database.read() as reader:
        assert await reader.rows(sa.select(table_of(Counter).c.value)) == []


CHILD = """
import asyncio, sys
sys.path.insert(0, {root!r})
from tests.models.test_shared_commits import _append
import models.write_ahead_log
from models.database import Database, DatabaseOptions

async def work(database):
    while True:
        print(await _append(database), flush=True)

async def main():
    models.write_ahead_log.CHECKPOINT_ROWS = 30
    options = DatabaseOptions(synchronous=sys.argv[2])
    database = Database("sqlite+aiosqlite:///" + sys.argv[1], options)
    await asyncio.gather(*(work(database) for _ in range(8)))

asyncio.run(main())
"""


def _killed_after(path: str, synchronous: str, lines: int) -> set[int]:
    """The numbers that eight writers in a process of their own acknowledged until it was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.format(root=str(ROOT)), path, synchronous],
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        found = [child.stdout.readline() for _ in range(lines)]
        os.kill(child.pid, signal.SIGKILL)
        found += child.stdout.readlines()
    return {int(line) for line in found if line.endswith(b"\n")}


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
async def test_what_was_acknowledged_survives_a_kill(database: Database, synchronous: str) -> None:
    await _open(database)
    await database.close()
    path = str(database.path)
    acknowledged: set[int] = set()
    for lines in (1, 20, 100):
        acknowledged |= await asyncio.to_thread(_killed_after, path, synchronous, lines)
        again = Database(f"sqlite+aiosqlite:///{path}")
        kept = await _kept(again)
        await again.close()
        assert kept == list(range(1, len(kept) + 1)), "a gap"
        assert acknowledged <= set(kept)
