"""Streams of log entries: complete, in order, resumable, and honest about what they cannot do.

A stream registers with the hub, reads pages from its cursor, waits, and reads again. Nothing is
delivered from memory, so there is no seam between replay and live, and nothing to de-duplicate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from subscriptions.backends.backoff import Backoff
from subscriptions.cursor import (
    EARLIEST,
    Cursor,
    encode_cursor,
    latest_position,
    parse_position,
)
from subscriptions.delivery import Batch, Delivery, current_delivery
from subscriptions.following import Follower
from subscriptions.hub import Hub, LogUnavailableError
from subscriptions.pages import EventItem, Page
from subscriptions.ports import Head, LogEntry, events_key, principal_key, run_key, stream_of
from subscriptions.stream_items import (
    Checkpoint,
    CloseReason,
    ResyncReason,
    ResyncRequired,
    StreamClosed,
    StreamItem,
)
from subscriptions.watcher import HubClosedError, Watcher

T = TypeVar("T")

Authorize = Callable[[], Awaitable[float | None]]
Predicate = Callable[[LogEntry], bool]
Root = Callable[[EventItem], Any]

REFUSALS: Final[dict[str, CloseReason]] = {
    "UNAUTHENTICATED": "UNAUTHENTICATED",
    "FORBIDDEN": "FORBIDDEN",
    "NOT_FOUND": "NOT_FOUND",
}


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Times in seconds.

    Args:
        checkpoint_after: a filtered stream that skipped entries tells its position this often.
        checkpoint_skipped: … or after this many skipped entries.
        authorize_every: least time between two questions for permission while entries flow.
        authorize_idle: … while none do, because a permission may also end by the clock.
        unavailable_after: a log that cannot be read for this long ends the stream (resumable).
    """

    checkpoint_after: float = 15.0
    checkpoint_skipped: int = 1_000
    authorize_every: float = 1.0
    authorize_idle: float = 60.0
    unavailable_after: float = 30.0


class _Closed(Exception):  # noqa: N818 - a signal inside this module
    def __init__(self, reason: CloseReason) -> None:
        super().__init__(reason)
        self.reason: CloseReason = reason


def event_stream(
    hub: Hub,
    *,
    stream_id: str,
    after: str | None,
    authorize: Authorize,
    types: Collection[str] | None = None,
    where: Predicate | None = None,
    principal: str | None = None,
    limits: StreamLimits | None = None,
    root: Root | None = None,
) -> AsyncGenerator[StreamItem, None]:
    """The events of a workspace (or of `"site"`) after a position, for ever.

    Args:
        hub: this process' hub.
        stream_id: workspace id or `"site"`.
        after: a cursor, `"EARLIEST"` for all there is, None for what happens from now on. A stream
            from now on begins with a `Checkpoint`, so that it can be resumed before any event.
        authorize: asked before anything is delivered; raises an error whose `code` is
            `UNAUTHENTICATED`, `FORBIDDEN` or `NOT_FOUND` to end the stream with that reason. It
            returns when, by the loop's clock, it looked, if that was before it was asked.
        types: only events of these types.
        where: only events for which this is true; it must not change anything.
        principal: id of the principal whose changes make `authorize` be asked again at once.
        limits: times and counts.
        root: what the caller makes of an entry before it hands it on, a pure function. Where it is
            given, and the transport has an outlet (see `subscriptions.delivery`), entries may
            reach the client past this generator while it waits.

    Raises:
        InvalidCursor: `after` is not a position (when the first item is asked for).
    """
    stream = Stream(
        hub,
        key=events_key(stream_id),
        keep=_predicate(types, where),
        authorize=authorize,
        principal=principal,
        limits=limits or StreamLimits(),
        root=root,
    )
    return stream.items(after)


def run_output_stream(
    hub: Hub,
    *,
    run_id: str,
    after: str | None,
    authorize: Authorize,
    where: Predicate | None = None,
    principal: str | None = None,
    limits: StreamLimits | None = None,
    root: Root | None = None,
) -> AsyncGenerator[StreamItem, None]:
    """The output lines of a run after a position, until `StreamClosed` says `ENDED`.

    Arguments and errors as for `event_stream`.
    """
    stream = Stream(
        hub,
        key=run_key(run_id),
        keep=where,
        authorize=authorize,
        principal=principal,
        limits=limits or StreamLimits(),
        root=root,
    )
    return stream.items(after)


def _predicate(types: Collection[str] | None, where: Predicate | None) -> Predicate | None:
    if types is None:
        return where
    wanted = frozenset(types)
    if where is None:
        return lambda entry: entry.type in wanted
    return lambda entry: entry.type in wanted and where(entry)


class Stream:
    """One subscriber's walk along one log."""

    def __init__(
        self,
        hub: Hub,
        *,
        key: str,
        keep: Predicate | None,
        authorize: Authorize,
        principal: str | None,
        limits: StreamLimits,
        root: Root | None,
    ) -> None:
        self._hub = hub
        self.key = key
        self._principal = principal_key(principal) if principal is not None else None
        self.keep = keep
        self._authorize = authorize
        self.limits = limits
        self.root = root
        self.delivery: Delivery | None = None
        self.epoch = -1  # no position yet
        self.seq = 0
        self.skipped = 0
        self.told_at = self._asked_at = float("-inf")

    async def items(self, after: str | None) -> AsyncGenerator[StreamItem, None]:
        """Everything the subscriber gets, last of all why it ended."""
        delivery = self.delivery = current_delivery.get()
        asked = latest_position(after, delivery.last_event_id if delivery else None)
        start = parse_position(asked)
        keys = [self.key, *([self._principal] if self._principal else [])]
        reason: CloseReason
        try:
            async with self._hub.watch(*keys) as watcher, aclosing(self._walk(watcher, start)) as w:
                async for item in w:
                    self.told_at = self._now()
                    if delivery is not None:
                        delivery.cursor = item.cursor
                    yield item
        except _Closed as end:
            reason = end.reason
        except HubClosedError:
            reason = "GOING_AWAY"
        else:
            return
        cursor = self._cursor() if self.epoch >= 0 else asked
        if delivery is not None:
            delivery.cursor, delivery.closed = cursor, reason
        yield StreamClosed(reason, cursor)

    async def _walk(
        self, watcher: Watcher, start: Cursor | Literal["EARLIEST"] | None
    ) -> AsyncGenerator[EventItem | Checkpoint | ResyncRequired, None]:
        await self._ask(watcher)
        first = await self._begin(start)
        if first is not None:
            yield first
        while True:
            watcher.take(self.key)  # what it told of is in the page that is read from here on
            page = await self._next_page()
            if not page.follows(epoch=self.epoch):
                await self._ask_if_due(watcher)
                yield self._resync(_reason(page, epoch=self.epoch), page.head)
                # A log that cannot be followed even from its head must not make this spin.
                watcher.stands_at(self.key, epoch=self.epoch, seq=self.seq)
                if self._principal in await watcher.wait(self.limits.authorize_every):
                    await self._ask(watcher)
                continue
            for item in page.items:
                told = await self._pass(watcher, item)
                if told is not None:
                    yield told
            await asyncio.sleep(0)  # what was pushed has not let others have their turn
            if page.end < page.head.seq or not self._hub.is_present(self.key, page):
                continue
            if page.head.ended:
                raise _Closed("ENDED")
            async with aclosing(self._rest(watcher)) as rest:
                async for checkpoint in rest:
                    yield checkpoint

    async def _pass(self, watcher: Watcher, item: EventItem) -> EventItem | Checkpoint | None:
        """Go one entry further; what the subscriber gets for it."""
        if self.keep is None or self.keep(item.event):
            # Before the position moves: a stream that is closed here has not delivered this entry.
            await self._ask_if_due(watcher)
            pushed = await self._push(item)
            self.seq, self.skipped = item.event.seq, 0
            return None if pushed else item
        self.seq = item.event.seq
        self.skipped += 1
        if self.skipped < self.limits.checkpoint_skipped:
            return None
        return await self._checkpoint(watcher)

    async def _push(self, item: EventItem) -> bool:
        """Send an entry past the results in between, if the transport has a way for it."""
        delivery = self.delivery
        if delivery is None or delivery.outlet is None or self.root is None:
            return False
        payload = await delivery.outlet.selection.payload(self.root(item))
        if payload is None or not delivery.outlet.push(Batch([payload])):
            return False
        self.told_at, delivery.cursor = self._now(), item.cursor
        return True

    async def _begin(
        self, start: Cursor | Literal["EARLIEST"] | None
    ) -> Checkpoint | ResyncRequired | None:
        """Take the first position; what the subscriber has to know about it."""
        if isinstance(start, Cursor) and start.stream == stream_of(self.key):
            self.epoch, self.seq = start.epoch, start.seq
            return None
        head = await self._retried(lambda: self._hub.head(self.key))
        if isinstance(start, Cursor):
            return self._resync("WRONG_STREAM", head)
        self.epoch, self.seq = head.epoch, head.floor if start == EARLIEST else head.seq
        return Checkpoint(self._cursor()) if start is None else None

    async def _next_page(self) -> Page:
        """The page after the position; one that does not follow it is not from the cache."""
        page = await self._retried(lambda: self._hub.page(self.key, after=self.seq))
        if page.follows(epoch=self.epoch):
            return page
        return await self._retried(lambda: self._hub.fresh_page(self.key, after=self.seq))

    async def _rest(self, watcher: Watcher) -> AsyncGenerator[Checkpoint, None]:
        """Wait for news of the log; meanwhile keep the client's cursor and permission current."""
        while True:
            woken = await self._wait(watcher)
            if self._principal in woken or self._now() >= self._ask_at:
                await self._ask(watcher)
            if self.skipped and self._now() >= self.told_at + self.limits.checkpoint_after:
                yield await self._checkpoint(watcher)
            if self.key in woken:
                return

    async def _wait(self, watcher: Watcher) -> frozenset[str]:
        """Wait for news, or for what is due by the clock.

        While it waits it is handed entries, if its transport has a way for them; where that only
        takes a question for permission, it goes on afterwards with those who wait like it.
        """
        watcher.stands_at(self.key, epoch=self.epoch, seq=self.seq)
        outlet = self.delivery.outlet if self.delivery is not None else None
        if outlet is None or self.root is None:
            return await watcher.wait(self._seconds_left())
        follower = Follower(self, watcher, outlet)
        with watcher.follow(self.key, follower, epoch=self.epoch) as rejoin:
            while True:
                woken = await watcher.wait(self._seconds_left())
                if not follower.is_to_ask:
                    return woken
                if woken:
                    return woken | {self.key}  # what came since it was dismissed
                follower.is_to_ask = False
                await self._ask(watcher)
                if self.is_asking_due(watcher, self._now()) or not rejoin():
                    return frozenset((self.key,))

    @property
    def _ask_at(self) -> float:
        return self._asked_at + self.limits.authorize_idle

    def _seconds_left(self) -> float:
        """How long it may wait without asking or telling its client anything."""
        due = self._ask_at
        if self.skipped:
            due = min(due, self.told_at + self.limits.checkpoint_after)
        return max(0.0, due - self._now())

    async def _checkpoint(self, watcher: Watcher) -> Checkpoint:
        await self._ask_if_due(watcher)
        self.skipped = 0
        return Checkpoint(self._cursor())

    def _resync(self, reason: ResyncReason, head: Head) -> ResyncRequired:
        """Go to the head; what the subscriber has to know about it."""
        self.epoch, self.seq, self.skipped = head.epoch, head.seq, 0
        floor = encode_cursor(stream_of(self.key), epoch=head.epoch, seq=head.floor)
        return ResyncRequired(reason, floor=floor, head=self._cursor())

    async def _ask_if_due(self, watcher: Watcher) -> None:
        """What comes before every delivery."""
        if self._hub.is_closing:
            raise HubClosedError
        if self.is_asking_due(watcher, self._now()):
            await self._ask(watcher)

    def is_asking_due(self, watcher: Watcher, now: float) -> bool:
        """Whether nothing may be delivered before permission has been asked for again."""
        news = self._principal is not None and watcher.has_news(self._principal)
        return news or now - self._asked_at >= self.limits.authorize_every

    async def _ask(self, watcher: Watcher) -> None:
        if self._principal is not None:
            watcher.take(self._principal)  # before the question: what changes meanwhile counts anew
        self._asked_at = self._now()
        try:
            await self._retried(self._permitted)
        except Exception as error:
            reason = REFUSALS.get(_code(error))
            if reason is None:
                raise
            raise _Closed(reason) from error

    async def _permitted(self) -> bool:
        looked_at = await self._authorize()
        if looked_at is not None:
            self._asked_at = min(self._asked_at, looked_at)
        return True

    async def _retried(self, attempt: Callable[[], Awaitable[T | None]]) -> T:
        """The answer of `attempt`, which is repeated while the database is not available."""
        backoff = Backoff(first=0.2, longest=2.0)
        give_up_at = self._now() + self.limits.unavailable_after
        while True:
            try:
                answer = await attempt()
            except Exception as error:
                if not isinstance(error, LogUnavailableError) and _code(error) != "UNAVAILABLE":
                    raise
                if self._now() >= give_up_at:
                    raise _Closed("UNAVAILABLE") from error
            else:
                if answer is None:
                    raise _Closed("NOT_FOUND")
                return answer
            await asyncio.sleep(backoff.next_wait())
            if self._hub.is_closing:
                raise HubClosedError

    def _cursor(self) -> str:
        return encode_cursor(stream_of(self.key), epoch=self.epoch, seq=self.seq)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _code(error: Exception) -> str:
    return str(getattr(error, "code", ""))


def _reason(page: Page, *, epoch: int) -> ResyncReason:
    if page.head.epoch != epoch:
        return "EPOCH_CHANGED"
    return "AHEAD" if page.after > page.head.seq else "TRIMMED"
