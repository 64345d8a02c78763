"""Text messages as WebSocket frames (RFC 6455, section 5.2), from a server: not masked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from subscriptions.transports.limits import Frames

SHORT: Final = 125
MEDIUM: Final = 65_535
"""Longest texts of the frames' first two forms."""

TOGETHER: Final = 64 * 1024
"""Bytes of frames joined before the client's pace is looked at again."""


def text_frames(texts: Iterable[bytes], *, before: bytes = b"", after: bytes = b"") -> Frames:
    """Messages in UTF-8, each as a frame of its own.

    Frames are joined: what costs is each write, hardly its length.

    Args:
        texts: the messages.
        before: what each of them begins with.
        after: what each of them ends with.
    """
    joined: list[tuple[bytes, int]] = []
    parts: list[bytes] = []
    size = messages = 0
    around = len(before) + len(after)
    for text in texts:
        length = around + len(text)
        parts += (_head(length), before, text, after)
        size += length
        messages += 1
        if size >= TOGETHER:
            joined.append((b"".join(parts), messages))
            parts, size, messages = [], 0, 0
    if parts:
        joined.append((b"".join(parts), messages))
    return joined


def _head(size: int) -> bytes:
    if size <= SHORT:
        return b"\x81%c" % size
    if size <= MEDIUM:
        return b"\x81\x7e%b" % size.to_bytes(2)
    return b"\x81\x7f%b" % size.to_bytes(8)
