"""The streams of one log that wait at its head, and are handed new entries together.

Waking a task for each subscriber and each event is most of what delivery costs. So a stream that
waits joins the cohort of its log, and one task reads on for all: it has each entry's payload made
once for all who see the same, and pushes it to each. What needs more than that (a question for
permission, a client that does not read, a gap, an error) dismisses a member: its own task then
goes on from where it stands, with all that streams promise.

What a delivery costs is one write to one socket, however many entries go with it. So after a round
of many writes the next one waits a moment, in proportion: what happens meanwhile goes together.
The first entry after a quiet moment waits for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from subscriptions.delivery import Payload, Selection
from subscriptions.pages import EventItem, Page
from subscriptions.ports import Head

logger = logging.getLogger("dragoman.cohort")

AT_ONCE: Final = 250
"""Messages and members served before other tasks get a turn."""

REST_PER_WRITE: Final = 0.0001
"""Seconds between two rounds for each write of the first: some ten times what it takes."""

LONGEST_REST: Final = 0.025
SHORTEST_REST: Final = 0.001


class Member(Protocol):
    """A stream that waits at the head of its log, in one epoch."""

    @property
    def seq(self) -> int:
        """The number of the last entry it has passed."""

    @property
    def selection(self) -> Selection:
        """What its subscriber wants to see."""

    def root(self, item: EventItem) -> Any:
        """What the selection is made of."""

    def choose(self, items: Sequence[EventItem], now: float) -> Sequence[EventItem] | None:
        """Which of these consecutive entries it still wants; None: dismiss it. Changes nothing."""

    def deliver(
        self,
        items: Sequence[EventItem],
        chosen: Sequence[EventItem],
        payloads: Sequence[Payload],
        now: float,
    ) -> bool:
        """Push the chosen ones and pass the others.

        There are fewer payloads than chosen entries where the next one has to take the long way.
        False: dismiss it, wherever it got to.
        """

    def dismiss(self) -> None:
        """Let its own task go on."""


class Cohort:
    """The waiting streams of one log.

    Args:
        read: the page after a position, or None.
        is_present: whether a page shows all there is.
    """

    def __init__(
        self,
        read: Callable[[int], Awaitable[Page | None]],
        is_present: Callable[[Page], bool],
    ) -> None:
        self._read = read
        self._is_present = is_present
        self._members: dict[Member, None] = {}
        self._epoch = -1
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._serving = False
        self._rest_until = 0.0

    def __len__(self) -> int:
        return len(self._members)

    def join(self, member: Member, *, epoch: int) -> bool:
        """Take a member in; False where it cannot go with the others."""
        if not self._members:
            self._epoch = epoch
        if epoch != self._epoch:
            return False
        self._members[member] = None
        if self._task is None:
            self._task = asyncio.create_task(self._serve_for_ever(), name="cohort")
        return True

    def rejoin(self, member: Member, *, epoch: int) -> bool:
        """Take a dismissed member in again; what it missed is read for it."""
        if not self.join(member, epoch=epoch):
            return False
        self.wake()
        return True

    def leave(self, member: Member) -> None:
        """Let a member go; it may have been dismissed."""
        self._members.pop(member, None)
        if not self._members and self._task is not None:
            if self._serving:
                self._news.set()  # what is being read now is for those who come next
            self._task.cancel()
            self._task = None

    def wake(self) -> None:
        """The log has grown."""
        self._news.set()

    def is_behind(self, head: Head | None) -> bool:
        """Whether `head` shows what nobody is about to read for the members."""
        if not self._members or self._serving or self._news.is_set():
            return False
        if head is None or head.ended or head.epoch != self._epoch:
            return True
        return any(member.seq < head.seq for member in self._members)

    async def _serve_for_ever(self) -> None:
        while True:
            await self._news.wait()
            self._serving = True
            try:
                while await self._serve():
                    pass
            except Exception:
                logger.debug("members read by themselves", exc_info=True)
                self._dismiss_all()
            finally:
                self._serving = False

    async def _serve(self) -> bool:
        """One round; whether there is more to read."""
        await self._rest()
        self._news.clear()
        if not self._members:
            return False
        page = await self._read(min(member.seq for member in self._members))
        if page is None or page.head.ended or not page.follows(epoch=self._epoch):
            self._dismiss_all()
            return False
        if page.items:
            await self._hand(page.items, page.after)
        return page.end < page.head.seq or not self._is_present(page)

    async def _rest(self) -> None:
        seconds = self._rest_until - asyncio.get_running_loop().time()
        if seconds > 0:
            await asyncio.sleep(seconds)

    async def _hand(self, items: Sequence[EventItem], after: int) -> None:
        rendered: dict[Selection, dict[int, Payload | None]] = {}
        now = asyncio.get_running_loop().time()
        served = writes = 0
        for member in tuple(self._members):
            if served >= AT_ONCE:
                served = 0
                await asyncio.sleep(0)
            if member not in self._members:
                continue
            if member.seq < after:  # it joined while this was read
                self._news.set()
                continue
            try:
                messages = await self._serve_one(member, items, rendered, now)
            except Exception:
                logger.debug("a member goes on by itself", exc_info=True)
                self._dismiss(member)
                continue
            served += max(1, messages)
            writes += messages > 0
        rest = min(writes * REST_PER_WRITE, LONGEST_REST)
        self._rest_until = now + rest if rest >= SHORTEST_REST else 0.0

    async def _serve_one(
        self,
        member: Member,
        items: Sequence[EventItem],
        rendered: dict[Selection, dict[int, Payload | None]],
        now: float,
    ) -> int:
        """Hand a member what it wants; how many messages that were."""
        known = rendered.setdefault(member.selection, {})
        # Rendering takes time, in which a member may have gone, or lost a permission: it chooses
        # anew, until nothing is left to render.
        while (chosen := member.choose(items, now)) is not None:
            missing = [item for item in chosen if item.event.seq not in known]
            if not missing:
                payloads = _ready(chosen, known)
                if not member.deliver(items, chosen, payloads, now):
                    self._dismiss(member)
                return len(payloads)
            for item in missing:
                known[item.event.seq] = await member.selection.payload(member.root(item))
            if member not in self._members:
                return 0
        self._dismiss(member)
        return 0

    def _dismiss(self, member: Member) -> None:
        if member in self._members:
            del self._members[member]
            member.dismiss()

    def _dismiss_all(self) -> None:
        for member in tuple(self._members):
            self._dismiss(member)


def _ready(chosen: Sequence[EventItem], known: dict[int, Payload | None]) -> list[Payload]:
    """The payloads up to the first that could not be made."""
    payloads: list[Payload] = []
    for item in chosen:
        payload = known[item.event.seq]
        if payload is None:
            break
        payloads.append(payload)
    return payloads
