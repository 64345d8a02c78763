"""What operations may rely on of the database, on SQLite and on PostgreSQL."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

import models.database
from models import Counter, Event, EventStream, Task, Workspace, new_id, table_of, utcnow
from models.base import json_contains
from models.database import Database, DatabaseOptions
from models.errors import DatabaseBusyError, UnknownOutcomeError
from models.transaction import TOUCHES_MAX, Transaction, select_all
from resolvers.events import PendingEvent, append_events

TASK = table_of(Task).c
EVENT = table_of(Event).c


async def _workspace(transaction: Transaction) -> Workspace:
    now = utcnow()
    number = await transaction.next_number("site", "workspace")
    workspace = await transaction.insert(
        Workspace, number=number, slug=f"w{number}", name="W", created_at=now, updated_at=now
    )
    await transaction.insert(EventStream, id=workspace.id)
    return workspace


async def _task(transaction: Transaction, workspace: Workspace, **values: object) -> Task:
    now = utcnow()
    return await transaction.insert(
        Task,
        workspace_id=workspace.id,
        number=await transaction.next_number(workspace.id, "task"),
        created_at=now,
        updated_at=now,
        **{"title": "t", **values},
    )


async def test_what_is_written_is_read_back_the_same(database: Database) -> None:
    async with database.write() as transaction:
        workspace = await _workspace(transaction)
        written = await _task(
            transaction,
            workspace,
            title="é “quoted” \\ 🦊",
            labels=["a", "it's"],
            meta={"k": [1, None, {"x": 1.5}]},
            due_at=utcnow(),
        )
    async with database.read() as reader:
        read = await reader.find_by_id(Task, written.id)
    assert read is not None
    assert read.as_dict() == written.as_dict()


@pytest.mark.parametrize("count", [0, 1, 2, TOUCHES_MAX, TOUCHES_MAX + 1])
async def test_few_and_many_rows_are_inserted_alike(database: Database, count: int) -> None:
    async with database.write() as transaction:
        await transaction.insert_many(
            Counter, [{"scope": "site", "name": f"n{number}"} for number in range(count)]
        )
    async with database.read() as reader:
        found = await reader.records(Counter, select_all(Counter))
    made = sorted((row.name, row.value) for row in found)
    assert made == sorted((f"n{number}", 0) for number in range(count))


async def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(LookupError):
        async with database.write() as transaction:
            await _workspace(transaction)
            raise LookupError
    async with database.read() as reader:
        assert await reader.records(Workspace, select_all(Workspace)) == []


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        async with database.read() as reader:
            await reader.rows(sa.delete(table_of(Counter)))


async def test_a_reader_sees_one_snapshot(database: Database) -> None:
    async with database.write() as transaction:
        workspace = await _workspace(transaction)
    async with database.read() as reader:
        before = await reader.records(Task, select_all(Task))
        async with database.write() as transaction:
            await _task(transaction, workspace)
        assert await reader.records(Task, select_all(Task)) == before == []
    async with database.read() as reader:
        assert len(await reader.records(Task, select_all(Task))) == 1


async def test_siblings_share_a_snapshot_without_harm(database: Database) -> None:
    async with database.write() as transaction:
        await _workspace(transaction)
    async with database.read() as reader:
        found = await asyncio.gather(
            *(reader.records(Workspace, select_all(Workspace)) for _ in range(20))
        )
    assert [len(records) for records in found] == [1] * 20


async def test_numbers_have_no_gaps_under_concurrent_writers(database: Database) -> None:
    async with database.write() as transaction:
        workspace = await _workspace(transaction)

    async def write(index: int) -> int | None:
        try:
            async with database.write() as transaction:
                task = await _task(transaction, workspace)
                if index % 5 == 0:
                    raise LookupError
                return task.number
        except LookupError:
            return None

    numbers = await asyncio.gather(*(write(index) for index in range(40)))
    kept = sorted(number for number in numbers if number is not None)
    assert kept == list(range(1, 33))


async def test_event_numbers_are_contiguous_under_concurrent_writers(database: Database) -> None:
    async with database.write() as transaction:
        first, second = await _workspace(transaction), await _workspace(transaction)

    async def write(index: int) -> None:
        pending = [
            PendingEvent(stream.id, "t.x", "t", new_id(), {"index": index})
            for stream in ((first, second) if index % 2 else (second, first))
        ]
        async with database.write() as transaction:
            await append_events(transaction, pending, principal=None, at=utcnow())

    await asyncio.gather(*(write(index) for index in range(40)))
    async with database.read() as reader:
        for stream in (first, second):
            seqs = await reader.scalars(
                sa.select(EVENT.seq).where(EVENT.stream_id == stream.id).order_by(EVENT.seq)
            )
            assert seqs == list(range(1, 41))


async def test_cancellation_does_not_interrupt_a_commit(database: Database) -> None:
    committed = asyncio.Event()

    async def write() -> None:
        async with database.write() as transaction:
            await _workspace(transaction)
            transaction.after_commit.append(committed.set)
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(write())
    async with database.read() as reader:
        found = await reader.records(Workspace, select_all(Workspace))
    assert len(found) == (1 if committed.is_set() else 0)
    async with database.write() as transaction:
        await _workspace(transaction)


async def test_cancelled_writers_leave_the_lane_free(database: Database) -> None:
    async def write() -> None:
        async with database.write() as transaction:
            await _workspace(transaction)

    for delay in (0.0, 0.0005, 0.001, 0.002, 0.004):
        tasks = [asyncio.create_task(write()) for _ in range(4)]
        await asyncio.sleep(delay)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(write(), 5)


async def test_waiting_for_the_writer_is_bounded(database_url: str) -> None:
    database = Database(database_url, DatabaseOptions(writer_wait=0.2))
    try:
        async with database.write() as transaction:
            await transaction.execute(
                sa.update(table_of(EventStream)).values(floor=table_of(EventStream).c.floor)
            )
            with pytest.raises(DatabaseBusyError):
                async with database.write() as other:
                    await other.execute(sa.update(table_of(EventStream)).values(floor=1))
        async with database.write() as transaction:
            await _workspace(transaction)
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("label", "found"), [("a", True), ("it's", True), ("A", False), ("", False), ('"', False)]
)
async def test_json_contains_finds_whole_items(
    database: Database, label: str, *, found: bool
) -> None:
    async with database.write() as transaction:
        workspace = await _workspace(transaction)
        await _task(transaction, workspace, labels=["a", "it's", "ab"])
        count = await transaction.scalar(
            sa.select(sa.func.count(TASK.id)).where(json_contains(TASK.labels, label))
        )
    assert count == int(found)


async def test_a_second_process_waits_for_the_first(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "shared.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite+aiosqlite:///{path}"
    first, second = Database(url), Database(url)
    try:

        async def write(database: Database) -> None:
            for _ in range(10):
                async with database.write() as transaction:
                    await transaction.next_number("site", "x")

        await asyncio.gather(write(first), write(second))
        async with first.read() as reader:
            value = await reader.scalar(sa.select(table_of(Counter).c.value))
        assert value == 20
    finally:
        await first.close()
        await second.close()


async def test_acknowledged_writes_are_durable_by_default(
    tmp_path: Path, sqlite_template: Path
) -> None:
    path = tmp_path / "d.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite+aiosqlite:///{path}")
    try:
        async with database.write() as transaction:
            assert await transaction.scalar(sa.text("PRAGMA synchronous")) == 2
            assert await transaction.scalar(sa.text("PRAGMA journal_mode")) == "wal"
            assert await transaction.scalar(sa.text("PRAGMA foreign_keys")) == 1
    finally:
        await database.close()


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_connection_that_was_lost_while_idle_is_not_used(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, other = Database(database_url), Database(database_url)
    backends = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    try:
        monkeypatch.setattr(models.database, "PING_AFTER_SECONDS", 0.0)
        for ask in (database.read, database.write):
            async with ask() as reader:
                await reader.scalar(sa.select(sa.literal(1)))
            async with other.write() as transaction:
                await transaction.rows(backends)
            async with ask() as reader:
                assert await reader.scalar(sa.select(sa.literal(1))) == 1
    finally:
        await database.close()
        await other.close()


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_connection_that_is_lost_in_a_statement_is_said_to_be(database_url: str) -> None:
    database, other = Database(database_url), Database(database_url)
    sleeping = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'"
    )
    try:
        async with database.read() as reader:
            statement = asyncio.create_task(reader.scalar(sa.text("SELECT pg_sleep(60)")))
            async with other.write() as transaction:
                while not await transaction.rows(sleeping):
                    await asyncio.sleep(0.01)
            with pytest.raises(DatabaseBusyError, match="lost"):
                await statement
    finally:
        await database.close()
        await other.close()


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_who_loses_the_connection_in_the_end_is_not_told_that_nothing_was_done(
    database_url: str,
) -> None:
    database, other = Database(database_url), Database(database_url)
    try:
        with pytest.raises(UnknownOutcomeError):
            async with database.write() as transaction:
                await transaction.next_number("site", "x")
                async with other.read() as reader:
                    await reader.rows(
                        sa.text(
                            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                        )
                    )
        async with database.write() as transaction:
            assert await transaction.next_number("site", "x") == 1
    finally:
        await database.close()
        await other.close()


def test_other_databases_are_refused() -> None:
    with pytest.raises(ValueError, match="not supported"):
        Database("mysql+aiomysql://x/y")
