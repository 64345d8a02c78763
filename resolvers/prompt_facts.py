"""What a run's prompt is made of, beside the run itself: context files and earlier feedback."""

from dataclasses import dataclass

import sqlalchemy as sa

from models import Event, Run, Task, TaskContext, table_of
from models.enums import ContextPhase
from models.transaction import select_all
from resolvers.context import Context

EVENT = table_of(Event).c
CONTEXT = table_of(TaskContext).c
FEEDBACK_MAX = 5
"""How many of a task's rejections are told."""


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """``entries`` are those of the run's phase; ``feedback`` is the oldest first."""

    entries: tuple[TaskContext, ...] = ()
    feedback: tuple[str, ...] = ()


async def read_prompt_facts(ctx: Context, *, run: Run, task: Task | None) -> PromptFacts:
    """The context entries and the feedback that the prompt of a run has to tell.

    A run that continues rejected work gets the entries for fixing too. The newest feedback is
    complete; earlier ones come out of the event log, which keeps 4,096 characters of each.

    Args:
        ctx: the system's.
        run: whose prompt it is.
        task: the run's; None for no facts.
    """
    if task is None:
        return PromptFacts()
    reader = await ctx.reader()
    feedback = await _feedback(ctx, task)
    phases = [ContextPhase.CHECK if run.phase == "check" else ContextPhase.IMPLEMENT]
    if feedback and run.phase != "check":
        phases.append(ContextPhase.FIX)
    entries = await reader.records(
        TaskContext,
        select_all(TaskContext)
        .where(CONTEXT.task_id == task.id, CONTEXT.phase.in_(phases))
        .order_by(CONTEXT.position, CONTEXT.id),
    )
    once = {entry.path: entry for entry in reversed(entries)}
    return PromptFacts(tuple(e for e in entries if once[e.path] is e), feedback)


async def _feedback(ctx: Context, task: Task) -> tuple[str, ...]:
    rejections = await (await ctx.reader()).rows(
        sa.select(EVENT.payload)
        .where(
            EVENT.stream_id == task.workspace_id,
            EVENT.entity_id == task.id,
            EVENT.type == "task.rejected",
        )
        .order_by(EVENT.seq.desc())
        .limit(FEEDBACK_MAX)
    )
    # The snapshot's copy is bounded; the reason beside it is whole only while it is short.
    texts = [str(row.payload.get("reason") or "").strip() for row in reversed(rejections)]
    if task.review_reason == "rejected" and (task.review_comment or "").strip():
        newest = str(task.review_comment).strip()
        texts = [text for text in texts if text != newest] + [newest]
    return tuple(text for text in texts if text)[-FEEDBACK_MAX:]
