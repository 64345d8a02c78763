"""One managed run on this server, from its claim to its end: claim → effect → settle.

Everything that must survive the server's death is in the run's row or in its folder, so a run can
be taken up at any point: before the start, while it executes, after it ended unseen.
"""

import asyncio
import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from models import Run
from models.enums import RunKind, RunStatus
from models.lifecycle import RUN_EXECUTING
from resolvers.context import Context
from resolvers.errors import ConflictError, UnavailableError
from resolvers.prompt_facts import read_prompt_facts
from resolvers.run_claims import ClaimedRun
from resolvers.run_execution import (
    RunOutcome,
    append_output,
    finish_run,
    record_launch,
    requeue_run,
)
from resolvers.run_inputs import reject_overdue
from resolvers.run_queries import find_run_of_session
from runner import git
from runner.configuration import RunnerSettings
from runner.ending import Outcome, OutcomeStatus, StopCause
from runner.environment import (
    EnvironmentRefusedError,
    build_environment,
    create_temporary_folder,
    remove_temporary_folder,
)
from runner.executors.base import (
    Executor,
    ExecutorSettingsError,
    Launch,
    LaunchRefusedError,
    RunSpec,
)
from runner.executors.claude_code import INSTRUCTIONS_FILE
from runner.executors.registry import find_agent
from runner.folder import (
    Limits,
    RunFolder,
    RunFolderError,
    SupervisorSpec,
    create_run_folder,
    open_regular,
    open_run_folder,
    remove_tree,
    write_launch_files,
)
from runner.following import Follower
from runner.instructions import find_instructions
from runner.launch import Alive, Exited, Lost, StartFailedError, has_begun, inspect, start
from runner.output import clean_text
from runner.preparation import find_setup, prepare
from runner.probe import find_program, missing_text
from runner.prompts import PromptError
from runner.stopping import StopLadder, stop_tree
from runner.telling import Courier
from runner.usage import launch_record
from runner.workplace import NoWorkplaceError, Workplace, reopen_workplace
from runner.worktree_setup import SetupError, SetupStoppedError

log = structlog.get_logger("dragoman.runs")

LOOK_SECONDS = 0.1
RETRY_SECONDS = 1.0
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


SCRATCH = "work"
MAX_WORDS = 64 << 10
_TERMINAL_CODES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def _without_answer(outcome: Outcome) -> Outcome:
    if outcome.status is not OutcomeStatus.COMPLETED:
        return outcome
    return Outcome(OutcomeStatus.FAILED, "no_result", "The agent ended without an answer")


class LeaseLostError(Exception):
    """Another server has taken the run over; this one leaves it alone."""


@dataclass(slots=True)
class ManagedRun:
    """A run that is this server's to execute."""

    system: Context
    settings: RunnerSettings
    claimed: ClaimedRun
    pace: Callable[[], float] = lambda: LOOK_SECONDS
    """Seconds between two looks at the run's output."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _cause: StopCause | None = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.claimed.run.id

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
            await self._require_program(executor)
            workplace = await self._prepare()
            folder = await self._launch(executor, workplace)
        except (StartFailedError, TimeoutError) as error:
            await self._settle(Outcome(OutcomeStatus.FAILED, "start_failed", str(error)), {})
            return
        except SetupStoppedError:
            await self._settle(Outcome(OutcomeStatus.CANCELLED, "user"), {})
            return
        except REFUSALS as error:
            text = "The executor is not configured" if isinstance(error, KeyError) else str(error)
            await self._settle(Outcome(OutcomeStatus.FAILED, "not_started", text), {})
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
            await self._settle(outcome, {})
            return
        if self.claimed.run.stop_requested_at is not None:
            self.request_stop()
        await self._follow(executor, await reopen_workplace(self.claimed), folder)

    async def _requeue(self, folder: RunFolder | None) -> bool:
        """Whether the run waits again: nothing of it ran when its server died."""
        run = await self._insist(
            lambda: requeue_run(self.system, run_id=self.run_id, token=self.claimed.token)
        )
        if run.status in RUN_EXECUTING:
            return False  # it is to be stopped
        if folder is not None:
            await asyncio.to_thread(self._tidy, folder)
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

    # --- start ---

    async def _require_program(self, executor: Executor) -> None:
        """Refuse a run whose program is missing before anything is made for it.

        Raises:
            LaunchRefusedError: saying which program.
        """
        configured = self.settings.executors[self.claimed.run.executor]
        if await asyncio.to_thread(find_program, executor.program, configured) is None:
            agent = find_agent(executor)
            hint = agent.install_hint if agent else None
            raise LaunchRefusedError(missing_text(executor.program, hint))

    async def _prepare(self) -> Workplace | None:
        """Where the run works; None for one that only answers and gets an empty folder."""
        if self.claimed.run.kind == RunKind.REFINE:
            return None
        return await prepare(
            self.system, self.settings, self.claimed, tell=self._tell, stopped=self._stop
        )

    async def _tell(self, lines: Sequence[str]) -> None:
        """Add lines of the server's own to the output, before the agent has started."""
        entries = [{"s": "server", "t": line, "at": self.system.now.isoformat()} for line in lines]
        if entries:
            await self._insist(
                lambda: append_output(
                    self.system,
                    run_id=self.run_id,
                    token=self.claimed.token,
                    entries=entries,
                    offsets={},
                )
            )

    async def _make_prompt(self) -> str:
        claimed, run = self.claimed, self.claimed.run
        try:
            facts = await read_prompt_facts(self.system, run=run, task=claimed.task)
        finally:
            await self.system.release()
        prompts = self.settings.prompts
        return await asyncio.to_thread(prompts.make, run, claimed.task, claimed.workspace, facts)

    async def _launch(self, executor: Executor, workplace: Workplace | None) -> RunFolder:
        claimed, settings = self.claimed, self.settings
        prompt = await self._make_prompt()
        path = settings.runs_root / self.run_id / str(claimed.token)
        folder = await asyncio.to_thread(create_run_folder, path)
        temporary = await asyncio.to_thread(create_temporary_folder)
        place = workplace.worktree.path if workplace else temporary / SCRATCH
        if workplace is None:
            await asyncio.to_thread(place.mkdir)
        launch = executor.build(
            RunSpec(
                run_id=self.run_id,
                prompt=prompt,
                worktree=place,
                branch=workplace.worktree.branch if workplace else "",
                files=folder.files,
                task_id=claimed.run.task_id,
                model=claimed.run.model,
                resume_session=claimed.run.session_id,
                new_session=str(uuid.uuid4()),
                instructions=await asyncio.to_thread(find_instructions, place, INSTRUCTIONS_FILE),
                entries=frozenset(await asyncio.to_thread(os.listdir, place)),
                is_root=os.geteuid() == 0,
                read_only=workplace is None,
            )
        )
        stdin = await asyncio.to_thread(
            write_launch_files, folder, stdin=launch.stdin_text, files=launch.files
        )
        spec = self._spec(launch, place, stdin=stdin, temporary=temporary)
        await self._record(folder, workplace, temporary, interactive=launch.interactive)
        await start(folder, spec)
        return folder

    def _spec(
        self, launch: Launch, place: Path, *, stdin: str | None, temporary: Path
    ) -> SupervisorSpec:
        settings, run = self.settings, self.claimed.run
        configured = settings.executors[run.executor]
        return SupervisorSpec(
            run_id=self.run_id,
            argv=launch.argv,
            cwd=str(place),
            env=build_environment(
                os.environ,
                run_id=self.run_id,
                temporary=temporary,
                pass_through=configured.pass_env,
                extras=launch.env,
            ),
            stdin=stdin,
            heartbeat=str(settings.heartbeat),
            limits=Limits(
                max_seconds=min(run.timeout_seconds or settings.time_limit, settings.time_limit),
                max_output_bytes=settings.output_limit,
                orphan_after=settings.orphan_after,
                interrupt_seconds=settings.stop_grace,
                terminate_seconds=settings.stop_grace,
            ),
        )

    async def _record(
        self, folder: RunFolder, workplace: Workplace | None, temporary: Path, *, interactive: bool
    ) -> None:
        """Keep where the processes will be found, before there are any."""
        process: dict[str, Any] = {"folder": str(folder.path), "temporary": str(temporary)}
        process["interactive"] = interactive
        facts: dict[str, Any] = {}
        if workplace is not None:
            process["repository"] = str(workplace.worktree.repository.path)
            facts = {
                "branch": workplace.worktree.branch,
                "base_branch": workplace.base_branch,
                "base_commit": workplace.base_commit,
                "worktree_path": str(workplace.worktree.path),
            }
        usage = launch_record(self.claimed.run, session_run=await self._find_session_run())
        run = await self._insist(
            lambda: record_launch(
                self.system,
                run_id=self.run_id,
                token=self.claimed.token,
                process={**process, "usage": usage, "inputs": self.claimed.run.input_count},
                **facts,
                stdout_offset=0,
                stderr_offset=0,
            )
        )
        self.claimed = ClaimedRun(
            run, self.claimed.task, self.claimed.workspace, self.claimed.token
        )

    async def _find_session_run(self) -> Run | None:
        """The run whose use of the session goes on now: this one after a pause, or another."""
        run = self.claimed.run
        if run.session_id is None:
            return None
        if run.process:
            return run
        try:
            return await find_run_of_session(self.system, session_id=run.session_id, besides=run)
        finally:
            await self.system.release()

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
        await self._insist(courier.deliver)
        stopping: asyncio.Task[None] | None = None
        try:
            while True:
                state = await inspect(folder, run_id=self.run_id)
                await self._insist(follower.read)
                if not isinstance(state, Alive):
                    break
                await self._check_limits(follower)
                if self._told.is_set():
                    await self._insist(courier.deliver)
                if self._stop.is_set() and stopping is None:
                    stopping = asyncio.create_task(self._end_processes(folder))
                await self._wait_a_moment(stopped=stopping is not None)
        finally:
            if stopping is not None:
                await asyncio.shield(stopping)
        await self._insist(follower.drain)
        await self._end_processes(folder)
        for late in await courier.find_new() if courier.is_heard else ():
            text = f"This came too late: {late.data.get('text', 'an answer')}"
            await follower.note(text, warning="undelivered")
        await self._judge(executor, workplace, folder, follower, state)

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
            await self._insist(
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

    # --- end ---

    async def _judge(
        self,
        executor: Executor,
        workplace: Workplace | None,
        folder: RunFolder,
        follower: Follower,
        state: Exited | Lost,
    ) -> None:
        if isinstance(state, Exited):
            outcome = executor.classify(state.exit, follower.facts, stop=self._cause)
            code = state.exit.exit_code
            exit_code = code if code is not None else -(state.exit.signal or 0) or None
        elif self._cause is StopCause.USER:
            outcome, exit_code = Outcome(OutcomeStatus.CANCELLED, "user"), None
        else:
            text = "The run was interrupted: its supervisor is gone without an exit code"
            outcome, exit_code = Outcome(OutcomeStatus.FAILED, "interrupted", text), None
        facts: dict[str, Any] = {}
        if workplace is not None and outcome.status is not OutcomeStatus.FAILED:
            try:
                facts = await self._commit(workplace, follower)
            except (git.GitError, OSError) as error:
                text = f"The changes could not be committed: {error}"
                outcome = Outcome(OutcomeStatus.FAILED, "commit_failed", text)
        answer = await asyncio.to_thread(lambda: self._closing_words(folder, follower))
        if self.claimed.run.kind == RunKind.REFINE and not answer:
            outcome = _without_answer(outcome)
        if outcome.warning is not None:
            await follower.note(outcome.warning, warning="empty_result")
        if outcome.error is not None and (words := follower.last_words()):
            outcome = Outcome(outcome.status, outcome.reason, f"{outcome.error}\n\n{words}")
        await self._settle(outcome, facts, exit_code=exit_code, text=answer)
        await asyncio.to_thread(self._tidy, folder)

    def _closing_words(self, folder: RunFolder, follower: Follower) -> str | None:
        """What the agent said last; of one that tells no events and only answers, all it wrote."""
        text = follower.facts.result_text
        if not text and self.claimed.run.kind == RunKind.REFINE:
            with contextlib.suppress(OSError), open_regular(folder.stdout) as file:
                text = clean_text(file.read(MAX_WORDS))
        return _TERMINAL_CODES.sub("", text or "").strip()[:MAX_WORDS] or None

    async def _commit(self, workplace: Workplace, follower: Follower) -> dict[str, Any]:
        worktree = workplace.worktree
        task = self.claimed.task
        message = f"{task.title}\n\nTask: #{task.number}" if task else f"Run {self.run_id}"
        made = await git.commit_all(
            worktree,
            message=f"{message}\nRun: {self.run_id}\n",
            author=self.settings.author,
            leave_out=find_setup(self.settings, self.claimed).covers,
        )
        head = await git.get_branch_commit(worktree.repository, worktree.branch)
        stat = await git.diff_stat(worktree.repository, workplace.base_commit, head)
        if made is not None and made.skipped:
            await follower.note(f"Left out of the commit: {', '.join(made.skipped[:20])}")
        await follower.note(
            f"Branch {worktree.branch} at {head[:12]}: {stat.files_changed} files changed, "
            f"{stat.additions} lines added, {stat.deletions} removed"
        )
        return {
            "commit_sha": head,
            "files_changed": stat.files_changed,
            "additions": stat.additions,
            "deletions": stat.deletions,
        }

    async def _settle(
        self,
        outcome: Outcome,
        facts: dict[str, Any],
        *,
        exit_code: int | None = None,
        text: str | None = None,
    ) -> None:
        status = RunStatus[outcome.status.name]
        await self._insist(
            lambda: finish_run(
                self.system,
                run_id=self.run_id,
                token=self.claimed.token,
                outcome=RunOutcome(
                    status=status,
                    reason=outcome.reason,
                    error=outcome.error,
                    exit_code=exit_code,
                    task_facts=facts,
                    text=text,
                ),
            )
        )
        log.info("run ended", run_id=self.run_id, status=status, reason=outcome.reason)

    def _tidy(self, folder: RunFolder) -> None:
        """Output is in the log and changes in the branch: the folder has served."""
        temporary = self.claimed.run.process.get("temporary")
        if temporary:
            remove_temporary_folder(Path(temporary))
        remove_tree(folder.path)
        try:
            folder.path.parent.rmdir()
        except OSError as error:
            log.debug("run folder kept", run_id=self.run_id, error=str(error))

    async def _insist(self, operation: Any) -> Any:
        """Repeat an operation until the database can be had.

        Raises:
            LeaseLostError: the run is another server's now.
        """
        while True:
            try:
                return await operation()
            except UnavailableError as error:
                log.warning("database is busy", run_id=self.run_id, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            except ConflictError as error:
                raise LeaseLostError(str(error)) from error
