"""What a repository's own configuration sets, remembered as long as its files say the same.

It is asked before every git command, and a process of git's own for each answer would double the
work. So an answer is remembered together with the content of the files git reads for it. Their
times would not do: an agent can write through a mapping without a new one. Where something is
included from elsewhere, git is asked each time.
"""

import asyncio
import os
from pathlib import Path

from runner.git.command import FIXED_SETTINGS, build_git_environment, run_git

MAX_CONFIGURATION_BYTES = 4 << 20
MAX_REMEMBERED = 256
MAX_REMEMBERED_BYTES = 16 << 10
"""A file of more than this is not remembered."""

_Contents = tuple[tuple[str, bytes | None], ...]
_remembered: dict[Path, tuple[_Contents, tuple[str, ...]]] = {}


async def read_repository_keys(git_dir: Path) -> list[str]:
    """Names of everything the repository's own configuration sets, included files too."""
    contents = await asyncio.to_thread(_read_files, git_dir)
    found = _remembered.pop(git_dir, None)
    if found is not None and found[0] == contents:
        _remembered[git_dir] = found  # the newest stands last
        return list(found[1])
    keys = await _ask(git_dir)
    if contents is not None and not any(key.lower().startswith("include") for key in keys):
        _remembered[git_dir] = (contents, tuple(keys))
        while len(_remembered) > MAX_REMEMBERED:
            del _remembered[next(iter(_remembered))]
    return keys


async def _ask(git_dir: Path) -> list[str]:
    result = await run_git(
        ["config", "--list", "--name-only", "-z", "--includes"],
        cwd=git_dir,
        environment={**build_git_environment(), "GIT_DIR": str(git_dir)},
        max_bytes=MAX_CONFIGURATION_BYTES,
    )
    own = result.stdout.decode("utf-8", errors="surrogateescape").split("\0")
    fixed = {key.lower() for key, _ in FIXED_SETTINGS}
    return [key for key in own if key and key.lower() not in fixed]


def _read_files(git_dir: Path) -> _Contents | None:
    """Every file that git reads a repository's configuration from; None where one is too large.

    A worktree's git folder names the folder it shares with the others in ``commondir``.
    """
    shared = _read(git_dir / "commondir")
    folders = [git_dir]
    if shared is not None:
        folders.append(git_dir / os.fsdecode(shared).strip())
    files = [folder / name for folder in folders for name in ("config", "config.worktree")]
    contents = (("commondir", shared), *((str(file), _read(file)) for file in files))
    too_large = any(len(data or b"") > MAX_REMEMBERED_BYTES for _, data in contents)
    return None if too_large else contents


def _read(file: Path) -> bytes | None:
    try:
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            return opened.read(MAX_REMEMBERED_BYTES + 1)
    except OSError:
        return None
