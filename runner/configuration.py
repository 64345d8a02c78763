"""What the runner is told by the operator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner import git
from runner.board_git import SERVER_IDENTITY
from runner.executors.base import Executor
from runner.executors.custom import CustomExecutor
from runner.executors.native import NativeSettings, Permissions
from runner.executors.registry import Protocol, make_built_in
from runner.prompts import PromptMaker
from runner.worktree_setup import WorktreeSetup


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """How one executor is started; ``pass_env`` names variables of the server that it gets too.

    With ``argv`` it is that command, whatever its name. Without, it is the built-in adapter of its
    name, with ``program``, ``args``, ``model``, ``permissions`` and ``protocol`` in place of the
    usual ones.
    """

    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pass_env: tuple[str, ...] = ()
    program: str | None = None
    args: tuple[str, ...] = ()
    model: str | None = None
    permissions: Permissions = Permissions.EDITS
    protocol: Protocol | None = None

    def make(self, name: str) -> Executor:
        """The adapter under this name. Raises ExecutorSettingsError."""
        if self.argv:
            return CustomExecutor(self.argv, env=self.env, name=name)
        native = NativeSettings(
            program=self.program,
            args=self.args,
            model=self.model,
            permissions=self.permissions,
            env=self.env,
            passed=self.pass_env,
        )
        return make_built_in(name, native, protocol=self.protocol)


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
    answer_limit: float = 3600.0
    allow_local_clones: bool = False
    prompts: PromptMaker = field(default_factory=PromptMaker)
    setup: WorktreeSetup = field(default_factory=WorktreeSetup)
    setup_limit: float = 600.0
    author: git.Identity = SERVER_IDENTITY

    def make_executor(self, name: str) -> Executor:
        """The adapter of a configured executor.

        Raises:
            KeyError: it is not configured.
            ExecutorSettingsError: its command is wrong, or there is neither command nor adapter.
        """
        return self.executors[name].make(name)
