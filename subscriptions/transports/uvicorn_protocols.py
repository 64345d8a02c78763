"""uvicorn's protocols with additions: the application may cut a connection, and write to it.

Give them to uvicorn as `http=` and `ws=`.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from subscriptions.transports.limits import offer_abort, offer_frames

SHORT = 125
MEDIUM = 65_535
"""Longest texts of the frames' first two forms."""


class AbortableHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        offer_abort(self.scope, self.transport.abort)  # type: ignore[arg-type]  # a TypedDict


class AbortableWebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket."""

    async def run_asgi(self) -> None:
        """Run the application for this connection."""
        offer_abort(self.scope, self.transport.abort)  # type: ignore[arg-type]  # a TypedDict
        if not self.conn.extensions:  # nothing compresses the frames
            offer_frames(self.scope, self.write_text)  # type: ignore[arg-type]  # a TypedDict
        await super().run_asgi()

    def write_text(self, text: bytes) -> bool:
        """Write one text message in UTF-8 as a frame of its own (RFC 6455, section 5.2).

        False, and nothing is written, where it would have to wait for the client to read, or the
        connection is not open. The protocol writes whatever it makes at once, so that frames of
        both keep their order.
        """
        if not self.writable.is_set() or self.conn.state is not State.OPEN:
            return False
        size = len(text)
        if size <= SHORT:
            head = b"\x81%c" % size
        elif size <= MEDIUM:
            head = b"\x81\x7e%b" % size.to_bytes(2)
        else:
            head = b"\x81\x7f%b" % size.to_bytes(8)
        self.transport.write(head + text)
        return True
