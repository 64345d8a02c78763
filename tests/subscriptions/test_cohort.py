"""Streams that are handed entries together: the same promises as those that walk alone."""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from resolvers.errors import NotFoundError
from subscriptions import cohort
from subscriptions.cursor import Cursor
from subscriptions.delivery import Batch, Delivery, current_delivery
from subscriptions.hub import Hub
from subscriptions.pages import EventItem
from subscriptions.ports import events_key, principal_key
from subscriptions.stream_items import Checkpoint, StreamClosed
from subscriptions.streams import StreamLimits, event_stream
from tests.subscriptions.conftest import MemoryLog


@dataclass(frozen=True)
class Told:
    """A payload that says what it was made of."""

    seq: int

    @property
    def data(self) -> dict[str, Any]:
        return {"seq": self.seq}

    @property
    def json(self) -> bytes:
        return b'{"seq":%d}' % self.seq


@dataclass(eq=False)
class Selecting:
    """A selection that counts, and sometimes leaves an event to others or takes its time."""

    made: list[int] = field(default_factory=list)
    unable: Callable[[int], bool] = lambda _seq: False
    slow: bool = False

    async def payload(self, event: Any) -> Told | None:
        self.made.append(event.seq)
        if self.slow:
            await asyncio.sleep(0)
        return None if self.unable(event.seq) else Told(event.seq)


@dataclass
class Client:
    """What one subscriber gets, by either way; `takes` says whether it reads just now."""

    selection: Selecting
    takes: Callable[[], bool] = lambda: True
    seen: list[int] = field(default_factory=list)
    pushed: int = 0
    rounds: int = 0
    others: list[Any] = field(default_factory=list)

    def push(self, batch: Batch) -> int:
        self.rounds += 1
        for count, payload in enumerate(batch.payloads):
            if not self.takes():
                return count
            self.pushed += 1
            assert payload.data is not None
            self.seen.append(payload.data["seq"])
        return len(batch.payloads)

    def follow(self, hub: Hub, stream: str, **options: Any) -> asyncio.Task[None]:
        async def run() -> None:
            delivery = Delivery(outlet=self)
            current_delivery.set(delivery)
            given: dict[str, Any] = {
                "after": None,
                "authorize": allowed,
                "principal": "user:1",
                "root": lambda item: item.event,
                **options,
            }
            async with aclosing(event_stream(hub, stream_id=stream, **given)) as items:
                async for item in items:
                    if isinstance(item, EventItem):
                        self.seen.append(item.event.seq)
                    else:
                        self.others.append(item)

        return asyncio.create_task(run())


async def allowed() -> None:
    """Anybody may."""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def turns(count: int) -> None:
    """Let everybody who is ready have that many turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def all_wait(hub: Hub, stream: str, count: int) -> None:
    await until(lambda: len(hub.cohort(events_key(stream))) == count)


@pytest.fixture
def grow(hub: Hub, log: MemoryLog) -> Callable[..., None]:
    def grow(stream: str, count: int = 1, **options: Any) -> None:
        log.append(stream, count, **options)
        hub.wake([events_key(stream)])

    return grow


async def test_one_read_and_one_payload_serve_all_who_wait(
    hub: Hub, log: MemoryLog, grow: Callable[..., None]
) -> None:
    stream, selection = log.new(entries=3), Selecting()
    crowd = [Client(selection) for _ in range(40)]
    tasks = [one.follow(hub, stream) for one in crowd]
    await asyncio.sleep(0)
    await until(lambda: events_key(stream) in hub._topics)
    await all_wait(hub, stream, 40)
    reads = hub.reads_total
    grow(stream)
    await until(lambda: all(one.seen == [4] for one in crowd))
    assert selection.made == [4]
    assert hub.reads_total - reads <= 2
    assert [one.pushed for one in crowd] == [1] * 40
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert hub.watchers == 0


async def test_what_happens_while_a_large_cohort_rests_goes_out_together(
    hub: Hub, log: MemoryLog, grow: Callable[..., None]
) -> None:
    stream, selection = log.new(), Selecting()
    crowd = [Client(selection) for _ in range(200)]
    tasks = [one.follow(hub, stream) for one in crowd]
    await asyncio.sleep(0.02)
    await all_wait(hub, stream, 200)
    for number in range(40):
        grow(stream)
        await turns(50)
        assert number or all(one.seen == [1] for one in crowd)  # the first does not wait
    await until(lambda: all(one.seen == list(range(1, 41)) for one in crowd))
    assert max(one.rounds for one in crowd) <= 10
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_small_cohort_never_rests(
    hub: Hub, log: MemoryLog, grow: Callable[..., None]
) -> None:
    stream, client = log.new(), Client(Selecting())
    task = client.follow(hub, stream)
    await asyncio.sleep(0.02)
    await all_wait(hub, stream, 1)
    for number in range(1, 21):
        grow(stream)
        await turns(50)
        assert client.seen == list(range(1, number + 1))
    assert client.rounds == 20
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("seed", range(6))
async def test_everybody_gets_every_entry_once_whatever_comes_between(
    hub: Hub, log: MemoryLog, grow: Callable[..., None], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # dice
    stream = log.new(entries=5)
    hasty = StreamLimits(authorize_every=0.01, checkpoint_skipped=3)
    selections = [
        Selecting(),
        Selecting(slow=True),
        Selecting(unable=lambda seq: seq % 7 == 0),
    ]
    crowd: list[tuple[Client, Any]] = []
    tasks: dict[asyncio.Task[None], Client] = {}
    for number in range(30):
        client = Client(chance.choice(selections))
        if number % 5 == 0:
            client.takes = lambda: chance.random() < 0.7
        keep = (lambda entry: entry.seq % 3 == 0) if number % 4 == 1 else None
        crowd.append((client, keep))
        limits = hasty if number % 2 else None
        task = client.follow(
            hub, stream, where=keep, limits=limits, after=Cursor(stream, 1, 2).encode()
        )
        tasks[task] = client
    for _ in range(120):
        match chance.randrange(6):
            case 0 | 1 | 2:
                grow(stream, chance.randrange(1, 4))
            case 3:
                hub.wake([principal_key("user:1")])
            case 4:
                log.append(stream)  # the wake-up is lost; the tick finds it
            case _:
                hub.wake([events_key(stream)])
        await asyncio.sleep(chance.choice([0, 0, 0, 0.002]))
    end = log.heads_by_key[events_key(stream)].seq
    for client, keep in crowd:
        wanted = [seq for seq in range(3, end + 1) if keep is None or seq % 3 == 0]
        await until(lambda client=client, wanted=wanted: len(client.seen) >= len(wanted))
        assert client.seen == wanted
    steady = [client for client, _ in crowd if client.pushed]
    assert sum(client.pushed for client in steady) > sum(client.rounds for client in steady) > 0
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_loses_a_permission_gets_nothing_more_while_others_go_on(
    hub: Hub, log: MemoryLog, grow: Callable[..., None]
) -> None:
    stream, selection = log.new(), Selecting()
    refused = False

    async def authorize() -> None:
        if refused:
            raise NotFoundError("Workspace")

    loser, other = Client(selection), Client(selection)
    losing = loser.follow(hub, stream, authorize=authorize, principal="user:2")
    following = other.follow(hub, stream)
    await asyncio.sleep(0.02)
    await all_wait(hub, stream, 2)
    grow(stream)
    await until(lambda: loser.seen == other.seen == [1])
    refused = True
    # The entry that comes after the change comes in the same turn of the loop.
    hub.wake([principal_key("user:2")])
    grow(stream)
    await losing
    await until(lambda: other.seen == [1, 2])
    assert loser.seen == [1]
    assert loser.others[-1] == StreamClosed("NOT_FOUND", Cursor(stream, 1, 1).encode())
    following.cancel()
    await asyncio.wait([following])


async def test_a_member_asks_again_before_what_comes_a_second_later(
    hub: Hub, log: MemoryLog, grow: Callable[..., None]
) -> None:
    stream, asked = log.new(), 0

    async def authorize() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise NotFoundError("Workspace")

    client = Client(Selecting())
    limits = StreamLimits(authorize_every=0.05)
    task = client.follow(hub, stream, authorize=authorize, limits=limits)
    await asyncio.sleep(0.1)
    grow(stream)
    await task
    assert client.seen == []
    assert asked == 2


async def test_who_only_had_to_ask_goes_on_with_the_others(
    hub: Hub, log: MemoryLog, grow: Callable[..., None]
) -> None:
    stream, asked = log.new(), 0

    async def authorize() -> None:
        nonlocal asked
        asked += 1
        await turns(asked)  # others get their answer sooner, and entries come meanwhile

    crowd = [Client(Selecting()) for _ in range(5)]
    limits = StreamLimits(authorize_every=0.3)
    tasks = [one.follow(hub, stream, authorize=authorize, limits=limits) for one in crowd]
    await asyncio.sleep(0.02)
    await all_wait(hub, stream, 5)
    await asyncio.sleep(0.3)
    reads, before = hub.reads_total, asked
    grow(stream, 10)
    await turns(5)
    grow(stream, 10)
    await until(lambda: all(one.seen == list(range(1, 21)) for one in crowd))
    assert asked - before == 5
    assert all(one.pushed == 20 and one.rounds <= 3 for one in crowd)
    assert hub.reads_total - reads <= 6
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_only_had_to_ask_does_not_wait_for_the_others_next_round(
    hub: Hub, log: MemoryLog, grow: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "REST_PER_WRITE", 3_600)
    monkeypatch.setattr(cohort, "LONGEST_REST", 3_600)
    stream, selection = log.new(), Selecting()
    others, asking = [Client(selection) for _ in range(4)], Client(selection)
    tasks = [one.follow(hub, stream) for one in others]
    tasks.append(asking.follow(hub, stream, limits=StreamLimits(authorize_every=0.3)))
    await asyncio.sleep(0.02)
    await all_wait(hub, stream, 5)
    await asyncio.sleep(0.3)
    grow(stream)
    await until(lambda: asking.seen == [1])
    assert asking.pushed == 1
    assert all(one.seen == [1] for one in others)
    grow(stream)
    await turns(50)
    assert all(one.seen == [1] for one in (*others, asking))  # the rest goes on
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_filtered_member_is_told_its_position(
    hub: Hub, log: MemoryLog, grow: Callable[..., None]
) -> None:
    stream, client = log.new(), Client(Selecting())
    limits = StreamLimits(checkpoint_after=0.2)
    task = client.follow(hub, stream, types=["other"], limits=limits)
    await asyncio.sleep(0.02)
    await all_wait(hub, stream, 1)
    grow(stream, 3)
    await until(lambda: len(client.others) == 2)
    assert client.others[1] == Checkpoint(Cursor(stream, 1, 3).encode())
    task.cancel()
    await asyncio.wait([task])


async def test_a_log_that_was_restored_sends_its_members_away(
    hub: Hub, log: MemoryLog, grow: Callable[..., None]
) -> None:
    stream, client = log.new(entries=4), Client(Selecting())
    task = client.follow(hub, stream)
    await asyncio.sleep(0.02)
    await all_wait(hub, stream, 1)
    log.restore(stream, seq=2)
    hub.wake([events_key(stream)])
    await until(lambda: len(client.others) == 2)
    assert client.others[1].reason == "EPOCH_CHANGED"
    await all_wait(hub, stream, 1)
    grow(stream)
    await until(lambda: client.seen == [3])
    hub.close()
    await task
    assert client.others[-1].reason == "GOING_AWAY"


async def test_what_is_the_same_for_all_is_looked_at_once_a_second(
    hub: Hub, log: MemoryLog
) -> None:
    key = events_key(log.new())
    looked = 0

    async def look() -> None:
        nonlocal looked
        looked += 1
        await asyncio.sleep(0)
        if looked == 1:
            raise NotFoundError("Workspace")

    async with hub.watch(key):
        errors = await asyncio.gather(
            *(hub.lately(key, look) for _ in range(5)), return_exceptions=True
        )
        assert [type(error) for error in errors] == [NotFoundError] * 5
        assert looked == 1  # all who waited know; nobody else does
        first = await asyncio.gather(*(hub.lately(key, look) for _ in range(5)))
        await asyncio.sleep(0.01)
        assert {*first, await hub.lately(key, look)} == {first[0]}
        assert looked == 2
