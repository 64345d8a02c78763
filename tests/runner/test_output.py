"""Output files are read line by line: every byte once, in bounded steps, whatever is in them."""

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.output import CUT_MARK, Line, clean_text, read_new, read_new_lines


def read_all(path: Path, *, ended: bool, max_bytes: int, max_line: int) -> list[Line]:
    lines: list[Line] = []
    offset = 0
    for _ in range(10_000):
        reading = read_new(path, offset, ended=ended, max_bytes=max_bytes, max_line=max_line)
        lines += reading.lines
        if reading.next_offset == offset:
            assert not reading.more
            return lines
        offset = reading.next_offset
    raise AssertionError("reading does not come to an end")


def test_lines_come_with_their_place_and_the_unfinished_one_waits(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"one\r\ntwo\n\nthr")
    reading = read_new(path, 0)
    assert [(line.offset, line.size, line.text) for line in reading.lines] == [
        (0, 5, "one"),
        (5, 4, "two"),
        (9, 1, ""),
    ]
    assert (reading.next_offset, reading.more, reading.shrunk) == (10, False, False)
    assert read_new(path, 10).lines == ()
    with path.open("ab") as file:
        file.write(b"ee\nfour")
    reading = read_new(path, 10)
    assert [line.text for line in reading.lines] == ["three"]
    last = read_new(path, reading.next_offset, ended=True)
    assert [(line.text, line.offset, line.size) for line in last.lines] == [("four", 16, 4)]
    assert last.next_offset == 20
    assert read_new(path, 20, ended=True).lines == ()


def test_what_is_not_text_becomes_text() -> None:
    surrogate = "\ud800".encode(errors="surrogatepass")
    text = clean_text(b"a\x00b\xff" + surrogate + "é".encode())
    assert "\0" not in text
    assert text.encode().decode() == text
    assert text.startswith("a\ufffdb\ufffd")
    assert text.endswith("é")


def test_a_line_too_long_is_cut_once_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes("é".encode() * 50 + b"\nnext\n")
    for max_bytes in (1, 7, 1000):
        lines = read_all(path, ended=False, max_bytes=max_bytes, max_line=21)
        assert [line.text for line in lines] == ["é" * 10 + CUT_MARK, "next"]
        assert [line.cut for line in lines] == [True, False]


def test_a_line_without_end_is_delivered_before_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"x" * 5000)
    (line,) = read_all(path, ended=False, max_bytes=100, max_line=1000)
    assert line.text == "x" * 1000 + CUT_MARK
    with path.open("ab") as file:
        file.write(b"xxx\nafter\n")
    assert [x.text for x in read_new(path, 5000).lines] == ["after"]


def test_two_megabytes_in_one_line_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"a" * 2_000_000 + b"\n" + b"b" * 2_000_000 + b"\n")
    lines = read_all(path, ended=True, max_bytes=1 << 20, max_line=8 << 20)
    assert [(len(line.text), line.cut) for line in lines] == [(2_000_000, False)] * 2


def test_a_file_that_was_emptied_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"new\n")
    reading = read_new(path, 100)
    assert (reading.lines, reading.next_offset, reading.shrunk) == ((), 0, True)
    assert [line.text for line in read_new(path, 0).lines] == ["new"]


async def test_what_is_no_regular_file_has_no_lines(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    for name in ("pipe", "link", "missing", "."):
        assert (await read_new_lines(tmp_path / name, 0)).lines == ()


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=300).map(lambda data: data.replace(b"\x01", b"\n")),
    max_bytes=st.integers(1, 60),
    max_line=st.integers(1, 60),
)
def test_every_line_once_however_it_is_read(data: bytes, max_bytes: int, max_line: int) -> None:
    path = Path(tempfile.gettempdir()) / f"dragoman-output-{os.getpid()}"
    path.write_bytes(data)
    try:
        lines = read_all(path, ended=True, max_bytes=max_bytes, max_line=max_line)
    finally:
        path.unlink()
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert len(lines) == len(expected)
    for line, content in zip(lines, expected, strict=True):
        assert line.cut == (len(content) > max_line)
        assert data[line.offset :].startswith(content[:max_line])
        if not line.cut:
            assert line.text == clean_text(content.removesuffix(b"\r"))
