"""Positions in a log as opaque text.

A cursor names a stream, the epoch of its log and the number of the last entry that was seen. It is
neither secret nor signed: it grants nothing, every read is authorized by itself.
"""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from resolvers.errors import InvalidError

SITE: Final = "site"
EARLIEST: Final = "EARLIEST"
LATEST: Final = "LATEST"
MAX_NUMBER: Final = 2**63 - 1  # what a signed 64-bit database column holds

# One byte of version and kind, the identifier, epoch, sequence number: 33 bytes are exactly 44
# characters of base64, so there is no padding and only one spelling of each cursor.
_LAYOUT: Final = struct.Struct(">B16sQQ")
_SITE_V1: Final = 0x11
_IDENTIFIED_V1: Final = 0x12
_NO_ID: Final = bytes(16)
_TEXT_LENGTH: Final = 44
_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{44}", re.ASCII)


class InvalidCursor(InvalidError):  # noqa: N818 - the name says it all
    """The text is not a cursor of this server."""

    def __init__(self, message: str) -> None:
        super().__init__(message, field="after")


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A position: everything up to and including `seq` of `stream` in `epoch` was seen.

    Args:
        stream: a workspace's (or run's) id as canonical lower-case UUID text, or `"site"`.
        epoch: the log's epoch, 0 to 2**63 - 1.
        seq: number of the last entry seen, 0 (nothing yet) to 2**63 - 1.

    Raises:
        ValueError: a part is outside its range.
    """

    stream: str
    epoch: int
    seq: int

    def __post_init__(self) -> None:
        if not 0 <= self.epoch <= MAX_NUMBER:
            raise ValueError(f"an epoch lies between 0 and {MAX_NUMBER}")
        if not 0 <= self.seq <= MAX_NUMBER:
            raise ValueError(f"a sequence number lies between 0 and {MAX_NUMBER}")
        if self.stream != SITE:
            _bytes_of(self.stream)

    def encode(self) -> str:
        """The cursor as 44 URL-safe characters; `decode_cursor` is the way back."""
        site = self.stream == SITE
        raw = _LAYOUT.pack(
            _SITE_V1 if site else _IDENTIFIED_V1,
            _NO_ID if site else _bytes_of(self.stream),
            self.epoch,
            self.seq,
        )
        return base64.urlsafe_b64encode(raw).decode("ascii")


def encode_cursor(stream: str, *, epoch: int, seq: int) -> str:
    """The text of one position; see `Cursor` for the ranges."""
    return Cursor(stream, epoch, seq).encode()


def decode_cursor(text: str) -> Cursor:
    """The cursor that `text` spells.

    Raises:
        InvalidCursor: anything that `Cursor.encode` cannot have written; the message says why.
    """
    if len(text) != _TEXT_LENGTH:
        raise InvalidCursor(f"a cursor has {_TEXT_LENGTH} characters, this one has {len(text)}")
    if _TEXT.fullmatch(text) is None:
        raise InvalidCursor("a cursor consists of letters, digits, '-' and '_' only")
    kind, identity, epoch, seq = _LAYOUT.unpack(base64.urlsafe_b64decode(text))
    if kind not in {_SITE_V1, _IDENTIFIED_V1}:
        raise InvalidCursor("this cursor's version is not known here")
    if epoch > MAX_NUMBER or seq > MAX_NUMBER:
        raise InvalidCursor(f"the numbers in a cursor end at {MAX_NUMBER}")
    if (kind == _SITE_V1) != (identity == _NO_ID):
        raise InvalidCursor("this cursor names no stream")
    stream = SITE if kind == _SITE_V1 else str(UUID(bytes=identity))
    return Cursor(stream, epoch, seq)


def parse_position(text: str | None) -> Cursor | Literal["EARLIEST"] | None:
    """What a client's `after` means: None or `"LATEST"` is the head, `"EARLIEST"` the floor.

    Raises:
        InvalidCursor: the text is neither a keyword nor a cursor.
    """
    if text is None or text == LATEST:
        return None
    if text == EARLIEST:
        return "EARLIEST"
    return decode_cursor(text)


def latest_position(after: str | None, last_event_id: str | None) -> str | None:
    """Of two positions the one reached last: what a client says it saw last is from a reconnect.

    Raises:
        InvalidCursor: one of them is no position.
    """
    if last_event_id is None:
        return after
    seen, asked = parse_position(last_event_id), parse_position(after)
    if isinstance(seen, Cursor) and isinstance(asked, Cursor):
        same_log = (seen.stream, seen.epoch) == (asked.stream, asked.epoch)
        return after if same_log and asked.seq > seen.seq else last_event_id
    return last_event_id


def _bytes_of(stream: str) -> bytes:
    """The 16 bytes of a UUID text; only its canonical spelling, so that cursors are unique."""
    try:
        identity = UUID(stream)
    except ValueError:
        raise ValueError(f"a stream is {SITE!r} or a UUID text") from None
    if str(identity) != stream or identity.int == 0:
        raise ValueError("a stream's UUID is written in its canonical lower-case form, not nil")
    return identity.bytes
