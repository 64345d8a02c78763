"""The one place of a process where streams wait for news of their logs.

Nothing passes through the hub but the fact that something happened: what happened is read from the
log. So there is no queue per subscriber, a wake-up may be lost or repeated, and a subscriber may be
as slow as it likes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from subscriptions.backends.backoff import Backoff
from subscriptions.cohort import Cohort
from subscriptions.pages import PAGE_ENTRIES, Page, PageCache, make_page
from subscriptions.ports import Head, LogReader, is_log_key
from subscriptions.watcher import HubClosedError, Watcher

logger = logging.getLogger("dragoman.hub")

T = TypeVar("T")

TICK: Final = 1.0
LONGEST_TICK_AFTER_ERRORS: Final = 15.0
READ_TIMEOUT: Final = 15.0
READS_AT_ONCE: Final = 4
LATELY: Final = 1.0


class LogUnavailableError(Exception):
    """The log could not be read now; trying again later may work."""


class _Topic:
    """What the hub knows of one watched key."""

    __slots__ = ("cohort", "head", "looked_at", "looking", "moment", "tail", "to_wake", "watchers")

    def __init__(self, moment: int) -> None:
        self.watchers: set[Watcher] = set()
        self.to_wake: set[Watcher] = set()  # those whom no cohort serves
        self.cohort: Cohort | None = None
        self.moment = moment
        self.head: Head | None = None
        self.tail: Page | None = None
        self.looked_at = float("-inf")
        self.looking: tuple[float, asyncio.Future[object]] | None = None

    def looked(self, done: asyncio.Future[object]) -> None:
        """What was looked at for all is known."""
        if self.looking is not None and not done.cancelled() and done.exception() is None:
            self.looked_at = self.looking[0]
        self.looking = None


class _Watching:
    """The block of `Hub.watch`. A class: thousands stand in such blocks."""

    __slots__ = ("_hub", "_watcher")

    def __init__(self, hub: Hub, watcher: Watcher) -> None:
        self._hub = hub
        self._watcher = watcher

    async def __aenter__(self) -> Watcher:
        self._hub.register(self._watcher)
        return self._watcher

    async def __aexit__(self, *_: object) -> None:
        self._hub.forget(self._watcher)


class Hub:
    """Wakes watchers, asks for missed news once a second for all together, shares pages.

    Args:
        log: the database behind it.
        tick: seconds between two looks at all watched logs; one statement, none if nobody watches.
        cache: where pages are kept.

    Attributes:
        wakeups_lost_total: how often the tick found news of a log that no wake-up had told of.
        ticks_total: how many statements the tick made.
        reads_total: how many pages and heads were read from the database.
    """

    def __init__(
        self, log: LogReader, *, tick: float = TICK, cache: PageCache | None = None
    ) -> None:
        self._log = log
        self._tick = tick
        self._cache = cache if cache is not None else PageCache()
        self._topics: dict[str, _Topic] = {}
        self._moments = itertools.count(1)
        self._flights: dict[tuple[str, int, int], asyncio.Task[Any]] = {}
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._ticker: asyncio.Task[None] | None = None
        self._nobody: asyncio.Event | None = None
        self.is_closing = False
        self.wakeups_lost_total = 0
        self.ticks_total = 0
        self.reads_total = 0

    @property
    def watchers(self) -> int:
        """How many watchers there are now."""
        return len({watcher for topic in self._topics.values() for watcher in topic.watchers})

    def watch(self, *keys: str) -> _Watching:
        """Register a watcher of these keys for the length of the block.

        What happens from here on wakes it, so a log that is read after this has no seam.
        """
        return _Watching(self, Watcher(self, frozenset(keys)))

    def register(self, watcher: Watcher) -> None:
        """Begin to wake a watcher; for `watch`."""
        for key in watcher.keys:
            topic = self._topics.get(key)
            if topic is None:
                topic = self._topics[key] = _Topic(next(self._moments))
            topic.watchers.add(watcher)
            topic.to_wake.add(watcher)
        if self.is_closing:
            watcher.wake(())
        self._keep_ticking()

    def forget(self, watcher: Watcher) -> None:
        """The end of `register`."""
        for key in watcher.keys:
            topic = self._topics[key]
            topic.watchers.discard(watcher)
            topic.to_wake.discard(watcher)
            if not topic.watchers:
                del self._topics[key]
        if self._nobody is not None and not self._topics:
            self._nobody.set()

    def wake(self, keys: Iterable[str]) -> None:
        """Something happened under these keys. Never blocks; keys nobody watches cost nothing."""
        for key in keys:
            topic = self._topics.get(key)
            if topic is not None:
                topic.moment = next(self._moments)
                if topic.cohort is not None:
                    topic.cohort.wake()
                for watcher in topic.to_wake:
                    watcher.wake((key,))

    def spare(self, key: str, watcher: Watcher) -> None:
        """Do not wake a watcher for this key: a cohort serves it."""
        self._topics[key].to_wake.discard(watcher)

    def wake_again(self, key: str, watcher: Watcher) -> None:
        """The end of `spare`."""
        self._topics[key].to_wake.add(watcher)

    def cohort(self, key: str) -> Cohort:
        """The watchers of a log who wait for its next entry together; somebody watches it."""
        topic = self._topics[key]
        if topic.cohort is None:
            topic.cohort = Cohort(
                lambda after: self.page(key, after=after),
                lambda page: self.is_present(key, page),
            )
        return topic.cohort

    def close(self) -> None:
        """Tell every watcher that this process is going down; see `aclose`."""
        self.is_closing = True
        for topic in self._topics.values():
            for watcher in topic.watchers:
                watcher.wake(())

    async def unwatched(self) -> None:
        """Close, and wait until the last watcher has gone: all streams have said why they end."""
        self._nobody = asyncio.Event()
        self.close()
        if self._topics:
            await self._nobody.wait()

    async def aclose(self) -> None:
        """Close, and end the hub's own tasks."""
        self.close()
        tasks = [*self._flights.values(), *([self._ticker] if self._ticker else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._ticker = None

    async def page(self, key: str, *, after: int) -> Page | None:
        """Entries after a position: a true piece of the log, though newer entries may exist.

        An empty page is never old. None if there is no such log.

        Raises:
            LogUnavailableError: the database did not answer properly.
        """
        page = self._cache.find(key, after=after)
        if page is not None:
            return page
        topic = self._topics.get(key)
        if topic and topic.tail and topic.tail.after == after and self.is_present(key, topic.tail):
            return topic.tail
        return await self.fresh_page(key, after=after)

    async def fresh_page(self, key: str, *, after: int) -> Page | None:
        """Like `page`, but from the database, shared only with those who ask at this moment."""
        moment = self._moment(key)
        return await self._shared(
            (key, after, moment), lambda: self._read_page(key, after=after, moment=moment)
        )

    async def head(self, key: str) -> Head | None:
        """Where the log stands now; None if there is no such log.

        Raises:
            LogUnavailableError: the database did not answer properly.
        """
        return await self._shared((key, -1, self._moment(key)), lambda: self._read_head(key))

    async def lately(self, key: str, look: Callable[[], Awaitable[object]]) -> float:
        """Have something looked at that is the same for all who watch this log.

        Args:
            key: the log.
            look: raises where something is wrong; all who wait for it get to know.

        Returns:
            When it was looked at, by the loop's clock: at most `LATELY` seconds ago.
        """
        now = asyncio.get_running_loop().time()
        topic = self._topics.get(key)
        if topic is None:
            await look()
            return now
        if now - topic.looked_at < LATELY:
            return topic.looked_at
        if topic.looking is None:
            looking = asyncio.ensure_future(look())
            topic.looking = (now, looking)
            looking.add_done_callback(topic.looked)
        began, looked = topic.looking
        await asyncio.shield(looked)
        return began

    def is_present(self, key: str, page: Page) -> bool:
        """Whether no wake-up came since the page was read: what it shows is all there is to know.

        If it is not all there is, the wake-up is on its way, or the tick will notice.
        """
        topic = self._topics.get(key)
        return topic is not None and topic.moment == page.moment

    def _moment(self, key: str) -> int:
        topic = self._topics.get(key)
        return topic.moment if topic is not None else next(self._moments)

    async def _shared(self, flight: tuple[str, int, int], read: Callable[[], Awaitable[T]]) -> T:
        # Whoever joins a read joins one that began at the same moment of the log: had there been a
        # wake-up in between, the read might be too old for the one who was woken by it.
        task = self._flights.get(flight)
        if task is None:
            task = asyncio.create_task(self._bounded(read))
            self._flights[flight] = task
            task.add_done_callback(lambda done: self._landed(flight, done))
        try:
            result: T = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self.is_closing:
                raise HubClosedError from None
            raise
        return result

    def _landed(self, flight: tuple[str, int, int], task: asyncio.Task[Any]) -> None:
        del self._flights[flight]
        if not task.cancelled():
            task.exception()  # those who waited got it; if all have left, it is of no interest

    async def _bounded(self, read: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(READ_TIMEOUT), self._reading:
                self.reads_total += 1
                return await read()
        except Exception as error:
            # Said once here, not by each of those who wait for this read.
            logger.warning("a log could not be read", exc_info=True)
            raise LogUnavailableError("the log cannot be read now") from error

    async def _read_page(self, key: str, *, after: int, moment: int) -> Page | None:
        reading = await self._log.read(key, after=after, limit=PAGE_ENTRIES)
        if reading is None:
            return None
        page = make_page(key, reading, after=after, moment=moment)
        if page.items:
            self._cache.keep(key, page)
        elif topic := self._topics.get(key):
            # An empty page stays true only until the next wake-up, so it is not in the cache.
            topic.tail = page
        return page

    async def _read_head(self, key: str) -> Head | None:
        return (await self._log.heads((key,))).get(key)

    def _keep_ticking(self) -> None:
        if self._ticker is None and not self.is_closing and any(map(is_log_key, self._topics)):
            self._ticker = asyncio.create_task(self._tick_while_watched(), name="hub tick")

    async def _tick_while_watched(self) -> None:
        backoff = Backoff(first=2 * self._tick, longest=LONGEST_TICK_AFTER_ERRORS)
        wait = self._tick
        while True:
            await asyncio.sleep(wait)
            keys = [key for key in self._topics if is_log_key(key)]
            if not keys:
                self._ticker = None
                return
            self.ticks_total += 1
            try:
                async with asyncio.timeout(READ_TIMEOUT):
                    heads = await self._log.heads(keys)
            except Exception:
                logger.exception("the heads of %d watched logs could not be read", len(keys))
                wait = max(self._tick, backoff.next_wait())
            else:
                wait = self._tick
                backoff.reset()
                self._wake_those_behind(keys, heads)

    def _wake_those_behind(self, keys: Iterable[str], heads: Mapping[str, Head]) -> None:
        for key in keys:
            topic = self._topics.get(key)
            if topic is None:
                continue
            head = heads.get(key)
            known, topic.head = topic.head, head
            behind = [
                watcher
                for watcher in topic.to_wake
                if watcher.is_waiting and watcher.is_behind(key, head, known=known)
            ]
            followers = topic.cohort if topic.cohort and topic.cohort.is_behind(head) else None
            if behind or followers:
                reading = followers or any(watcher.is_reading(key) for watcher in behind)
                if head is not None and reading:
                    self.wakeups_lost_total += 1
                topic.moment = next(self._moments)
                if followers:
                    followers.wake()
                for watcher in behind:
                    watcher.wake((key,))
