"""What a killed server left on the disk is removed by the next one, unless it still serves."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from models import Run, new_id
from models.enums import Executor, RunStatus
from resolvers.context import Context
from resolvers.operation import step
from resolvers.workspaces import create_workspace
from runner.configuration import RunnerSettings
from runner.environment import create_temporary_folder
from runner.folder import create_run_folder
from workers.leftovers import remove_leftovers


@pytest.fixture
def settings(tmp_path: Path) -> RunnerSettings:
    return RunnerSettings(
        runs_root=tmp_path / "runs",
        worktrees_root=tmp_path / "worktrees",
        repositories_root=tmp_path / "repositories",
        heartbeat=tmp_path / "heartbeat",
        host="here",
        executors={},
    )


@pytest.fixture
def leave(settings: RunnerSettings) -> Callable[[str], Path]:
    """A run folder as a start leaves it in the middle."""

    def make(run_id: str) -> Path:
        folder = create_run_folder(settings.runs_root / run_id / "1")
        folder.spec.write_text('{"env": {"KEY": "secret"}}')
        return settings.runs_root / run_id

    return make


@step
async def _run(ctx: Context, *, workspace_id: str, status: str, temporary: str) -> Run:
    return await ctx.transaction.insert(
        Run,
        workspace_id=workspace_id,
        executor=Executor.CUSTOM,
        status=status,
        process={"temporary": temporary},
        created_at=ctx.now,
        updated_at=ctx.now,
    )


async def test_only_what_has_served_goes(
    owner: Context,
    system: Context,
    settings: RunnerSettings,
    leave: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    workspace = await create_workspace(owner, name="W")
    temporary = create_temporary_folder(tmp_path)
    ended = await _run(
        system, workspace_id=workspace.id, status=RunStatus.FAILED, temporary=str(temporary)
    )
    live = await _run(
        system, workspace_id=workspace.id, status=RunStatus.RUNNING, temporary="/nowhere"
    )
    of_ended, of_live, of_nobody = leave(ended.id), leave(live.id), leave(new_id())
    stranger = settings.runs_root / "not-ours"
    stranger.mkdir()
    supervised = leave(new_id())
    lock = os.open(supervised / "1" / "run.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        assert await remove_leftovers(system, settings) == 2
    finally:
        os.close(lock)
    assert not of_ended.exists()
    assert not temporary.exists()
    assert not of_nobody.exists()
    assert of_live.exists()
    assert stranger.exists()
    assert supervised.exists()
    assert await remove_leftovers(system, settings) == 1


async def test_a_server_that_never_ran_anything_has_nothing_to_remove(
    system: Context, settings: RunnerSettings
) -> None:
    assert await remove_leftovers(system, settings) == 0
