"""Stories and sprints: root queries and mutations; with those that go with tasks."""

from typing import Annotated, Any

import strawberry

from models.enums import SprintStatus
from resolvers import sprints, stories
from resolvers.stories import StoryOrder
from schema.bulk_mutations import BulkMutation
from schema.common import (
    INPUT,
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connection,
    fields_of,
    log_cursor,
    mutate,
    or_none,
    page_arguments,
)
from schema.context import Info
from schema.story import (
    CreateSprintInput,
    CreateStoryInput,
    Sprint,
    Story,
    StoryFilter,
    UpdateSprintInput,
    UpdateStoryInput,
    conditions,
)

__all__ = ["BulkMutation", "SprintMutation", "SprintQuery", "StoryMutation", "StoryQuery"]

StoryId = Annotated[strawberry.ID, strawberry.argument(description="The story's id.")]
SprintId = Annotated[strawberry.ID, strawberry.argument(description="The sprint's id.")]
WorkspaceId = Annotated[strawberry.ID, strawberry.argument(description="Which workspace.")]


@strawberry.type(description="A story after a mutation.")
class StoryPayload:
    """What mutations of a story return."""

    story: Story = strawberry.field(description="The story as it is now.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.story.workspace_id)


@strawberry.type(description="A story that is gone.")
class DeleteStoryPayload:
    """What deleteStory returns."""

    workspace_id: strawberry.Private[str]
    story_id: strawberry.ID = strawberry.field(description="The id it had.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type(description="A sprint after a mutation.")
class SprintPayload:
    """What mutations of a sprint return."""

    sprint: Sprint = strawberry.field(description="The sprint as it is now.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.sprint.workspace_id)


@strawberry.type(description="A sprint that is gone.")
class DeleteSprintPayload:
    """What deleteSprint returns."""

    workspace_id: strawberry.Private[str]
    sprint_id: strawberry.ID = strawberry.field(description="The id it had.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type
class StoryQuery:
    """Root fields about stories."""

    @strawberry.field(description="A story by its id; null when there is none you may see.")
    async def story(self, info: Info, id: StoryId) -> Story | None:
        found: Any = await or_none(stories.get_story(info.context, story_id=id))
        return found

    @strawberry.field(description="Stories of a workspace.", metadata=PAGED)
    async def stories(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        filter: Annotated[
            StoryFilter | None, strawberry.argument(description="Which stories.")
        ] = None,
        order_by: Annotated[
            StoryOrder, strawberry.argument(description="In which order.")
        ] = StoryOrder.CREATED_AT_DESC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Story]:
        page = await stories.list_stories(
            info.context,
            workspace_id=workspace_id,
            filter_=conditions(filter),
            order=order_by,
            page=page_arguments(first, after, last, before),
        )
        return connection(page)


@strawberry.type
class SprintQuery:
    """Root fields about sprints."""

    @strawberry.field(description="A sprint by its id; null when there is none you may see.")
    async def sprint(self, info: Info, id: SprintId) -> Sprint | None:
        found: Any = await or_none(sprints.get_sprint(info.context, sprint_id=id))
        return found

    @strawberry.field(
        description="The sprint a team works in: the active one with the highest number, else the "
        "highest that is not completed, else the highest; null where there is none."
    )
    async def current_sprint(self, info: Info, workspace_id: WorkspaceId) -> Sprint | None:
        found: Any = await sprints.find_current_sprint(info.context, workspace_id=workspace_id)
        return found

    @strawberry.field(description="Sprints of a workspace, by number.", metadata=PAGED)
    async def sprints(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        status: Annotated[
            list[SprintStatus] | None, strawberry.argument(description="At one of these steps.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Sprint]:
        page = await sprints.list_sprints(
            info.context,
            workspace_id=workspace_id,
            status=status,
            page=page_arguments(first, after, last, before),
        )
        return connection(page)


@strawberry.type
class StoryMutation:
    """Root mutations of stories."""

    @strawberry.mutation(description="Write a story down.")
    async def create_story(
        self, info: Info, input: Annotated[CreateStoryInput, INPUT]
    ) -> StoryPayload:
        values = fields_of(input)
        return await _story(info, lambda ctx: stories.create_story(ctx, **values))

    @strawberry.mutation(description="Change fields of a story; its tasks stay as they are.")
    async def update_story(
        self, info: Info, input: Annotated[UpdateStoryInput, INPUT]
    ) -> StoryPayload:
        values = fields_of(input, leave_out=frozenset({"id"}))
        return await _story(
            info, lambda ctx: stories.update_story(ctx, story_id=input.id, **values)
        )

    @strawberry.mutation(description="Delete a story; its tasks stay, in no story.")
    async def delete_story(self, info: Info, id: StoryId) -> DeleteStoryPayload:
        gone = await mutate(info, lambda ctx: stories.delete_story(ctx, story_id=id))
        return DeleteStoryPayload(workspace_id=gone.workspace_id, story_id=strawberry.ID(gone.id))


@strawberry.type
class SprintMutation:
    """Root mutations of sprints."""

    @strawberry.mutation(description="Plan a sprint, or start it at once.")
    async def create_sprint(
        self, info: Info, input: Annotated[CreateSprintInput, INPUT]
    ) -> SprintPayload:
        values = fields_of(input)
        return await _sprint(info, lambda ctx: sprints.create_sprint(ctx, **values))

    @strawberry.mutation(description="Change fields of a sprint.")
    async def update_sprint(
        self, info: Info, input: Annotated[UpdateSprintInput, INPUT]
    ) -> SprintPayload:
        values = fields_of(input, leave_out=frozenset({"id"}))
        return await _sprint(
            info, lambda ctx: sprints.update_sprint(ctx, sprint_id=input.id, **values)
        )

    @strawberry.mutation(
        description="PLANNING → ACTIVE → REVIEW → RETROSPECTIVE → COMPLETED, or REVIEW → ACTIVE; "
        "the present step changes nothing."
    )
    async def advance_sprint(
        self,
        info: Info,
        id: SprintId,
        to: Annotated[SprintStatus, strawberry.argument(description="The step.")],
        force: Annotated[bool, strawberry.argument(description="To any step.")] = False,
    ) -> SprintPayload:
        return await _sprint(
            info, lambda ctx: sprints.advance_sprint(ctx, sprint_id=id, to=to, force=force)
        )

    @strawberry.mutation(
        description="Delete a sprint; its tasks and stories go back to the backlog."
    )
    async def delete_sprint(self, info: Info, id: SprintId) -> DeleteSprintPayload:
        gone = await mutate(info, lambda ctx: sprints.delete_sprint(ctx, sprint_id=id))
        return DeleteSprintPayload(workspace_id=gone.workspace_id, sprint_id=strawberry.ID(gone.id))


async def _story(info: Info, run: Any) -> StoryPayload:
    story: Any = await mutate(info, run)
    return StoryPayload(story=story)


async def _sprint(info: Info, run: Any) -> SprintPayload:
    sprint: Any = await mutate(info, run)
    return SprintPayload(sprint=sprint)
