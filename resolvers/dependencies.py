"""What waits for what: dependencies between the tasks of a workspace."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from models import Task, TaskDependency, table_of
from models.commands import Command
from models.enums import DependencyKind, Permission, TaskStatus
from models.transaction import Reader, select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import InvalidError
from resolvers.operation import operation
from resolvers.task_access import NewDependency, change_task, get_task
from resolvers.task_fields import lock_links

TASK = table_of(Task).c
DEPENDENCY = table_of(TaskDependency).c

MET_BY: dict[str, frozenset[str]] = {
    DependencyKind.BLOCKS: frozenset({TaskStatus.COMPLETED}),
    DependencyKind.COMPLETION: frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED}),
    DependencyKind.FAILURE: frozenset({TaskStatus.FAILED}),
}
"""Statuses of the other task with which each kind of dependency is met."""


def unmet_condition(other: Any = TASK) -> sa.ColumnElement[bool]:
    """SQL: the dependency is not met by the task it depends on, whose columns are ``other``."""
    met = sa.or_(
        *(
            sa.and_(DEPENDENCY.kind == kind, other.status.in_(sorted(statuses)))
            for kind, statuses in MET_BY.items()
        ),
        other.deleted_at.is_not(None),
    )
    return sa.not_(met)


async def unmet_dependencies(reader: Reader, task_id: str) -> list[str]:
    """Ids of the tasks that a task still waits for. A deleted one holds nobody back."""
    return await reader.scalars(
        sa.select(TASK.id)
        .join(table_of(TaskDependency), DEPENDENCY.depends_on_id == TASK.id)
        .where(DEPENDENCY.task_id == task_id, unmet_condition())
        .order_by(TASK.number)
    )


@operation
async def set_dependencies(
    ctx: Context, *, task_id: str, depends_on: Sequence[NewDependency]
) -> Task:
    """Replace what a task waits for.

    Raises:
        InvalidError: a task of another workspace, the task itself, a cycle, or too many.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    return await replace_dependencies(ctx, task, depends_on)


async def replace_dependencies(
    ctx: Context, task: Task, depends_on: Iterable[NewDependency]
) -> Task:
    """Write the dependencies of a task that is locked already; see :func:`set_dependencies`."""
    wanted = {dependency.task_id: dependency.kind for dependency in depends_on}
    if len(wanted) > ctx.limits.dependencies:
        raise InvalidError(
            f"At most {ctx.limits.dependencies} dependencies are allowed", field="dependsOn"
        )
    current = {
        row.depends_on_id: row.kind
        for row in await ctx.transaction.records(
            TaskDependency, select_all(TaskDependency).where(DEPENDENCY.task_id == task.id)
        )
    }
    if current == wanted:
        return task
    await _check(ctx, task, set(wanted))
    await ctx.transaction.execute(
        sa.delete(table_of(TaskDependency)).where(DEPENDENCY.task_id == task.id)
    )
    await ctx.transaction.insert_many(
        TaskDependency,
        [
            {"task_id": task.id, "depends_on_id": other, "kind": kind, "created_at": ctx.now}
            for other, kind in wanted.items()
        ],
    )
    return await change_task(ctx, task, "task.dependencies_changed", {}, depends_on=sorted(wanted))


async def _check(ctx: Context, task: Task, wanted: set[str]) -> None:
    if task.id in wanted:
        raise InvalidError("A task cannot wait for itself", field="dependsOn")
    for task_id in wanted:
        check.identifier(task_id, field="dependsOn")
    if not wanted:
        return
    known = await ctx.transaction.scalars(
        sa.select(TASK.id).where(
            TASK.id.in_(wanted),
            TASK.workspace_id == task.workspace_id,
            TASK.deleted_at.is_(None),
        )
    )
    unknown = sorted(wanted - set(known))
    if unknown:
        raise InvalidError(f"Task {unknown[0]} is not in this workspace", field="dependsOn")
    await lock_links(ctx, task.workspace_id)
    if await _reaches(ctx, wanted, task.id):
        raise InvalidError("The tasks would wait for each other in a circle", field="dependsOn")


async def _reaches(ctx: Context, start: set[str], target: str) -> bool:
    """Whether the target is among what the start tasks wait for, at any distance."""
    first = sa.select(DEPENDENCY.depends_on_id.label("id")).where(DEPENDENCY.task_id.in_(start))
    reached = first.cte("reached", recursive=True)
    reached = reached.union(
        sa.select(DEPENDENCY.depends_on_id).join(reached, DEPENDENCY.task_id == reached.c.id)
    )
    found = await ctx.transaction.scalar(sa.select(reached.c.id).where(reached.c.id == target))
    return found is not None


async def release_dependents(ctx: Context, task: Task) -> list[Task]:
    """After a task came to an end: unblock the blocked tasks that waited for nothing else.

    A task waits for what it depends on; one that is BLOCKED with this task as its parent counts
    as waiting for it too.
    """
    candidates = await ctx.transaction.run_records(Task, BLOCKED_BY, {"task_id": task.id})
    return [
        await change_task(
            ctx,
            candidate,
            "task.unblocked",
            {"status": TaskStatus.BACKLOG, "status_before": None, "status_reason": None},
            released_by=task.id,
        )
        for candidate in candidates
        if not await unmet_dependencies(ctx.transaction, candidate.id)
    ]


BLOCKED_BY = Command(
    lambda _dialect: (
        select_all(Task)
        .where(
            sa.or_(
                TASK.id.in_(
                    sa.select(DEPENDENCY.task_id)
                    .where(DEPENDENCY.depends_on_id == sa.bindparam("task_id"))
                    .scalar_subquery()
                ),
                TASK.parent_id == sa.bindparam("task_id"),
            ),
            TASK.status == str(TaskStatus.BLOCKED),
            TASK.deleted_at.is_(None),
        )
        .order_by(TASK.number)
        .limit(1000)
        .with_for_update(key_share=True)
    ),
    model=Task,
)
