import base64
import struct
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subscriptions.cursor import (
    EARLIEST,
    MAX_NUMBER,
    SITE,
    Cursor,
    InvalidCursor,
    decode_cursor,
    encode_cursor,
    parse_position,
)

numbers = st.integers(0, MAX_NUMBER)
streams = st.just(SITE) | st.uuids().filter(lambda u: u.int != 0).map(str)


@given(streams, numbers, numbers)
def test_every_cursor_comes_back_as_it_was(stream: str, epoch: int, seq: int) -> None:
    cursor = Cursor(stream, epoch, seq)
    text = cursor.encode()

    assert decode_cursor(text) == cursor
    assert text == encode_cursor(stream, epoch=epoch, seq=seq)
    assert len(text) == 44
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(st.text() | st.text(min_size=44, max_size=44))
def test_no_text_crashes_the_reader(text: str) -> None:
    with suppress(InvalidCursor):
        assert decode_cursor(text).encode() == text


@given(st.binary(min_size=33, max_size=33))
def test_no_bytes_crash_the_reader_and_one_position_has_one_spelling(raw: bytes) -> None:
    text = base64.urlsafe_b64encode(raw).decode()
    with suppress(InvalidCursor):
        assert decode_cursor(text).encode() == text


def spelled(kind: int, identity: bytes, epoch: int, seq: int) -> str:
    raw = struct.pack(">B16sQQ", kind, identity, epoch, seq)
    return base64.urlsafe_b64encode(raw).decode()


SOME_ID = UUID("6f9619ff-8b86-4d01-b42d-00cf4fc964ff").bytes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "44 characters"),
        ("A" * 43, "44 characters"),
        ("A" * 100_000, "44 characters"),
        ("*" * 44, "letters, digits"),
        ("A" * 43 + "=", "letters, digits"),
        ("A" * 43 + "+", "letters, digits"),
        ("A" * 43 + "\n", "letters, digits"),
        ("é" * 44, "letters, digits"),
        (spelled(0x21, bytes(16), 1, 1), "version"),
        (spelled(0x00, SOME_ID, 1, 1), "version"),
        (spelled(0x11, SOME_ID, 1, 1), "no stream"),
        (spelled(0x12, bytes(16), 1, 1), "no stream"),
        (spelled(0x12, SOME_ID, 2**63, 1), "end at"),
        (spelled(0x12, SOME_ID, 1, 2**64 - 1), "end at"),
    ],
)
def test_what_is_not_a_cursor_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidCursor, match=why):
        decode_cursor(text)


@pytest.mark.parametrize(
    ("stream", "epoch", "seq"),
    [
        (SITE, -1, 0),
        (SITE, 0, -1),
        (SITE, 2**63, 0),
        (SITE, 0, 2**63),
        ("", 0, 0),
        ("somewhere", 0, 0),
        ("6F9619FF-8B86-4D01-B42D-00CF4FC964FF", 0, 0),
        ("6f9619ff8b864d01b42d00cf4fc964ff", 0, 0),
        (str(UUID(int=0)), 0, 0),
    ],
)
def test_a_cursor_cannot_be_made_of_impossible_parts(stream: str, epoch: int, seq: int) -> None:
    with pytest.raises(ValueError, match=r"lies between|stream"):
        Cursor(stream, epoch, seq)


def test_a_position_is_head_floor_or_a_cursor() -> None:
    cursor = Cursor(SITE, 1, 7)

    assert parse_position(None) is None
    assert parse_position(EARLIEST) == "EARLIEST"
    assert parse_position(cursor.encode()) == cursor
    with pytest.raises(InvalidCursor):
        parse_position("earliest")
