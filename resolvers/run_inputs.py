"""What people tell a run while it works: answers to its questions, and further messages.

A message for a run that is over begins another run in the same session. What is told is a row
first and handed to the process beside the agent afterwards, by the server that executes the run;
its number says how far that is done, so a restart neither loses nor repeats anything.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from models import Run, RunInput, Task, table_of
from models.enums import Permission, RunStatus, TaskStatus
from models.lifecycle import RUN_EXECUTING, RUN_FINAL
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    IllegalTransitionError,
    InvalidError,
    LimitExceededError,
)
from resolvers.operation import operation, step
from resolvers.run_claims import get_fenced_run
from resolvers.run_queries import get_run
from resolvers.task_access import get_task
from resolvers.task_board import enter_status
from resolvers.task_runs import change_run, queue_run
from resolvers.workspaces import get_active_workspace

INPUT = table_of(RunInput).c
QUESTIONS_MAX = 20
"""Open questions of a run that are kept; an agent asks few at a time."""
QUESTION_TEXT = 1_000
INPUTS_MAX = 1_000
"""What one run can be told."""
CONTINUED_FROM = frozenset(
    {TaskStatus.BACKLOG, TaskStatus.REVIEW, TaskStatus.FAILED, TaskStatus.PAUSED}
)


@dataclass(slots=True)
class QuestionNews:
    """Questions that the output brought, ``{"id", "text", "kind", "options"}``; ids of settled."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)
    expires_at: datetime | None = None


def apply_questions(ctx: Context, run: Run, news: QuestionNews) -> dict[str, Any]:
    """The changes of an executing run that its new questions make; empty for none."""
    if run.status not in RUN_EXECUTING or not (news.asked or news.settled):
        return {}
    open_ = [one for one in run.questions if one["id"] not in news.settled]
    times = {
        "asked_at": ctx.now.isoformat(),
        "expires_at": news.expires_at and news.expires_at.isoformat(),
    }
    open_ += [{**new, "text": new["text"][:QUESTION_TEXT], **times} for new in news.asked]
    open_ = open_[:QUESTIONS_MAX]
    return {} if open_ == run.questions else _with_questions(open_)


def _with_questions(questions: list[dict[str, Any]]) -> dict[str, Any]:
    status = RunStatus.AWAITING_INPUT if questions else RunStatus.RUNNING
    return {"questions": questions, "status": status}


@operation
async def answer_run(
    ctx: Context, *, run_id: str, option: str, question_id: str | None = None
) -> Run:
    """Answer a question of a run that waits for it; the run works on.

    Args:
        ctx: needs ``execute``.
        run_id: a run in AWAITING_INPUT.
        option: id of one of the question's options.
        question_id: which question; may be left out where there is only one.

    Raises:
        ConflictError: the run asks nothing (any more).
        InvalidError: no such question or option.
        NotFoundError, ForbiddenError, LimitExceededError.
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.EXECUTE)
    if run.status != RunStatus.AWAITING_INPUT or not run.questions:
        raise ConflictError("The run asks nothing", status=RunStatus(run.status))
    question = _find_question(run, question_id)
    if option not in {known["id"] for known in question["options"]}:
        raise InvalidError("The question has no such option", field="option")
    return await _answer(ctx, run, question, option)


def _find_question(run: Run, question_id: str | None) -> dict[str, Any]:
    if question_id is None and len(run.questions) > 1:
        raise InvalidError("The run asks several questions: say which", field="questionId")
    for question in run.questions:
        if question_id in {None, question["id"]}:
            return question
    raise InvalidError("The run asks no such question", field="questionId")


async def _answer(ctx: Context, run: Run, question: dict[str, Any], option: str | None) -> Run:
    number = await _tell(ctx, run, do="answer", question=question["id"], option=option)
    left = [one for one in run.questions if one["id"] != question["id"]]
    return await change_run(
        ctx,
        run,
        "run.answered",
        extra={"question": question["id"], "option": option},
        input_count=number,
        **_with_questions(left),
    )


async def _tell(ctx: Context, run: Run, **order: Any) -> int:
    """Keep an order for the run's process; its number."""
    number = run.input_count + 1
    if number > INPUTS_MAX:
        raise LimitExceededError("The run has been told too much", limit=INPUTS_MAX)
    await ctx.transaction.insert(
        RunInput,
        run_id=run.id,
        number=number,
        data=order,
        created_by=ctx.authenticated().user_id,
        created_at=ctx.now,
    )
    ctx.after_commit(lambda: ctx.services.dispatcher.deliver(run.id))
    return number


@step
async def reject_overdue(ctx: Context, *, run_id: str, token: int) -> Run:
    """Refuse what a run asks and nobody answered in time; it works on without.

    Args:
        ctx: the system's.
        run_id: which.
        token: the claim's.
    """
    run = await get_fenced_run(ctx, run_id, token)
    now = ctx.now.isoformat()
    for question in list(run.questions):
        if question["expires_at"] is not None and question["expires_at"] <= now:
            kinds = {option["kind"]: option["id"] for option in question["options"]}
            refusal = kinds.get("reject_once") or kinds.get("reject_always")
            run = await _answer(ctx, run, question, refusal)
    return run


async def inputs_after(ctx: Context, *, run_id: str, number: int) -> list[RunInput]:
    """What a run was told after this number, in order."""
    statement = select_all(RunInput).where(INPUT.run_id == run_id, INPUT.number > number)
    return await (await ctx.reader()).records(RunInput, statement.order_by(INPUT.number))


@operation
async def send_run_message(ctx: Context, *, run_id: str, text: str) -> Run:
    """Say something more in the session of a run.

    A run that works hears it when its present turn ends, where its executor can be told more; a
    run that is over or paused is followed by another one in the same session and worktree, with
    the text as its prompt. A paused one ends with that.

    Args:
        ctx: needs ``execute``.
        run_id: which.
        text: 1 to 100,000 characters.

    Returns:
        The run that hears it: the same one, or the new one.

    Raises:
        ConflictError: the run has not started, is stopping, cannot be told more, or has no session.
        IllegalTransitionError: its task is where it cannot be continued.
        InvalidError, NotFoundError, ForbiddenError, LimitExceededError.
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.EXECUTE)
    check.text(text, field="text", minimum=1, maximum=ctx.limits.description)
    if not run.managed:
        raise ConflictError("This run is driven by its own client, which has to tell it")
    if run.status == RunStatus.PAUSED or run.status in RUN_FINAL:
        return await _continue(ctx, run, text)
    if run.status == RunStatus.QUEUED:
        raise ConflictError("The run has not started")
    if run.stop_requested_at is not None:
        raise ConflictError("The run is stopping; try again in a moment", retry_after=1)
    if not run.process.get("interactive"):
        raise ConflictError(
            f"{run.executor} cannot be told more while it works: wait for its end, or pause it"
        )
    number = await _tell(ctx, run, do="message", text=text)
    return await change_run(ctx, run, "run.message_sent", input_count=number)


async def _continue(ctx: Context, run: Run, text: str) -> Run:
    if run.session_id is None or run.task_id is None:
        raise ConflictError("The run has no session to continue")
    task = await get_task(ctx, task_id=run.task_id, permission=Permission.EXECUTE)
    if task.status not in CONTINUED_FROM:
        raise IllegalTransitionError("continue", task.status, sorted(CONTINUED_FROM))
    workspace = await get_active_workspace(
        ctx, workspace_id=task.workspace_id, permission=Permission.EXECUTE
    )
    if run.status == RunStatus.PAUSED:
        await change_run(ctx, run, "run.cancelled", status=RunStatus.CANCELLED, reason="continued")
    task = await _queue(ctx, task)
    return await queue_run(
        ctx,
        task,
        workspace=workspace,
        executor=run.executor,
        model=run.model,
        prompt=text,
        phase=run.phase,
        agent_id=run.agent_id,
        queue_class=run.queue_class,
        timeout_seconds=run.timeout_seconds,
        resumed_from=run,
    )


async def _queue(ctx: Context, task: Task) -> Task:
    return await enter_status(
        ctx,
        task,
        TaskStatus.QUEUED,
        event="task.queued",
        enqueue=False,
        end_runs=False,
        error=None,
    )
