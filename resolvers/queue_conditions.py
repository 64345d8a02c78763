"""SQL: which waiting runs may start, and what holds the others up."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from models import Run, Task, Workspace, table_of
from models.base import json_contains
from models.enums import QueueClass, RunHold, RunKind, RunStatus, WorkspaceStatus
from models.lifecycle import RUN_EXECUTING
from resolvers.budgets import day_is_spent
from resolvers.context import Context
from resolvers.task_filters import has_unmet_dependency

RUN = table_of(Run).c
TASK = table_of(Task).c
WORKSPACE = table_of(Workspace).c


def waiting_runs(*columns: Any) -> sa.Select[Any]:
    """SELECT over the runs that wait in a queue, with their workspaces and tasks."""
    return (
        sa.select(*columns)
        .select_from(table_of(Run))
        .join(table_of(Workspace), WORKSPACE.id == RUN.workspace_id)
        .outerjoin(table_of(Task), TASK.id == RUN.task_id)
        .where(is_waiting(), WORKSPACE.deleted_at.is_(None), TASK.deleted_at.is_(None))
    )


def is_waiting() -> sa.ColumnElement[bool]:
    """The run waits for its turn; commands do not, they start at once."""
    return sa.and_(
        RUN.status == RunStatus.QUEUED, RUN.managed.is_(True), RUN.kind != RunKind.COMMAND
    )


def executing(**where: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    """How many runs of a workspace or a task execute now; commands do not count."""
    other = table_of(Run).alias("executing")
    return (
        sa.select(sa.func.count())
        .select_from(other)
        .where(
            *(other.c[name] == value for name, value in where.items()),
            other.c.managed.is_(True),
            other.c.kind != RunKind.COMMAND,
            other.c.status.in_(sorted(RUN_EXECUTING)),
        )
        .scalar_subquery()
    )


def holds(ctx: Context, executors: Collection[str]) -> dict[RunHold, sa.ColumnElement[bool]]:
    """What may keep a waiting run from starting, with the condition for each, gravest first."""
    return {
        RunHold.WORKSPACE_CLOSED: WORKSPACE.status != WorkspaceStatus.ACTIVE,
        RunHold.EXECUTOR_MISSING: RUN.executor.not_in(sorted(executors)),
        RunHold.QUEUE_PAUSED: sa.or_(
            *(
                sa.and_(RUN.queue_class == queue, json_contains(WORKSPACE.queue_paused, queue))
                for queue in QueueClass
            )
        ),
        RunHold.DEPENDENCIES: sa.and_(RUN.task_id.is_not(None), has_unmet_dependency(RUN.task_id)),
        RunHold.BUDGET: day_is_spent(ctx),
        RunHold.TASK_RUNNING: executing(task_id=RUN.task_id) > 0,
        RunHold.WORKSPACE_LIMIT: executing(workspace_id=WORKSPACE.id) >= WORKSPACE.max_concurrent,
    }


def startable(ctx: Context, executors: Collection[str], *columns: Any) -> sa.Select[Any]:
    """SELECT over the waiting runs that nothing holds up but the server's own limit."""
    return waiting_runs(*columns).where(
        *(sa.not_(condition) for condition in holds(ctx, executors).values())
    )
