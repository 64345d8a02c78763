"""Look-ups that siblings of a page share: one statement for all of them, not one each."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlmodel import SQLModel
from strawberry.dataloader import DataLoader

from models import Run, Sprint, TaskContext, TaskDependency, table_of
from models.base import column_names
from models.prepared import DialectName, Prepared, each_of, first_of_each, one_of
from models.transaction import select_all
from resolvers.context import Context
from resolvers.paging import limit_and_offset

M = TypeVar("M", bound=SQLModel)
Columns = tuple[str, ...] | None
"""Names of the columns to read, in the order of the table; None for all."""
STATEMENTS_KEPT = 1_024
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

RUN = table_of(Run).c
DEPENDENCY = table_of(TaskDependency).c
CONTEXT = table_of(TaskContext).c
SPRINT = table_of(Sprint).c


def loader(
    ctx: Context, name: Hashable, load: Callable[[Sequence[K]], Awaitable[Sequence[V]]]
) -> DataLoader[K, V]:
    """The request's loader of this name, made at first use; it lives as long as the snapshot."""
    found: DataLoader[K, V] | None = ctx.loaders.get(name)
    if found is None:

        async def load_batch(keys: list[K]) -> Sequence[V]:
            return await load(keys)

        found = ctx.loaders[name] = DataLoader(load_fn=load_batch)
    return found


async def load_by_id(
    ctx: Context, model: type[M], entity_id: str | None, columns: Columns = None
) -> M | None:
    """A record by id, batched with its siblings; None for no id or no such row.

    For links that lead from a visible entity to one of the same workspace.
    """
    if entity_id is None:
        return None

    async def load(ids: Sequence[str]) -> Sequence[M | None]:
        return await find_by_ids(ctx, model, ids, columns)

    return await loader(ctx, (model, columns), load).load(entity_id)


async def find_by_ids(
    ctx: Context, model: type[M], ids: Sequence[str | None], columns: Columns = None
) -> list[M | None]:
    """The records with these ids, in their order, in one statement; None where there is none.

    For links that lead from visible entities to others of the same workspace.
    """
    wanted = set(ids)
    wanted.discard(None)
    if not wanted:
        return [None] * len(ids)
    reader = await ctx.reader()
    if len(wanted) == 1:
        records = await reader.fetch(_by_id(model, columns), *wanted)
    else:
        records = await reader.fetch(_by_ids(model, columns), list(wanted))
    by_id: dict[Any, M] = {record.id: record for record in records}
    return list(map(by_id.get, ids))


@lru_cache(maxsize=STATEMENTS_KEPT)
def _by_id(model: type[M], columns: Columns) -> Prepared[M]:
    def build(_dialect: DialectName) -> sa.Select[Any]:
        table = table_of(model)
        return sa.select(*columns_to_read(model, columns)).where(table.c.id == sa.bindparam("key"))

    return Prepared(model, columns or column_names(model), ["key"], build)


@lru_cache(maxsize=STATEMENTS_KEPT)
def _by_ids(model: type[M], columns: Columns) -> Prepared[M]:
    def build(dialect: DialectName) -> sa.Select[Any]:
        table = table_of(model)
        return sa.select(*columns_to_read(model, columns)).where(one_of(dialect, table.c.id, "ids"))

    return Prepared(model, columns or column_names(model), ["ids"], build)


def columns_to_read(model: type[SQLModel], columns: Columns) -> list[sa.Column[Any]]:
    """The columns to select."""
    table = table_of(model)
    return [table.c[name] for name in columns or column_names(model)]


async def newest_run_of_each(
    ctx: Context, task_ids: Sequence[str], columns: Columns = None
) -> list[Run | None]:
    """The newest run of each task, in one statement; None where there is none.

    Args:
        ctx: gives the snapshot.
        task_ids: whose runs; of tasks that are visible.
        columns: what to read of a run.
    """
    reader = await ctx.reader()
    read = with_columns(Run, columns, "task_id")
    if len(task_ids) == 1:
        runs = await reader.fetch(runs_of_one(read), task_ids[0], 1, 0)
    else:
        runs = await reader.fetch(_run_of_each(read), list(set(task_ids)))
    found: dict[Any, Run] = {run.task_id: run for run in runs}
    return list(map(found.get, task_ids))


async def newest_run(ctx: Context, task_id: str, columns: Columns = None) -> Run | None:
    """The newest run of one task, batched over the tasks of a page."""

    async def load(task_ids: Sequence[str]) -> Sequence[Run | None]:
        return await newest_run_of_each(ctx, task_ids, columns)

    return await loader(ctx, ("newest_run", columns), load).load(task_id)


@lru_cache(maxsize=STATEMENTS_KEPT)
def runs_of_one(columns: Columns) -> Prepared[Run]:
    """The newest runs of one task: by its id, at most a number behind an offset."""

    def build(_dialect: DialectName) -> sa.Select[Any]:
        ordered = sa.select(*columns_to_read(Run, columns)).order_by(*_newest_first(table_of(Run)))
        return limit_and_offset(ordered.where(RUN.task_id == sa.bindparam("task_id")))

    return Prepared(Run, columns or column_names(Run), ["task_id", "size", "offset"], build)


@lru_cache(maxsize=STATEMENTS_KEPT)
def _run_of_each(columns: Columns) -> Prepared[Run]:
    read = columns or column_names(Run)

    def build(dialect: DialectName) -> sa.Select[Any]:
        task_ids = each_of(dialect, "task_ids")
        return first_of_each(
            dialect,
            table_of(Run),
            read,
            parents=task_ids,
            belongs=lambda run: run.c.task_id == task_ids,
            order=_newest_first,
        )

    return Prepared(Run, read, ["task_ids"], build)


def _newest_first(run: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    return [run.c.created_at.desc(), run.c.id.desc()]


@lru_cache(maxsize=STATEMENTS_KEPT)
def with_columns(model: type[SQLModel], columns: Columns, *names: str) -> Columns:
    """The columns with some more, in the table's order."""
    if columns is None:
        return None
    wanted = {*columns, *names}
    return tuple(name for name in column_names(model) if name in wanted)


async def dependencies_of(ctx: Context, task_id: str) -> list[TaskDependency]:
    """What a task waits for, oldest first."""

    async def load(task_ids: Sequence[str]) -> Sequence[list[TaskDependency]]:
        records = await (await ctx.reader()).records(
            TaskDependency,
            select_all(TaskDependency)
            .where(DEPENDENCY.task_id.in_(task_ids))
            .order_by(DEPENDENCY.created_at, DEPENDENCY.depends_on_id),
        )
        return _grouped(task_ids, records, key=lambda dependency: dependency.task_id)

    return await loader(ctx, "dependencies_of", load).load(task_id)


async def dependents_of(ctx: Context, task_id: str) -> list[TaskDependency]:
    """What waits for a task, oldest first; at most the limit of dependencies."""

    async def load(task_ids: Sequence[str]) -> Sequence[list[TaskDependency]]:
        records = await (await ctx.reader()).records(
            TaskDependency,
            select_all(TaskDependency)
            .where(DEPENDENCY.depends_on_id.in_(task_ids))
            .order_by(DEPENDENCY.created_at, DEPENDENCY.task_id)
            .limit(len(task_ids) * ctx.limits.dependencies),
        )
        return _grouped(task_ids, records, key=lambda dependency: dependency.depends_on_id)

    return await loader(ctx, "dependents_of", load).load(task_id)


async def context_entries_of(ctx: Context, task_id: str) -> list[TaskContext]:
    """The context entries of a task, in order."""

    async def load(task_ids: Sequence[str]) -> Sequence[list[TaskContext]]:
        records = await (await ctx.reader()).records(
            TaskContext,
            select_all(TaskContext)
            .where(CONTEXT.task_id.in_(task_ids))
            .order_by(CONTEXT.phase, CONTEXT.position, CONTEXT.id),
        )
        return _grouped(task_ids, records, key=lambda entry: entry.task_id)

    return await loader(ctx, "context_entries_of", load).load(task_id)


async def sprint_of(ctx: Context, workspace_id: str, number: int | None) -> Sprint | None:
    """The sprint with a number, batched; None for the backlog and where there is none (yet)."""
    if number is None:
        return None

    async def load(keys: Sequence[tuple[str, int]]) -> Sequence[Sprint | None]:
        records = await (await ctx.reader()).records(
            Sprint,
            select_all(Sprint).where(in_sprints(SPRINT.workspace_id, SPRINT.number, keys)),
        )
        by_key = {(sprint.workspace_id, sprint.number): sprint for sprint in records}
        return [by_key.get(key) for key in keys]

    return await loader(ctx, "sprint_of", load).load((workspace_id, number))


def in_sprints(
    workspace_id: sa.ColumnElement[str],
    number: sa.ColumnElement[Any],
    keys: Sequence[tuple[str, int]],
) -> sa.ColumnElement[bool]:
    """SQL: workspace and number are one of the keys."""
    by_workspace: dict[str, list[int]] = {}
    for workspace, wanted in keys:
        by_workspace.setdefault(workspace, []).append(wanted)
    return sa.or_(
        *(
            sa.and_(workspace_id == workspace, number.in_(numbers))
            for workspace, numbers in by_workspace.items()
        )
    )


def _grouped(
    keys: Sequence[str], records: Sequence[M], *, key: Callable[[M], Any]
) -> list[list[M]]:
    groups: dict[str, list[M]] = {k: [] for k in keys}
    for record in records:
        groups[key(record)].append(record)
    return [groups[k] for k in keys]
