"""Pages of a log, read once for everybody who stands at the same place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from subscriptions.cursor import encode_cursor
from subscriptions.ports import Head, LogEntry, Reading, stream_of

PAGE_ENTRIES: Final = 200
PAGE_BYTES: Final = 256 * 1024
CACHED_PAGES: Final = 512
CACHED_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EventItem:
    """An entry on its way to a client, with the cursor to go on from after it."""

    event: LogEntry
    cursor: str


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive entries after a position, never changed once made.

    Args:
        head: where the log stood in the snapshot the page was read from.
        after: the position asked for.
        items: at most 200 entries and 256 KB (but at least one entry, if there was any).
        size: their bytes together.
        moment: counts the wake-ups of the log; a page of the present moment shows all there is.
    """

    head: Head
    after: int
    items: tuple[EventItem, ...]
    size: int
    moment: int

    @property
    def end(self) -> int:
        """Number of the last entry, or the position asked for if there is none."""
        return self.items[-1].event.seq if self.items else self.after

    def follows(self, *, epoch: int) -> bool:
        """Whether the page goes on from a position in `epoch` with nothing left out."""
        if self.head.epoch != epoch or not self.head.floor <= self.after <= self.head.seq:
            return False
        if not self.items:
            return self.head.seq == self.after
        first = self.items[0].event.seq
        return first == self.after + 1 and self.end - first + 1 == len(self.items)


def make_page(key: str, reading: Reading, *, after: int, moment: int) -> Page:
    """The page of one reading, cut to the bounds."""
    entries, size = _cut(reading.entries)
    stream, epoch = stream_of(key), reading.head.epoch
    items = tuple(
        EventItem(entry, encode_cursor(stream, epoch=epoch, seq=entry.seq)) for entry in entries
    )
    return Page(head=reading.head, after=after, items=items, size=size, moment=moment)


def _cut(entries: Sequence[LogEntry]) -> tuple[Sequence[LogEntry], int]:
    size = 0
    for count, entry in enumerate(entries[:PAGE_ENTRIES]):
        if count and size + entry.size > PAGE_BYTES:
            return entries[:count], size
        size += entry.size
    return entries[:PAGE_ENTRIES], size


class PageCache:
    """The pages used last, bounded by their number and their bytes together.

    Args:
        max_pages: most pages kept.
        max_bytes: most bytes of entries kept.
    """

    def __init__(self, *, max_pages: int = CACHED_PAGES, max_bytes: int = CACHED_BYTES) -> None:
        self._max_pages = max_pages
        self._max_bytes = max_bytes
        self._pages: OrderedDict[tuple[str, int], Page] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._pages)

    def find(self, key: str, *, after: int) -> Page | None:
        """The page kept for this place, or None."""
        page = self._pages.get((key, after))
        if page is not None:
            self._pages.move_to_end((key, after))
        return page

    def keep(self, key: str, page: Page) -> None:
        """Keep a page; those used longest ago give way."""
        self.forget(key, after=page.after)
        if page.size > self._max_bytes:
            return
        self._pages[key, page.after] = page
        self.size += page.size
        while len(self._pages) > self._max_pages or self.size > self._max_bytes:
            _, oldest = self._pages.popitem(last=False)
            self.size -= oldest.size

    def forget(self, key: str, *, after: int) -> None:
        """Drop the page kept for one place."""
        page = self._pages.pop((key, after), None)
        if page is not None:
            self.size -= page.size
