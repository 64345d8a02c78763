"""Lists of tasks: filters, search, orders, and the look-ups that go with a page."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from models import Run, Task, TaskDependency, TaskTotal, Workspace, table_of
from models.base import column_names, json_contains
from models.enums import Permission, RunStatus, TaskStatus
from models.prepared import DialectName, Prepared
from resolvers import validation as check
from resolvers.context import Context
from resolvers.dependencies import DEPENDENCY, unmet_condition
from resolvers.errors import InvalidError
from resolvers.loading import STATEMENTS_KEPT, Columns, columns_to_read, with_columns
from resolvers.paging import (
    Order,
    Page,
    PageArguments,
    Slice,
    capped_count,
    directions,
    is_first_page,
    names_of,
    read_first_page,
    read_page,
)
from resolvers.task_search import narrowed
from resolvers.workspaces import get_workspace, require_workspace

TASK = table_of(Task).c
TOTAL = table_of(TaskTotal).c
WORKSPACE = table_of(Workspace).c
SEARCH_LENGTH = 500
REPOSITORIES_MAX = 1_000


class TaskOrder(StrEnum):
    """Orders of a list of tasks; ids break ties."""

    POSITION_ASC = "POSITION_ASC"
    CREATED_AT_ASC = "CREATED_AT_ASC"
    CREATED_AT_DESC = "CREATED_AT_DESC"
    UPDATED_AT_ASC = "UPDATED_AT_ASC"
    UPDATED_AT_DESC = "UPDATED_AT_DESC"
    PRIORITY_DESC = "PRIORITY_DESC"
    NUMBER_ASC = "NUMBER_ASC"
    NUMBER_DESC = "NUMBER_DESC"
    TITLE_ASC = "TITLE_ASC"


_ORDERS: dict[TaskOrder, tuple[Order, ...]] = {
    TaskOrder.POSITION_ASC: (Order(TASK.position), Order(TASK.id)),
    TaskOrder.CREATED_AT_ASC: (Order(TASK.created_at), Order(TASK.id)),
    TaskOrder.CREATED_AT_DESC: (Order(TASK.created_at, True), Order(TASK.id, True)),
    TaskOrder.UPDATED_AT_ASC: (Order(TASK.updated_at), Order(TASK.id)),
    TaskOrder.UPDATED_AT_DESC: (Order(TASK.updated_at, True), Order(TASK.id, True)),
    TaskOrder.PRIORITY_DESC: (
        Order(TASK.priority_level, True),
        Order(TASK.position),
        Order(TASK.id),
    ),
    TaskOrder.NUMBER_ASC: (Order(TASK.number), Order(TASK.id)),
    TaskOrder.NUMBER_DESC: (Order(TASK.number, True), Order(TASK.id, True)),
    TaskOrder.TITLE_ASC: (Order(TASK.title), Order(TASK.id)),
}


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
        return self == TaskFilter(status=self.status, archived=self.archived)


_ON_THE_BOARD = TaskFilter()
_ORDER_NAMES = {name: names_of(order) for name, order in _ORDERS.items()}


async def list_tasks(
    ctx: Context,
    *,
    workspace_id: str | None = None,
    filter_: TaskFilter | None = None,
    order: TaskOrder = TaskOrder.POSITION_ASC,
    page: PageArguments | Slice | None = None,
    columns: Columns = None,
) -> Page[Task]:
    """A page of the tasks of one workspace, or of all that the principal may see.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError: the workspace is not visible.
        InvalidError: page arguments or filters that cannot be accepted.
    """
    chosen = filter_ or TaskFilter()
    page = page or PageArguments()
    workspace = None
    if workspace_id is not None:
        await require_workspace(ctx, workspace_id=workspace_id)
        if chosen == _ON_THE_BOARD and is_first_page(page):
            return await _first_of_board(ctx, workspace_id, order, page, columns)
        if chosen.search is not None:
            workspace = await get_workspace(ctx, workspace_id=workspace_id)
    statement = sa.select(*columns_to_read(Task, with_columns(Task, columns, *_ORDER_NAMES[order])))
    statement = statement.where(TASK.deleted_at.is_(None), *_conditions(ctx, chosen))
    if workspace_id is not None:
        statement = statement.where(TASK.workspace_id == workspace_id)
    else:
        statement = statement.where(TASK.workspace_id.in_(visible_workspaces(ctx)))
    if chosen.search is not None and chosen.search.strip():
        words = chosen.search.strip()
        numbers = {number_in(words), chosen.search_number} - {None}
        known = await narrowed(
            ctx, words, workspace=workspace, numbers=[n for n in numbers if n is not None]
        )
        if known is not None:
            statement = statement.where(known)

    async def count() -> tuple[int, bool]:
        if workspace_id is not None and chosen.is_default:
            return await _kept_total(ctx, workspace_id, chosen), True
        return await capped_count(ctx, statement)

    return await read_page(
        ctx,
        Task,
        statement,
        order=_ORDERS[order],
        page=page,
        count=count,
        columns=with_columns(Task, columns, *_ORDER_NAMES[order]),
    )


async def _first_of_board(
    ctx: Context, workspace_id: str, order: TaskOrder, page: PageArguments, columns: Columns
) -> Page[Task]:
    async def count() -> tuple[int, bool]:
        return await _kept_total(ctx, workspace_id, _ON_THE_BOARD), True

    prepared = _board_page(order, with_columns(Task, columns, *_ORDER_NAMES[order]))
    return await read_first_page(
        ctx, prepared, workspace_id, order=_ORDER_NAMES[order], page=page, count=count
    )


@lru_cache(maxsize=STATEMENTS_KEPT)
def _board_page(order: TaskOrder, columns: Columns) -> Prepared[Task]:
    def build(_dialect: DialectName) -> sa.Select[Any]:
        return (
            sa.select(*columns_to_read(Task, columns))
            .where(
                TASK.workspace_id == sa.bindparam("workspace_id"),
                TASK.deleted_at.is_(None),
                TASK.archived_at.is_(None),
            )
            .order_by(*directions(_ORDERS[order], table_of(Task)))
            .limit(sa.bindparam("size", type_=sa.Integer))
        )

    return Prepared(Task, columns or column_names(Task), ["workspace_id", "size"], build)


async def list_task_repositories(ctx: Context, *, workspace_id: str) -> list[str]:
    """The distinct repositories of a workspace's live tasks, sorted; internal tasks apart.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError.
    """
    await get_workspace(ctx, workspace_id=workspace_id)
    return await (await ctx.reader()).scalars(
        sa.select(TASK.repository)
        .where(
            TASK.workspace_id == workspace_id,
            TASK.deleted_at.is_(None),
            TASK.internal.is_(False),
            TASK.repository.is_not(None),
        )
        .distinct()
        .order_by(TASK.repository)
        .limit(REPOSITORIES_MAX)
    )


def visible_workspaces(ctx: Context) -> sa.Select[Any]:
    """SQL: ids of the live workspaces the principal may read.

    Raises:
        UnauthenticatedError, ForbiddenError: nobody asks, or the key may not read.
    """
    principal = ctx.authenticated()
    ctx.require_scope(Permission.READ)
    statement = sa.select(WORKSPACE.id).where(WORKSPACE.deleted_at.is_(None))
    visible = principal.readable_workspaces
    return statement if visible is None else statement.where(WORKSPACE.id.in_(sorted(visible)))


async def _kept_total(ctx: Context, workspace_id: str, chosen: TaskFilter) -> int:
    if chosen == _ON_THE_BOARD:
        (found,) = await (await ctx.reader()).fetch(_BOARD_TOTAL, workspace_id)
        return int(found.total)
    statement = sa.select(sa.func.coalesce(sa.func.sum(TOTAL.total), 0)).where(
        TOTAL.workspace_id == workspace_id
    )
    if chosen.status is not None:
        statement = statement.where(TOTAL.status.in_(sorted(chosen.status)))
    if chosen.archived is not None:
        statement = statement.where(TOTAL.archived.is_(chosen.archived))
    return int(await (await ctx.reader()).scalar(statement))


def _board_total(_dialect: DialectName) -> sa.Select[Any]:
    total = sa.func.coalesce(sa.func.sum(TOTAL.total), 0).label("total")
    return sa.select(total).where(
        TOTAL.workspace_id == sa.bindparam("workspace_id"), TOTAL.archived.is_(False)
    )


_BOARD_TOTAL = Prepared(TaskTotal, ["total"], ["workspace_id"], _board_total)


async def task_totals(ctx: Context, *, workspace_id: str) -> dict[TaskStatus, int]:
    """How many tasks (archived ones apart) stand in each status, from the kept totals."""
    ctx.require(Permission.READ, workspace_id)
    rows = await (await ctx.reader()).rows(
        sa.select(TOTAL.status, TOTAL.total).where(
            TOTAL.workspace_id == workspace_id, TOTAL.archived.is_(False)
        )
    )
    found = {row.status: int(row.total) for row in rows}
    return {status: found.get(status, 0) for status in TaskStatus}


def _conditions(ctx: Context, chosen: TaskFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    for column, values in (
        (TASK.id, chosen.ids),
        (TASK.status, chosen.status),
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
            conditions.append(column >= _comparable(least, column.key))
        if most is not None:
            conditions.append(column <= _comparable(most, column.key))
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
    conditions.extend(_flags(chosen))
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
            part = _escape_like(text)
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


def _flags(chosen: TaskFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
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


def bounded(ctx: Context, name: str, values: Collection[Any]) -> list[Any]:
    """The values of a filter, if there are not too many and each can be compared.

    Raises:
        InvalidError: more than 100, or a text no database takes.
    """
    maximum = ctx.limits.list_items
    if len(values) > maximum:
        raise InvalidError(
            f"At most {maximum} values may be given for {name}", field=name, limit=maximum
        )
    return [
        check.text(v, field=name, maximum=ctx.limits.short_text) if isinstance(v, str) else v
        for v in values
    ]


def _comparable(value: Any, name: str) -> Any:
    return check.moment(value, field=name) if isinstance(value, datetime) else value


def text_search(
    words: str, *texts: sa.ColumnElement[Any], number: sa.ColumnElement[int]
) -> sa.ColumnElement[bool]:
    """SQL: one of the texts contains the words, or the number is the one they spell (``#12``).

    Raises:
        InvalidError: more than 500 characters.
    """
    found = text_contains(words, *texts)
    named = number_in(words)
    return found if named is None else sa.or_(found, number == named)


def number_in(words: str) -> int | None:
    """The number that words such as ``#12`` or ``12`` spell, or None."""
    digits = words.removeprefix("#")
    if digits.isdecimal() and digits.isascii() and len(digits) <= 9:  # noqa: PLR2004  # fits an integer
        return int(digits)
    return None


def text_contains(words: str, *texts: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """SQL: one of the texts contains the words, in any case.

    Both spellings are compared where that matters: SQLite folds the case of ASCII letters only.

    Raises:
        InvalidError: more than 500 characters.
    """
    text = check.text(words, field="search", maximum=SEARCH_LENGTH)
    as_given, folded = (f"%{_escape_like(spelling)}%" for spelling in (text, text.lower()))
    found = [sa.func.lower(column).like(folded, escape="\\") for column in texts]
    if not text.isascii():
        found += [column.like(as_given, escape="\\") for column in texts]
    return sa.or_(*found)


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
