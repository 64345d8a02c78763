"""Database work that cancellation must not cut in the middle.

A driver call that is cancelled half-way leaves a connection nobody can trust: SQLAlchemy throws it
away, and with SQLite its thread may go on holding the write lock. So every call runs to its end,
and the cancellation is delivered right after it.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def uninterrupted(work: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
    """Run to the end whatever happens to the caller; a cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved: the cancellation is what the caller gets
        raise cancelled
    return task.result()


async def opened(connect: Coroutine[Any, Any, T]) -> T:
    """Like :func:`uninterrupted` for something that must be closed: if cancelled, it is closed."""
    task = asyncio.ensure_future(connect)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await uninterrupted(_close_when_open(task))
        raise


async def _close_when_open(task: "asyncio.Task[Any]") -> None:
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        await task.result().close()
