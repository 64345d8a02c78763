"""One managed run on this server, from its claim to its end: claim → effect → settle.

Everything that must survive the server's death is in the run's row or in its folder, so a run can
be taken up at any point: before the start, while it executes, after it ended unseen.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from models.enums import RunKind
from models.lifecycle import RUN_EXECUTING
from resolvers.run_execution import requeue_run
from resolvers.run_inputs import reject_overdue
from runner import git
from runner.ending import Outcome, OutcomeStatus, StopCause
from runner.environment import EnvironmentRefusedError
from runner.executors.base import Executor, ExecutorSettingsError, LaunchRefusedError
from runner.folder import RunFolder, RunFolderError, open_run_folder
from runner.following import Follower
from runner.launch import Alive, StartFailedError, has_begun, inspect
from runner.launching import launch_agent, require_program
from runner.owned_run import OwnedRun
from runner.preparation import prepare
from runner.prompts import PromptError
from runner.settling import judge, tidy
from runner.stopping import StopLadder, stop_tree
from runner.telling import Courier
from runner.workplace import NoWorkplaceError, Workplace, reopen_workplace
from runner.worktree_setup import SetupError, SetupStoppedError

log = structlog.get_logger("dragoman.runs")

LOOK_SECONDS = 0.1
REFUSALS = (
    NoWorkplaceError,
    ExecutorSettingsError,
    LaunchRefusedError,
    EnvironmentRefusedError,
    RunFolderError,
    PromptError,
    SetupError,
    git.GitError,
    OSError,
    KeyError,
)
"""What keeps a run from starting for a reason its user can do something about."""


@dataclass(slots=True)
class ManagedRun(OwnedRun):
    """A run that is this server's to execute."""

    pace: Callable[[], float] = lambda: LOOK_SECONDS
    """Seconds between two looks at the run's output."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _cause: StopCause | None = None

    def request_stop(self) -> None:
        """End the run; the intent is in its row already. Repeating does nothing."""
        self._end_because(StopCause.USER)

    def deliver(self) -> None:
        """Hand on what the run was told."""
        self._told.set()

    def _end_because(self, cause: StopCause) -> None:
        if self._cause is None:
            self._cause = cause
        self._stop.set()

    async def execute(self) -> None:
        """Start a claimed run and see it to its end."""
        try:
            executor = self._make_executor()
            await require_program(self, executor)
            workplace = await self._prepare()
            folder = await launch_agent(self, executor, workplace)
        except (StartFailedError, TimeoutError) as error:
            await self.settle(Outcome(OutcomeStatus.FAILED, "start_failed", str(error)), {})
            return
        except SetupStoppedError:
            await self.settle(Outcome(OutcomeStatus.CANCELLED, "user"), {})
            return
        except REFUSALS as error:
            text = "The executor is not configured" if isinstance(error, KeyError) else str(error)
            await self.settle(Outcome(OutcomeStatus.FAILED, "not_started", text), {})
            return
        await self._follow(executor, workplace, folder)

    async def take_up(self) -> None:
        """Go on with a run of a former server: follow it, or judge how it ended."""
        folder = self._find_folder()
        begun = folder is not None and await asyncio.to_thread(has_begun, folder)
        if not begun and await self._requeue(folder):
            return
        try:
            executor: Executor | None = self._make_executor()
        except (KeyError, ExecutorSettingsError) as error:
            executor = None
            log.warning("executor is gone", run_id=self.run_id, error=str(error))
        if folder is None:
            await self._end_setup()
        if folder is None or executor is None:
            if folder is not None:
                await self._end_processes(folder)
            text = "The run was interrupted before its processes were started"
            outcome = Outcome(OutcomeStatus.FAILED, "interrupted", text)
            if self.claimed.run.stop_requested_at is not None:
                outcome = Outcome(OutcomeStatus.CANCELLED, "user")
            await self.settle(outcome, {})
            return
        if self.claimed.run.stop_requested_at is not None:
            self.request_stop()
        await self._follow(executor, await reopen_workplace(self.claimed), folder)

    async def _requeue(self, folder: RunFolder | None) -> bool:
        """Whether the run waits again: nothing of it ran when its server died."""
        run = await self.insist(
            lambda: requeue_run(self.system, run_id=self.run_id, token=self.claimed.token)
        )
        if run.status in RUN_EXECUTING:
            return False  # it is to be stopped
        if folder is not None:
            await asyncio.to_thread(tidy, self, folder)
        return True

    def _make_executor(self) -> Executor:
        return self.settings.make_executor(self.claimed.run.executor)

    def _find_folder(self) -> RunFolder | None:
        path = self.claimed.run.process.get("folder")
        if not path:
            return None
        try:
            return open_run_folder(Path(path))
        except RunFolderError:
            return None

    async def _end_setup(self) -> None:
        """End what a dead server was preparing the worktree with."""
        root = self.settings.runs_root / self.run_id
        for path in await asyncio.to_thread(lambda: sorted(root.glob("*-setup-*"))):
            await self._end_processes(open_run_folder(path))

    async def _prepare(self) -> Workplace | None:
        """Where the run works; None for one that only answers and gets an empty folder."""
        if self.claimed.run.kind == RunKind.REFINE:
            return None
        return await prepare(
            self.system, self.settings, self.claimed, tell=self.tell, stopped=self._stop
        )

    # --- execution ---

    async def _follow(
        self, executor: Executor, workplace: Workplace | None, folder: RunFolder
    ) -> None:
        follower = Follower(
            self.system,
            self.claimed.run,
            self.claimed.token,
            folder,
            executor,
            answer_limit=self.settings.answer_limit,
        )
        await follower.recall()
        courier = Courier(self.system, self.claimed.run, folder, self._told)
        await self.insist(courier.deliver)
        stopping: asyncio.Task[None] | None = None
        try:
            while True:
                state = await inspect(folder, run_id=self.run_id)
                await self.insist(follower.read)
                if not isinstance(state, Alive):
                    break
                await self._check_limits(follower)
                if self._told.is_set():
                    await self.insist(courier.deliver)
                if self._stop.is_set() and stopping is None:
                    stopping = asyncio.create_task(self._end_processes(folder))
                await self._wait_a_moment(stopped=stopping is not None)
        finally:
            if stopping is not None:
                await asyncio.shield(stopping)
        await self.insist(follower.drain)
        await self._end_processes(folder)
        for late in await courier.find_new() if courier.is_heard else ():
            text = f"This came too late: {late.data.get('text', 'an answer')}"
            await follower.note(text, warning="undelivered")
        await judge(self, executor, workplace, folder, follower, state, cause=self._cause)

    async def _wait_a_moment(self, *, stopped: bool) -> None:
        if stopped:
            await asyncio.sleep(LOOK_SECONDS)
            return
        try:
            async with asyncio.timeout(self.pace()):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _check_limits(self, follower: Follower) -> None:
        if follower.find_overdue():
            await self.insist(
                lambda: reject_overdue(self.system, run_id=self.run_id, token=self.claimed.token)
            )
        if follower.open_questions:
            return  # it waits for somebody, so it may be silent
        silent = time.monotonic() - follower.last_output
        if not follower.has_output and silent > self.settings.start_limit:
            self._end_because(StopCause.NO_START)
        elif silent > self.settings.silence_limit:
            self._end_because(StopCause.SILENCE)

    async def _end_processes(self, folder: RunFolder) -> None:
        """Up the ladder until no process of the run is left."""
        from runner.processes import read_identity

        identity = await asyncio.to_thread(read_identity, folder, run_id=self.run_id)
        grace = self.settings.stop_grace
        report = await stop_tree(
            identity, ladder=StopLadder(interrupt_seconds=grace, terminate_seconds=grace)
        )
        if not report.clean:
            log.error("processes survive", run_id=self.run_id, pids=str(report.survivors))
