"""Stories: create, look up, list, change, delete."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from models import Sprint, Story, Task, table_of
from models.enums import Permission, StoryStatus, TaskPriority, level_of
from resolvers import tasks
from resolvers import validation as check
from resolvers.belongings import Deletion, detach, get_belonging
from resolvers.context import Context
from resolvers.errors import InvalidError, LimitExceededError, OperationError
from resolvers.filtering import bounded, text_search
from resolvers.loading import Columns, columns_to_read, with_columns
from resolvers.operation import operation
from resolvers.paging import Order, Page, PageArguments, names_of
from resolvers.siblings import SPRINT, Parents, in_workspaces, only, read_pages, through_sprint
from resolvers.task_access import check_version
from resolvers.task_fields import checked_fields
from resolvers.validation import Unset
from resolvers.workspaces import get_active_workspace

STORY = table_of(Story).c
TASK = table_of(Task).c

_LIKE_A_TASK = ("title", "description", "priority_level", "sprint_number")
"""Fields with the rules of a task's field of the same name."""


class StoryOrder(StrEnum):
    """Orders of a list of stories; ids break ties."""

    CREATED_AT_ASC = "CREATED_AT_ASC"
    CREATED_AT_DESC = "CREATED_AT_DESC"
    UPDATED_AT_DESC = "UPDATED_AT_DESC"
    NUMBER_ASC = "NUMBER_ASC"
    NUMBER_DESC = "NUMBER_DESC"
    PRIORITY_DESC = "PRIORITY_DESC"


_ORDERS: dict[StoryOrder, tuple[Order, ...]] = {
    StoryOrder.CREATED_AT_ASC: (Order(STORY.created_at), Order(STORY.id)),
    StoryOrder.CREATED_AT_DESC: (Order(STORY.created_at, True), Order(STORY.id, True)),
    StoryOrder.UPDATED_AT_DESC: (Order(STORY.updated_at, True), Order(STORY.id, True)),
    StoryOrder.NUMBER_ASC: (Order(STORY.number), Order(STORY.id)),
    StoryOrder.NUMBER_DESC: (Order(STORY.number, True), Order(STORY.id, True)),
    StoryOrder.PRIORITY_DESC: (Order(STORY.priority_level, True), Order(STORY.number)),
}


@dataclass(frozen=True, slots=True)
class StoryFilter:
    """Conditions on stories; those given combine with AND. Collections mean "one of".

    ``backlog``: planned into no sprint (True) or into one (False). ``search``: a part of title or
    description, in any case; a number finds the story with this number too.
    """

    ids: Collection[str] | None = None
    status: Collection[str] | None = None
    sprint_numbers: Collection[int] | None = None
    backlog: bool | None = None
    search: str | None = None


async def get_story(
    ctx: Context, *, story_id: str, permission: Permission = Permission.READ
) -> Story:
    """A story the principal may see; inside an operation its row is locked.

    Raises:
        NotFoundError, ForbiddenError, ConflictError: see ``get_belonging``.
    """
    return await get_belonging(ctx, Story, entity_id=story_id, permission=permission)


async def list_stories(
    ctx: Context,
    *,
    workspace_id: str,
    filter_: StoryFilter | None = None,
    order: StoryOrder = StoryOrder.CREATED_AT_DESC,
    page: PageArguments | None = None,
) -> Page[Story]:
    """A page of the stories of a workspace.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError: the workspace is not visible.
        InvalidError: page arguments or filters that cannot be accepted.
    """
    return only(
        await stories_of_workspaces(
            ctx, [workspace_id], filter_=filter_, order=order, page=page or PageArguments()
        )
    )


async def stories_of_workspaces(
    ctx: Context,
    workspace_ids: Sequence[str],
    *,
    filter_: StoryFilter | None = None,
    order: StoryOrder = StoryOrder.CREATED_AT_DESC,
    page: PageArguments,
    columns: Columns = None,
) -> list[Page[Story] | OperationError]:
    """The same page of the stories of each workspace; a refusal where one is not visible.

    Raises:
        InvalidError: page arguments or filters that cannot be accepted.
    """

    async def read(ids: list[str]) -> list[Page[Story]]:
        parents = Parents(ids, lambda parent: STORY.workspace_id == parent)
        return await _pages(ctx, parents, filter_ or StoryFilter(), order, page, columns)

    return await in_workspaces(ctx, workspace_ids, lambda key: key, read)


async def stories_of_sprints(
    ctx: Context, sprints: Sequence[Sprint], *, page: PageArguments, columns: Columns = None
) -> list[Page[Story] | OperationError]:
    """The same page of the stories of each sprint, newest first; else as those of workspaces."""

    async def read(allowed: list[Sprint]) -> list[Page[Story]]:
        parents = Parents(
            [sprint.id for sprint in allowed], SPRINT.id.__eq__, through_sprint(STORY)
        )
        order = StoryOrder.CREATED_AT_DESC
        return await _pages(ctx, parents, StoryFilter(), order, page, columns)

    return await in_workspaces(ctx, sprints, lambda sprint: sprint.workspace_id, read)


async def _pages(
    ctx: Context,
    parents: Parents,
    chosen: StoryFilter,
    order: StoryOrder,
    page: PageArguments,
    columns: Columns,
) -> list[Page[Story]]:
    read = with_columns(Story, columns, *names_of(_ORDERS[order]))
    statement = sa.select(*columns_to_read(Story, read))
    for column, values in (
        (STORY.id, chosen.ids),
        (STORY.status, chosen.status),
        (STORY.sprint_number, chosen.sprint_numbers),
    ):
        if values is not None:
            statement = statement.where(column.in_(bounded(ctx, str(column.key), values)))
    if chosen.backlog is not None:
        number = STORY.sprint_number
        statement = statement.where(number.is_(None) if chosen.backlog else number.is_not(None))
    if chosen.search is not None and chosen.search.strip():
        statement = statement.where(
            text_search(chosen.search.strip(), STORY.title, STORY.description, number=STORY.number)
        )
    return await read_pages(
        ctx, Story, statement, parents, order=_ORDERS[order], page=page, columns=read
    )


@operation
async def create_story(
    ctx: Context,
    *,
    workspace_id: str,
    title: str,
    create_task: bool = False,
    task_fields: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Story:
    """Write a story down.

    Args:
        ctx: needs ``write`` in the workspace.
        workspace_id: where.
        title: one line, 1 to 500 characters.
        create_task: also make one task with the story's title, description, priority and sprint.
        task_fields: further fields of that task.
        fields: any of the fields of :func:`update_story`.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError, LimitExceededError.
    """
    await get_active_workspace(ctx, workspace_id=workspace_id)
    values = await _checked(ctx, workspace_id, title=title, **fields)
    number = await ctx.transaction.next_number(workspace_id, "story")
    if number > ctx.limits.stories_per_workspace:
        raise LimitExceededError(
            "The workspace has its maximum of stories", limit=ctx.limits.stories_per_workspace
        )
    story = await ctx.transaction.insert(
        Story,
        workspace_id=workspace_id,
        number=number,
        created_by=ctx.authenticated().user_id,
        created_at=ctx.now,
        updated_at=ctx.now,
        **values,
    )
    ctx.emit("story.created", story, workspace_id=workspace_id)
    if create_task:
        shared = {name: getattr(story, name) for name in _LIKE_A_TASK}
        given = {**shared, **(task_fields or {}), "story_id": story.id}
        await tasks.create_task(ctx, workspace_id=workspace_id, **given)
    return story


@operation
async def update_story(
    ctx: Context, *, story_id: str, expected_version: int | None = None, **fields: Any
) -> Story:
    """Change fields of a story; what is not given stays, None clears. Its tasks stay as they are.

    Args:
        ctx: needs ``write``.
        story_id: which.
        expected_version: refuse with CONFLICT unless the story is at this version.
        fields: title, description, status, priority or priority_level, sprint_number (None is the
            backlog), feedback.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    story = await get_story(ctx, story_id=story_id, permission=Permission.WRITE)
    check_version(story.version, expected_version)
    values = await _checked(ctx, story.workspace_id, story=story, **fields)
    changes = {name: value for name, value in values.items() if getattr(story, name) != value}
    if not changes:
        return story
    after = await ctx.transaction.update_by_id(
        Story, story.id, updated_at=ctx.now, version=story.version + 1, **changes
    )
    ctx.emit("story.updated", after, workspace_id=story.workspace_id, changed=sorted(changes))
    return after


@operation
async def delete_story(ctx: Context, *, story_id: str) -> Deletion:
    """Delete a story; its tasks stay, in no story.

    The event names the first 100 of these tasks and says how many there were.
    """
    story = await get_story(ctx, story_id=story_id, permission=Permission.WRITE)
    left = await detach(ctx, Task, "story_id", TASK.story_id == story.id)
    await ctx.transaction.delete_by_id(Story, story.id)
    ctx.emit("story.deleted", story, workspace_id=story.workspace_id, **left)
    return Deletion(story.id, story.workspace_id)


async def _checked(
    ctx: Context, workspace_id: str, *, story: Story | None = None, **fields: Any
) -> dict[str, Any]:
    given = {name: value for name, value in fields.items() if not isinstance(value, Unset)}
    alike = {name: given.pop(name) for name in _LIKE_A_TASK if name in given}
    values = await checked_fields(ctx, workspace_id, **alike)
    for name, value in given.items():
        if name == "feedback":
            values[name] = check.optional_text(value, field=name, maximum=ctx.limits.description)
            continue
        if value is None:
            raise InvalidError(f"{name} must not be null", field=name)
        if name == "status":
            values[name] = check.word(value, StoryStatus, field=name)
        elif name == "priority":
            values["priority_level"] = level_of(
                check.word(value, TaskPriority, field=name),
                story.priority_level if story else None,
            )
        else:
            raise TypeError(f"a story has no field {name} to set")
    return values
