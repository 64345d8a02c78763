import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable
from uuid import uuid4

import pytest
from broadcaster import Broadcast

from subscriptions.backends import MemoryBackend, backend_from_url
from subscriptions.ports import events_key, principal_key, run_key
from subscriptions.wakeups import MAX_PENDING, WakeUps

REDIS_URL = "redis://127.0.0.1:6379/0"
POSTGRES_URL = "postgresql://root@127.0.0.1:5432/test"


class Ear:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []
        self._news = asyncio.Event()

    def __call__(self, keys: Iterable[str]) -> None:
        self.heard.append(tuple(keys))
        self._news.set()

    @property
    def keys(self) -> list[str]:
        return [key for keys in self.heard for key in keys]

    async def hears(self, count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(self.keys) < count:
                self._news.clear()
                await self._news.wait()
        return self.keys


@contextlib.asynccontextmanager
async def process(url: str, channel: str) -> AsyncIterator[tuple[WakeUps, Ear]]:
    """The wake-ups of one server process."""
    ear = Ear()
    async with (
        Broadcast(backend=backend_from_url(url)) as broadcast,
        WakeUps(broadcast, listeners=[ear], channel=channel) as wakeups,
    ):
        yield wakeups, ear


async def test_local_wake_ups_come_once_per_turn_of_the_loop_and_once_only() -> None:
    async with process("memory://", "c") as (wakeups, ear):
        for _ in range(50):
            wakeups.events(["a", "b"])
        wakeups.run_output("c")
        assert ear.heard == []
        await asyncio.sleep(0)
        assert ear.heard == [(events_key("a"), events_key("b"), run_key("c"))]
        await asyncio.sleep(0.05)  # time for its own message to come round
        assert len(ear.heard) == 1


async def test_a_principal_that_changed_is_known_here_before_anything_else_is_done() -> None:
    async with process("memory://", "c") as (wakeups, ear):
        wakeups.events(["a"])
        wakeups.principal("user:d")
        assert ear.heard == [(events_key("a"), principal_key("user:d"))]
        await asyncio.sleep(0.05)  # time for its own message to come round
        assert len(ear.heard) == 1


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(REDIS_URL, marks=pytest.mark.redis, id="redis"),
        pytest.param(POSTGRES_URL, marks=pytest.mark.postgres, id="postgres"),
    ],
)
async def test_other_processes_are_woken_through_the_network(url: str) -> None:
    channel = f"test-{uuid4().hex}"
    async with (
        process(url, channel) as (here, own),
        process(url, channel) as (there, other),
    ):
        here.events(["a"])
        here.principal("user:x")
        assert await other.hears(2) == [events_key("a"), principal_key("user:x")]
        there.run_output("r")
        assert (await own.hears(3))[2] == run_key("r")
        assert len(other.keys) == 3
        assert len(own.keys) == 3


async def test_who_is_alone_sends_nothing_and_hears_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ear, sent = Ear(), []

    async def publish(_channel: str, message: str) -> None:
        sent.append(message)

    async with Broadcast(backend=backend_from_url("memory://")) as broadcast:
        monkeypatch.setattr(broadcast, "publish", publish)
        for is_alone in (True, False):
            async with WakeUps(broadcast, listeners=[ear], is_alone=is_alone) as wakeups:
                wakeups.events([f"alone: {is_alone}"])
                await asyncio.sleep(0.01)
    assert ear.keys == [events_key("alone: True"), events_key("alone: False")]
    assert [message.partition(" ")[2] for message in sent] == [events_key("alone: False")]


async def test_what_is_no_wake_up_is_ignored() -> None:
    ear = Ear()
    async with (
        Broadcast(backend=backend_from_url("memory://")) as broadcast,
        WakeUps(broadcast, listeners=[ear], channel="c"),
    ):
        for junk in ("e:1", " ", "x y:z", "x ", "abcd1234 e:" + "9" * 500, "☃"):
            await broadcast.publish("c", junk)
        await broadcast.publish("c", "abcd1234 e:7")
        assert await ear.hears(1) == ["e:7"]
        assert ear.heard == [("e:7",)]


async def test_notify_works_from_another_thread_and_before_and_after_its_life() -> None:
    ear = Ear()
    async with Broadcast(backend=backend_from_url("memory://")) as broadcast:
        wakeups = WakeUps(broadcast, listeners=[ear], channel="c")
        wakeups.events(["too early"])
        await wakeups.start()
        thread = threading.Thread(target=wakeups.events, args=(["from a thread"],))
        thread.start()
        assert await ear.hears(1) == [events_key("from a thread")]
        thread.join()
        await wakeups.stop()
        wakeups.events(["still here"])
        assert await ear.hears(2) == [events_key("from a thread"), events_key("still here")]


async def test_a_listener_that_fails_hurts_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_keys: Iterable[str]) -> None:
        raise RuntimeError("not today")

    ear = Ear()
    async with (
        Broadcast(backend=backend_from_url("memory://")) as broadcast,
        WakeUps(broadcast, listeners=[broken], channel="c") as wakeups,
    ):
        wakeups.add_listener(ear)
        wakeups.events(["a"])
        assert await ear.hears(1) == [events_key("a")]
    assert "a listener of wake-ups failed" in caplog.text


async def test_a_network_that_does_not_answer_bounds_what_waits() -> None:
    class Stuck(MemoryBackend):
        async def publish(self, *_: object) -> None:
            await asyncio.Event().wait()

    async with (
        Broadcast(backend=Stuck()) as broadcast,
        WakeUps(broadcast, channel="c") as wakeups,
    ):
        for n in range(4):
            wakeups.events(str(n * MAX_PENDING + k) for k in range(MAX_PENDING))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert wakeups.dropped >= MAX_PENDING


async def test_a_channel_that_is_refused_is_said_at_the_start() -> None:
    async with Broadcast(backend=backend_from_url("memory://")) as broadcast:
        with pytest.raises((ValueError, KeyError)):
            await WakeUps(broadcast, channel="c" * 64).start()
