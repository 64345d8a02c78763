"""Stories and sprints in the schema: types, filters and inputs."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from models import Story as StoryRow
from models import Task as TaskRow
from models import Workspace as WorkspaceRow
from models.enums import SprintStatus, StoryStatus, TaskPriority, priority_of
from resolvers import loading, work_totals
from resolvers.paging import PageArguments
from resolvers.stories import StoryFilter as StoryConditions
from resolvers.stories import StoryOrder, stories_of_sprints
from resolvers.task_queries import tasks_of_sprints, tasks_of_stories
from resolvers.usage import sprint_usage
from schema.common import (
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connections,
    page_arguments,
)
from schema.context import Info
from schema.node import Node
from schema.reading import NODES, columns_of, follow, level, link, one_of, reads
from schema.run import Usage
from schema.task import Task

if TYPE_CHECKING:
    from schema.workspace import Workspace

strawberry.enum(StoryOrder, description="Orders of a list of stories; ids break ties.")


@strawberry.type(description="How much of a story's or a sprint's work is done.")
class WorkTotals:
    """See resolvers.work_totals.WorkTotals."""

    total: int = strawberry.field(description="Its tasks, archived ones too.")
    done: int = strawberry.field(description="Those that are completed.")
    open: int = strawberry.field(
        description="Those on the board that are neither completed nor cancelled."
    )
    points: float = strawberry.field(description="Story points of all its tasks.")
    done_points: float = strawberry.field(description="Story points of the completed ones.")


async def _tasks_of_stories(stories: list[Any], info: Info, **page: Any) -> list[Any]:
    columns = columns_of(info, TaskRow, *NODES)
    window = PageArguments(**page)
    return connections(await tasks_of_stories(info.context, stories, page=window, columns=columns))


async def _tasks_of_sprints(sprints: list[Any], info: Info, **page: Any) -> list[Any]:
    columns = columns_of(info, TaskRow, *NODES)
    window = PageArguments(**page)
    return connections(await tasks_of_sprints(info.context, sprints, page=window, columns=columns))


async def _stories(sprints: list[Any], info: Info, **page: Any) -> list[Any]:
    columns = columns_of(info, StoryRow, *NODES)
    window = PageArguments(**page)
    return connections(
        await stories_of_sprints(info.context, sprints, page=window, columns=columns)
    )


@strawberry.type(description="What a user wants, told before it is cut into tasks.")
class Story(Node):
    """See models.Story."""

    workspace_id: strawberry.ID = strawberry.field(description="The workspace it is told in.")
    number: int = strawberry.field(description="Its number in the workspace, counted from 1.")
    title: str = strawberry.field(description="One line.")
    description: str = strawberry.field(description="The story, in Markdown.")
    status: StoryStatus = strawberry.field(description="Where it stands.")
    priority_level: int = strawberry.field(description="Priority as a level, 0 to 10.")
    sprint_number: int | None = strawberry.field(description="Its sprint; null is the backlog.")
    feedback: str | None = strawberry.field(description="What was said about it.")
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    version: int = strawberry.field(description="Counts changes; see expectedVersion.")

    @strawberry.field(
        description="Priority as a bucket of its level.", metadata=reads("priority_level")
    )
    def priority(self) -> TaskPriority:
        return priority_of(self.priority_level)

    @strawberry.field(
        description="The workspace it is told in.", metadata=link(WorkspaceRow, "workspace_id")
    )
    async def workspace(
        self, info: Info
    ) -> Annotated["Workspace", strawberry.lazy("schema.workspace")]:
        found: Any = await follow(info, WorkspaceRow, self.workspace_id)
        return found

    @strawberry.field(
        description="Its sprint, where there is one of that number.",
        metadata=reads("workspace_id", "sprint_number"),
    )
    async def sprint(self, info: Info) -> "Sprint | None":
        found: Any = await loading.sprint_of(info.context, self.workspace_id, self.sprint_number)
        return found

    @strawberry.field(description="How much of it is done.", metadata=reads("id"))
    async def totals(self, info: Info) -> WorkTotals:
        found: Any = await work_totals.story_totals(info.context, self.id)
        return found

    @strawberry.field(
        description="Its tasks in the order of the board, archived ones too.",
        metadata=reads("id", "workspace_id", **PAGED, **level(_tasks_of_stories)),
    )
    async def tasks(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Task]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _tasks_of_stories, self, **asdict(page))


@strawberry.type(description="A stretch of work with a number of its own per workspace.")
class Sprint(Node):
    """See models.Sprint."""

    workspace_id: strawberry.ID = strawberry.field(description="The workspace it belongs to.")
    number: int = strawberry.field(description="Its number in the workspace, counted from 0.")
    status: SprintStatus = strawberry.field(description="Its step.")
    goal: str | None = strawberry.field(description="What is to be reached.")
    deadline: str | None = strawberry.field(description="Until when, in words.")
    retro_summary: str | None = strawberry.field(description="What the retrospective found.")
    started_at: datetime | None = strawberry.field(description="When it first became active.")
    completed_at: datetime | None = strawberry.field(description="When it was completed.")
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    version: int = strawberry.field(description="Counts changes; see expectedVersion.")

    @strawberry.field(
        description="The workspace it belongs to.", metadata=link(WorkspaceRow, "workspace_id")
    )
    async def workspace(
        self, info: Info
    ) -> Annotated["Workspace", strawberry.lazy("schema.workspace")]:
        found: Any = await follow(info, WorkspaceRow, self.workspace_id)
        return found

    @strawberry.field(
        description="What the runs of the tasks that are planned into it used, deleted tasks too.",
        metadata=reads("workspace_id", "number"),
    )
    async def usage(self, info: Info) -> Usage:
        found: Any = await sprint_usage(info.context, self.workspace_id, self.number)
        return found

    @strawberry.field(
        description="How much of it is done.", metadata=reads("workspace_id", "number")
    )
    async def totals(self, info: Info) -> WorkTotals:
        found: Any = await work_totals.sprint_totals(info.context, self.workspace_id, self.number)
        return found

    @strawberry.field(
        description="Its tasks in the order of the board, archived ones too.",
        metadata=reads("id", "workspace_id", **PAGED, **level(_tasks_of_sprints)),
    )
    async def tasks(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Task]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _tasks_of_sprints, self, **asdict(page))

    @strawberry.field(
        description="Its stories, newest first.",
        metadata=reads("id", "workspace_id", **PAGED, **level(_stories)),
    )
    async def stories(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Story]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _stories, self, **asdict(page))


@strawberry.input(description="Conditions on stories; those given combine with AND.")
class StoryFilter:
    """See resolvers.stories.StoryFilter."""

    ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="One of these ids; at most 100, as in all lists here."
    )
    status: list[StoryStatus] | None = strawberry.field(
        default=None, description="One of these statuses."
    )
    sprint_numbers: list[int] | None = strawberry.field(
        default=None, description="In one of these sprints."
    )
    backlog: bool | None = strawberry.field(
        default=None, description="Planned into no sprint (true) or into one (false)."
    )
    search: str | None = strawberry.field(
        default=None,
        description="Part of title or description in any case, or a number; up to 500 characters.",
    )


def conditions(filter: StoryFilter | None) -> StoryConditions:
    """The conditions of a filter."""
    return StoryConditions() if filter is None else StoryConditions(**vars(filter))


@strawberry.input(description="Fields of a story; absent ones stay, null clears.")
class StoryFieldsInput:
    """See resolvers.stories."""

    description: str | None = strawberry.field(
        default=strawberry.UNSET, description="In Markdown, up to 100,000 characters."
    )
    status: StoryStatus | None = strawberry.field(
        default=strawberry.UNSET, description="Where it stands; not null."
    )
    priority: TaskPriority | None = strawberry.field(
        default=strawberry.UNSET,
        description="As a bucket; keeps the level within its bucket; not null.",
    )
    priority_level: int | None = strawberry.field(
        default=strawberry.UNSET, description="As a level, 0 to 10; not null."
    )
    sprint_number: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="Its sprint, 0 to 1,000,000; null is the backlog. Its tasks stay in theirs.",
    )
    feedback: str | None = strawberry.field(
        default=strawberry.UNSET, description="Up to 100,000 characters."
    )


@strawberry.input(description="A new story.")
class CreateStoryInput(StoryFieldsInput):
    """See resolvers.stories.create_story."""

    workspace_id: strawberry.ID = strawberry.field(description="Where.")
    title: str = strawberry.field(description="One line, 1 to 500 characters.")
    create_task: bool = strawberry.field(
        default=False,
        description="Also make one task with its title, description, priority and sprint.",
    )


@strawberry.input(description="Changes of a story; absent fields stay, null clears.")
class UpdateStoryInput(StoryFieldsInput):
    """See resolvers.stories.update_story."""

    id: strawberry.ID = strawberry.field(description="The story's id.")
    title: str | None = strawberry.field(
        default=strawberry.UNSET, description="One line, 1 to 500 characters; not null."
    )
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with CONFLICT unless it is at this version."
    )


@strawberry.input(description="Fields of a sprint; absent ones stay, null clears.")
class SprintFieldsInput:
    """See resolvers.sprints."""

    goal: str | None = strawberry.field(
        default=strawberry.UNSET, description="What is to be reached, up to 100,000 characters."
    )
    deadline: str | None = strawberry.field(
        default=strawberry.UNSET, description="Until when, in words: up to 40 characters."
    )
    retro_summary: str | None = strawberry.field(
        default=strawberry.UNSET, description="Up to 100,000 characters."
    )


@strawberry.input(description="A new sprint.")
class CreateSprintInput(SprintFieldsInput):
    """See resolvers.sprints.create_sprint."""

    workspace_id: strawberry.ID = strawberry.field(description="Where.")
    number: int | None = strawberry.field(
        default=None,
        description="0 to 1,000,000; by default one more than the highest, beginning with 0.",
    )
    status: SprintStatus = strawberry.field(
        default=SprintStatus.PLANNING, description="PLANNING or ACTIVE."
    )


@strawberry.input(description="Changes of a sprint; absent fields stay, null clears.")
class UpdateSprintInput(SprintFieldsInput):
    """See resolvers.sprints.update_sprint."""

    id: strawberry.ID = strawberry.field(description="The sprint's id.")
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with CONFLICT unless it is at this version."
    )
