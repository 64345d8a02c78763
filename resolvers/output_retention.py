"""Forgetting the output of runs that nobody can see any more: of deleted tasks and workspaces."""

from typing import Any

import sqlalchemy as sa

from models import Run, RunOutput, Task, Workspace, table_of
from models.lifecycle import RUN_FINAL
from resolvers.context import Context
from resolvers.operation import step

OUTPUT = table_of(RunOutput).c
RUN = table_of(Run).c
TASK = table_of(Task).c
WORKSPACE = table_of(Workspace).c
BATCH = 50
"""Runs whose output is removed in one transaction."""


async def count_output_of_deleted(ctx: Context) -> tuple[int, int]:
    """How many runs that are over and hidden have output, and its bytes as it is stored."""
    row = await (await ctx.reader()).first(
        sa.select(
            sa.func.count(sa.distinct(OUTPUT.run_id)).label("runs"),
            sa.func.sum(sa.func.length(OUTPUT.data)).label("size"),
        ).where(OUTPUT.run_id.in_(_hidden_runs()))
    )
    return (0, 0) if row is None else (int(row.runs), int(row.size or 0))


async def drop_output_of_deleted(ctx: Context) -> tuple[int, int]:
    """Remove that output, a few runs at a time; of how many runs, and its bytes."""
    runs = size = 0
    while (dropped := await _drop_batch(ctx))[0]:
        runs, size = runs + dropped[0], size + dropped[1]
    return runs, size


@step
async def _drop_batch(ctx: Context) -> tuple[int, int]:
    ids = await ctx.transaction.scalars(
        sa.select(RUN.id)
        .where(RUN.id.in_(_hidden_runs()), sa.exists(sa.select(1).where(OUTPUT.run_id == RUN.id)))
        .limit(BATCH)
    )
    if not ids:
        return 0, 0
    size = await ctx.transaction.scalar(
        sa.select(sa.func.sum(sa.func.length(OUTPUT.data))).where(OUTPUT.run_id.in_(ids))
    )
    await ctx.transaction.execute(sa.delete(table_of(RunOutput)).where(OUTPUT.run_id.in_(ids)))
    return len(ids), int(size or 0)


def _hidden_runs() -> sa.Select[Any]:
    return (
        sa.select(RUN.id)
        .join(table_of(Workspace), WORKSPACE.id == RUN.workspace_id)
        .outerjoin(table_of(Task), TASK.id == RUN.task_id)
        .where(
            RUN.status.in_(sorted(RUN_FINAL)),
            sa.or_(TASK.deleted_at.is_not(None), WORKSPACE.deleted_at.is_not(None)),
        )
    )
