"""Worktrees: one folder per task under a root of our own, on the task's branch."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from runner.folder import remove_tree
from runner.git.errors import (
    GitCommandError,
    InvalidNameError,
    UnknownRevisionError,
    WorktreeConflictError,
    WorktreeMovedError,
)
from runner.git.names import check_branch_name, check_folder_name
from runner.git.repository import (
    Repository,
    find_commit,
    find_symbolic_ref,
    get_commit,
    run_in,
)


@dataclass(frozen=True, slots=True)
class Checkout:
    """One entry of the repository's list: its main folder or a worktree.

    ``branch`` is None when detached or bare. ``git_dir`` is its own git folder, as the repository
    has it, whatever the folder itself says. ``missing``: the folder is gone.
    """

    path: Path
    git_dir: Path
    head: str | None
    branch: str | None
    bare: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Worktree:
    """A worktree of ours; its ``git_dir`` lies inside the repository's."""

    repository: Repository
    path: Path
    git_dir: Path
    branch: str


def _read_git_dirs(repository: Repository) -> dict[str, Path]:
    """Git folders of the linked worktrees by the path of the worktree."""
    found = {}
    for folder in sorted((repository.git_dir / "worktrees").glob("*/gitdir")):
        pointer = os.fsdecode(folder.read_bytes()).rstrip("\n")
        found[str(Path(folder.parent, pointer).parent)] = folder.parent
    return found


async def list_worktrees(repository: Repository) -> list[Checkout]:
    """The main folder (first) and all worktrees of a repository."""
    result = await run_in(repository.git_dir, ["worktree", "list", "--porcelain", "-z"])
    git_dirs = await asyncio.to_thread(_read_git_dirs, repository)
    checkouts = []
    for number, block in enumerate(os.fsdecode(result.stdout).split("\0\0")):
        attributes = dict(line.partition(" ")[::2] for line in block.split("\0") if line)
        if "worktree" not in attributes:
            continue
        path = Path(attributes["worktree"])
        branch = attributes.get("branch", "")
        checkouts.append(
            Checkout(
                path=path,
                git_dir=repository.git_dir if number == 0 else git_dirs.get(str(path), path),
                head=attributes.get("HEAD"),
                branch=branch.removeprefix("refs/heads/") or None,
                bare="bare" in attributes,
                missing=not await asyncio.to_thread(path.is_dir),
            )
        )
    return checkouts


def _confine(root: Path, name: str) -> Path:
    """``root/name`` with all links of the root resolved; itself never a link."""
    check_folder_name(name)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root.resolve() / name
    if path.is_symlink() or path.resolve() != path:
        raise InvalidNameError(f"{path} leads out of {root}")
    return path


async def get_worktree(repository: Repository, path: Path) -> Worktree:
    """The worktree at ``path``, as the repository knows it. Raises WorktreeMovedError."""
    git_dirs = await asyncio.to_thread(_read_git_dirs, repository)
    git_dir = git_dirs.get(str(path))
    if git_dir is None or not await asyncio.to_thread(_is_folder, path):
        raise WorktreeMovedError(f"{path} is no worktree of {repository.path}")
    head = await find_symbolic_ref(git_dir, "HEAD") or ""
    if not head.startswith("refs/heads/"):
        raise WorktreeMovedError(f"{path} is not on a branch any more")
    return Worktree(repository, path, git_dir, head.removeprefix("refs/heads/"))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


async def ensure_worktree(
    repository: Repository, *, root: Path, name: str, branch: str, base: str
) -> Worktree:
    """The worktree ``root/name`` on ``branch``, made where it is not there yet.

    A new branch begins at ``base`` (a plain name of a commit). Raises InvalidNameError (also when
    the path leads out of the root), UnknownRevisionError, WorktreeConflictError.
    """
    check_branch_name(branch)
    path = await asyncio.to_thread(_confine, root, name)
    checkouts = await list_worktrees(repository)
    if any(checkout.missing and checkout.path == path for checkout in checkouts):
        await prune_worktrees(repository)
        checkouts = await list_worktrees(repository)
    for checkout in checkouts:
        if checkout.path == path and checkout.branch == branch:
            return await get_worktree(repository, path)
        if checkout.path == path:
            raise WorktreeConflictError(f"{path} is on {checkout.branch or 'no branch'}")
        if checkout.branch == branch:
            raise WorktreeConflictError(f"{branch} is checked out at {checkout.path}")
    if await asyncio.to_thread(_is_taken, path):
        raise WorktreeConflictError(f"{path} exists and is no worktree of this repository")
    arguments = ["worktree", "add", "--quiet", "--no-guess-remote"]
    if await find_commit(repository, f"refs/heads/{branch}") is None:
        commit = await get_commit(repository, base)
        arguments += ["--no-track", "-b", branch, "--", str(path), commit]
    else:
        arguments += ["--", str(path), branch]
    try:
        await run_in(repository.git_dir, arguments)
    except GitCommandError as error:
        raise WorktreeConflictError(f"No worktree at {path}: {error.stderr}") from error
    return await get_worktree(repository, path)


def _is_taken(path: Path) -> bool:
    return os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))


async def remove_worktree(repository: Repository, *, root: Path, name: str) -> bool:
    """Delete the worktree ``root/name`` with everything in it; its branch stays.

    False where there was nothing. Raises InvalidNameError, WorktreeMovedError where the folder
    belongs to something else (then nothing is deleted).
    """
    path = await asyncio.to_thread(_confine, root, name)
    git_dirs = await asyncio.to_thread(_read_git_dirs, repository)
    exists = await asyncio.to_thread(path.exists)
    if str(path) not in git_dirs:
        if exists:
            raise WorktreeMovedError(f"{path} is no worktree of {repository.path}")
        return False
    # Deleted by us, not by git: it would look at what the agent left as if it were a repository.
    await asyncio.to_thread(remove_tree, path)
    await prune_worktrees(repository)
    return exists


async def prune_worktrees(repository: Repository) -> None:
    """Forget worktrees whose folders are gone."""
    await run_in(repository.git_dir, ["worktree", "prune", "--expire=now"])


async def delete_branch(repository: Repository, branch: str) -> bool:
    """Delete a local branch that is checked out nowhere; False where it does not exist.

    Raises WorktreeConflictError where it is checked out.
    """
    check_branch_name(branch)
    for checkout in await list_worktrees(repository):
        if checkout.branch == branch:
            raise WorktreeConflictError(f"{branch} is checked out at {checkout.path}")
    try:
        commit = await get_commit(repository, f"refs/heads/{branch}")
    except UnknownRevisionError:
        return False
    await run_in(repository.git_dir, ["update-ref", "-d", f"refs/heads/{branch}", commit])
    return True
