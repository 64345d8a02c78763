"""What a stream tells the transport that carries it, past the GraphQL result in between.

The transport sets a `Delivery` in the task that pulls the stream; the stream finds it there. So a
transport knows the cursor of each result (for `id:` lines) and why a stream ended (for close
codes) whatever fields the client selected.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Delivery:
    """One stream on its way to one client.

    Attributes:
        last_event_id: the cursor the client says it saw last, outside of the document.
        cursor: where to go on from after the result that was handed over last.
        closed: the reason for the stream's end, once it has ended by itself.
    """

    last_event_id: str | None = None
    cursor: str | None = None
    closed: str | None = None


current_delivery: ContextVar[Delivery | None] = ContextVar("current_delivery", default=None)
