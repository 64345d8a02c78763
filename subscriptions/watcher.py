"""One who waits for news of logs, by itself or among those who are handed entries together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from subscriptions.cohort import Cohort, Member
from subscriptions.ports import Head

if TYPE_CHECKING:
    from subscriptions.hub import Hub


class HubClosedError(Exception):
    """This process is going down: streams end here and go on elsewhere."""


class Watcher:
    """One who waits for news about some keys; made by `Hub.watch`.

    Wake-ups coalesce: however many come while nobody waits, the next `wait` returns once.
    """

    __slots__ = ("_deadline", "_hub", "_is_woken", "_sleeper", "_standing", "_woken", "keys")

    def __init__(self, hub: Hub, keys: frozenset[str]) -> None:
        self.keys = keys
        self._hub = hub
        self._woken: set[str] = set()
        self._is_woken = False
        self._sleeper: asyncio.Future[None] | None = None
        self._standing: dict[str, tuple[int, int]] = {}
        self._deadline: asyncio.Timeout | None = None

    def stands_at(self, key: str, *, epoch: int, seq: int) -> None:
        """Say how far the log `key` was read, for the tick to find out what was missed."""
        self._standing[key] = (epoch, seq)

    async def wait(self, timeout: float) -> frozenset[str]:  # noqa: ASYNC109 - answers, not raises
        """The keys with news since the last call; empty after `timeout` seconds without any.

        Raises:
            HubClosedError: the process is going down.
        """
        if not self._is_woken and timeout > 0:
            self._sleeper = asyncio.get_running_loop().create_future()
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout) as self._deadline:
                        await self._sleeper
            finally:
                self._sleeper = self._deadline = None
        if self._hub.is_closing:
            raise HubClosedError
        woken, self._woken = frozenset(self._woken), set()
        self._is_woken = False
        return woken

    @property
    def is_waiting(self) -> bool:
        """Whether a `wait` is going on."""
        return self._sleeper is not None

    def hurry(self, when: float) -> None:
        """Let a `wait` that is going on end by this time of the loop's clock."""
        deadline = self._deadline.when() if self._deadline else None
        if self._deadline is not None and deadline is not None and when < deadline:
            self._deadline.reschedule(when)

    def follow(self, key: str, member: Member, *, epoch: int) -> Following:
        """Be handed the entries of `key` while waiting, rather than be woken for them.

        For the length of the block, which gets what takes a dismissed member in again, behind the
        others if need be; that says False where it cannot go with them any more.
        """
        return Following(self._hub, self, key, member, epoch)

    def has_news(self, key: str) -> bool:
        """Whether there is news of this key."""
        return key in self._woken

    def take(self, key: str) -> bool:
        """Whether there is news of this key, which then is news no longer."""
        if key in self._woken:
            self._woken.discard(key)
            return True
        return False

    def wake(self, keys: Iterable[str]) -> None:
        """Let `wait` return; called by the hub."""
        self._woken.update(self.keys.intersection(keys))
        self._is_woken = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    def is_reading(self, key: str) -> bool:
        """Whether it said how far it read this log."""
        return key in self._standing

    def is_behind(self, key: str, head: Head | None, *, known: Head | None) -> bool:
        """Whether `head` shows what this watcher has not read (or, not reading, not heard of)."""
        standing = self._standing.get(key)
        if head is None or standing is None:
            return head is None or head != known
        return head.epoch != standing[0] or head.seq > standing[1] or head.ended

    @property
    def is_woken(self) -> bool:
        """Whether the next `wait` returns at once."""
        return self._is_woken


class Following:
    """The block of `Watcher.follow`. A class: thousands stand in such blocks."""

    __slots__ = ("_cohort", "_epoch", "_hub", "_key", "_member", "_watcher")

    def __init__(self, hub: Hub, watcher: Watcher, key: str, member: Member, epoch: int) -> None:
        self._hub = hub
        self._watcher = watcher
        self._key = key
        self._member = member
        self._epoch = epoch
        self._cohort: Cohort | None = None

    def __enter__(self) -> Callable[[], bool]:
        cohort = self._hub.cohort(self._key)
        if not self._watcher.is_woken and cohort.join(self._member, epoch=self._epoch):
            self._cohort = cohort
            self._hub.spare(self._key, self._watcher)
        return self._rejoin

    def _rejoin(self) -> bool:
        cohort = self._cohort
        return cohort is not None and cohort.rejoin(self._member, epoch=self._epoch)

    def __exit__(self, *_: object) -> None:
        if self._cohort is not None:
            self._hub.wake_again(self._key, self._watcher)
            self._cohort.leave(self._member)
