"""Reads of one turn of the event loop share a snapshot, and nobody sees less for it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.database import Database, DatabaseOptions, Synchronous
from models.sqlite_reading import SqliteReadConnection

NUMBER = sa.text("SELECT value FROM counter WHERE scope = 'site' AND name = 'x'")


@pytest.fixture(params=["NORMAL", "FULL"])
async def database(
    tmp_path: Path, sqlite_template: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Database]:
    path = tmp_path / "board.db"
    path.write_bytes(sqlite_template.read_bytes())
    synchronous: Synchronous = request.param
    database = Database(f"sqlite+aiosqlite:///{path}", DatabaseOptions(synchronous=synchronous))
    await count(database)
    yield database
    await database.close()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epoch of each snapshot that is begun."""
    seen: list[int] = []
    begin = SqliteReadConnection.begin

    def watched(connection: SqliteReadConnection, epoch: int) -> None:
        seen.append(epoch)
        begin(connection, epoch)

    monkeypatch.setattr(SqliteReadConnection, "begin", watched)
    return seen


async def count(database: Database) -> int:
    async with database.write() as transaction:
        return await transaction.next_number("site", "x")


async def number(database: Database) -> int:
    async with database.read() as reader:
        return int(await reader.scalar(NUMBER))


def count_elsewhere(database: Database) -> None:
    """As another process does."""
    other = sqlite3.connect(str(database.path))
    with other:
        other.execute("UPDATE counter SET value = value + 1 WHERE scope = 'site' AND name = 'x'")
    other.close()


async def test_reads_of_one_turn_share_a_snapshot(database: Database, begun: list[int]) -> None:
    assert [await number(database) for _ in range(5)] == [1] * 5
    assert len(begun) == 1
    await asyncio.sleep(0)
    assert await number(database) == 1
    assert len(begun) == 2


async def test_who_reads_at_the_same_time_has_a_snapshot_alone(
    database: Database, begun: list[int]
) -> None:
    async with database.read() as first, database.read() as second:
        assert [await one.scalar(NUMBER) for one in (first, second)] == [1, 1]
    assert len(begun) == 2


async def test_what_was_committed_is_read_in_the_same_turn(database: Database) -> None:
    for expected in range(2, 20):
        assert await number(database) == expected - 1
        assert await count(database) == expected
        assert await number(database) == expected


async def test_what_another_process_commits_is_read_in_the_next_turn(database: Database) -> None:
    assert await number(database) == 1
    count_elsewhere(database)
    await asyncio.sleep(0)
    assert await number(database) == 2


async def test_an_older_snapshot_is_nobody_elses(database: Database) -> None:
    async with database.read() as reader:
        assert await reader.scalar(NUMBER) == 1
        await asyncio.sleep(0)
        count_elsewhere(database)
        assert await reader.scalar(NUMBER) == 1
    assert await number(database) == 2


async def test_a_snapshot_in_which_a_statement_failed_is_nobody_elses(
    database: Database, begun: list[int]
) -> None:
    async with database.read() as reader:
        with pytest.raises(sa.exc.DBAPIError):
            await reader.scalar(sa.text("SELECT value FROM nowhere"))
    assert await number(database) == 1
    assert len(begun) == 2


async def test_nothing_is_kept_beyond_the_turn(database: Database) -> None:
    await number(database)
    await asyncio.sleep(0)
    await count(database)
    other = sqlite3.connect(str(database.path))
    busy, in_log, copied = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    other.close()
    assert (busy, in_log, copied) == (0, 0, 0)
