"""How many operations may run at once: for each caller, and for the process."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


class RateLimitedError(Exception):
    """No turn came up in time. `details["retry_after"]` is in seconds."""

    code = "RATE_LIMITED"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.details: dict[str, Any] = {"retry_after": retry_after}

    @property
    def retry_after(self) -> int:
        """Whole seconds after which another try makes sense."""
        return int(self.details["retry_after"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyLimits:
    """`running` and `waiting` are per caller, `total_…` for all of them; `wait_seconds` is a time.

    A caller beyond `waiting`, or anybody beyond `total_waiting`, is turned away at once.
    """

    running: int = 16
    waiting: int = 32
    wait_seconds: float = 5.0
    total_running: int = 256
    total_waiting: int = 1_024


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    key: Hashable
    turn: asyncio.Future[None]


class ConcurrencyLimiter:
    """Hands out turns, first come first served among those who may run. For one event loop.

    Nothing is kept about callers who neither run nor wait.
    """

    def __init__(self, limits: ConcurrencyLimits | None = None) -> None:
        self.limits = limits or ConcurrencyLimits()
        self._running: dict[Hashable, int] = {}
        self._waiting: Counter[Hashable] = Counter()
        self._total_running = 0
        self._queue: dict[_Waiter, None] = {}  # in order of arrival; removal anywhere is cheap

    @property
    def running(self) -> int:
        """Operations holding a turn."""
        return self._total_running

    @property
    def waiting(self) -> int:
        """Operations waiting for a turn."""
        return len(self._queue)

    @property
    def known_keys(self) -> int:
        """Callers about whom anything is kept."""
        return len(self._running.keys() | self._waiting.keys())

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Hold a turn of the caller `key` inside the `async with` block.

        Raises:
            RateLimitedError: when too many wait already, or `wait_seconds` have passed.
        """
        await self._acquire(key)
        try:
            yield
        finally:
            self.release(key)

    def may_start(self, key: Hashable) -> bool:
        """Whether there is a turn at once."""
        return (
            self._total_running < self.limits.total_running
            and self._running.get(key, 0) < self.limits.running
        )

    def start(self, key: Hashable) -> None:
        """Take a turn that `may_start` has just promised; then `release` has to be called."""
        self._running[key] = self._running.get(key, 0) + 1
        self._total_running += 1

    async def _acquire(self, key: Hashable) -> None:
        # Whoever waits is held back by the total or by a full key of its own, so that a newcomer
        # who passes both overtakes nobody who could run.
        if self.may_start(key):
            self.start(key)
            return
        limits = self.limits
        if self._waiting[key] >= limits.waiting or len(self._queue) >= limits.total_waiting:
            _drop_if_zero(self._waiting, key)
            raise self._refusal("Too many operations are waiting already.")
        waiter = _Waiter(key, asyncio.get_running_loop().create_future())
        self._queue[waiter] = None
        self._waiting[key] += 1
        try:
            async with asyncio.timeout(limits.wait_seconds):
                await waiter.turn
        except TimeoutError:
            self._give_up(waiter)
            raise self._refusal("No turn came up in time.") from None
        except BaseException:
            self._give_up(waiter)
            raise

    def _give_up(self, waiter: _Waiter) -> None:
        """Leave the queue; a turn given in the very moment of leaving goes to the next."""
        if waiter in self._queue:
            self._leave_queue(waiter)
        else:
            self.release(waiter.key)

    def release(self, key: Hashable) -> None:
        """Give a turn back."""
        left = self._running.pop(key) - 1
        if left:
            self._running[key] = left
        self._total_running -= 1
        if self._queue and self._total_running < self.limits.total_running:
            self._start_next()

    def _start_next(self) -> None:
        for waiter in self._queue:
            if self.may_start(waiter.key):
                self._leave_queue(waiter)
                self.start(waiter.key)
                if not waiter.turn.done():
                    waiter.turn.set_result(None)
                return

    def _leave_queue(self, waiter: _Waiter) -> None:
        del self._queue[waiter]
        self._waiting[waiter.key] -= 1
        _drop_if_zero(self._waiting, waiter.key)

    def _refusal(self, message: str) -> RateLimitedError:
        return RateLimitedError(message, retry_after=max(1, math.ceil(self.limits.wait_seconds)))


def _drop_if_zero(counter: Counter[Hashable], key: Hashable) -> None:
    if not counter.get(key):
        counter.pop(key, None)
