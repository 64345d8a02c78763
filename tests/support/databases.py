"""Databases that tests and benchmarks make in PostgreSQL: their names, and what dead runs left.

A run that was killed cannot drop its databases. Their names tell whose they were: a process, and
the space of processes (a container has its own) in which its number means something.
"""

import contextlib
import hashlib
import os
import platform
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import asyncpg

_NAME = re.compile(r"dragoman_[a-z0-9]+_([0-9a-f]{8})_(\d+)_[0-9a-f]{12}")


def _place() -> str:
    """The space of processes that this one is in."""
    with contextlib.suppress(OSError):  # only Linux has this link
        return f"{platform.node()} {Path('/proc/self/ns/pid').readlink()}"
    return platform.node()


PLACE = hashlib.sha256(_place().encode()).hexdigest()[:8]


def new_name(kind: str) -> str:
    """A name that nothing else has, for a database of this process."""
    return f"dragoman_{kind}_{PLACE}_{os.getpid()}_{uuid.uuid4().hex[:12]}"


def orphans(names: Iterable[str]) -> Iterator[str]:
    """Those whose process was in this space and is gone."""
    for name in names:
        match = _NAME.fullmatch(name)
        if match and match[1] == PLACE and not _is_alive(int(match[2])):
            yield name


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


async def drop_orphans(address: str) -> None:
    """Drop what dead processes left in the server at an address (``postgresql://…``)."""
    connection = await asyncpg.connect(f"{address}/postgres")
    try:
        rows = await connection.fetch("SELECT datname FROM pg_database")
        for name in orphans(row[0] for row in rows):
            with contextlib.suppress(asyncpg.PostgresError):  # another run drops it just now
                await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()
