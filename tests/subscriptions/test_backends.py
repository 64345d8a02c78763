import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest
from broadcaster import Broadcast, BroadcastBackend

from subscriptions import backends
from subscriptions.backends import MemoryBackend, MissingExtraError, backend_from_url
from subscriptions.backends.backoff import Backoff
from subscriptions.backends.base import QUEUE_SIZE, SupervisedBackend

REDIS_URL = "redis://127.0.0.1:6379/0"
POSTGRES_URL = "postgresql://root@127.0.0.1:5432/test"


REDIS = pytest.param(REDIS_URL, marks=pytest.mark.redis, id="redis")
POSTGRES = pytest.param(POSTGRES_URL, marks=pytest.mark.postgres, id="postgres")
NETWORK = pytest.mark.parametrize("url", [REDIS, POSTGRES])
EVERY = pytest.mark.parametrize("url", [pytest.param("memory://", id="memory"), REDIS, POSTGRES])


@contextlib.asynccontextmanager
async def broadcasting(backend: BroadcastBackend) -> AsyncIterator[Broadcast]:
    async with Broadcast(backend=backend) as broadcast:
        yield broadcast


@contextlib.asynccontextmanager
async def listening(url: str, channel: str) -> AsyncIterator[tuple[SupervisedBackend, Broadcast]]:
    backend = backend_from_url(url)
    assert isinstance(backend, SupervisedBackend)
    async with broadcasting(backend) as broadcast, broadcast.subscribe(channel):
        assert await backend.wait_listening(timeout=5)
        yield backend, broadcast


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def received(broadcast: Broadcast, channel: str, count: int) -> list[str]:
    async with broadcast.subscribe(channel) as subscriber, asyncio.timeout(10):
        return [(await subscriber.get()).message for _ in range(count)]


@EVERY
async def test_the_first_subscriber_is_served(url: str) -> None:
    channel = f"test-{uuid4().hex}"
    backend = backend_from_url(url)
    async with broadcasting(backend) as broadcast, broadcast.subscribe(channel) as subscriber:
        await broadcast.publish(channel, "hello")
        async with asyncio.timeout(5):
            event = await subscriber.get()

    assert (event.channel, event.message) == (channel, "hello")


@EVERY
async def test_concurrent_publishes_all_arrive(url: str) -> None:
    channel = f"test-{uuid4().hex}"
    expected = {f"message {n}" for n in range(200)}
    async with (
        broadcasting(backend_from_url(url)) as broadcast,
        broadcast.subscribe(channel) as subscriber,
    ):
        await asyncio.gather(*(broadcast.publish(channel, text) for text in expected))
        async with asyncio.timeout(10):
            arrived = {(await subscriber.get()).message for _ in expected}

    assert arrived == expected


@NETWORK
async def test_messages_cross_from_one_process_to_another(url: str) -> None:
    channel = f"test-{uuid4().hex}"
    async with listening(url, channel) as (_, here), listening(url, channel) as (_, there):
        heard = asyncio.create_task(received(there, channel, 3))
        await asyncio.sleep(0)
        for text in ("one", "two", "three"):
            await here.publish(channel, text)
        assert await heard == ["one", "two", "three"]


async def kill_redis_client(purpose: str) -> None:
    """Kill this process' connections only: other tests use the same server."""
    from redis.asyncio import Redis

    async with Redis.from_url(REDIS_URL) as admin:
        for client in await admin.client_list():
            if client["name"] == f"dragoman-{purpose}-{os.getpid()}":
                await admin.execute_command("CLIENT", "KILL", "ID", client["id"])


async def kill_postgres_backend(purpose: str) -> None:
    import asyncpg

    admin = await asyncpg.connect(POSTGRES_URL)
    try:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
            f"dragoman wake-up {purpose} {os.getpid()}",
        )
    finally:
        await admin.close()


KILLED = pytest.mark.parametrize(
    ("url", "kill"),
    [
        pytest.param(*REDIS.values, kill_redis_client, marks=REDIS.marks, id="redis"),
        pytest.param(*POSTGRES.values, kill_postgres_backend, marks=POSTGRES.marks, id="postgres"),
    ],
)
Kill = Callable[[str], Awaitable[None]]


@KILLED
async def test_a_killed_listener_comes_back_by_itself(url: str, kill: Kill) -> None:
    channel = f"test-{uuid4().hex}"
    async with listening(url, channel) as (backend, broadcast):
        for kills in (1, 2):
            await kill("listener")
            await eventually(lambda kills=kills: backend.reconnects == kills)
            assert await backend.wait_listening(timeout=5)

            async with broadcast.subscribe(channel) as subscriber, asyncio.timeout(10):
                await broadcast.publish(channel, f"after {kills}")
                assert (await subscriber.get()).message == f"after {kills}"


@KILLED
async def test_a_killed_publisher_sends_again_what_it_could_not_send(url: str, kill: Kill) -> None:
    channel = f"test-{uuid4().hex}"
    async with (
        listening(url, channel) as (_, broadcast),
        broadcast.subscribe(channel) as subscriber,
        asyncio.timeout(10),
    ):
        await broadcast.publish(channel, "before")
        assert (await subscriber.get()).message == "before"
        await kill("publisher")
        await broadcast.publish(channel, "after")
        assert (await subscriber.get()).message == "after"


@pytest.fixture
def dead_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return int(reserved.getsockname()[1])


@pytest.mark.parametrize("scheme", ["redis://", "postgresql://root@"])
async def test_a_dead_server_neither_raises_nor_delays_the_publisher(
    scheme: str, dead_port: int
) -> None:
    backend = backend_from_url(f"{scheme}127.0.0.1:{dead_port}/0")
    assert isinstance(backend, SupervisedBackend)
    loop = asyncio.get_running_loop()
    async with broadcasting(backend) as broadcast, broadcast.subscribe("c"):
        began = loop.time()
        for n in range(QUEUE_SIZE + 500):
            await broadcast.publish("c", f"message {n}")
        assert loop.time() - began < 2
        assert not backend.is_listening
        assert backend.dropped >= 500


async def test_a_queue_that_nobody_empties_stays_bounded() -> None:
    backend = MemoryBackend()
    await backend.subscribe("c")
    for n in range(QUEUE_SIZE + 10):
        await backend.publish("c", str(n))

    assert backend.dropped == 10
    assert (await backend.next_published()).message == "10"


@EVERY
@pytest.mark.parametrize(
    ("channel", "message"),
    [("", "x"), ("c" * 64, "x"), ("é" * 32, "x"), ("c\0", "x")],
)
async def test_a_channel_outside_the_bounds_is_refused(
    url: str, channel: str, message: str
) -> None:
    with pytest.raises(ValueError, match="channel"):
        await backend_from_url(url).publish(channel, message)


@pytest.mark.parametrize("message", ["", "x" * 1_001, "x\0"])
async def test_a_message_outside_the_bounds_is_refused(message: str) -> None:
    backend = MemoryBackend()
    await backend.subscribe("c")
    with pytest.raises(ValueError, match="message"):
        await backend.publish("c", message)


@pytest.mark.parametrize("url", ["", "redis", "kafka://secret@host", "http://x", "://"])
def test_an_unknown_url_is_refused_without_repeating_its_secret(url: str) -> None:
    with pytest.raises(ValueError, match="use memory://") as caught:
        backend_from_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "extra"), [("redis://h", "redis"), ("postgresql+asyncpg://h/d", "postgres")]
)
def test_a_missing_driver_names_its_extra(
    url: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=rf"dragoman\[{extra}\]"):
        backend_from_url(url)


def test_memory_needs_no_driver() -> None:
    loaded = set(sys.modules)
    assert isinstance(backend_from_url("memory://"), MemoryBackend)
    assert not {"redis", "asyncpg"} & (set(sys.modules) - loaded)


def test_waits_grow_to_a_ceiling_and_never_vanish() -> None:
    backoff = Backoff(first=0.1, longest=2.0)
    waits = [backoff.next_wait() for _ in range(200)]

    assert waits[0] <= 0.1
    assert all(0.01 <= wait <= 2.0 for wait in waits)
    assert max(waits[10:]) > 0.5
    backoff.reset()
    assert backoff.next_wait() <= 0.1
