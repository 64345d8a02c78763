"""What a stream consists of: entries, and what it has to say about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from subscriptions.pages import EventItem

ResyncReason = Literal["TRIMMED", "WRONG_STREAM", "EPOCH_CHANGED", "AHEAD"]
CloseReason = Literal[
    "UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND", "GOING_AWAY", "UNAVAILABLE", "ENDED"
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Nothing for this client happened up to `cursor`: resume from here, not from further back."""

    cursor: str


@dataclass(frozen=True, slots=True)
class ResyncRequired:
    """What lies between the client's position and `head` cannot be delivered; read it by query.

    The stream goes on from `head`. `floor` is the earliest position that could be resumed from.
    """

    reason: ResyncReason
    floor: str
    head: str

    @property
    def cursor(self) -> str:
        """Where the stream goes on from."""
        return self.head


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The last item. `cursor` is where a later stream goes on from: what was reached, else asked.

    It is None where nothing was reached, and what happens from now on was asked for.
    """

    reason: CloseReason
    cursor: str | None


StreamItem = EventItem | Checkpoint | ResyncRequired | StreamClosed
