"""Where a run works: its repository, its branch, its worktree."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from resolvers.run_claims import ClaimedRun
from resolvers.workspace_fields import slugify
from runner import git
from runner.configuration import RunnerSettings
from runner.locking import workspace_lock

BRANCH_PREFIX = "dragoman/"
SLUG_LENGTH = 40


class NoWorkplaceError(Exception):
    """There is nowhere to work; the text is fit for the user."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """A worktree that is ready, and what it started from."""

    worktree: git.Worktree
    base_branch: str
    base_commit: str


async def prepare_workplace(
    settings: RunnerSettings, claimed: ClaimedRun, *, access: git.Access | None = None
) -> Workplace:
    """The worktree of a run's task, made where it is not there yet.

    ``access`` is used for the workspace's repository where that is elsewhere.

    A task keeps its branch and worktree over all its runs.

    Raises:
        NoWorkplaceError, GitError: with a text for people.
    """
    async with workspace_lock(settings.worktrees_root, claimed.workspace.id):
        return await _prepare(settings, claimed, access)


async def _prepare(
    settings: RunnerSettings, claimed: ClaimedRun, access: git.Access | None
) -> Workplace:
    repository = await _repository(settings, claimed, access)
    base = claimed.run.base_branch or (await git.probe(repository.path)).default_branch
    if base is None:
        raise NoWorkplaceError(
            "The repository has no commit yet, so there is nothing to start from"
        )
    start = await _start_of(repository, base)
    root, name = settings.worktrees_root / claimed.workspace.id, _folder_name(claimed)
    branch = claimed.run.branch or await _free_branch(repository, root / name, claimed)
    worktree = await git.ensure_worktree(
        repository, root=root, name=name, branch=branch, base=start
    )
    base_commit = await git.find_merge_base(repository, start, f"refs/heads/{branch}")
    return Workplace(worktree, base, base_commit or await git.get_commit(repository, start))


async def reopen_workplace(claimed: ClaimedRun) -> Workplace | None:
    """The worktree a run was started in, after a restart; None where it is gone."""
    run, workspace = claimed.run, claimed.workspace
    path = run.process.get("repository") or workspace.local_path
    if not (path and run.worktree_path and run.base_commit and run.base_branch):
        return None
    try:
        repository = await git.get_repository(Path(path))
        worktree = await git.get_worktree(repository, Path(run.worktree_path))
    except git.GitError:
        return None
    return Workplace(worktree, run.base_branch, run.base_commit)


async def _repository(
    settings: RunnerSettings, claimed: ClaimedRun, access: git.Access | None
) -> git.Repository:
    workspace = claimed.workspace
    if workspace.local_path is not None:
        return await git.get_repository(Path(workspace.local_path))
    if workspace.repository_url is None:
        raise NoWorkplaceError("The workspace has no repository: set localPath or repositoryUrl")
    target = settings.repositories_root / workspace.id
    local = settings.allow_local_clones
    if not target.exists():
        return await git.clone(workspace.repository_url, target, access=access, allow_local=local)
    repository = await git.get_repository(target)
    await git.fetch(repository, url=workspace.repository_url, access=access, allow_local=local)
    return repository


async def _start_of(repository: git.Repository, base: str) -> str:
    """What a new branch starts from: the base as the remote has it, in a copy of ours."""
    remote = f"refs/remotes/origin/{base}"
    if repository.path == repository.git_dir and await git.find_commit(repository, remote):
        return remote
    return f"refs/heads/{base}" if await git.find_commit(repository, f"refs/heads/{base}") else base


async def _free_branch(repository: git.Repository, folder: Path, claimed: ClaimedRun) -> str:
    """A branch for a task that has none yet.

    The one of its worktree, where a server died before it could write that down; else a name made
    from its title, with a part of its id where somebody (another workspace on the same repository)
    has a branch of this name already.
    """
    try:
        path = await asyncio.to_thread(folder.resolve)
        return (await git.get_worktree(repository, path)).branch
    except git.WorktreeMovedError:
        name = _branch_name(claimed)
    if await git.find_commit(repository, f"refs/heads/{name}") is None:
        return name
    owner = claimed.task or claimed.run
    return f"{name}-{owner.public_id[:6]}"


def _branch_name(claimed: ClaimedRun) -> str:
    task = claimed.task
    if task is None:
        return f"{BRANCH_PREFIX}run-{claimed.run.public_id}"
    slug = slugify(task.title)[:SLUG_LENGTH].strip("-.")
    return f"{BRANCH_PREFIX}task-{task.number}" + (f"-{slug}" if slug else "")


def _folder_name(claimed: ClaimedRun) -> str:
    task = claimed.task
    if task is None:
        return f"run-{claimed.run.public_id}"
    return re.sub(r"[^a-z0-9-]", "", f"task-{task.number}-{task.public_id}")
