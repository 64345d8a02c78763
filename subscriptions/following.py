"""A stream among those that wait at the head of its log and are handed entries together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from subscriptions.cohort import Chosen
from subscriptions.delivery import Batch, Outlet, Selection
from subscriptions.pages import EventItem

if TYPE_CHECKING:
    from subscriptions.streams import Stream
    from subscriptions.watcher import Watcher


class Follower:
    """A stream as a member of its log's cohort; see `subscriptions.cohort.Member`.

    Attributes:
        is_to_ask: it was dismissed because its permission has to be asked for again.
    """

    __slots__ = ("_outlet", "_stream", "_watcher", "is_to_ask")

    def __init__(self, stream: Stream, watcher: Watcher, outlet: Outlet) -> None:
        self._stream = stream
        self._watcher = watcher
        self._outlet = outlet
        self.is_to_ask = False

    @property
    def seq(self) -> int:
        """See `Member`."""
        return self._stream.seq

    @property
    def selection(self) -> Selection:
        """See `Member`."""
        return self._outlet.selection

    def root(self, item: EventItem) -> Any:
        """See `Member`."""
        assert self._stream.root is not None  # noqa: S101  # `Stream` has looked
        return self._stream.root(item)

    def choose(self, items: Sequence[EventItem], now: float) -> Chosen | None:
        """See `Member`."""
        stream = self._stream
        at = stream.seq + 1 - items[0].event.seq
        if at < 0:
            return None
        if at < len(items) and stream.is_asking_due(self._watcher, now):
            self.is_to_ask = True
            return None
        rest = range(at, len(items))
        keep = stream.keep
        return rest if keep is None else tuple(i for i in rest if keep(items[i].event))

    def deliver(self, items: Sequence[EventItem], chosen: Chosen, batch: Batch, now: float) -> bool:
        """See `Member`."""
        sent = self._outlet.push(batch) if batch.payloads else 0
        if sent:
            self._reach(items[chosen[sent - 1]], now)
        return sent == len(chosen) and self._pass_to(items[-1].event.seq)

    def _reach(self, item: EventItem, now: float) -> None:
        """The client has this entry."""
        stream = self._stream
        stream.seq, stream.skipped, stream.told_at = item.event.seq, 0, now
        if stream.delivery is not None:
            stream.delivery.cursor = item.cursor

    def _pass_to(self, seq: int) -> bool:
        """Skip what is not for this stream; False, before the end, where its client is told so."""
        stream = self._stream
        passed = seq - stream.seq
        if passed <= 0:
            return True
        is_told = stream.skipped + passed >= stream.limits.checkpoint_skipped
        if not stream.skipped:
            self._watcher.hurry(stream.told_at + stream.limits.checkpoint_after)
        if is_told:  # on passing the last one: by its own task
            passed -= 1
        stream.seq += passed
        stream.skipped += passed
        return not is_told

    def dismiss(self) -> None:
        """See `Member`."""
        self._watcher.wake(() if self.is_to_ask else (self._stream.key,))
