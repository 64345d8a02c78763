"""Removing worktrees of tasks: the port ``resolvers.ports.Worktrees``."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from resolvers.ports import IsBusy, Place, Removal, UnwantedWorktree
from runner import git
from runner.folder import remove_tree
from runner.locking import LOCKS, workspace_lock
from runner.worktree_setup import WorktreeSetup


@dataclass(frozen=True, slots=True)
class TaskWorktrees:
    """Worktrees below ``root/<workspace id>`` of local repositories, or of clones of ours."""

    root: Path
    repositories_root: Path
    setup: WorktreeSetup = field(default_factory=WorktreeSetup)

    async def remove(self, place: Place, unwanted: UnwantedWorktree, *, is_busy: IsBusy) -> Removal:
        """Remove one worktree, and its branch where nothing of it is lost.

        The workspace's lock is held, so no run can begin there between the look and the removal.
        """
        async with workspace_lock(self.root, place.workspace_id):
            reason = await is_busy()
            if reason is not None:
                return Removal(removed=False, reason=reason)
            try:
                return await self._remove(place, unwanted)
            except git.GitError as error:
                return Removal(removed=False, reason=str(error))
            except OSError as error:
                return Removal(removed=False, reason=f"{error.strerror or error}")

    async def _remove(self, place: Place, unwanted: UnwantedWorktree) -> Removal:
        root = self.root / place.workspace_id
        path = await asyncio.to_thread((root / unwanted.name).resolve)
        repository = await git.get_repository(self._repository_path(place))
        try:
            worktree = await git.get_worktree(repository, path)
        except git.WorktreeMovedError as error:
            if await asyncio.to_thread(os.path.lexists, path):
                return Removal(removed=False, reason=str(error))
            await git.prune_worktrees(repository)
            return await self._end_branch(repository, unwanted, unwanted.branch)
        setup = self.setup.and_then(unwanted.setup)
        if not unwanted.force and await git.has_changes(worktree, leave_out=setup.covers):
            return Removal(removed=False, reason="it has changes that are not committed")
        if unwanted.only_merged and not await self._is_merged(
            repository, unwanted, worktree.branch
        ):
            return Removal(removed=False, reason="its branch is not merged")
        removed = await git.remove_worktree(repository, root=root, name=unwanted.name)
        if not removed:
            return Removal(removed=False, reason="it could not be removed")
        return await self._end_branch(repository, unwanted, worktree.branch)

    def _repository_path(self, place: Place) -> Path:
        if place.local_path is not None:
            return Path(place.local_path)
        return self.repositories_root / place.workspace_id

    async def _end_branch(
        self,
        repository: git.Repository,
        unwanted: UnwantedWorktree,
        branch: str | None,
    ) -> Removal:
        """Delete the task's own branch; commits that are nowhere else stay unless forced."""
        if unwanted.keep_branch or branch is None or branch != unwanted.branch:
            return Removal(removed=True)
        if not unwanted.own_branch:
            reason = f"the branch {branch} was not made for the task and stays"
            return Removal(removed=True, reason=reason)
        if not unwanted.force and not await self._is_merged(repository, unwanted, branch):
            return Removal(removed=True, reason=f"the branch {branch} is not merged and stays")
        return Removal(removed=True, branch_deleted=await git.delete_branch(repository, branch))

    async def _is_merged(
        self, repository: git.Repository, unwanted: UnwantedWorktree, branch: str
    ) -> bool:
        if await git.find_commit(repository, f"refs/heads/{branch}") is None:
            return True
        head = await git.get_branch_commit(repository, branch)
        if unwanted.merged_commit is not None and head == unwanted.merged_commit:
            return True  # squashed or rebased on the forge: no ancestor, but nothing is lost
        base = unwanted.base
        for name in (f"refs/heads/{base}", f"refs/remotes/origin/{base}") if base else ():
            known = await git.find_commit(repository, name)
            if known and await git.find_merge_base(repository, name, head) == head:
                return True
        return False

    def names(self, workspace_id: str) -> list[str]:
        """Names of the folders of a workspace's worktrees; blocking."""
        return [path.name for path in _folders(self.root / workspace_id)]

    def workspaces(self) -> list[str]:
        """Ids of workspaces that have folders here; blocking."""
        both = (*_folders(self.root), *_folders(self.repositories_root))
        return sorted({path.name.lstrip(".").partition(".")[0] for path in both} - {LOCKS[1:]})

    def size(self, workspace_id: str, name: str) -> int:
        """Bytes of a worktree; blocking."""
        return size_of(self.root / workspace_id / name)

    async def remove_clone(self, workspace_id: str) -> bool:
        """Remove our clone of a workspace's repository; False while worktrees of it are left."""
        async with workspace_lock(self.root, workspace_id):
            if await asyncio.to_thread(self.names, workspace_id):
                return False
            return await asyncio.to_thread(remove_tree, self.repositories_root / workspace_id)

    async def remove_partial_clones(self, workspace_id: str) -> int:
        """Remove what interrupted clones left; how many."""
        async with workspace_lock(self.root, workspace_id):
            left = await asyncio.to_thread(self.partial_clones, workspace_id)
            for path in left:
                await asyncio.to_thread(remove_tree, path)
            return len(left)

    def partial_clones(self, workspace_id: str) -> list[Path]:
        """Folders of clones that were not finished; blocking. They are only garbage under lock."""
        return [
            p for p in _folders(self.repositories_root) if p.name.startswith(f".{workspace_id}.")
        ]


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from sorted(p for p in root.iterdir() if p.is_dir() and not p.is_symlink())


def size_of(path: Path, *, entries: int = 1_000_000) -> int:
    """Bytes of all files below a folder, links not followed; of at most so many entries."""
    total = 0
    for parent, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118  # hot
            except OSError:
                continue
        entries -= len(names) + 1
        if entries < 0:
            break
    return total
