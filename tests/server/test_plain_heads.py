"""Heads of plain requests that are known again are what a parser would have made of them."""

from typing import Any

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from server.plain import PlainHead
from server.plain_heads import RememberedHead

LINES = b"POST /graphql HTTP/1.1\r\nHost: testserver\r\nContent-Length: %d\r\nX-Any: 1\r\n\r\n%b"
PACKET = LINES % (12, b"x" * 12)


def _head() -> RememberedHead:
    found = RememberedHead(PlainHead("", None), "", {}).of(PACKET, 12)
    assert found is not None
    return found


class Parsed:
    """All that a parser tells of bytes."""

    def __init__(self, data: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = self.url = b""
        self.begun = self.done = 0
        parser: Any = httptools.HttpRequestParser(self)
        parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done += 1


@given(
    start=st.integers(0, len(PACKET)),
    length=st.integers(0, 4),
    by=st.sampled_from([b"", b"0", b"1", b" ", b"+", b"\r\n", b"x", b"\xb2", b"12", b"-", b"_"]),
    tail=st.sampled_from([b"", b"x", b"x" * 100, b"\r\n\r\n", PACKET]),
)
@example(start=0, length=0, by=b"", tail=b"")
def test_what_is_known_again_is_one_whole_request_with_the_same_headers(
    start: int, length: int, by: bytes, tail: bytes
) -> None:
    packet = PACKET[:start] + by + PACKET[start + length :] + tail
    body = _head().body_in(packet)
    if packet == PACKET:
        assert body == b"x" * 12
    if body is not None:
        expected, parsed = Parsed(PACKET), Parsed(packet)
        assert (parsed.begun, parsed.done, parsed.body) == (1, 1, body)
        told = int(parsed.headers.pop(b"Content-Length"))
        assert told == len(body)
        del expected.headers[b"Content-Length"]
        assert (parsed.url, parsed.headers) == (expected.url, expected.headers)


@given(st.integers(0, 5_000))
def test_a_body_may_have_any_length(size: int) -> None:
    body = b"y" * size
    assert _head().body_in(LINES % (size, body)) == body
    assert _head().body_in(LINES % (size + 1, body)) is None
