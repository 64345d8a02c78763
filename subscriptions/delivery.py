"""What a stream tells the transport that carries it, past the GraphQL result in between.

The transport sets a `Delivery` in the task that pulls the stream; the stream finds it there. So a
transport knows the cursor of each result (for `id:` lines) and why a stream ended (for close
codes) whatever fields the client selected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

FORMS_KEPT: Final = 4
"""Forms of a batch kept at a time: clients that name their operations alike are sent the same."""


class Payload(Protocol):
    """What everybody who shares a selection gets for one event."""

    @property
    def data(self) -> dict[str, Any] | None:
        """The data of the result; never to be changed."""

    @property
    def json(self) -> bytes:
        """The whole result as JSON."""


class Selection(Protocol):
    """What subscribers want to see of an event: makes payloads, once for all who share it."""

    async def payload(self, event: Any) -> Payload | None:
        """The payload of an event; None where it has to take the long way."""


class Batch:
    """Payloads that go to several clients, in order, with the forms they were sent in."""

    __slots__ = ("_forms", "payloads")

    def __init__(self, payloads: Sequence[Payload]) -> None:
        self.payloads = payloads
        self._forms: dict[str, Any] = {}

    def form(self, name: str, make: Callable[[Sequence[Payload]], Any]) -> Any:
        """What ``make`` makes of the payloads, the same for all who give this name."""
        found = self._forms.get(name)
        if found is None:
            if len(self._forms) >= FORMS_KEPT:
                self._forms.clear()
            found = self._forms[name] = make(self.payloads)
        return found


class Outlet(Protocol):
    """The way to a client that needs no task to be woken."""

    selection: Selection

    def push(self, batch: Batch) -> int:
        """Send results at once, in this order.

        Returns:
            How many were sent: fewer than all if that is not possible now, or not any more.
        """


@dataclass(slots=True)
class Delivery:
    """One stream on its way to one client.

    Attributes:
        last_event_id: the cursor the client says it saw last, outside of the document.
        cursor: where to go on from after the result that was handed over last.
        closed: the reason for the stream's end, once it has ended by itself.
        outlet: set by a transport that can take entries from the stream while it waits for the
            next result; every result handed over before has been sent by then.
    """

    last_event_id: str | None = None
    cursor: str | None = None
    closed: str | None = None
    outlet: Outlet | None = None


current_delivery: ContextVar[Delivery | None] = ContextVar("current_delivery", default=None)
