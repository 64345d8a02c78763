"""What a repository tells agents, for those that are kept from reading it by themselves."""

import contextlib
from pathlib import Path

from runner.folder import open_regular
from runner.output import clean_text

MAX_BYTES = 256 << 10


def find_instructions(worktree: Path, name: str) -> str | None:
    """The text of a file in the worktree's topmost folder; blocking.

    None where there is none, or where it is no regular file: a link could lead to a secret of the
    server's user, which the agent would then read as instructions. At most 256 KiB are kept.
    """
    with contextlib.suppress(OSError), open_regular(worktree / name) as file:
        return clean_text(file.read(MAX_BYTES)).strip() or None
    return None
