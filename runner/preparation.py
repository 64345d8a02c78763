"""Getting a run's worktree ready: the credential for its repository, and what is set up in it."""

import asyncio
from pathlib import Path

from resolvers.context import Context
from resolvers.errors import UnavailableError
from resolvers.git_access import find_secret
from resolvers.run_claims import ClaimedRun
from runner import git
from runner.configuration import RunnerSettings
from runner.workplace import NoWorkplaceError, Workplace, prepare_workplace
from runner.worktree_setup import MARK, SetupCommands, Tell, WorktreeSetup, copy_files


async def prepare(
    system: Context,
    settings: RunnerSettings,
    claimed: ClaimedRun,
    *,
    tell: Tell,
    stopped: asyncio.Event,
) -> Workplace:
    """The worktree of a run, with everything in it that the settings ask for.

    Raises NoWorkplaceError, GitError, SetupError with a text for people; SetupStoppedError when
    ``stopped`` was set meanwhile.
    """
    access = await _find_access(system, claimed)
    workplace = await prepare_workplace(settings, claimed, access=access)
    await _set_up(settings, claimed, workplace, tell=tell, stopped=stopped)
    return workplace


def find_setup(settings: RunnerSettings, claimed: ClaimedRun) -> WorktreeSetup:
    """What new worktrees of a run's workspace need: the operator's part, then its own."""
    return settings.setup.and_then(claimed.workspace.worktree_setup)


async def _find_access(system: Context, claimed: ClaimedRun) -> git.Access | None:
    workspace = claimed.workspace
    host = git.host_of(workspace.repository_url or "")
    if workspace.local_path is not None or host is None:
        return None
    try:
        found = await find_secret(system, workspace_id=workspace.id, host=host)
    except UnavailableError as error:
        raise NoWorkplaceError(str(error)) from error
    finally:
        await system.release()
    return None if found is None else git.Access(found.host, found.username, found.secret)


async def _set_up(
    settings: RunnerSettings,
    claimed: ClaimedRun,
    workplace: Workplace,
    *,
    tell: Tell,
    stopped: asyncio.Event,
) -> None:
    """Prepare a worktree that is new, or whose preparation was not finished."""
    setup = find_setup(settings, claimed)
    mark = workplace.worktree.git_dir / MARK
    if not setup or await asyncio.to_thread(mark.exists):
        return
    path, checkout = workplace.worktree.path, claimed.workspace.local_path
    if setup.copy and checkout is not None:
        await tell(await asyncio.to_thread(copy_files, Path(checkout), path, setup.copy))
    commands = SetupCommands(
        run_id=claimed.run.id,
        folder=settings.runs_root / claimed.run.id,
        prefix=f"{claimed.token}-setup",
        heartbeat=settings.heartbeat,
        seconds=settings.setup_limit,
        orphan_after=settings.orphan_after,
        stop_grace=settings.stop_grace,
    )
    for number, argv in enumerate(setup.commands):
        await commands.run(argv, number=number, cwd=path, tell=tell, stopped=stopped)
    await asyncio.to_thread(mark.touch)
