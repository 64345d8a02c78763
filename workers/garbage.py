"""What nothing refers to any more: found, and removed, beside running servers.

Worktrees go under their workspace's lock after a look into the database, run folders only when
their supervisor is gone, rows in transactions of their own. What cannot be told for certain stays.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import structlog

from resolvers.context import Context, Services
from resolvers.output_retention import count_output_of_deleted, drop_output_of_deleted
from resolvers.principal import SYSTEM
from resolvers.run_claims import ended_runs
from resolvers.worktrees import deleted_workspaces, find_owners, remove_worktree
from runner.configuration import RunnerSettings
from runner.task_worktrees import TaskWorktrees, size_of
from workers.leftovers import find_folders, remove_leftover

log = structlog.get_logger("dragoman.gc")


@dataclass(frozen=True, slots=True)
class Garbage:
    """One thing that was found; ``removed`` None where nothing was tried (a dry run)."""

    kind: str
    name: str
    size: int
    why: str
    removed: bool | None = None
    kept_because: str | None = None


async def collect_garbage(
    system: Context, settings: RunnerSettings, worktrees: TaskWorktrees, *, dry_run: bool
) -> AsyncIterator[Garbage]:
    """Find garbage and, unless it is a dry run, remove it; each thing as it is dealt with.

    A dry run tells what would be tried; whether a worktree has changes is only looked at then.
    """
    async for found in _run_folders(system, settings, dry_run=dry_run):
        yield found
    workspace_ids = await asyncio.to_thread(worktrees.workspaces)
    for workspace_id in workspace_ids:
        async for found in _worktrees(system, worktrees, workspace_id, dry_run=dry_run):
            yield found
    async for found in _clones(system, worktrees, workspace_ids, dry_run=dry_run):
        yield found
    async for found in _output(system, dry_run=dry_run):
        yield found


async def collect_for_ever(
    services: Services, settings: RunnerSettings, worktrees: TaskWorktrees, *, every: float
) -> None:
    """Remove garbage every so many seconds, until cancelled."""
    while True:
        await asyncio.sleep(every)
        removed = size = 0
        system = Context(services, SYSTEM)
        async for found in collect_garbage(system, settings, worktrees, dry_run=False):
            if found.removed:
                removed, size = removed + 1, size + found.size
        log.info("garbage removed", things=removed, bytes=size)


async def _run_folders(
    system: Context, settings: RunnerSettings, *, dry_run: bool
) -> AsyncIterator[Garbage]:
    names = await asyncio.to_thread(find_folders, settings.runs_root)
    ended = await _released(system, ended_runs(system, run_ids=names))
    for run_id, process in ended.items():
        folder = settings.runs_root / run_id
        size = await asyncio.to_thread(size_of, folder)
        removed = None
        if not dry_run:
            removed = await asyncio.to_thread(remove_leftover, folder, process)
        kept = "processes of it live, or it cannot be deleted" if removed is False else None
        yield Garbage("run folder", run_id, size, "its run is over", removed, kept)


async def _worktrees(
    system: Context, worktrees: TaskWorktrees, workspace_id: str, *, dry_run: bool
) -> AsyncIterator[Garbage]:
    names = await asyncio.to_thread(worktrees.names, workspace_id)
    owners = await _released(system, find_owners(system, workspace_id=workspace_id, names=names))
    for name, owner in owners.items():
        if owner.served is None:
            continue
        size = await asyncio.to_thread(worktrees.size, workspace_id, name)
        what = f"{workspace_id}/{name}"
        if dry_run:
            yield Garbage("worktree", what, size, owner.served)
            continue
        done = await remove_worktree(
            system, owner.workspace, owner.task, only_merged=False, force=False, keep_branch=False
        )
        kept = None if done.removed else done.reason
        yield Garbage("worktree", what, size, owner.served, done.removed, kept)


async def _clones(
    system: Context, worktrees: TaskWorktrees, workspace_ids: list[str], *, dry_run: bool
) -> AsyncIterator[Garbage]:
    gone = await _released(system, deleted_workspaces(system, workspace_ids=workspace_ids))
    for workspace_id in workspace_ids:
        for path in await asyncio.to_thread(worktrees.partial_clones, workspace_id):
            size = await asyncio.to_thread(size_of, path)
            removed = None if dry_run else bool(await worktrees.remove_partial_clones(workspace_id))
            yield Garbage("clone", path.name, size, "it was interrupted", removed)
        clone = worktrees.repositories_root / workspace_id
        if workspace_id not in gone or not await asyncio.to_thread(clone.is_dir):
            continue
        size = await asyncio.to_thread(size_of, clone)
        removed = None if dry_run else await worktrees.remove_clone(workspace_id)
        kept = "worktrees of it are left" if removed is False else None
        yield Garbage("clone", workspace_id, size, "its workspace is deleted", removed, kept)


async def _output(system: Context, *, dry_run: bool) -> AsyncIterator[Garbage]:
    if dry_run:
        runs, size = await _released(system, count_output_of_deleted(system))
    else:
        runs, size = await drop_output_of_deleted(system)
    if runs:
        removed = None if dry_run else True
        yield Garbage("run output", f"{runs} runs", size, "task or workspace is deleted", removed)


async def _released(system: Context, found: Any) -> Any:
    try:
        return await found
    finally:
        await system.release()
