"""Runs as the server that executes them tells of them: launch, output, end.

Everything here is fenced by the lease token of the run's claim; see ``resolvers.run_claims``.
"""

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from models import Run, RunOutput, Task, table_of
from models.enums import RunKind, RunStatus, TaskStatus
from models.lifecycle import RUN_FINAL, TRANSITIONS
from resolvers.budgets import REASON as OVERSPENT
from resolvers.budgets import find_overspending
from resolvers.context import Context
from resolvers.operation import operation, step
from resolvers.run_claims import adopt_run, get_fenced_run
from resolvers.run_inputs import QuestionNews, apply_questions
from resolvers.run_queries import pack_entries
from resolvers.task_access import change_task, record_from
from resolvers.task_board import enter_status
from resolvers.task_runs import change_run, request_stop

TASK = table_of(Task).c
MAX_CLAIMS = 10
"""Claims and adoptions of one run after which it is not queued again."""


@step
async def record_launch(
    ctx: Context, *, run_id: str, token: int, process: dict[str, Any], **facts: Any
) -> Run:
    """Keep what is needed to find a run's processes again, and where it works.

    Args:
        ctx: the system's.
        run_id: which.
        token: the claim's.
        process: identity of supervisor and agent, the run folder, the tag.
        facts: of branch, base_branch, base_commit, worktree_path, session_id.
    """
    run = await get_fenced_run(ctx, run_id, token)
    task = await ctx.transaction.find_by_id(Task, run.task_id or "")
    shared: dict[str, Any] = {
        k: facts[k] for k in ("branch", "base_branch", "worktree_path") if k in facts
    }
    if task is not None and any(getattr(task, k) != v for k, v in shared.items()):
        await change_task(ctx, task, "task.updated", shared, changed=sorted(shared))
    return await change_run(
        ctx, run, "run.launched", process=process, last_output_at=ctx.now, **facts
    )


@dataclass(slots=True)
class OutputFacts:
    """What new output said about its run, beside its lines."""

    activity: str | None = None
    progress: int | None = None
    session_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    questions: QuestionNews = field(default_factory=QuestionNews)
    announce: bool = False
    """Whether to write an activity event; the caller does so at most once a second."""

    @property
    def uses(self) -> bool:
        """Whether anything was used."""
        return any((self.input_tokens, self.output_tokens, self.cached_tokens, self.cost_usd))


@step
async def append_output(
    ctx: Context,
    *,
    run_id: str,
    token: int,
    entries: list[dict[str, Any]],
    offsets: dict[str, int],
    facts: OutputFacts | None = None,
) -> int:
    """Add lines to a run's output log and advance its file offsets, in one transaction.

    Args:
        ctx: the system's.
        run_id: which.
        token: the claim's.
        entries: ``{"s": stream, "t": text, "at": ISO time, "e": progress event}``, in order.
        offsets: new ``stdout_offset`` and ``stderr_offset``, in bytes.
        facts: what the lines said.

    Returns:
        The number of the newest line.
    """
    run = await get_fenced_run(ctx, run_id, token)
    first = run.output_lines + 1
    last = run.output_lines + len(entries)
    if entries:
        await ctx.transaction.insert(
            RunOutput,
            run_id=run_id,
            first_line=first,
            last_line=last,
            data=pack_entries(entries),
            created_at=ctx.now,
        )
        ctx.after_commit(lambda: ctx.services.wakeups.run_output(run_id))
    facts = facts or OutputFacts()
    changes: dict[str, Any] = {
        **offsets,
        "output_lines": last,
        "output_bytes": run.output_bytes + sum(len(entry["t"]) for entry in entries),
        "last_output_at": ctx.now,
        "input_tokens": run.input_tokens + facts.input_tokens,
        "output_tokens": run.output_tokens + facts.output_tokens,
        "cached_tokens": run.cached_tokens + facts.cached_tokens,
        "cost_usd": run.cost_usd + facts.cost_usd,
    }
    for name in ("activity", "progress", "session_id"):
        if (value := getattr(facts, name)) is not None:
            changes[name] = value
    asked = apply_questions(ctx, run, facts.questions)
    if asked:
        event = "run.awaiting_input" if facts.questions.asked else "run.answered"
        after = await change_run(ctx, run, event, **changes, **asked)
    elif facts.announce:
        after = await change_run(ctx, run, "run.activity", **changes)
    else:
        after = await ctx.transaction.update_by_id(Run, run_id, **changes)
    if facts.uses:
        ctx.run_totals.record_usage(run, after, at=ctx.now)
        if (text := await find_overspending(ctx, run, after)) is not None:
            await request_stop(ctx, after, reason=OVERSPENT, error=text)
    return last


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended, as its executor and the server judged it."""

    status: RunStatus
    reason: str
    error: str | None = None
    exit_code: int | None = None
    task_facts: dict[str, Any] = field(default_factory=dict)
    """commit_sha, files_changed, additions, deletions of the branch."""
    text: str | None = None
    """The agent's closing words; kept as ``text`` of the run's output."""


@operation
async def finish_run(ctx: Context, *, run_id: str, token: int, outcome: RunOutcome) -> Run:
    """Record a run's end, and move its task.

    COMPLETED → the task goes to REVIEW; FAILED → to FAILED with the error; stopped → to REVIEW
    when there are changes to look at, else to BACKLOG; stopped for a pause → the run is PAUSED and
    so the task stays. A task that was moved meanwhile is left where it is.
    """
    run = await get_fenced_run(ctx, run_id, token)
    if run.status in RUN_FINAL or run.status == RunStatus.PAUSED:
        return run
    status = outcome.status
    pausing = run.stop_reason == "paused" and status == RunStatus.CANCELLED
    if pausing:
        status = RunStatus.PAUSED
    reason = run.stop_reason if status == RunStatus.CANCELLED else outcome.reason
    after = await change_run(
        ctx,
        run,
        f"run.{status.lower()}",
        status=status,
        reason=reason,
        error=run.error if reason == OVERSPENT else outcome.error,
        exit_code=outcome.exit_code,
        lease_owner=None,
        lease_expires_at=None,
        **_with_text(run, outcome.text),
        **outcome.task_facts,
    )
    if run.task_id is not None:
        await _settle_task(ctx, after, outcome)
    ctx.after_commit(ctx.services.dispatcher.wake)
    return after


def _with_text(run: Run, text: str | None) -> dict[str, Any]:
    return {} if text is None else {"output": {**(run.output or {}), "text": text}}


async def _settle_task(ctx: Context, run: Run, outcome: RunOutcome) -> None:
    row = await ctx.transaction.first(
        sa.select(*table_of(Task).c).where(TASK.id == run.task_id).with_for_update()
    )
    if row is None:
        return
    task: Task = record_from(Task, row)
    if task.deleted_at is not None:
        return
    facts = outcome.task_facts
    changes: dict[str, Any]
    stays = run.kind != RunKind.TASK or task.status != TaskStatus.IN_PROGRESS
    if stays or run.status == RunStatus.PAUSED:
        if facts:
            await change_task(ctx, task, "task.updated", facts, run_id=run.id)
        return
    if run.status == RunStatus.COMPLETED:
        target, event, changes = TaskStatus.REVIEW, "submit", {"review_reason": "completed"}
    elif run.status == RunStatus.FAILED:
        target, event, changes = TaskStatus.FAILED, "fail", {"error": outcome.error}
    elif facts.get("files_changed"):
        target, event, changes = TaskStatus.REVIEW, "submit", {"review_reason": "stopped"}
    else:
        target, event, changes = TaskStatus.BACKLOG, "dequeue", {}
    await enter_status(
        ctx,
        task,
        target,
        event=TRANSITIONS[event].event,
        reason=outcome.error or run.error or run.reason,
        end_runs=False,
        **{**facts, **changes},
    )


@operation
async def requeue_run(ctx: Context, *, run_id: str, token: int) -> Run:
    """Put a run back into the queue whose server died before anything of it ran.

    Its task waits again. After several such deaths, it fails instead: it may be their cause.
    """
    run = await get_fenced_run(ctx, run_id, token)
    if run.status != RunStatus.RUNNING or run.stop_requested_at is not None:
        return run
    if token > MAX_CLAIMS:
        text = "The server ended several times while it started this run"
        outcome = RunOutcome(RunStatus.FAILED, "interrupted", error=text)
        return await finish_run(ctx, run_id=run_id, token=token, outcome=outcome)
    run = await change_run(
        ctx,
        run,
        "run.queued",
        status=RunStatus.QUEUED,
        host=None,
        # What its session used before is needed at the next launch.
        process={"usage": run.process["usage"]} if "usage" in run.process else {},
        lease_owner=None,
        lease_expires_at=None,
    )
    task = await ctx.transaction.find_by_id(Task, run.task_id or "")
    if task is not None and task.status == TaskStatus.IN_PROGRESS and run.kind == RunKind.TASK:
        await enter_status(
            ctx, task, TaskStatus.QUEUED, event="task.queued", end_runs=False, enqueue=False
        )
    ctx.after_commit(ctx.services.dispatcher.wake)
    return run


@operation
async def fail_lost_run(ctx: Context, *, run_id: str, token: int, reason: str) -> Run | None:
    """End a run whose host or processes are gone for good, as FAILED with the reason."""
    claimed = await adopt_run(ctx, run_id=run_id, token=token)
    if claimed is None:
        return None
    text = {
        "host_lost": "The server that executed this run is gone",
        "interrupted": "The run was interrupted: its processes are gone without an exit code",
    }[reason]
    return await finish_run(
        ctx,
        run_id=run_id,
        token=claimed.token,
        outcome=RunOutcome(RunStatus.FAILED, reason, error=text),
    )
