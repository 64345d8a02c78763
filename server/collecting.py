"""Removing what nothing needs any more: ``dragoman gc``, and the server's own sweep."""

import sys
from collections.abc import Awaitable, Callable

from server.services import (
    Server,
    command_line_context,
    make_runner_settings,
    make_worktrees,
)
from server.settings import Settings
from workers.garbage import Garbage, collect_for_ever, collect_garbage


def collector(server: Server) -> Callable[[], Awaitable[None]] | None:
    """The sweep of a server, None where the operator wants none."""
    every = server.settings.gc_interval
    if every == 0:
        return None
    worktrees = make_worktrees(server.settings)
    return lambda: collect_for_ever(
        server.services, server.dispatcher.settings, worktrees, every=every
    )


async def collect(settings: Settings, *, dry_run: bool) -> None:
    """Remove garbage, or list it, one line each on standard output."""
    count = size = 0
    async with command_line_context(settings) as ctx:
        async for found in collect_garbage(
            ctx, make_runner_settings(settings), make_worktrees(settings), dry_run=dry_run
        ):
            _print(_line(found))
            if found.removed is not False:
                count, size = count + 1, size + found.size
    verb = "would be removed" if dry_run else "removed"
    _print(f"{count} {verb}, {shown_size(size)}")


def _line(found: Garbage) -> str:
    state = {None: "garbage", True: "removed", False: "kept"}[found.removed]
    reason = found.why if found.kept_because is None else f"{found.why}, but {found.kept_because}"
    return f"{state:<8} {found.kind:<11} {found.name} ({shown_size(found.size)}): {reason}"


def shown_size(size: int) -> str:
    """Bytes in MiB, with one digit."""
    return f"{size / (1 << 20):.1f} MiB"


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
