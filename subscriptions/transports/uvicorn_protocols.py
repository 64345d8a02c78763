"""uvicorn's protocols with additions: the application may cut a connection, and write to it.

Give them to uvicorn as `http=` and `ws=`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from subscriptions.transports.limits import Frames, offer_abort, offer_frames


class AbortableHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        offer_abort(self.scope, self.transport.abort)  # type: ignore[arg-type]  # a TypedDict


class AbortableWebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket. An idle connection holds no more than it needs: there may be thousands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = _Inbox()  # type: ignore[assignment]  # what the base uses of a queue
        self.writable = _Gate()  # type: ignore[assignment]  # what the base uses of an event

    def start_keepalive(self) -> None:
        """Begin to look after the connection: the handshake is over, and nobody asks for it."""
        super().start_keepalive()
        self.request.headers.clear()  # the parser keeps the request as long as it lives
        del self.request, self.response

    async def run_asgi(self) -> None:
        """Run the application for this connection."""
        offer_abort(self.scope, self.transport.abort)  # type: ignore[arg-type]  # a TypedDict
        if not self.conn.extensions:  # nothing compresses the frames
            offer_frames(self.scope, self.write_frames)  # type: ignore[arg-type]  # a TypedDict
        await super().run_asgi()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent; nothing more of it once it has been told why."""
        if self.conn.parser_exc is None:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        """Close because of what the client sent, so that it learns why.

        A connection that is closed while data comes is reset, and a reset may overtake the reason.
        So only our side is closed here; the client has as long as for any close to close its own.
        """
        if (closing := self.conn.close_sent) is not None:
            self.queue.put_nowait(
                {"type": "websocket.disconnect", "code": closing.code, "reason": closing.reason}
            )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        self.close_sent = True
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def write_frames(self, frames: Frames) -> int:
        """Write frames that were made before.

        The protocol writes whatever it makes at once, so that frames of both keep their order.

        Returns:
            How many messages were written: no more once they would have to wait for the client to
            read, and none where the connection is not open.
        """
        if not self.writable.is_set() or self.conn.state is not State.OPEN:
            return 0
        written = 0
        for data, messages in frames:
            self.transport.write(data)
            written += messages
            if not self.writable.is_set():
                break
        return written


class _Gate:
    """What an event does that is set at first, in a tenth of an event's memory."""

    __slots__ = ("_shut",)

    def __init__(self) -> None:
        self._shut: asyncio.Event | None = None

    def is_set(self) -> bool:
        """Whether nobody has to wait."""
        return self._shut is None

    def clear(self) -> None:
        """Let those who come wait."""
        if self._shut is None:
            self._shut = asyncio.Event()

    def set(self) -> None:
        """Let all who wait go on."""
        if self._shut is not None:
            self._shut.set()
            self._shut = None

    async def wait(self) -> None:
        """Wait until nobody has to."""
        if self._shut is not None:
            await self._shut.wait()


class _Inbox:
    """What a queue does for one reader, in a fifth of a queue's memory."""

    __slots__ = ("_messages", "_reader")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._reader: asyncio.Future[None] | None = None

    def put_nowait(self, message: Any) -> None:
        """Add a message. The base stops reading from the socket until it is taken."""
        self._messages.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Any:
        """The oldest message, waiting for one if need be.

        Raises:
            RuntimeError: somebody waits for it already.
        """
        if self._reader is not None:
            raise RuntimeError("two tasks receive from one WebSocket")
        if not self._messages:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._messages.pop(0)

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._messages
