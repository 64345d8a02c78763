"""Bounds of the streaming transports, and the way to end a connection that does not read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

logger = logging.getLogger("dragoman.transports")

ABORT_EXTENSION: Final = "dragoman.abort"
FRAME_EXTENSION: Final = "dragoman.frame"

Frames = Sequence[tuple[bytes, int]]
"""Bytes of whole WebSocket frames, each with how many messages that is."""

WriteFrames = Callable[[Frames], int]
"""Writes messages at once; how many: the others have to wait, or cannot be sent."""


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Times in seconds.

    Args:
        connections: WebSockets and event streams of this process together.
        operations_per_connection: operations that run at once on one WebSocket.
        init_timeout: how long a WebSocket may take to send `connection_init`.
        send_timeout: how long one message may wait for the client to read earlier ones.
        close_timeout: how long a close frame may wait before the connection is cut.
        heartbeat: an event stream is never silent for longer.
    """

    connections: int = 20_000
    operations_per_connection: int = 100
    init_timeout: float = 10.0
    send_timeout: float = 15.0
    close_timeout: float = 5.0
    heartbeat: float = 15.0


def offer_abort(scope: MutableMapping[str, Any], abort: Callable[[], None]) -> None:
    """Let the application cut this connection; called by our server protocols."""
    scope.setdefault("extensions", {})[ABORT_EXTENSION] = {"abort": abort}


def abort_connection(scope: Mapping[str, Any]) -> None:
    """Cut the connection with all that waits to be sent, if the server offers that.

    ASGI itself has no such message: closing politely would wait for a client that does not read.
    """
    extension = (scope.get("extensions") or {}).get(ABORT_EXTENSION)
    if extension is None:
        logger.warning("a client that does not read holds on to its connection")
        return
    extension["abort"]()


def offer_frames(scope: MutableMapping[str, Any], write: WriteFrames) -> None:
    """Let the application write messages that need not wait; called by our server protocol."""
    scope.setdefault("extensions", {})[FRAME_EXTENSION] = {"write": write}


def frame_writer(scope: Mapping[str, Any]) -> WriteFrames | None:
    """The way past ASGI for messages that need not wait, if the server offers it."""
    extension = (scope.get("extensions") or {}).get(FRAME_EXTENSION)
    return None if extension is None else extension["write"]
