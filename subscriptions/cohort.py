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
from contextlib import suppress
from itertools import takewhile
from typing import Any, Final, Protocol, cast

from subscriptions.delivery import Batch, Payload, Selection
from subscriptions.pages import EventItem, Page
from subscriptions.ports import Head

logger = logging.getLogger("dragoman.cohort")

AT_ONCE: Final = 250
"""Messages and members served before other tasks get a turn."""

REST_PER_WRITE: Final = 0.0001
"""Seconds between two rounds for each write of the first: some ten times what it takes.

Twice as long where entries come faster than rounds: only then a longer rest saves writes.
"""

LONGEST_REST: Final = 0.035
SHORTEST_REST: Final = 0.001


Chosen = range | tuple[int, ...]
"""Which entries of a page, by their places in it, in order."""


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

    def choose(self, items: Sequence[EventItem], now: float) -> Chosen | None:
        """Which of these consecutive entries it still wants; None: dismiss it. Changes nothing."""

    def deliver(self, items: Sequence[EventItem], chosen: Chosen, batch: Batch, now: float) -> bool:
        """Push the chosen ones and pass the others.

        There are fewer payloads than chosen entries where the next one has to take the long way.
        False: dismiss it, wherever it got to.
        """

    def dismiss(self) -> None:
        """Let its own task go on."""


class _Round:
    """The entries of one round, with what is made of them once for all members."""

    def __init__(self, items: Sequence[EventItem], now: float) -> None:
        self.items = items
        self.now = now
        self.end = items[-1].event.seq
        self._known: dict[Selection, dict[int, Payload | None]] = {}
        self._batches: dict[tuple[Selection, Chosen], Batch] = {}

    def batch(self, selection: Selection, chosen: Chosen) -> Batch | None:
        """The payloads of entries, up to the first that cannot be made; None: render them first."""
        found = self._batches.get((selection, chosen))
        if found is None:
            known = self._known.get(selection, {})
            if any(place not in known for place in chosen):
                return None
            made = takewhile(lambda payload: payload is not None, map(known.get, chosen))
            found = self._batches[selection, chosen] = Batch(cast("list[Payload]", list(made)))
        return found

    async def render(self, member: Member) -> None:
        """Make the payloads that a member wants."""
        known = self._known.setdefault(member.selection, {})
        for place in member.choose(self.items, self.now) or ():
            if place not in known:
                known[place] = await member.selection.payload(member.root(self.items[place]))


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
        self._rejoined = asyncio.Event()
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
        self._rejoined.set()
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
        self._rejoined.clear()
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
        """Wait as long as the last round demands, unless somebody missed what others have got."""
        seconds = self._rest_until - asyncio.get_running_loop().time()
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._rejoined.wait()

    async def _hand(self, items: Sequence[EventItem], after: int) -> None:
        now = asyncio.get_running_loop().time()
        one_round = _Round(items, now)
        served = writes = 0
        for member in tuple(self._members):
            if served >= AT_ONCE:
                served = 0
                await asyncio.sleep(0)
            if member.seq < after:  # it joined while this was read
                self._news.set()
                continue
            if member.seq >= one_round.end:
                continue
            try:
                while (messages := self._serve_one(member, one_round)) is None:
                    await one_round.render(member)
            except Exception:
                logger.debug("a member goes on by itself", exc_info=True)
                self._dismiss(member)
                continue
            served += max(1, messages)
            writes += messages > 0
        rest = min(writes * REST_PER_WRITE * min(len(items), 2), LONGEST_REST)
        if rest >= SHORTEST_REST:
            self._rest_until = max(self._rest_until, now + rest)

    def _serve_one(self, member: Member, one_round: _Round) -> int | None:
        """Hand a member what it wants; how many messages that were, None: render them first.

        Rendering takes time, in which a member may have gone, or lost a permission: it is asked
        anew afterwards what it wants.
        """
        if member not in self._members:
            return 0
        chosen = member.choose(one_round.items, one_round.now)
        if chosen is None:
            self._dismiss(member)
            return 0
        batch = one_round.batch(member.selection, chosen)
        if batch is None:
            return None
        if not member.deliver(one_round.items, chosen, batch, one_round.now):
            self._dismiss(member)
        return len(batch.payloads)

    def _dismiss(self, member: Member) -> None:
        if member in self._members:
            del self._members[member]
            member.dismiss()

    def _dismiss_all(self) -> None:
        for member in tuple(self._members):
            self._dismiss(member)
