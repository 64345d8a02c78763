"""Words in tasks: which tasks an index knows to have them.

SQLite has the table `task_text`, an FTS5 index of all sequences of three characters of titles and
descriptions, kept by triggers. PostgreSQL uses pg_trgm's indexes by itself. Neither is more than a
help: what is found is always compared with the words again, so that an answer is the same without.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence

import sqlalchemy as sa

from models import Task, Workspace, table_of
from resolvers.context import Context

SHORTEST = 3
"""Characters that an index of trigrams needs."""
MOST = 1_000
"""Tasks with the words; where there are more, any order of the list soon comes upon some."""
MOST_WORKSPACES = 50
NUMBERS_PER_WORKSPACE = 1 << 32
"""A row of `task_text` is the workspace's number times this, plus the task's."""

TASK = table_of(Task).c
WORKSPACE = table_of(Workspace).c
_TEXT = sa.table("task_text", sa.column("rowid", sa.BigInteger))
_TABLES = sa.table("sqlite_master", sa.column("name", sa.Text))


async def narrowed(
    ctx: Context, words: str, *, workspace: Workspace | None, numbers: Collection[int] = ()
) -> sa.ColumnElement[bool] | None:
    """SQL for the tasks that may have the words, or one of the numbers; None: any may.

    Args:
        ctx: gives the snapshot.
        words: found anywhere in title or description, in any case.
        workspace: only tasks of this one are wanted; None for all workspaces.
        numbers: of tasks that are wanted without the words.
    """
    reader = await ctx.reader()
    if reader.dialect != "sqlite" or len(words) < SHORTEST or (numbers and workspace is None):
        return None
    if not await reader.rows(sa.select(_TABLES.c.name).where(_TABLES.c.name == "task_text")):
        return None  # this SQLite was built without FTS5
    phrase = '"' + words.replace('"', '""') + '"'
    statement = sa.select(_TEXT.c.rowid).where(sa.literal_column("task_text").op("MATCH")(phrase))
    if workspace is not None:
        low = workspace.number * NUMBERS_PER_WORKSPACE
        statement = statement.where(_TEXT.c.rowid.between(low, low + NUMBERS_PER_WORKSPACE - 1))
    rows = [row.rowid for row in await reader.rows(statement.limit(MOST + 1))]
    if len(rows) > MOST:
        return None
    if workspace is not None:
        found = {row % NUMBERS_PER_WORKSPACE for row in rows}
        return TASK.number.in_(sorted(found.union(numbers)))
    return await _in_workspaces(ctx, rows)


async def _in_workspaces(ctx: Context, rows: Sequence[int]) -> sa.ColumnElement[bool] | None:
    found: defaultdict[int, list[int]] = defaultdict(list)
    for row in rows:
        workspace, task = divmod(row, NUMBERS_PER_WORKSPACE)
        found[workspace].append(task)
    if len(found) > MOST_WORKSPACES:
        return None
    statement = sa.select(WORKSPACE.id, WORKSPACE.number).where(WORKSPACE.number.in_(sorted(found)))
    return sa.or_(
        sa.false(),
        *(
            sa.and_(TASK.workspace_id == row.id, TASK.number.in_(sorted(found[row.number])))
            for row in await (await ctx.reader()).rows(statement)
        ),
    )
