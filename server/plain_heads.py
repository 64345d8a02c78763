"""Heads of plain requests, known again by their bytes."""

import re
from typing import Any, NamedTuple, Self

from server.plain import PlainHead

_BLANK_LINE = b"\r\n\r\n"
_LINE_END = b"\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,10})\r\n", re.IGNORECASE)
_LENGTH_DIGITS = 12  # and the end of their line
_BYTES_KEPT = 2_048


class RememberedHead(NamedTuple):
    """What counts of a plain request's head.

    Attributes:
        plain: of its headers.
        address: where it comes from.
        scope: ASGI's, as it is while headers are read.
        before, after: its bytes around the length of the body.
    """

    plain: PlainHead
    address: str
    scope: Any
    before: bytes = b""
    after: bytes = b""

    def body_in(self, packet: bytes) -> bytes | None:
        """The body, if a packet is such a head, whatever length it tells, and a body so long."""
        start = len(self.before)
        if not packet.startswith(self.before):
            return None
        end = packet.find(_LINE_END, start, start + _LENGTH_DIGITS)
        length = packet[start:end]
        if not packet.startswith(self.after, end) or not length.isdigit():
            return None
        body = packet[end + len(self.after) :]
        return body if len(body) == int(length) else None

    def of(self, packet: bytes, body_bytes: int) -> Self | None:
        """The head with its bytes, if a packet is that head and a body, and nothing more."""
        end = len(packet) - body_bytes
        if end > _BYTES_KEPT or packet.find(_BLANK_LINE) + len(_BLANK_LINE) != end:
            return None
        found = _LENGTH.search(packet, 0, end)
        if found is None or int(found[1]) != body_bytes:
            return None
        return self._replace(before=packet[: found.start(1)], after=packet[found.end(1) : end])
