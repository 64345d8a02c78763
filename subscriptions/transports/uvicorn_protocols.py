"""uvicorn's protocols with one addition: the application may cut a connection.

Give them to uvicorn as `http=` and `ws=`.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from subscriptions.transports.limits import offer_abort


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
        await super().run_asgi()
