"""What the runner is told by the operator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner import git
from runner.board_git import SERVER_IDENTITY
from runner.executors.base import Executor
from runner.executors.custom import CustomExecutor


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """One executor's command; ``pass_env`` names variables of the server that it gets too."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pass_env: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """Folders and limits of the runs of one server; times are seconds, sizes bytes."""

    runs_root: Path
    worktrees_root: Path
    repositories_root: Path
    heartbeat: Path
    host: str
    executors: Mapping[str, ExecutorSettings]
    max_concurrent: int = 4
    time_limit: float = 4 * 3600.0
    silence_limit: float = 600.0
    start_limit: float = 60.0
    output_limit: int = 100 << 20
    stop_grace: float = 5.0
    orphan_after: float = 600.0
    allow_local_clones: bool = False
    author: git.Identity = SERVER_IDENTITY

    def make_executor(self, name: str) -> Executor:
        """The adapter of a configured executor.

        Raises:
            KeyError: it is not configured.
            ExecutorSettingsError: its command is wrong.
        """
        settings = self.executors[name]
        return CustomExecutor(settings.argv, env=settings.env, name=name)
