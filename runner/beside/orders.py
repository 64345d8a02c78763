"""What the server tells a process beside an agent: a file of lines, only ever appended to.

Each line is a JSON object with ``number`` (rising) and ``do``:

``{"number": 1, "do": "answer", "question": ID, "option": ID}``
``{"number": 2, "do": "message", "text": TEXT}``

A file outlives both ends: a server that is killed has said what it said, and the next one reads in
the same file how far that was. Only the standard library is imported here.
"""

import json
import os
from typing import Any

LOOK_SECONDS = 0.1
READ_BYTES = 1 << 20


class Orders:
    """The reading end; blocking, one small read per look."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read_new(self) -> list[dict[str, Any]]:
        """The orders that came since the last look, in order; none where there is no file yet."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return []
        try:
            data = os.pread(fd, READ_BYTES, self._offset)
        finally:
            os.close(fd)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [order for line in lines if (order := _find_order(line)) is not None]


def _find_order(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def write_whole(fd: int, data: bytes) -> None:
    """Write everything, however much the file takes at once."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
