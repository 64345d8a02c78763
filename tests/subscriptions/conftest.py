"""A log in memory that counts what it is asked, and the real one on both databases."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from models import Event, EventStream, metadata, new_id, table_of, utcnow
from models.database import Database
from resolvers.events import PendingEvent, append_events
from subscriptions.hub import Hub
from subscriptions.ports import Head, Reading, events_key


@dataclass(frozen=True)
class Entry:
    seq: int
    type: str = "task.updated"
    size: int = 100


@dataclass
class MemoryLog:
    """A `LogReader`. `gate`, when closed, holds answers back after they were read."""

    heads_by_key: dict[str, Head] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    heads_asked: list[list[str]] = field(default_factory=list)
    reads: list[tuple[str, int]] = field(default_factory=list)
    failing: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def new(self, *, entries: int = 0, epoch: int = 1) -> str:
        """The stream id of a fresh log."""
        stream = str(uuid.uuid4())
        self.heads_by_key[events_key(stream)] = Head(epoch=epoch, seq=0)
        self.entries[events_key(stream)] = []
        self.append(stream, entries)
        return stream

    def append(self, stream: str, count: int = 1, *, type: str = "task.updated") -> None:  # noqa: A002
        key = events_key(stream)
        head = self.heads_by_key[key]
        new = range(head.seq + 1, head.seq + count + 1)
        self.entries[key] += [Entry(seq, type) for seq in new]
        self.heads_by_key[key] = replace(head, seq=head.seq + count)

    def prune(self, stream: str, floor: int) -> None:
        key = events_key(stream)
        self.heads_by_key[key] = replace(self.heads_by_key[key], floor=floor)
        self.entries[key] = [entry for entry in self.entries[key] if entry.seq > floor]

    def restore(self, stream: str, *, seq: int) -> None:
        key = events_key(stream)
        head = self.heads_by_key[key]
        self.heads_by_key[key] = replace(head, epoch=head.epoch + 1, seq=seq)
        self.entries[key] = [entry for entry in self.entries[key] if entry.seq <= seq]

    async def heads(self, keys: Collection[str]) -> Mapping[str, Head]:
        self.heads_asked.append(sorted(keys))
        if self.failing:
            raise OSError("the database is away")
        answer = {key: self.heads_by_key[key] for key in keys if key in self.heads_by_key}
        await asyncio.sleep(0)
        return answer

    async def read(self, key: str, *, after: int, limit: int) -> Reading | None:
        self.reads.append((key, after))
        if self.failing:
            raise OSError("the database is away")
        if key not in self.heads_by_key:
            return None
        found = [entry for entry in self.entries[key] if entry.seq > after][:limit]
        reading = Reading(self.heads_by_key[key], found)
        await self.gate.wait()
        await asyncio.sleep(0)
        return reading


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def hub(log: MemoryLog) -> AsyncIterator[Hub]:
    hub = Hub(log, tick=0.05)
    yield hub
    await hub.aclose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'log.db'}"
    plain: str = request.getfixturevalue("postgres_url")
    return plain.replace("postgresql://", "postgresql+asyncpg://")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    database = Database(database_url)
    yield database
    await database.close()


@dataclass
class Board:
    """A workspace's log in a real database; `append` is a committed transaction."""

    database: Database
    stream: str

    async def append(self, count: int = 1, *, type: str = "task.updated", text: str = "") -> int:  # noqa: A002
        pending = [
            PendingEvent(self.stream, type, "task", new_id(), {"task": {"title": text}})
            for _ in range(count)
        ]
        async with self.database.write() as transaction:
            heads = await append_events(transaction, pending, principal=None, at=utcnow())
        return heads[self.stream].seq

    async def set_stream(self, **changes: int) -> None:
        async with self.database.write() as transaction:
            await transaction.update_by_id(EventStream, self.stream, **changes)

    async def delete_up_to(self, seq: int) -> None:
        event = table_of(Event)
        async with self.database.write() as transaction:
            await transaction.execute(
                event.delete().where(event.c.stream_id == self.stream, event.c.seq <= seq)
            )


@pytest.fixture
def new_board(database: Database) -> Callable[[], Awaitable[Board]]:
    async def make() -> Board:
        stream = new_id()
        async with database.write() as transaction:
            await transaction.insert(EventStream, id=stream)
        return Board(database, stream)

    return make


@pytest.fixture
async def board(new_board: Callable[[], Awaitable[Board]]) -> Board:
    return await new_board()
