"""How much of the work of a story or a sprint is done, for a whole page in one statement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from models import Sprint, Task, table_of
from models.enums import TaskStatus
from models.lifecycle import TERMINAL
from resolvers.context import Context
from resolvers.loading import in_sprints, loader

TASK = table_of(Task).c


@dataclass(frozen=True, slots=True)
class WorkTotals:
    """Totals over the tasks that are not deleted; archived ones count too.

    ``done`` are the completed ones, ``open`` those on the board that are neither completed nor
    cancelled; points are story points.
    """

    total: int = 0
    done: int = 0
    open: int = 0
    points: float = 0.0
    done_points: float = 0.0
    by_status: Mapping[str, int] = field(default_factory=dict)


async def story_totals(ctx: Context, story_id: str) -> WorkTotals:
    """The totals of a story's tasks, batched over the stories of a page."""

    async def load(story_ids: Sequence[str]) -> Sequence[WorkTotals]:
        found = await _totals(ctx, (TASK.story_id,), TASK.story_id.in_(story_ids))
        return [found.get((story_id,), WorkTotals()) for story_id in story_ids]

    return await loader(ctx, "story_totals", load).load(story_id)


async def sprint_totals(ctx: Context, workspace_id: str, number: int) -> WorkTotals:
    """The totals of the tasks planned into a sprint, batched over the sprints of a page."""

    async def load(keys: Sequence[tuple[str, int]]) -> Sequence[WorkTotals]:
        found = await _totals(
            ctx,
            (TASK.workspace_id, TASK.sprint_number),
            in_sprints(TASK.workspace_id, TASK.sprint_number, keys),
        )
        return [found.get(key, WorkTotals()) for key in keys]

    return await loader(ctx, "sprint_totals", load).load((workspace_id, number))


async def count_sprint(ctx: Context, sprint: Sprint) -> WorkTotals:
    """The totals of one sprint as they are now, for an operation: nothing remembered is used."""
    key = (sprint.workspace_id, sprint.number)
    columns = (TASK.workspace_id, TASK.sprint_number)
    return (await _totals(ctx, columns, in_sprints(*columns, [key]))).get(key, WorkTotals())


async def _totals(
    ctx: Context, key: Sequence[sa.ColumnElement[Any]], condition: sa.ColumnElement[bool]
) -> dict[tuple[Any, ...], WorkTotals]:
    archived = TASK.archived_at.is_not(None).label("archived")
    rows = await (await ctx.reader()).rows(
        sa.select(
            *key,
            TASK.status,
            archived,
            sa.func.count().label("tasks"),
            sa.func.coalesce(sa.func.sum(TASK.story_points), 0.0).label("points"),
        )
        .where(condition, TASK.deleted_at.is_(None))
        .group_by(*key, TASK.status, archived)
    )
    groups: dict[tuple[Any, ...], list[sa.Row[Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[: len(key)]), []).append(row)
    return {group: _summed(found) for group, found in groups.items()}


def _summed(rows: Sequence[sa.Row[Any]]) -> WorkTotals:
    by_status: dict[str, int] = {}
    for row in rows:
        by_status[row.status] = by_status.get(row.status, 0) + row.tasks
    done = [row for row in rows if row.status == TaskStatus.COMPLETED]
    return WorkTotals(
        total=sum(row.tasks for row in rows),
        done=sum(row.tasks for row in done),
        open=sum(row.tasks for row in rows if not row.archived and row.status not in TERMINAL),
        points=float(sum(row.points for row in rows)),
        done_points=float(sum(row.points for row in done)),
        by_status=by_status,
    )
