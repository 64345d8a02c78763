"""A lock per workspace for its repository and worktrees, over all processes of this machine.

Whoever clones, fetches, makes or removes a worktree holds it. The system gives it back when its
holder dies.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_LOOK_SECONDS = 0.05
LOCKS = ".locks"


@asynccontextmanager
async def workspace_lock(root: Path, workspace_id: str) -> AsyncIterator[None]:
    """Hold the lock of a workspace, once it is free.

    ``root`` is the folder of the worktrees: who shares worktrees has to share their locks.
    """
    descriptor = await asyncio.to_thread(_open, root / LOCKS, workspace_id)
    try:
        while not _take(descriptor):  # noqa: ASYNC110  # the holder may be another process
            await asyncio.sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _open(folder: Path, name: str) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(folder / name, flags, 0o600)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
