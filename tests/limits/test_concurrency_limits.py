import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from server.limits.concurrency import ConcurrencyLimiter, ConcurrencyLimits, RateLimitedError


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # the condition is another task's progress
            await asyncio.sleep(0)


class Crowd:
    """Operations that hold a turn until they are told to end."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self.limiter = limiter
        self.started: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def send(self, name: str, key: str) -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._operate(name, key))
        await self.settle()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def _operate(self, name: str, key: str) -> None:
        async with self.limiter.turn(key):
            self.started.append(name)
            await self.ends[name].wait()


def make(**limits: Any) -> tuple[ConcurrencyLimiter, Crowd]:
    limiter = ConcurrencyLimiter(ConcurrencyLimits(**limits))
    return limiter, Crowd(limiter)


def is_idle(limiter: ConcurrencyLimiter) -> bool:
    return (limiter.running, limiter.waiting, limiter.known_keys) == (0, 0, 0)


async def test_a_caller_runs_its_share_and_the_rest_wait_in_order() -> None:
    limiter, crowd = make(running=2)
    for name in "abcd":
        await crowd.send(name, "ann")
    assert crowd.started == ["a", "b"]
    await crowd.send("x", "bob")
    assert crowd.started == ["a", "b", "x"]
    await crowd.end("b")
    assert crowd.started == ["a", "b", "x", "c"]
    await crowd.send("e", "ann")
    await crowd.end("a")
    assert crowd.started[-1] == "d"
    for name in "cdex":
        await crowd.end(name)
    assert crowd.started == ["a", "b", "x", "c", "d", "e"]
    assert is_idle(limiter)


async def test_the_total_is_shared_first_come_first_served() -> None:
    limiter, crowd = make(running=2, total_running=2)
    for name, key in (("a", "ann"), ("b", "ann"), ("c", "ann"), ("x", "bob"), ("y", "eve")):
        await crowd.send(name, key)
    assert crowd.started == ["a", "b"]
    await crowd.end("a")
    assert crowd.started[-1] == "c"
    await crowd.end("b")
    await crowd.end("c")
    assert crowd.started == ["a", "b", "c", "x", "y"]
    await crowd.end("x")
    await crowd.end("y")
    assert is_idle(limiter)


async def test_who_cannot_run_does_not_hold_up_who_can() -> None:
    limiter, crowd = make(running=1, total_running=2)
    for name, key in (("a", "ann"), ("b", "bob"), ("c", "ann"), ("x", "eve")):
        await crowd.send(name, key)
    await crowd.end("b")
    assert crowd.started == ["a", "b", "x"]
    for name in "axc":
        await crowd.end(name)
    assert is_idle(limiter)


async def test_waiting_ends_with_a_hint_when_to_come_back() -> None:
    limiter, crowd = make(running=1, wait_seconds=0.02)
    await crowd.send("a", "ann")
    await crowd.send("b", "ann")
    with pytest.raises(RateLimitedError) as refusal:
        await crowd.tasks["b"]
    assert refusal.value.code == "RATE_LIMITED"
    assert refusal.value.details == {"retry_after": 1}
    assert (limiter.running, limiter.waiting) == (1, 0)
    await crowd.end("a")
    assert is_idle(limiter)


@pytest.mark.parametrize("limits", [{"waiting": 1}, {"total_waiting": 1}, {"waiting": 0}])
async def test_too_long_a_queue_is_refused_at_once(limits: dict[str, int]) -> None:
    limiter, crowd = make(running=1, **limits)
    for name in "abc":
        await crowd.send(name, "ann")
    await until(crowd.tasks["c"].done)
    assert isinstance(crowd.tasks["c"].exception(), RateLimitedError)
    crowd.tasks["b"].cancel()
    await asyncio.gather(crowd.tasks["b"], return_exceptions=True)
    await crowd.end("a")
    assert is_idle(limiter)


async def test_a_refused_stranger_leaves_no_trace() -> None:
    limiter, crowd = make(total_running=1, total_waiting=0)
    await crowd.send("a", "ann")
    for number in range(100):
        with pytest.raises(RateLimitedError):
            async with limiter.turn(f"stranger {number}"):
                pass
    assert limiter.known_keys == 1
    await crowd.end("a")
    assert is_idle(limiter)


async def test_a_turn_is_given_back_after_an_error() -> None:
    limiter, _ = make(running=1)
    with pytest.raises(ZeroDivisionError):
        async with limiter.turn("ann"):
            raise ZeroDivisionError
    assert is_idle(limiter)


async def test_a_waiter_who_leaves_makes_room() -> None:
    limiter, crowd = make(running=1, waiting=1)
    await crowd.send("a", "ann")
    await crowd.send("b", "ann")
    crowd.tasks["b"].cancel()
    await asyncio.gather(crowd.tasks["b"], return_exceptions=True)
    await crowd.send("c", "ann")
    await crowd.end("a")
    assert crowd.started == ["a", "c"]
    await crowd.end("c")
    assert is_idle(limiter)


async def test_a_turn_given_to_one_who_is_leaving_goes_to_the_next() -> None:
    limiter, crowd = make(running=1)
    for name in "abc":
        await crowd.send(name, "ann")
    # The turn of "a" passes to "b" and "b" is cancelled before it can take it up.
    crowd.ends["a"].set()
    await until(lambda: limiter.waiting == 1)
    crowd.tasks["b"].cancel()
    await until(lambda: "c" in crowd.started)
    assert crowd.started == ["a", "c"]
    await crowd.end("c")
    await asyncio.gather(*crowd.tasks.values(), return_exceptions=True)
    assert is_idle(limiter)


async def test_a_crowd_of_callers_never_passes_the_limits() -> None:
    limiter, _ = make(running=3, total_running=5, waiting=200, total_waiting=1_000)
    now: dict[int, int] = dict.fromkeys(range(7), 0)
    worst = {"key": 0, "total": 0}

    async def operate(number: int) -> None:
        key = number // 72
        async with limiter.turn(key):
            now[key] += 1
            worst["key"] = max(worst["key"], now[key])
            worst["total"] = max(worst["total"], sum(now.values()))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            now[key] -= 1

    operations: list[Awaitable[None]] = [operate(number) for number in range(500)]
    await asyncio.gather(*operations)
    assert worst == {"key": 3, "total": 5}
    assert is_idle(limiter)
