"""What tasks can be filtered by, and what that is in SQL."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from operator import attrgetter

import sqlalchemy as sa

from models import Run, Task, TaskDependency, table_of
from models.base import json_contains
from models.enums import RunStatus, TaskStatus
from resolvers import validation as check
from resolvers.context import Context
from resolvers.dependencies import DEPENDENCY, unmet_condition
from resolvers.filtering import bounded, comparable, escape_like, text_search

TASK = table_of(Task).c


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Conditions on tasks; those given combine with AND. Collections mean "one of".

    ``archived``: False (default) hides archived tasks, True shows only them, None shows all.
    ``labels_all`` asks for every label, ``labels_any`` for one of them. ``ready`` are tasks that
    wait for nothing (True) or for something (False). ``search``: a part of title or description,
    in any case; a number finds the task with this number too, and so does ``search_number``.
    ``repository`` is compared in any case, whole where it has a slash, else its last part;
    ``repository_owner`` its first part. ``run_stage``: some run has it; ``latest_run_status``:
    the newest run has it.
    """

    ids: Collection[str] | None = None
    status: Collection[TaskStatus] | None = None
    priority_min: int | None = None
    priority_max: int | None = None
    types: Collection[str] | None = None
    labels_all: Sequence[str] = ()
    labels_any: Sequence[str] = ()
    assignee_ids: Collection[str] | None = None
    agent_ids: Collection[str] | None = None
    story_ids: Collection[str] | None = None
    parent_ids: Collection[str] | None = None
    sprint_numbers: Collection[int] | None = None
    created_by: Collection[str] | None = None
    unassigned: bool | None = None
    archived: bool | None = False
    internal: bool | None = None
    ready: bool | None = None
    search: str | None = None
    search_number: int | None = None
    origins: Collection[str] | None = None
    repository: str | None = None
    repository_owner: str | None = None
    run_stage: str | None = None
    latest_run_status: Collection[RunStatus] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    due_before: datetime | None = None

    @property
    def is_default(self) -> bool:
        """Whether nothing is filtered but what the kept totals know: status and archive."""
        return self.internal is None and _besides(self) == _NOTHING_BESIDES

    @property
    def plain(self) -> "TaskFilter | None":
        """The filter, hashable, if all it asks for is a status and flags: of these there are few.

        Statements are prepared for plain filters.
        """
        if _besides(self) != _NOTHING_BESIDES:
            return None
        if self.status is None:
            return _plain(None, archived=self.archived, internal=self.internal)
        if not 0 < len(self.status) <= len(TaskStatus):
            return None
        status = frozenset(self.status)
        return _plain(status, archived=self.archived, internal=self.internal)


# Comparing what is there takes a tenth of making another filter.
_PLAIN = ("status", "archived", "internal")
_besides = attrgetter(*(one.name for one in fields(TaskFilter) if one.name not in _PLAIN))
_NOTHING_BESIDES = _besides(TaskFilter())


@lru_cache(maxsize=1_024)
def _plain(
    status: frozenset[TaskStatus] | None, *, archived: bool | None, internal: bool | None
) -> TaskFilter:
    return TaskFilter(status=status, archived=archived, internal=internal)


def task_conditions(ctx: Context, chosen: TaskFilter) -> list[sa.ColumnElement[bool]]:
    """SQL: what the filter asks for, to be combined with AND.

    Raises:
        InvalidError: too many values, or one that no database takes.
    """
    conditions: list[sa.ColumnElement[bool]] = []
    for column, values in (
        (TASK.id, chosen.ids),
        (TASK.type, chosen.types),
        (TASK.assignee_id, chosen.assignee_ids),
        (TASK.agent_id, chosen.agent_ids),
        (TASK.story_id, chosen.story_ids),
        (TASK.parent_id, chosen.parent_ids),
        (TASK.created_by, chosen.created_by),
        (TASK.sprint_number, chosen.sprint_numbers),
        (TASK.origin, chosen.origins),
    ):
        if values is not None:
            conditions.append(column.in_(bounded(ctx, column.key, values)))
    for column, least, most in (
        (TASK.priority_level, chosen.priority_min, chosen.priority_max),
        (TASK.created_at, chosen.created_after, chosen.created_before),
        (TASK.updated_at, chosen.updated_after, chosen.updated_before),
        (TASK.due_at, None, chosen.due_before),
    ):
        if least is not None:
            conditions.append(column >= comparable(least, column.key))
        if most is not None:
            conditions.append(column <= comparable(most, column.key))
    conditions.extend(
        json_contains(TASK.labels, label) for label in bounded(ctx, "labels", chosen.labels_all)
    )
    if chosen.labels_any:
        conditions.append(
            sa.or_(
                *(
                    json_contains(TASK.labels, label)
                    for label in bounded(ctx, "labels", chosen.labels_any)
                )
            )
        )
    if chosen.status is not None:
        bounded(ctx, "status", chosen.status)
    conditions.extend(flag_conditions(chosen))
    conditions.extend(_of_repository(ctx, chosen))
    conditions.extend(_of_runs(ctx, chosen))
    if chosen.search is not None and chosen.search.strip():
        found = text_search(chosen.search.strip(), TASK.title, TASK.description, number=TASK.number)
        if chosen.search_number is not None:
            found = sa.or_(found, TASK.number == chosen.search_number)
        conditions.append(found)
    return conditions


def _of_repository(ctx: Context, chosen: TaskFilter) -> list[sa.ColumnElement[bool]]:
    folded = sa.func.lower(TASK.repository)
    conditions: list[sa.ColumnElement[bool]] = []
    for name, value in (
        ("repository", chosen.repository),
        ("repositoryOwner", chosen.repository_owner),
    ):
        if value is None:
            continue
        text = check.text(value, field=name, maximum=ctx.limits.short_text).lower()
        if name == "repository" and "/" in text:
            conditions.append(folded == text)
        else:
            part = escape_like(text)
            pattern = f"%/{part}" if name == "repository" else f"{part}/%"
            conditions.append(folded.like(pattern, escape="\\"))
    return conditions


def _of_runs(ctx: Context, chosen: TaskFilter) -> list[sa.ColumnElement[bool]]:
    run = table_of(Run).alias("run_of_task")
    conditions: list[sa.ColumnElement[bool]] = []
    if chosen.run_stage is not None:
        stage = check.text(chosen.run_stage, field="runStage", maximum=ctx.limits.short_text)
        some = sa.select(sa.literal(1)).where(run.c.task_id == TASK.id, run.c.stage == stage)
        conditions.append(sa.exists(some))
    if chosen.latest_run_status is not None:
        newest = (
            sa.select(run.c.status)
            .where(run.c.task_id == TASK.id)
            .order_by(run.c.created_at.desc(), run.c.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        conditions.append(newest.in_(sorted(chosen.latest_run_status)))
    return conditions


def flag_conditions(chosen: TaskFilter) -> list[sa.ColumnElement[bool]]:
    """SQL: what the filter says of status and flags; all of it where the filter is plain."""
    conditions: list[sa.ColumnElement[bool]] = []
    if chosen.status is not None:
        # One parameter each: a list that is expanded when it runs cannot be prepared.
        conditions.append(TASK.status.in_([sa.literal(str(s)) for s in sorted(chosen.status)]))
    if chosen.archived is not None:
        column = TASK.archived_at
        conditions.append(column.is_not(None) if chosen.archived else column.is_(None))
    if chosen.internal is not None:
        conditions.append(TASK.internal.is_(chosen.internal))
    if chosen.unassigned is not None:
        nobody = sa.and_(TASK.assignee_id.is_(None), TASK.agent_id.is_(None))
        conditions.append(nobody if chosen.unassigned else sa.not_(nobody))
    if chosen.ready is not None:
        waits = has_unmet_dependency(TASK.id)
        conditions.append(sa.not_(waits) if chosen.ready else waits)
    return conditions


def has_unmet_dependency(task_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """SQL: the task waits for another one."""
    other = table_of(Task).alias("depended_on")
    return sa.exists(
        sa.select(sa.literal(1))
        .select_from(table_of(TaskDependency))
        .join(other, other.c.id == DEPENDENCY.depends_on_id)
        .where(DEPENDENCY.task_id == task_id, unmet_condition(other.c))
    )
