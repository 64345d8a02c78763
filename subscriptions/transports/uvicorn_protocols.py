"""uvicorn's protocols with additions: the application may cut a connection, and write to it.

Give them to uvicorn as `http=` and `ws=`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from subscriptions.transports.limits import offer_abort, offer_frames

SHORT = 125
MEDIUM = 65_535
"""Longest texts of the frames' first two forms."""

TOGETHER: Final = 64 * 1024
"""Bytes of frames joined before the client's pace is looked at again."""


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

    def start_keepalive(self) -> None:
        """Begin to look after the connection: the handshake is over, and nobody asks for it."""
        super().start_keepalive()
        del self.request, self.response

    async def run_asgi(self) -> None:
        """Run the application for this connection."""
        offer_abort(self.scope, self.transport.abort)  # type: ignore[arg-type]  # a TypedDict
        if not self.conn.extensions:  # nothing compresses the frames
            offer_frames(self.scope, self.write_texts)  # type: ignore[arg-type]  # a TypedDict
        await super().run_asgi()

    def write_texts(self, texts: Sequence[bytes]) -> int:
        """Write text messages in UTF-8, each as a frame of its own (RFC 6455, section 5.2).

        Frames are joined: what costs is each write, hardly its length. The protocol writes
        whatever it makes at once, so that frames of both keep their order.

        Returns:
            How many were written: no more once they would have to wait for the client to read,
            and none where the connection is not open.
        """
        frames: list[bytes] = []
        size = written = 0
        if not self.writable.is_set() or self.conn.state is not State.OPEN:
            return 0
        for text in texts:
            frames += (_head(len(text)), text)
            size += len(text)
            if size >= TOGETHER:
                self.transport.write(b"".join(frames))
                written += len(frames) // 2
                frames, size = [], 0
                if not self.writable.is_set():
                    return written
        if frames:
            self.transport.write(b"".join(frames))
        return written + len(frames) // 2


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


def _head(size: int) -> bytes:
    if size <= SHORT:
        return b"\x81%c" % size
    if size <= MEDIUM:
        return b"\x81\x7e%b" % size.to_bytes(2)
    return b"\x81\x7f%b" % size.to_bytes(8)
