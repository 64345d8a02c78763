"""Committing what an agent left in its worktree, and showing what changed.

Commits are made with git's plumbing, so that no hook, editor, signer or template takes part.
"""

import asyncio
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runner.git.errors import GitError, InvalidNameError, WorktreeMovedError
from runner.git.names import Identity
from runner.git.repository import Repository, find_symbolic_ref, get_commit, run_in
from runner.git.worktrees import Worktree

MAX_FILE_BYTES = 100 << 20
MAX_LISTED_FILES = 500
MAX_MESSAGE_CHARACTERS = 20_000
MAX_DIFF_BYTES = 1 << 20
_GITLINK = "160000"
_NO_OBJECT = "0" * 40
_DIFF_OPTIONS = ("-r", "-M", "--no-ext-diff", "--no-textconv", "--no-color", "--end-of-options")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that was made. ``skipped`` names (at most 500) paths that were left out.

    Left out are nested repositories (an agent's ``git init`` or submodule change), files over the
    size limit, and what is neither file nor link.
    """

    sha: str
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileStat:
    """Changes of one file; the counts are None for binary files."""

    path: str
    additions: int | None
    deletions: int | None
    old_path: str | None = None


@dataclass(frozen=True, slots=True)
class DiffStat:
    """Changes between two commits; the sums are complete, ``files`` holds the first 500."""

    files_changed: int
    additions: int
    deletions: int
    files: tuple[FileStat, ...] = ()
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Diff:
    """A unified diff; ``truncated`` when it was longer than asked for."""

    text: str
    truncated: bool = False


@dataclass(slots=True)
class _Changes:
    keep: list[bytes] = field(default_factory=list)
    remove: list[bytes] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def _read_status(output: bytes, leave_out: Callable[[str], bool] | None) -> list[bytes]:
    """Paths out of ``status --porcelain=v2 -z`` without renames."""
    # How many blanks stand before the path, by the kind of line.
    columns = {b"1": 8, b"u": 10, b"?": 1}
    paths = []
    for record in output.split(b"\0"):
        if count := columns.get(record[:1]):
            path = record.split(b" ", count)[count]
            unknown = record.startswith(b"?")
            if not (unknown and leave_out and leave_out(path.decode("utf-8", errors="replace"))):
                paths.append(path)
    return paths


async def has_changes(
    worktree: Worktree, *, leave_out: Callable[[str], bool] | None = None
) -> bool:
    """Whether anything in a worktree is not committed; ignored files do not count.

    Args:
        worktree: which.
        leave_out: paths of new files that do not count either.
    """
    arguments = ["status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames"]
    status = await run_in(worktree.git_dir, arguments, work_tree=worktree.path)
    return bool(_read_status(status.stdout, leave_out))


def _sort_changes(root: Path, paths: list[bytes], max_file_bytes: int) -> _Changes:
    changes = _Changes()
    for path in paths:
        shown = path.decode("utf-8", errors="replace")
        if path.endswith(b"/"):
            changes.skipped.append(shown)  # an untracked repository inside of this one
            continue
        try:
            status = os.lstat(os.path.join(os.fsencode(root), path))  # noqa: PTH118 - bytes
        except (FileNotFoundError, NotADirectoryError):
            changes.remove.append(path)
            continue
        if stat.S_ISLNK(status.st_mode):
            changes.keep.append(path)
        elif not stat.S_ISREG(status.st_mode):
            # A folder took the place of a file (what is in it is listed by itself), or a pipe did.
            changes.remove.append(path)
        elif status.st_size > max_file_bytes:
            changes.skipped.append(shown)
        else:
            changes.keep.append(path)
    return changes


async def _undo_gitlinks(worktree: Worktree, head: str) -> list[str]:
    """Put back what the agent staged of nested repositories; return their paths."""
    arguments = ["diff-index", "--cached", "--raw", "-z", "--no-renames", "--no-abbrev"]
    arguments += ["--ignore-submodules=none", head, "--"]
    result = await run_in(worktree.git_dir, arguments, work_tree=worktree.path)
    parts = result.stdout.split(b"\0")
    lines, found = [], []
    for raw, path in zip(parts[::2], parts[1::2], strict=False):
        old_mode, new_mode, old_sha, _, _ = raw.decode().lstrip(":").split(" ")
        if _GITLINK not in {old_mode, new_mode}:
            continue
        sha = old_sha if old_mode != "000000" else _NO_OBJECT
        mode = old_mode if old_mode != "000000" else "0"
        lines.append(f"{mode} {sha}\t".encode() + path + b"\0")
        found.append(path.decode("utf-8", errors="replace"))
    if lines:
        await run_in(
            worktree.git_dir,
            ["update-index", "-z", "--index-info"],
            work_tree=worktree.path,
            stdin=b"".join(lines),
        )
    return found


async def _update_index(worktree: Worktree, options: list[str], paths: list[bytes]) -> None:
    if paths:
        await run_in(
            worktree.git_dir,
            ["update-index", *options, "-z", "--stdin"],
            work_tree=worktree.path,
            stdin=b"".join(path + b"\0" for path in paths),
        )


def clean_message(message: str) -> str:
    """A commit message git can take. Raises InvalidNameError for an empty one."""
    text = message.encode("utf-8", errors="replace").decode().replace("\0", "")
    text = text.replace("\r\n", "\n").strip()[:MAX_MESSAGE_CHARACTERS]
    if not text:
        raise InvalidNameError("A commit needs a message")
    return text + "\n"


async def create_commit(
    git_dir: Path, *, tree: str, parents: list[str], message: str, author: Identity
) -> str:
    """Write a commit object and return its hash; no branch is changed."""
    arguments = ["commit-tree", *(part for sha in parents for part in ("-p", sha)), "-F", "-", tree]
    result = await run_in(
        git_dir,
        arguments,
        stdin=clean_message(message).encode(),
        extra={**author.environment("AUTHOR"), **author.environment("COMMITTER")},
    )
    return result.text


async def commit_all(
    worktree: Worktree,
    *,
    message: str,
    author: Identity,
    max_file_bytes: int = MAX_FILE_BYTES,
    leave_out: Callable[[str], bool] | None = None,
) -> Commit | None:
    """Commit everything that differs in the worktree on its branch; None where nothing does.

    Files that ``.gitignore`` names stay out, and new ones whose path ``leave_out`` is true for. No
    process of the run may be alive any more. Raises WorktreeMovedError where the agent left the
    branch, InvalidNameError for an empty message.
    """
    clean_message(message)
    reference = f"refs/heads/{worktree.branch}"
    if await find_symbolic_ref(worktree.git_dir, "HEAD") != reference:
        raise WorktreeMovedError(f"{worktree.path} is not on {worktree.branch} any more")
    head = await get_commit(worktree.repository, reference)
    nested = await _undo_gitlinks(worktree, head)
    arguments = ["status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames"]
    status = await run_in(
        worktree.git_dir, [*arguments, "--ignore-submodules=all"], work_tree=worktree.path
    )
    paths = _read_status(status.stdout, leave_out)
    changes = await asyncio.to_thread(_sort_changes, worktree.path, paths, max_file_bytes)
    await _update_index(worktree, ["--force-remove"], changes.remove)
    await _update_index(worktree, ["--add", "--replace"], changes.keep)
    tree = (await run_in(worktree.git_dir, ["write-tree"], work_tree=worktree.path)).text
    if tree == (await run_in(worktree.git_dir, ["rev-parse", f"{head}^{{tree}}"])).text:
        return None
    sha = await create_commit(
        worktree.git_dir, tree=tree, parents=[head], message=message, author=author
    )
    await run_in(worktree.git_dir, ["update-ref", "-m", "commit: run", reference, sha, head])
    skipped = sorted({*nested, *changes.skipped})
    return Commit(sha, tuple(skipped[:MAX_LISTED_FILES]))


def _read_numstat(output: bytes) -> list[FileStat]:
    """Files out of ``--numstat -z``: three columns, or two and then both names of a rename."""
    parts = iter(output.split(b"\0"))
    files = []
    for part in parts:
        columns = part.split(b"\t", 2)
        if len(columns) != 3:  # noqa: PLR2004 - the empty end
            continue
        added, deleted, path = columns
        old = None if path else next(parts)
        path = path or next(parts)
        files.append(
            FileStat(
                path=path.decode("utf-8", errors="replace"),
                additions=None if added == b"-" else int(added),
                deletions=None if deleted == b"-" else int(deleted),
                old_path=None if old is None else old.decode("utf-8", errors="replace"),
            )
        )
    return files


async def diff_stat(
    repository: Repository, base: str, head: str, *, max_files: int = MAX_LISTED_FILES
) -> DiffStat:
    """What changed from one commit to another, by files and lines; renames are recognised.

    Raises UnknownRevisionError, GitOutputLimitError for far more than 100,000 files.
    """
    ends = [await get_commit(repository, base), await get_commit(repository, head)]
    if ends[0] == ends[1]:
        return DiffStat(0, 0, 0)
    result = await run_in(
        repository.git_dir, ["diff-tree", "--numstat", "-z", *_DIFF_OPTIONS, *ends]
    )
    files = _read_numstat(result.stdout)
    return DiffStat(
        files_changed=len(files),
        additions=sum(file.additions or 0 for file in files),
        deletions=sum(file.deletions or 0 for file in files),
        files=tuple(files[:max_files]),
        truncated=len(files) > max_files,
    )


async def diff(
    repository: Repository, base: str, head: str, *, max_bytes: int = MAX_DIFF_BYTES
) -> Diff:
    """The unified diff from one commit to another. Raises UnknownRevisionError."""
    ends = [await get_commit(repository, base), await get_commit(repository, head)]
    result = await run_in(
        repository.git_dir,
        ["diff-tree", "-p", *_DIFF_OPTIONS, *ends],
        max_bytes=max_bytes,
        truncate=True,
    )
    text = result.stdout.decode("utf-8", errors="ignore" if result.truncated else "replace")
    return Diff(text.replace("\0", "\ufffd"), result.truncated)


async def find_merge_base(repository: Repository, first: str, second: str) -> str | None:
    """The commit at which two branches parted, None where they have none in common."""
    ends = [await get_commit(repository, first), await get_commit(repository, second)]
    result = await run_in(repository.git_dir, ["merge-base", *ends], accept=(0, 1))
    if result.code not in {0, 1}:
        raise GitError("git merge-base was ended")
    return result.text or None
