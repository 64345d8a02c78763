"""Context entries: the files an agent is told to read in each phase of a task, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from models import Task, TaskContext, table_of
from models.enums import ContextPhase, Permission
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import InvalidError, LimitExceededError
from resolvers.loading import context_entries_of
from resolvers.operation import operation
from resolvers.stamps import restore_entity, restores
from resolvers.task_access import change_task, get_task

CONTEXT = table_of(TaskContext).c
PATH_LENGTH = 1_024
KINDS = ("file", "directory")


@dataclass(frozen=True, slots=True)
class NewContextEntry:
    """An entry to be made. ``kind`` is ``file`` or ``directory``, where known."""

    path: str
    phase: str = ContextPhase.IMPLEMENT
    reason: str = ""
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class ContextChange:
    """A task after its context changed: how many entries did, and how many had no need to."""

    task: Task
    changed: int
    unchanged: int

    def to_stamp(self) -> dict[str, Any]:
        """For a retried request."""
        return {
            "kind": "context_change",
            "task": self.task.id,
            "changed": self.changed,
            "unchanged": self.unchanged,
        }


@restores("context_change")
async def _restore_change(ctx: Context, stamp: dict[str, Any]) -> ContextChange:
    task = await restore_entity(ctx, "Task", stamp["task"])
    return ContextChange(task, stamp["changed"], stamp["unchanged"])


async def list_context_entries(ctx: Context, *, task_id: str) -> list[TaskContext]:
    """The context entries of a task, by phase, in the order they were added.

    Raises:
        NotFoundError, ForbiddenError: see ``get_task``.
    """
    await get_task(ctx, task_id=task_id)
    return await context_entries_of(ctx, task_id)


@operation
async def add_context_entries(
    ctx: Context, *, task_id: str, entries: Sequence[NewContextEntry]
) -> ContextChange:
    """Add entries behind those there are; a path its phase has already is left as it is.

    Args:
        ctx: needs ``write``.
        task_id: which task.
        entries: 1 to 100; each path is relative to the repository, without ``..``.

    Raises:
        InvalidError: a path that leads out of the repository, or none at all.
        LimitExceededError: more than 500 entries in all.
        NotFoundError, ForbiddenError, ConflictError.
    """
    if not 1 <= len(entries) <= ctx.limits.list_items:
        raise InvalidError(f"entries must be 1 to {ctx.limits.list_items}", field="entries")
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    current = await _current(ctx, task)
    return await _append(ctx, task, _checked(ctx, entries), current)


@operation
async def replace_context_entries(
    ctx: Context, *, task_id: str, entries: Sequence[NewContextEntry]
) -> ContextChange:
    """Let a task have these entries and no others; up to 500.

    Raises:
        As :func:`add_context_entries`.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    wanted, current = _checked(ctx, entries), await _current(ctx, task)
    facts = [(entry.phase, entry.path, entry.reason, entry.kind) for entry in current]
    if sorted(facts, key=str) == sorted(
        ((entry.phase, entry.path, entry.reason, entry.kind) for entry in wanted), key=str
    ):
        return ContextChange(task, changed=0, unchanged=len(wanted))
    await ctx.transaction.execute(
        sa.delete(table_of(TaskContext)).where(CONTEXT.task_id == task.id)
    )
    return await _append(ctx, task, wanted, [], always=True)


@operation
async def remove_context_entries(
    ctx: Context,
    *,
    task_id: str,
    paths: Sequence[str],
    phases: Sequence[str] | None = None,
) -> ContextChange:
    """Remove the entries with these paths, from all phases or from some.

    Args:
        ctx: needs ``write``.
        task_id: which task.
        paths: 1 to 100, as they were added; ``unchanged`` counts those that had no entry.
        phases: only from these.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    if not 1 <= len(paths) <= ctx.limits.list_items:
        raise InvalidError(f"paths must be 1 to {ctx.limits.list_items}", field="paths")
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    wanted = {check.line(path, field="paths", maximum=PATH_LENGTH) for path in paths}
    concerned = set(ContextPhase) if phases is None else {_phase(phase) for phase in phases}
    condition = sa.and_(
        CONTEXT.task_id == task.id,
        CONTEXT.path.in_(sorted(wanted)),
        CONTEXT.phase.in_(sorted(concerned)),
    )
    removed = await ctx.transaction.rows(
        sa.delete(table_of(TaskContext)).where(condition).returning(CONTEXT.path)
    )
    missing = len(wanted - {row.path for row in removed})
    if removed:
        task = await change_task(
            ctx, task, "task.context_changed", {}, context_removed=len(removed)
        )
    return ContextChange(task, changed=len(removed), unchanged=missing)


async def _current(ctx: Context, task: Task) -> list[TaskContext]:
    return await ctx.transaction.records(
        TaskContext, select_all(TaskContext).where(CONTEXT.task_id == task.id)
    )


async def _append(
    ctx: Context,
    task: Task,
    wanted: list[NewContextEntry],
    current: list[TaskContext],
    *,
    always: bool = False,
) -> ContextChange:
    taken = {(entry.phase, entry.path) for entry in current}
    new = [entry for entry in wanted if (entry.phase, entry.path) not in taken]
    if len(current) + len(new) > ctx.limits.context_entries:
        raise LimitExceededError(
            f"A task has at most {ctx.limits.context_entries} context entries",
            limit=ctx.limits.context_entries,
        )
    first = 1 + max((entry.position for entry in current), default=-1)
    await ctx.transaction.insert_many(
        TaskContext,
        [
            {
                "task_id": task.id,
                "phase": entry.phase,
                "path": entry.path,
                "reason": entry.reason,
                "kind": entry.kind,
                "position": position,
                "created_at": ctx.now,
            }
            for position, entry in enumerate(new, start=first)
        ],
    )
    if new or always:
        task = await change_task(ctx, task, "task.context_changed", {}, context_added=len(new))
    return ContextChange(task, changed=len(new), unchanged=len(wanted) - len(new))


def _checked(ctx: Context, entries: Sequence[NewContextEntry]) -> list[NewContextEntry]:
    """The entries as they are stored, each phase and path once."""
    if len(entries) > ctx.limits.context_entries:
        raise LimitExceededError(
            f"A task has at most {ctx.limits.context_entries} context entries",
            limit=ctx.limits.context_entries,
        )
    checked: dict[tuple[str, str], NewContextEntry] = {}
    for given in entries:
        entry = NewContextEntry(
            path=check_path(given.path),
            phase=_phase(given.phase),
            reason=check.text(given.reason, field="reason", maximum=ctx.limits.short_text),
            kind=None if given.kind is None else check.one_of(given.kind, KINDS, field="kind"),
        )
        checked.setdefault((entry.phase, entry.path), entry)
    return list(checked.values())


def _phase(phase: str) -> ContextPhase:
    return check.word(phase, ContextPhase, field="phase")


def check_path(path: str) -> str:
    """A path below the repository's folder, in POSIX form.

    Raises:
        InvalidError: absolute, with a ``..`` part, a backslash or control characters, or too long.
    """
    checked = check.line(path, field="path", maximum=PATH_LENGTH)
    if checked.startswith(("/", "~")) or "\\" in checked or ".." in checked.split("/"):
        raise InvalidError(
            "path must be relative to the repository, with / between its parts and no ..",
            field="path",
        )
    return checked
