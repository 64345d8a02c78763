"""The streams of one log that wait at its head, and are handed new entries together.

Waking a task for each subscriber and each event is most of what delivery costs. So a stream that
waits joins the cohort of its log, and one task reads on for all: it has each entry's payload made
once for all who see the same, and pushes it to each. What needs more than that (a question for
permission, a client that does not read, a gap, an error) dismisses a member: its own task then
goes on from where it stands, with all that streams promise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from subscriptions.delivery import Payload, Selection
from subscriptions.pages import EventItem, Page
from subscriptions.ports import Head

logger = logging.getLogger("dragoman.cohort")

AT_ONCE: Final = 250
"""Members served before other tasks get a turn."""


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

    def wants(self, item: EventItem, now: float) -> bool | None:
        """Whether it takes the next entry; a filtered one is passed. None: dismiss it."""

    def deliver(self, item: EventItem, payload: Payload, now: float) -> bool:
        """Push a wanted entry; False: dismiss it."""

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

    def leave(self, member: Member) -> None:
        """Let a member go; it may have been dismissed."""
        self._members.pop(member, None)
        if not self._members and self._task is not None:
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
            self._news.clear()
            self._serving = True
            try:
                await self._serve()
            except Exception:
                logger.debug("members read by themselves", exc_info=True)
                self._dismiss_all()
            finally:
                self._serving = False

    async def _serve(self) -> None:
        while self._members:
            page = await self._read(min(member.seq for member in self._members))
            if page is None or page.head.ended or not page.follows(epoch=self._epoch):
                self._dismiss_all()
                return
            for item in page.items:
                await self._hand(item)
            if page.end >= page.head.seq and self._is_present(page):
                return

    async def _hand(self, item: EventItem) -> None:
        payloads: dict[Selection, Payload] = {}
        now = asyncio.get_running_loop().time()
        for count, member in enumerate(tuple(self._members), 1):
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
            if member not in self._members:
                continue
            try:
                is_served = await self._serve_one(member, item, payloads, now)
            except Exception:
                logger.debug("a member goes on by itself", exc_info=True)
                is_served = False
            if not is_served:
                self._dismiss(member)

    async def _serve_one(
        self, member: Member, item: EventItem, payloads: dict[Selection, Payload], now: float
    ) -> bool:
        wanted = member.wants(item, now)
        if not wanted:
            return wanted is False
        payload = payloads.get(member.selection)
        if payload is None:
            payload = await member.selection.payload(member.root(item))
            if payload is None:
                return False
            payloads[member.selection] = payload
            # Meanwhile it may have gone, or have been told that its permissions changed.
            if member not in self._members or not member.wants(item, now):
                return member not in self._members
        return member.deliver(item, payload, now)

    def _dismiss(self, member: Member) -> None:
        if member in self._members:
            del self._members[member]
            member.dismiss()

    def _dismiss_all(self) -> None:
        for member in tuple(self._members):
            self._dismiss(member)
