"""uvicorn's protocols with additions: the application may cut a connection, and write to it.

Give them to uvicorn as `http=` and `ws=`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

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
    """WebSocket."""

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


def _head(size: int) -> bytes:
    if size <= SHORT:
        return b"\x81%c" % size
    if size <= MEDIUM:
        return b"\x81\x7e%b" % size.to_bytes(2)
    return b"\x81\x7f%b" % size.to_bytes(8)
