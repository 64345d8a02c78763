"""Lists of runs: of a task, a workspace, or all; and of siblings, together."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from models import Run, Task, table_of
from models.base import column_names
from models.enums import Permission, RunKind, RunStatus
from models.prepared import DialectName, Prepared
from resolvers.context import Context
from resolvers.errors import OperationError
from resolvers.loading import (
    STATEMENTS_KEPT,
    Columns,
    columns_to_read,
    runs_of_one,
    with_columns,
)
from resolvers.paging import (
    Order,
    Page,
    PageArguments,
    Slice,
    capped_count,
    directions,
    is_numbered,
    limit_and_offset,
    names_of,
    read_page,
    read_prepared_page,
)
from resolvers.siblings import Parents, in_workspaces, read_pages
from resolvers.task_access import get_task, reading_of_task
from resolvers.task_queries import visible_workspaces
from resolvers.workspaces import require_workspace

RUN = table_of(Run).c
TASK = table_of(Task).c
ORDER = (Order(RUN.created_at, True), Order(RUN.id, True))
ORDER_NAMES = names_of(ORDER)
_ANY_TASK = reading_of_task(("id",))


async def list_runs(
    ctx: Context,
    *,
    workspace_id: str | None = None,
    task_id: str | None = None,
    agent_id: str | None = None,
    status: Collection[RunStatus] | None = None,
    ids: Collection[str] | None = None,
    page: PageArguments | Slice | None = None,
    columns: Columns = None,
) -> Page[Run]:
    """A page of runs, newest first: of a task, a workspace, or all that are visible.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError, InvalidError.
    """
    page = page or PageArguments()
    names = with_columns(Run, columns, *ORDER_NAMES)
    parent: tuple[str, str] | None = None
    if task_id is not None:
        await get_task(ctx, task_id=task_id, read=_ANY_TASK)
        parent = "task_id", task_id
    elif workspace_id is not None:
        await require_workspace(ctx, workspace_id=workspace_id)
        parent = "workspace_id", workspace_id

    def composed() -> sa.Select[Any]:
        statement = _listed(status, names)
        if parent is not None:
            statement = statement.where(RUN[parent[0]] == parent[1])
        else:
            statement = statement.where(RUN.workspace_id.in_(visible_workspaces(ctx)))
        if agent_id is not None:
            statement = statement.where(RUN.agent_id == agent_id)
        return statement if ids is None else statement.where(RUN.id.in_(ids))

    if parent is None or not (status is agent_id is ids is None) or not is_numbered(page):
        return await read_page(ctx, Run, composed(), order=ORDER, page=page, columns=names)
    return await read_prepared_page(
        ctx,
        _listed_of(parent[0], names),
        parent[1],
        order=ORDER_NAMES,
        page=page,
        count=lambda: capped_count(ctx, composed()),
    )


@lru_cache(maxsize=STATEMENTS_KEPT)
def _listed_of(parent: str, columns: Columns) -> Prepared[Run]:
    def build(_dialect: DialectName) -> sa.Select[Any]:
        listed = _listed(None, columns).where(RUN[parent] == sa.bindparam(parent))
        return limit_and_offset(listed.order_by(*directions(ORDER, table_of(Run))))

    return Prepared(Run, columns or column_names(Run), [parent, "size", "offset"], build)


def _listed(status: Collection[RunStatus] | None, columns: Columns = None) -> sa.Select[Any]:
    statement = (
        sa.select(*columns_to_read(Run, columns))
        .outerjoin(table_of(Task), TASK.id == RUN.task_id)
        .where(TASK.deleted_at.is_(None), RUN.kind != RunKind.COMMAND)
    )
    return statement if status is None else statement.where(RUN.status.in_(sorted(status)))


async def runs_of_workspaces(
    ctx: Context,
    workspace_ids: Sequence[str],
    *,
    status: Collection[RunStatus] | None = None,
    page: PageArguments,
    columns: Columns = None,
) -> list[Page[Run] | OperationError]:
    """The same page of the runs of each workspace; a refusal where one is not visible.

    Raises:
        InvalidError: page arguments that cannot be accepted.
    """
    names = with_columns(Run, columns, "created_at", "id")

    async def read(ids: list[str]) -> list[Page[Run]]:
        parents = Parents(ids, lambda parent: RUN.workspace_id == parent)
        statement = _listed(status, names)
        return await read_pages(ctx, Run, statement, parents, order=ORDER, page=page, columns=names)

    return await in_workspaces(ctx, workspace_ids, lambda key: key, read)


def own_runs(columns: Columns, *, with_cursors: bool = True) -> Prepared[Run]:
    """What reads some columns of the runs of a task; without cursors, nothing for those."""
    return runs_of_one(with_columns(Run, columns, *ORDER_NAMES) if with_cursors else columns)


async def runs_of_tasks(
    ctx: Context, tasks: Sequence[Task], *, page: PageArguments, read: Prepared[Run]
) -> list[Page[Run]]:
    """The same page of the runs, newest first, of each of some tasks that were read as visible.

    Args:
        ctx: who asks, and what is read from.
        tasks: whose runs.
        page: which page.
        read: what is read of a run (:func:`own_runs`).

    Raises:
        InvalidError: page arguments that cannot be accepted.
    """
    allowed = None
    for task in tasks:
        if task.workspace_id != allowed:
            allowed = task.workspace_id
            ctx.require(Permission.READ, allowed, kind="Task")
    if len(tasks) == 1 and is_numbered(page):
        task_id = tasks[0].id
        alone = await read_prepared_page(
            ctx,
            read,
            task_id,
            order=ORDER_NAMES,
            page=page,
            count=lambda: capped_count(ctx, sa.select(RUN.id).where(RUN.task_id == task_id)),
            is_sibling=True,
        )
        return [alone]
    ids = [task.id for task in tasks]
    names = with_columns(Run, read.columns, *ORDER_NAMES)
    statement = sa.select(*columns_to_read(Run, names))
    parents = Parents(ids, lambda parent: RUN.task_id == parent)
    return await read_pages(ctx, Run, statement, parents, order=ORDER, page=page, columns=names)
