"""Folders that a killed server left behind: of runs that are over, or that nobody knows."""

import asyncio
from pathlib import Path

import structlog

from resolvers.context import Context
from resolvers.run_claims import ended_runs
from resolvers.validation import is_id
from runner.configuration import RunnerSettings
from runner.environment import remove_temporary_folder
from runner.folder import RunFolderError, is_locked, open_run_folder, remove_tree

log = structlog.get_logger("dragoman.runs")


async def remove_leftovers(system: Context, settings: RunnerSettings) -> int:
    """Remove the run folders (and temporary folders) that have served; how many runs had any.

    A folder is kept while its run has not ended, or while its supervisor lives. It may hold the
    prompt and, where the server died in the middle of a start, the agent's credentials.
    """
    names = await asyncio.to_thread(find_folders, settings.runs_root)
    try:
        ended = await ended_runs(system, run_ids=names)
    finally:
        await system.release()
    removed = 0
    for run_id, process in ended.items():
        if await asyncio.to_thread(remove_leftover, settings.runs_root / run_id, process):
            removed += 1
    if removed:
        log.info("left-over run folders removed", runs=removed)
    return removed


def find_folders(root: Path) -> list[str]:
    """Names of the folders that runs have here, by id; blocking."""
    if not root.is_dir():
        return []
    return sorted(
        entry.name
        for entry in root.iterdir()
        if is_id(entry.name) and entry.is_dir() and not entry.is_symlink()
    )


def remove_leftover(folder: Path, process: dict[str, str]) -> bool:
    """Remove a run's folders, unless a supervisor lives there; blocking. Whether they are gone."""
    for attempt in sorted(folder.iterdir()):
        try:
            if is_locked(open_run_folder(attempt)):
                return False
        except RunFolderError:
            continue
    if temporary := process.get("temporary"):
        remove_temporary_folder(Path(temporary))
    return remove_tree(folder)
