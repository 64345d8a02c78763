"""The streams over the real tables, on SQLite and PostgreSQL."""

import asyncio
import random
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from broadcaster import Broadcast

from models import Run, RunOutput, Workspace, new_id, utcnow
from models.database import Database
from models.errors import DatabaseBusyError
from subscriptions.backends import backend_from_url
from subscriptions.cursor import EARLIEST, Cursor, decode_cursor
from subscriptions.hub import Hub
from subscriptions.log import DatabaseLog
from subscriptions.pages import PAGE_BYTES, EventItem
from subscriptions.ports import Head, events_key, run_key
from subscriptions.stream_items import Checkpoint, ResyncRequired, StreamClosed, StreamItem
from subscriptions.streams import event_stream, run_output_stream
from subscriptions.wakeups import WakeUps

WRITERS = 8


async def allowed() -> None:
    """An authorization that is always given."""


def seeded(seed: int) -> random.Random:
    """The same chances on each run."""
    return random.Random(seed)  # noqa: S311  # nothing is secret here


@pytest.fixture
async def hub(database: Database) -> AsyncGenerator[Hub, None]:
    hub = Hub(DatabaseLog(database), tick=0.2)
    yield hub
    await hub.aclose()


async def take(stream: AsyncGenerator[StreamItem, None], count: int) -> list[StreamItem]:
    async with asyncio.timeout(30):
        items = [await anext(stream) for _ in range(count)]
    await stream.aclose()
    return items


async def test_heads_of_any_number_of_logs_are_one_statement(
    database: Database, new_board: Callable[[], Awaitable[Any]]
) -> None:
    boards = [await new_board() for _ in range(3)]
    await boards[0].append(4)
    await boards[1].set_stream(epoch=7, floor=2, seq=5)
    statements: list[str] = []
    sa.event.listen(
        database.read_engine,
        "before_cursor_execute",
        lambda *arguments: statements.append(arguments[2]),
    )
    unknown = [events_key(new_id()) for _ in range(40_000)]
    heads = await DatabaseLog(database).heads(
        [*(events_key(board.stream) for board in boards), run_key(new_id()), *unknown]
    )
    # One statement; asked again in a thread where it took too long for the loop.
    assert len({text for text in statements if "SELECT" in text}) == 1
    assert heads == {
        events_key(boards[0].stream): Head(epoch=1, seq=4, floor=0),
        events_key(boards[1].stream): Head(epoch=7, seq=5, floor=2),
        events_key(boards[2].stream): Head(epoch=1, seq=0, floor=0),
    }


async def test_a_reading_is_head_and_entries_of_one_log(
    database: Database, new_board: Callable[[], Awaitable[Any]]
) -> None:
    board, other = await new_board(), await new_board()
    await board.append(3, type="task.created", text="Zürich ☃")
    await other.append(2)
    log = DatabaseLog(database)

    reading = await log.read(events_key(board.stream), after=1, limit=10)
    assert reading is not None
    assert reading.head == Head(epoch=1, seq=3)
    event: Any = reading.entries[0]
    assert (event.seq, event.type, event.entity_type) == (2, "task.created", "task")
    assert event.payload == {"task": {"title": "Zürich ☃"}}
    assert event.stream_id == board.stream
    assert event.size > len("Zürich ☃")
    limited = await log.read(events_key(board.stream), after=0, limit=2)
    assert limited is not None
    assert [entry.seq for entry in limited.entries] == [1, 2]
    empty = await log.read(events_key(board.stream), after=3, limit=2)
    assert empty is not None
    assert (empty.head.seq, list(empty.entries)) == (3, [])
    assert await log.read(events_key(new_id()), after=0, limit=1) is None


async def test_pages_of_large_events_stay_within_their_bytes(hub: Hub, board: Any) -> None:
    await board.append(40, text="x" * 20_000)
    page = await hub.page(events_key(board.stream), after=0)
    assert page is not None
    assert 1 < len(page.items) < 15
    assert page.size <= PAGE_BYTES
    stream = event_stream(hub, stream_id=board.stream, after=EARLIEST, authorize=allowed)
    assert [item.event.seq for item in await take(stream, 40)] == list(range(1, 41))


async def test_pruning_and_restoring_the_real_log_is_announced(hub: Hub, board: Any) -> None:
    await board.append(10)
    await board.set_stream(floor=6)
    await board.delete_up_to(6)
    trimmed = event_stream(
        hub, stream_id=board.stream, after=Cursor(board.stream, 1, 3).encode(), authorize=allowed
    )
    (resync,) = await take(trimmed, 1)
    assert isinstance(resync, ResyncRequired)
    assert resync.reason == "TRIMMED"
    assert decode_cursor(resync.floor).seq == 6
    await board.set_stream(epoch=2)
    stale = event_stream(
        hub, stream_id=board.stream, after=Cursor(board.stream, 1, 9).encode(), authorize=allowed
    )
    (resync,) = await take(stale, 1)
    assert isinstance(resync, ResyncRequired)
    assert resync.reason == "EPOCH_CHANGED"


class Client:
    """One who reconnects at random and keeps what it got."""

    def __init__(self, hub: Hub, stream_id: str, *, chance: random.Random) -> None:
        self._hub = hub
        self._stream_id = stream_id
        self._chance = chance
        self._cursor: str | None = None
        self.first = 0
        self.got: list[int] = []

    async def follow(self, *, until: Callable[[], int | None]) -> None:
        while until() is None or not self.got or self.got[-1] < (until() or 0):
            await self._connect(patience=self._chance.randint(1, 120))

    async def _connect(self, *, patience: int) -> None:
        after = self._cursor or (EARLIEST if self._chance.random() < 0.5 else None)
        stream = event_stream(self._hub, stream_id=self._stream_id, after=after, authorize=allowed)
        try:
            async with asyncio.timeout(self._chance.uniform(0.05, 2.0)):
                async for item in stream:
                    self._keep(item, is_first=self._cursor is None)
                    patience -= 1
                    if patience == 0:
                        return
        except TimeoutError:
            return
        finally:
            await stream.aclose()

    def _keep(self, item: StreamItem, *, is_first: bool) -> None:
        assert isinstance(item, EventItem | Checkpoint), item
        self._cursor = item.cursor
        if isinstance(item, EventItem):
            self.got.append(item.event.seq)
        if is_first:
            self.first = decode_cursor(item.cursor).seq + isinstance(item, Checkpoint)


async def write(board: Any, wakeups: WakeUps, *, transactions: int, chance: random.Random) -> None:
    for _ in range(transactions):
        number = chance.randint(1, 4)
        while True:
            try:
                await board.append(number)
                break
            except DatabaseBusyError:  # what a writer among many may be told; nothing was written
                await asyncio.sleep(0.05)
        if chance.random() < 0.8:  # the others' wake-ups are lost
            wakeups.events([board.stream])
        await asyncio.sleep(chance.uniform(0, 0.01))


@pytest.mark.parametrize("subscribers", [40, pytest.param(200, marks=pytest.mark.long)])
async def test_restless_subscribers_each_see_exactly_the_log(
    subscribers: int, database: Database, hub: Hub, board: Any
) -> None:
    chance = seeded(20)
    end: list[int] = []
    clients = [Client(hub, board.stream, chance=seeded(n)) for n in range(subscribers)]
    async with (
        Broadcast(backend=backend_from_url("memory://")) as broadcast,
        WakeUps(broadcast, listeners=[hub.wake], channel="c") as wakeups,
        asyncio.timeout(100),
    ):
        following = asyncio.gather(
            *(client.follow(until=lambda: end[0] if end else None) for client in clients)
        )
        await asyncio.gather(
            *(write(board, wakeups, transactions=25, chance=chance) for _ in range(WRITERS))
        )
        end.append(await board.append())
        wakeups.events([board.stream])
        await following

    for client in clients:
        assert client.got == list(range(client.got[0], end[0] + 1))
        assert client.got[0] == client.first
    assert hub.watchers == 0


async def test_a_query_and_a_subscription_from_its_cursor_have_no_gap(hub: Hub, board: Any) -> None:
    """Writers storm; a snapshot's cursor is taken in between; from there on it is complete."""
    chance = seeded(3)
    async with (
        Broadcast(backend=backend_from_url("memory://")) as broadcast,
        WakeUps(broadcast, listeners=[hub.wake], channel="c") as wakeups,
    ):
        writing = asyncio.gather(
            *(write(board, wakeups, transactions=10, chance=chance) for _ in range(WRITERS))
        )
        await asyncio.sleep(0.05)
        head = await hub.head(events_key(board.stream))
        assert head is not None
        stream = event_stream(
            hub,
            stream_id=board.stream,
            after=Cursor(board.stream, head.epoch, head.seq).encode(),
            authorize=allowed,
        )
        await writing
        end = await board.append()
        items = await take(stream, end - head.seq)
    assert [item.event.seq for item in items] == list(range(head.seq + 1, end + 1))


@pytest.mark.parametrize("backend", ["redis://127.0.0.1:1/0", "postgresql://root@127.0.0.1:1/x"])
async def test_a_dead_broadcaster_only_delays(backend: str, database: Database, board: Any) -> None:
    """Two processes that cannot tell each other anything: the tick of the other finds it."""
    here, there = (Hub(DatabaseLog(database), tick=0.2) for _ in range(2))
    async with (
        Broadcast(backend=backend_from_url(backend)) as broadcast,
        WakeUps(broadcast, listeners=[here.wake], channel="c") as wakeups,
    ):
        streams = [
            event_stream(hub, stream_id=board.stream, after=EARLIEST, authorize=allowed)
            for hub in (here, there)
        ]
        waiting = asyncio.gather(*(take(stream, 3) for stream in streams))
        await asyncio.sleep(0.1)
        for _ in range(3):
            await board.append()
            wakeups.events([board.stream])
        near, far = await waiting
    assert near == far
    assert there.wakeups_lost_total >= 1
    await here.aclose()
    await there.aclose()


async def test_a_thousand_idle_subscribers_cost_one_statement_a_second_together(
    database: Database, new_board: Callable[[], Awaitable[Any]]
) -> None:
    boards = [await new_board() for _ in range(4)]
    hub = Hub(DatabaseLog(database), tick=0.1)
    streams = [
        event_stream(hub, stream_id=boards[n % 4].stream, after=None, authorize=allowed)
        for n in range(1_000)
    ]
    first = await asyncio.gather(*(anext(stream) for stream in streams))
    assert all(isinstance(item, Checkpoint) for item in first)
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    reads = -1
    while reads != hub.reads_total:  # each log is read once more before all are at rest
        reads = hub.reads_total
        await asyncio.sleep(0.5)
    statements: list[Any] = []
    sa.event.listen(
        database.read_engine,
        "before_cursor_execute",
        lambda *arguments: statements.append(arguments[2]),
    )
    ticks = hub.ticks_total
    await asyncio.sleep(1.0)
    asked = [text for text in statements if "event_stream" in text]
    assert abs(len(asked) - (hub.ticks_total - ticks)) <= 1
    assert hub.reads_total == reads
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await hub.aclose()


async def a_run(database: Database, chunks: Iterable[list[Any]], *, finished: bool) -> str:
    workspace, run = new_id(), new_id()
    now = utcnow()
    async with database.write() as transaction:
        await transaction.insert(
            Workspace,
            id=workspace,
            number=1,
            slug="w",
            name="w",
            created_at=now,
            updated_at=now,
        )
        count = 0
        await transaction.insert(
            Run,
            id=run,
            workspace_id=workspace,
            executor="CUSTOM",
            finished_at=now if finished else None,
            created_at=now,
            updated_at=now,
        )
        for lines in chunks:
            await transaction.insert(
                RunOutput,
                run_id=run,
                first_line=count + 1,
                last_line=count + len(lines),
                data=zlib.compress(orjson.dumps(lines)),
                created_at=now,
            )
            count += len(lines)
        await transaction.update_by_id(Run, run, output_lines=count)
    return run


async def test_run_output_is_streamed_line_by_line_to_its_end(database: Database) -> None:
    chunks = [[{"s": "stdout", "t": f"{c}.{n}"} for n in range(30)] for c in range(20)]
    run = await a_run(database, chunks, finished=True)
    hub = Hub(DatabaseLog(database))
    after = Cursor(run, 1, 45).encode()
    stream = run_output_stream(hub, run_id=run, after=after, authorize=allowed)
    items = [item async for item in stream]
    lines: list[Any] = [item.event for item in items[:-1] if isinstance(item, EventItem)]
    assert [line.seq for line in lines] == list(range(46, 601))
    assert (lines[0].type, lines[0].entry["t"]) == ("stdout", "1.15")
    assert items[-1] == StreamClosed("ENDED", Cursor(run, 1, 600).encode())
    heads = await DatabaseLog(database).heads([run_key(run)])
    assert heads == {run_key(run): Head(epoch=1, seq=600, ended=True)}
    await hub.aclose()
