"""Commands under supervision: a line that the policy allows, in a folder, without a shell."""

import asyncio
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from models import Run
from resolvers.command_policy import CommandPolicy, find_path_problem, judge
from resolvers.errors import OperationError
from resolvers.run_execution import record_launch
from runner import git
from runner.ending import ExitInfo, Outcome, OutcomeStatus, StopCause, find_forced_outcome
from runner.environment import build_environment, create_temporary_folder
from runner.executors.base import (
    NOTHING,
    Executor,
    Facts,
    Launch,
    LaunchRefusedError,
    OutputStream,
    Parsed,
    RunSpec,
)
from runner.folder import Limits, RunFolder, SupervisorSpec, create_run_folder
from runner.following import Follower
from runner.git.command import build_git_environment, disarm
from runner.git.repository_keys import read_repository_keys
from runner.launch import StartFailedError, start
from runner.managed import REFUSALS, ManagedRun

NOT_FOUND_CODE = 127


class ProgramMissingError(LaunchRefusedError):
    """The program is not in the policy's folders."""


@dataclass(frozen=True, slots=True)
class CommandExecutor:
    """What a command is to those that follow runs: lines without meaning, judged by exit code."""

    name: str = "COMMAND"
    program: str = ""

    def build(self, spec: RunSpec) -> Launch:
        """Commands are started by :class:`CommandRun` itself."""
        raise LaunchRefusedError(f"Run {spec.run_id} is a command")

    def parse(self, line: str, *, stream: OutputStream = "stdout") -> Parsed:  # noqa: ARG002  # no line means anything
        """Nothing."""
        return NOTHING

    def classify(self, end: ExitInfo, facts: Facts, *, stop: StopCause | None) -> Outcome:  # noqa: ARG002  # a command tells no facts
        """Exit code 0 is done."""
        if forced := find_forced_outcome(end, stop=stop):
            if forced.error is not None:
                return replace(forced, error=forced.error.replace("agent", "command"))
            return forced
        if end.exit_code == 0:
            return Outcome(OutcomeStatus.COMPLETED, "done")
        if end.signal is not None:
            text = f"The command was ended by signal {end.signal}"
            return Outcome(OutcomeStatus.FAILED, "signal", text)
        text = f"The command ended with exit code {end.exit_code}"
        return Outcome(OutcomeStatus.FAILED, "exit_code", text)


@dataclass(slots=True)
class CommandRun(ManagedRun):
    """A run of kind COMMAND that is this server's to execute."""

    def _make_executor(self) -> Executor:
        return CommandExecutor()

    @property
    def _policy(self) -> CommandPolicy:
        return self.system.services.trust.commands or CommandPolicy(enabled=False)

    async def execute(self) -> None:
        """Start a claimed command and see it to its end."""
        try:
            folder = await self._launch_command()
        except (StartFailedError, TimeoutError) as error:
            await self.settle(Outcome(OutcomeStatus.FAILED, "start_failed", str(error)), {})
            return
        except (*REFUSALS, OperationError) as error:
            code = NOT_FOUND_CODE if isinstance(error, ProgramMissingError) else None
            outcome = Outcome(OutcomeStatus.FAILED, "not_started", str(error))
            await self.settle(outcome, {}, exit_code=code)
            return
        await self._follow(self._make_executor(), None, folder)

    async def _check_limits(self, follower: Follower) -> None:
        """A command may be silent; its time limit is the supervisor's."""

    async def _launch_command(self) -> RunFolder:
        run, settings = self.claimed.run, self.settings
        argv, root, folder_path = await asyncio.to_thread(self._judge_again, run)
        place = settings.runs_root / self.run_id / str(self.claimed.token)
        folder = await asyncio.to_thread(create_run_folder, place)
        temporary = await asyncio.to_thread(create_temporary_folder)
        extras = await self._git_environment(root) if Path(argv[0]).name == "git" else {}
        spec = SupervisorSpec(
            run_id=self.run_id,
            argv=argv,
            cwd=str(folder_path),
            env={
                **extras,
                **build_environment(
                    {"PATH": self._policy.path},
                    run_id=self.run_id,
                    temporary=temporary,
                    extras={"HOME": str(temporary), "LC_ALL": "C.UTF-8", "TERM": "dumb"},
                ),
            },
            heartbeat=str(settings.heartbeat),
            limits=Limits(
                max_seconds=run.timeout_seconds or self._policy.default_seconds,
                max_output_bytes=self._policy.output_bytes,
                orphan_after=settings.orphan_after,
                interrupt_seconds=settings.stop_grace,
                terminate_seconds=settings.stop_grace,
            ),
        )
        process = {"folder": str(folder.path), "temporary": str(temporary)}
        await self.insist(
            lambda: record_launch(
                self.system,
                run_id=self.run_id,
                token=self.claimed.token,
                process=process,
                stdout_offset=0,
                stderr_offset=0,
            )
        )
        self.claimed.run.process.update(process)
        await start(folder, spec)
        return folder

    def _judge_again(self, run: Run) -> tuple[tuple[str, ...], Path, Path]:
        """The argument list to start, judged as late as can be; blocking.

        Raises:
            LaunchRefusedError: policy or folder have changed since the command was accepted.
        """
        root, folder = Path(run.worktree_path or "").resolve(), Path(run.working_directory or "")
        if problem := find_path_problem(root, root, str(folder)):
            raise LaunchRefusedError(problem)
        folder = folder.resolve()
        verdict = judge(self._policy, run.command or "", root=root, folder=folder)
        if not verdict.allowed:
            raise LaunchRefusedError(verdict.issues[0].message)
        program, *arguments = verdict.argv
        found = shutil.which(program, path=self._policy.path)
        if found is None:
            raise ProgramMissingError(f"{program} is not in {self._policy.path}")
        if Path(found).resolve().is_relative_to(root):
            raise LaunchRefusedError(f"{program} lies in the workspace's folder")
        return (found, *arguments), root, folder

    async def _git_environment(self, root: Path) -> dict[str, str]:
        """Git is told its repository, and everything the repository would have it run is emptied.

        Raises:
            GitError: the folder is no repository of ours.
        """
        repository = await git.get_repository(Path(self.claimed.workspace.local_path or root))
        git_dir = repository.git_dir
        if root != repository.path:
            git_dir = (await git.get_worktree(repository, root)).git_dir
        author = self.settings.author
        keys = await read_repository_keys(git_dir)
        return {
            **build_git_environment(settings=disarm(keys)),
            **author.environment("AUTHOR"),
            **author.environment("COMMITTER"),
            "GIT_DIR": str(git_dir),
            "GIT_WORK_TREE": str(root),
        }
