"""Merging a task's branch: computed without a checkout, then one compare-and-swap of the target.

Where the target branch is checked out clean, that checkout is brought along: otherwise its folder
would suddenly look as if somebody had undone the merge. Where it is checked out with changes, the
merge is refused. Files the repository does not know stay untouched; where one of them is in the
way of the merge, it is refused as well.
"""

import asyncio
from dataclasses import dataclass

from runner.git.commits import create_commit
from runner.git.errors import (
    GitCommandError,
    MergeConflictError,
    TargetDirtyError,
    TargetMovedError,
    UnknownRevisionError,
)
from runner.git.names import Identity
from runner.git.repository import Repository, get_branch_commit, run_in
from runner.git.worktrees import Checkout, list_worktrees

MAX_CONFLICT_FILES = 200
_BUSY = (
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
    "index.lock",
)


@dataclass(frozen=True, slots=True)
class Merge:
    """The target branch after a merge. ``already``: it contained the branch before."""

    sha: str
    already: bool = False
    updated_checkout: bool = False


async def _merge_trees(repository: Repository, ours: str, theirs: str) -> str:
    """The tree of the merge. Raises MergeConflictError, UnknownRevisionError."""
    arguments = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs]
    try:
        result = await run_in(repository.git_dir, arguments, accept=(0, 1))
    except GitCommandError as error:
        if "unrelated histories" in error.stderr:
            raise UnknownRevisionError("The branches have no history in common") from error
        raise
    tree, *names = result.stdout.decode("utf-8", errors="replace").rstrip("\0").split("\0")
    if result.code != 0:
        raise MergeConflictError(list(dict.fromkeys(names))[:MAX_CONFLICT_FILES])
    return tree.strip()


def _is_busy(checkout: Checkout) -> bool:
    return any((checkout.git_dir / name).exists() for name in _BUSY)


async def _check_clean(checkout: Checkout, branch: str) -> None:
    if await asyncio.to_thread(_is_busy, checkout):
        raise TargetDirtyError(f"{branch} is checked out at {checkout.path} in mid-operation")
    arguments = ["status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=all"]
    result = await run_in(checkout.git_dir, arguments, work_tree=checkout.path)
    if result.stdout:
        raise TargetDirtyError(f"{branch} is checked out at {checkout.path} with changes")


async def _move_checkout(checkout: Checkout, old: str, new: str, *, dry_run: bool) -> None:
    """Change index and files of a checkout from one commit to another, all or nothing."""
    arguments = ["read-tree", "-m", "-u", *(["--dry-run"] if dry_run else []), old, new]
    try:
        await run_in(checkout.git_dir, arguments, work_tree=checkout.path)
    except GitCommandError as error:
        raise TargetDirtyError(
            f"The checkout at {checkout.path} is in the way: {error.stderr}"
        ) from error


async def _find_checkout(repository: Repository, branch: str) -> Checkout | None:
    found = [
        checkout
        for checkout in await list_worktrees(repository)
        if checkout.branch == branch and not checkout.bare and not checkout.missing
    ]
    if len(found) > 1:
        raise TargetDirtyError(f"{branch} is checked out more than once")
    return found[0] if found else None


async def _swap(repository: Repository, branch: str, *, old: str, new: str, message: str) -> None:
    reference = f"refs/heads/{branch}"
    try:
        await run_in(repository.git_dir, ["update-ref", "-m", message, reference, new, old])
    except GitCommandError as error:
        raise TargetMovedError(f"{branch} changed meanwhile: {error.stderr}") from error


async def is_merged(repository: Repository, *, branch: str, into: str) -> bool:
    """Whether ``into`` contains everything of ``branch``. Raises UnknownRevisionError."""
    theirs = await get_branch_commit(repository, branch)
    ours = await get_branch_commit(repository, into)
    return await _contains(repository, ours=ours, theirs=theirs)


async def _contains(repository: Repository, *, ours: str, theirs: str) -> bool:
    arguments = ["merge-base", "--is-ancestor", theirs, ours]
    return (await run_in(repository.git_dir, arguments, accept=(0, 1))).code == 0


async def merge(
    repository: Repository,
    *,
    branch: str,
    into: str,
    author: Identity,
    message: str | None = None,
) -> Merge:
    """Merge one local branch into another with a merge commit.

    Raises MergeConflictError, TargetDirtyError, TargetMovedError, UnknownRevisionError,
    InvalidNameError; in each case nothing has changed.
    """
    theirs = await get_branch_commit(repository, branch)
    ours = await get_branch_commit(repository, into)
    if await _contains(repository, ours=ours, theirs=theirs):
        return Merge(ours, already=True)
    checkout = await _find_checkout(repository, into)
    if checkout is not None:
        await _check_clean(checkout, into)
    tree = await _merge_trees(repository, ours, theirs)
    text = message or f"Merge branch '{branch}' into {into}"
    sha = await create_commit(
        repository.git_dir, tree=tree, parents=[ours, theirs], message=text, author=author
    )
    note = f"merge {branch}"
    if checkout is None:
        await _swap(repository, into, old=ours, new=sha, message=note)
        return Merge(sha)
    # Shielded: between its two steps the checkout would show the merge as changes of its user.
    await asyncio.shield(_swap_with_checkout(repository, checkout, into, ours, sha, note))
    return Merge(sha, updated_checkout=True)


async def _swap_with_checkout(
    repository: Repository, checkout: Checkout, branch: str, old: str, new: str, note: str
) -> None:
    await _move_checkout(checkout, old, new, dry_run=True)
    await _move_checkout(checkout, old, new, dry_run=False)
    try:
        await _swap(repository, branch, old=old, new=new, message=note)
    except TargetMovedError:
        await _move_checkout(checkout, new, old, dry_run=False)
        raise
