"""Look-ups that siblings of a page share: one statement for all of them, not one each."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlmodel import SQLModel
from strawberry.dataloader import DataLoader

from models import Run, Sprint, TaskContext, TaskDependency, table_of
from models.transaction import select_all
from resolvers.context import Context

M = TypeVar("M", bound=SQLModel)
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


async def load_by_id(ctx: Context, model: type[M], entity_id: str | None) -> M | None:
    """A record by id, batched with its siblings; None for no id or no such row.

    For links that lead from a visible entity to one of the same workspace.
    """
    if entity_id is None:
        return None

    async def load(ids: Sequence[str]) -> Sequence[M | None]:
        columns = table_of(model).c
        records = await (await ctx.reader()).records(
            model, select_all(model).where(columns.id.in_(ids))
        )
        by_id: dict[str, M] = {record.id: record for record in records}  # type: ignore[attr-defined]  # all have one
        return [by_id.get(key) for key in ids]

    return await loader(ctx, model, load).load(entity_id)


async def newest_runs(ctx: Context, task_id: str, *, number: int) -> list[Run]:
    """The newest runs of a task, newest first, batched over the tasks of a page.

    Args:
        ctx: gives the snapshot.
        task_id: whose runs.
        number: how many at most.
    """

    async def load(task_ids: Sequence[str]) -> Sequence[list[Run]]:
        ranked = (
            sa.select(
                *table_of(Run).c,
                sa.func.row_number()
                .over(partition_by=RUN.task_id, order_by=(RUN.created_at.desc(), RUN.id.desc()))
                .label("rank"),
            )
            .where(RUN.task_id.in_(task_ids))
            .subquery()
        )
        columns = [ranked.c[column.key] for column in table_of(Run).c]
        records = await (await ctx.reader()).records(
            Run,
            sa.select(*columns).where(ranked.c.rank <= number).order_by(ranked.c.rank),
        )
        return _grouped(task_ids, records, key=lambda run: run.task_id)

    return await loader(ctx, ("newest_runs", number), load).load(task_id)


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
