"""The end of a run: the judgement, the commit, what is said of it, and the folder tidied away."""

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import structlog

from models.enums import RunKind
from runner import git
from runner.ending import Outcome, OutcomeStatus, StopCause
from runner.environment import remove_temporary_folder
from runner.executors.base import Executor
from runner.folder import RunFolder, open_regular, remove_tree
from runner.following import Follower
from runner.launch import Exited, Lost
from runner.output import clean_text
from runner.owned_run import OwnedRun
from runner.preparation import find_setup
from runner.workplace import Workplace

log = structlog.get_logger("dragoman.runs")

MAX_WORDS = 64 << 10
_TERMINAL_CODES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


async def judge(
    owned: OwnedRun,
    executor: Executor,
    workplace: Workplace | None,
    folder: RunFolder,
    follower: Follower,
    state: Exited | Lost,
    *,
    cause: StopCause | None,
) -> None:
    """Settle a run whose processes are gone: commit what it changed, say how it ended, tidy up.

    ``state`` is how its supervisor ended, ``cause`` why the server ended it, if it did.
    """
    if isinstance(state, Exited):
        outcome = executor.classify(state.exit, follower.facts, stop=cause)
        code = state.exit.exit_code
        exit_code = code if code is not None else -(state.exit.signal or 0) or None
    elif cause is StopCause.USER:
        outcome, exit_code = Outcome(OutcomeStatus.CANCELLED, "user"), None
    else:
        text = "The run was interrupted: its supervisor is gone without an exit code"
        outcome, exit_code = Outcome(OutcomeStatus.FAILED, "interrupted", text), None
    facts: dict[str, Any] = {}
    if workplace is not None and outcome.status is not OutcomeStatus.FAILED:
        try:
            facts = await _commit(owned, workplace, follower)
        except (git.GitError, OSError) as error:
            text = f"The changes could not be committed: {error}"
            outcome = Outcome(OutcomeStatus.FAILED, "commit_failed", text)
    answer = await asyncio.to_thread(lambda: _closing_words(owned, folder, follower))
    if owned.claimed.run.kind == RunKind.REFINE and not answer:
        outcome = _without_answer(outcome)
    if outcome.warning is not None:
        await follower.note(outcome.warning, warning="empty_result")
    if outcome.error is not None and (words := follower.last_words()):
        outcome = Outcome(outcome.status, outcome.reason, f"{outcome.error}\n\n{words}")
    await owned.settle(outcome, facts, exit_code=exit_code, text=answer)
    await asyncio.to_thread(tidy, owned, folder)


def _closing_words(owned: OwnedRun, folder: RunFolder, follower: Follower) -> str | None:
    """What the agent said last; of one that tells no events and only answers, all it wrote."""
    text = follower.facts.result_text
    if not text and owned.claimed.run.kind == RunKind.REFINE:
        with contextlib.suppress(OSError), open_regular(folder.stdout) as file:
            text = clean_text(file.read(MAX_WORDS))
    return _TERMINAL_CODES.sub("", text or "").strip()[:MAX_WORDS] or None


async def _commit(owned: OwnedRun, workplace: Workplace, follower: Follower) -> dict[str, Any]:
    worktree = workplace.worktree
    task = owned.claimed.task
    message = f"{task.title}\n\nTask: #{task.number}" if task else f"Run {owned.run_id}"
    made = await git.commit_all(
        worktree,
        message=f"{message}\nRun: {owned.run_id}\n",
        author=owned.settings.author,
        leave_out=find_setup(owned.settings, owned.claimed).covers,
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


def tidy(owned: OwnedRun, folder: RunFolder) -> None:
    """Output is in the log and changes in the branch: the folder has served."""
    temporary = owned.claimed.run.process.get("temporary")
    if temporary:
        remove_temporary_folder(Path(temporary))
    remove_tree(folder.path)
    try:
        folder.path.parent.rmdir()
    except OSError as error:
        log.debug("run folder kept", run_id=owned.run_id, error=str(error))


def _without_answer(outcome: Outcome) -> Outcome:
    if outcome.status is not OutcomeStatus.COMPLETED:
        return outcome
    return Outcome(OutcomeStatus.FAILED, "no_result", "The agent ended without an answer")
