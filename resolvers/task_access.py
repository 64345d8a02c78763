"""One task: looking it up, and writing a change of it; what every operation on tasks stands on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from models import Task, Workspace, table_of
from models.base import column_names, record_of
from models.commands import Command
from models.enums import DependencyKind, Permission
from models.prepared import DialectName, Link, Prepared
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, NotFoundError
from resolvers.loading import STATEMENTS_KEPT, Columns, columns_to_read, with_columns
from resolvers.workspaces import require_active

TASK = table_of(Task).c
WORKSPACE = table_of(Workspace).c
POSITION_GAP = 1024.0
"""Distance between the positions of cards that are added one after the other."""


async def get_task(
    ctx: Context,
    *,
    task_id: str,
    permission: Permission = Permission.READ,
    read: Prepared[Task] | None = None,
) -> Task:
    """A live task the principal may see; inside an operation its row is locked, and read whole.

    Args:
        ctx: who asks, and what is read from.
        task_id: which task.
        permission: what is about to be done with it.
        read: what is read of it, if it is only read (:func:`reading_of_task`); by default all.

    Raises:
        NotFoundError: unknown, deleted, or of a workspace the principal cannot see.
        ForbiddenError: the permission is missing.
        ConflictError: something other than reading is asked for below an inactive workspace.
    """
    ctx.authenticated()
    if not check.is_id(task_id):
        raise NotFoundError("Task")
    if permission == Permission.READ and not ctx.in_transaction:
        reader = await ctx.reader()
        tasks = await reader.fetch(read or WHOLE_TASK, task_id)
        if not tasks:
            raise NotFoundError("Task")
        ctx.require(Permission.READ, tasks[0].workspace_id, kind="Task")
        return tasks[0]
    task: Task
    if ctx.in_transaction:
        found = await ctx.transaction.run(LOCKED_TASK, {"task_id": task_id})
        if not found:
            raise NotFoundError("Task")
        task, workspace_status = found[0]
    else:
        statement = _with_workspace_status().where(TASK.id == task_id)
        row = await (await ctx.reader()).first(statement)
        if row is None:
            raise NotFoundError("Task")
        task, workspace_status = record_from(Task, row), row[-1]
    ctx.require(permission, task.workspace_id, kind="Task")
    if permission != Permission.READ:
        require_active(workspace_status)
    return task


def reading_of_task(columns: Columns, links: tuple[Link, ...] = ()) -> Prepared[Task]:
    """What reads some columns of a live task, and records it leads to."""
    return _live_task(with_columns(Task, columns, "workspace_id"), links)


@lru_cache(maxsize=STATEMENTS_KEPT)
def _live_task(columns: Columns, links: tuple[Link, ...]) -> Prepared[Task]:
    def build(_dialect: DialectName) -> sa.Select[Any]:
        return (
            sa.select(*columns_to_read(Task, columns))
            .join(table_of(Workspace), WORKSPACE.id == TASK.workspace_id)
            .where(
                TASK.id == sa.bindparam("task_id"),
                TASK.deleted_at.is_(None),
                WORKSPACE.deleted_at.is_(None),
            )
        )

    return Prepared(Task, columns or column_names(Task), ["task_id"], build, links)


WHOLE_TASK = reading_of_task(None)


def _with_workspace_status() -> sa.Select[Any]:
    return (
        sa.select(*table_of(Task).c, WORKSPACE.status.label("workspace_status"))
        .join(table_of(Workspace), WORKSPACE.id == TASK.workspace_id)
        .where(TASK.deleted_at.is_(None), WORKSPACE.deleted_at.is_(None))
    )


LOCKED_TASK = Command(
    lambda _dialect: (
        _with_workspace_status()
        .where(TASK.id == sa.bindparam("task_id"))
        .with_for_update(of=table_of(Task), key_share=True)
    ),
    model=Task,
)


def record_from(model: Any, row: Sequence[Any]) -> Any:
    """The record of a row that starts with all columns of the model."""
    return record_of(model)(*row[: len(column_names(model))])


async def change_task(
    ctx: Context, task: Task, event: str, changes: Mapping[str, Any], **facts: Any
) -> Task:
    """Write a change of a task: version, time, totals and event in one place.

    Args:
        ctx: of the operation.
        task: locked.
        event: the event's type.
        changes: values by column.
        facts: what the event tells beside the task.
    """
    complete = {**changes, "updated_at": ctx.now, "version": task.version + 1}
    after = await ctx.transaction.change(Task, task, complete)
    ctx.task_totals.record(task, after)
    if after.status != task.status:
        facts["from_status"] = task.status
    ctx.emit(event, after, workspace_id=task.workspace_id, **facts)
    return after


def check_version(current: int, expected: int | None) -> None:
    """Refuse an update that was made from an older state.

    Raises:
        ConflictError: with the current version in its details.
    """
    if expected is not None and expected != current:
        raise ConflictError(
            f"It was changed meanwhile: version {current}, not {expected}", current_version=current
        )


@dataclass(frozen=True, slots=True)
class NewDependency:
    """A dependency to be set: on which task, and when it counts as met."""

    task_id: str
    kind: DependencyKind = DependencyKind.BLOCKS
