"""Reading an agent's output files while they grow, line by line and in bounded steps.

The caller keeps the offset; nothing is remembered here, so a restarted server goes on exactly
where its last stored offset was. A line is delivered once its newline is there, or when the
caller says that the stream has ended.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from runner.folder import open_regular

MAX_LINE_BYTES = 8 << 20
MAX_READ_BYTES = 1 << 20
_READERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="output")
CUT_MARK = " … [line cut]"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output without its newline.

    ``text`` holds neither NUL nor lone surrogates: what was not UTF-8, and NUL, became U+FFFD.
    ``offset`` and ``size`` say which bytes of the file were read for it, newline included.
    ``cut``: it was longer than allowed; ``text`` is its beginning and a mark.
    """

    offset: int
    size: int
    text: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """Lines in order, and the offset from which to read next.

    ``more``: another reading right now may find more. ``shrunk``: the file is shorter
    than the offset given (an agent wrote to ``/dev/stdout``, which empties a file); nothing was
    read, and ``next_offset`` is 0.
    """

    lines: tuple[Line, ...]
    next_offset: int
    more: bool = False
    shrunk: bool = False


def clean_text(data: bytes) -> str:
    """Bytes of an agent as text that may be stored anywhere."""
    return data.decode("utf-8", errors="replace").replace("\0", "\ufffd")


def _make_line(data: bytes, offset: int, size: int, max_line: int) -> Line:
    if len(data) <= max_line:
        return Line(offset, size, clean_text(data.removesuffix(b"\r")))
    kept = data[:max_line]
    # A character that the cut divides is no fault of the agent: it is left out, not marked.
    for back in range(1, 4):
        if kept[-back : -back + 1 or None] >= b"\xc0":
            kept = kept[:-back]
            break
    return Line(offset, size, clean_text(kept) + CUT_MARK, cut=True)


def _is_inside_line(file: BinaryIO, offset: int) -> bool:
    if offset == 0:
        return False
    file.seek(offset - 1)
    return file.read(1) != b"\n"


def _split(data: bytes, start: int, offset: int, max_line: int) -> tuple[list[Line], int]:
    """The complete lines in ``data`` from ``start`` on, and where the incomplete rest begins."""
    lines = []
    while (newline := data.find(b"\n", start)) >= 0:
        size = newline + 1 - start
        lines.append(_make_line(data[start:newline], offset + start, size, max_line))
        start = newline + 1
    return lines, start


def _read(
    file: BinaryIO, offset: int, end: int, *, ended: bool, max_bytes: int, max_line: int
) -> Reading:
    start = 0
    inside = _is_inside_line(file, offset)
    data = file.read(min(max_bytes, end - offset))
    if inside:
        # The beginning of this line was delivered as cut; the rest of it is passed over.
        start = data.find(b"\n") + 1
        if start == 0:
            reached = offset + len(data)
            return Reading((), reached, more=reached < end)
    lines, rest = _split(data, start, offset, max_line)
    if not lines and offset + len(data) < end:
        data += file.read(max(0, max_line + 1 - (len(data) - rest)))
        lines, rest = _split(data, rest, offset, max_line)
    read_to_end = offset + len(data) >= end
    tail = data[rest:]
    if not lines and tail and (len(tail) > max_line or (ended and read_to_end)):
        lines, rest = [_make_line(tail, offset + rest, len(tail), max_line)], len(data)
    elif lines and tail and ended and read_to_end:
        lines.append(_make_line(tail, offset + rest, len(tail), max_line))
        rest = len(data)
    reached = offset + rest
    return Reading(tuple(lines), reached, more=reached > offset and not read_to_end)


def read_new(
    path: Path,
    offset: int,
    *,
    ended: bool = False,
    max_bytes: int = MAX_READ_BYTES,
    max_line: int = MAX_LINE_BYTES,
) -> Reading:
    """Complete lines of the file from ``offset`` on; blocking, bounded memory.

    About ``max_bytes`` are read, more only where one line needs it, and never more than
    ``max_bytes + max_line``. A longer line is delivered cut as soon as its allowed part is there;
    readings that go on inside it pass over the rest without delivering anything. ``ended``: the
    stream will not grow any more, so a last line without newline counts too. A file that is
    missing, or is not a regular file, has no lines.
    """
    try:
        file = open_regular(path)
    except OSError:
        return Reading((), offset)
    with file:
        end = file.seek(0, 2)
        if end < offset:
            return Reading((), 0, shrunk=True)
        file.seek(offset)
        return _read(file, offset, end, ended=ended, max_bytes=max_bytes, max_line=max_line)


def has_nothing_new(path: Path, offset: int) -> bool:
    """Whether a file ends where it was read to; one look at its size, quick enough for the loop."""
    try:
        return path.lstat().st_size == offset
    except OSError:
        return False


async def read_new_lines(
    path: Path,
    offset: int,
    *,
    ended: bool = False,
    max_bytes: int = MAX_READ_BYTES,
    max_line: int = MAX_LINE_BYTES,
) -> Reading:
    """``read_new`` in a thread, for the event loop.

    The threads are its own: those that end processes and commit changes may be busy for seconds.
    """
    read = partial(read_new, path, offset, ended=ended, max_bytes=max_bytes, max_line=max_line)
    return await asyncio.get_running_loop().run_in_executor(_READERS, read)
