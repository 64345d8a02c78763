"""Workspaces, members and repositories: root queries and mutations."""

from typing import Annotated, Any

import strawberry

from models import Workspace as WorkspaceRow
from models.enums import WorkspaceStatus
from resolvers import members, repositories, workspace_changes, workspaces
from resolvers import workspace_queries as queries
from resolvers.errors import InvalidError
from resolvers.workspace_queries import WorkspaceOrder
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
from schema.reading import NODES, columns_of
from schema.workspace import Member, Repository, Workspace
from schema.workspace_inputs import (
    CreateRepositoryInput,
    CreateWorkspaceInput,
    MemberInput,
    UpdateRepositoryInput,
    UpdateWorkspaceInput,
    WorkspaceFilter,
    conditions,
)

WorkspaceId = Annotated[strawberry.ID, strawberry.argument(description="The workspace's id.")]
RepositoryId = Annotated[strawberry.ID, strawberry.argument(description="The entry's id.")]
ExpectedVersion = Annotated[
    int | None,
    strawberry.argument(description="Refuse with CONFLICT unless it is at this version."),
]
CURSOR = "Subscribe after this cursor to miss nothing that follows."


@strawberry.type(description="A workspace after a mutation.")
class WorkspacePayload:
    """What mutations of a workspace return."""

    workspace: Workspace = strawberry.field(description="The workspace as it is now.")

    @strawberry.field(description=CURSOR)
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace.id)


@strawberry.type(description="A workspace that is gone.")
class DeleteWorkspacePayload:
    """What deleteWorkspace returns."""

    workspace_id: strawberry.ID = strawberry.field(description="The id it had.")

    @strawberry.field(description="Place in its event log right after its deletion.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type(description="A member after a mutation.")
class MemberPayload:
    """What addMember and updateMember return."""

    member: Member = strawberry.field(description="The member as it is now.")

    @strawberry.field(description=CURSOR)
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.member.workspace_id)


@strawberry.type(description="A membership that ended.")
class RemoveMemberPayload:
    """What removeMember returns."""

    workspace_id: strawberry.ID = strawberry.field(description="The workspace.")
    user_id: strawberry.ID = strawberry.field(description="The user who was its member.")

    @strawberry.field(description=CURSOR)
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type(description="A repository's entry after a mutation.")
class RepositoryPayload:
    """What mutations of a repository return."""

    repository: Repository = strawberry.field(description="The entry as it is now.")

    @strawberry.field(description=CURSOR)
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.repository.workspace_id)


@strawberry.type(description="A repository's entry that is gone.")
class DeleteRepositoryPayload:
    """What deleteRepository returns."""

    workspace_id: strawberry.Private[str]
    repository_id: strawberry.ID = strawberry.field(description="The id it had.")

    @strawberry.field(description=CURSOR)
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type
class WorkspaceQuery:
    """Root fields about workspaces."""

    @strawberry.field(
        description="A workspace by its id, slug or number; null when there is none you may see."
    )
    async def workspace(
        self,
        info: Info,
        id: Annotated[strawberry.ID | None, strawberry.argument(description="Its id; or")] = None,
        slug: Annotated[str | None, strawberry.argument(description="its slug; or")] = None,
        number: Annotated[
            int | None, strawberry.argument(description="its number, counted from 1.")
        ] = None,
    ) -> Workspace | None:
        if sum(value is not None for value in (id, slug, number)) != 1:
            raise InvalidError("Give one of id, slug and number", field="id")
        ctx = info.context
        if id is not None:
            columns = columns_of(info, WorkspaceRow)
            look_up = workspaces.get_workspace(ctx, workspace_id=id, columns=columns)
        elif slug is not None:
            look_up = queries.get_workspace_by_slug(ctx, slug=slug)
        else:
            look_up = queries.get_workspace_by_number(ctx, number=number or 0)
        found: Any = await or_none(look_up)
        return found

    @strawberry.field(description="The workspaces you may see.", metadata=PAGED)
    async def workspaces(
        self,
        info: Info,
        filter: Annotated[
            WorkspaceFilter | None, strawberry.argument(description="Which workspaces.")
        ] = None,
        order_by: Annotated[
            WorkspaceOrder, strawberry.argument(description="In which order.")
        ] = WorkspaceOrder.NAME_ASC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Workspace]:
        page = await queries.list_workspaces(
            info.context,
            filter_=conditions(filter),
            order=order_by,
            page=page_arguments(first, after, last, before),
            columns=columns_of(info, WorkspaceRow, *NODES),
        )
        return connection(page)


@strawberry.type
class WorkspaceMutation:
    """Root mutations of workspaces, members and repositories."""

    @strawberry.mutation(description="Create a workspace; you become its admin.")
    async def create_workspace(
        self, info: Info, input: Annotated[CreateWorkspaceInput, INPUT]
    ) -> WorkspacePayload:
        values = fields_of(input)
        return await _workspace(info, lambda ctx: workspaces.create_workspace(ctx, **values))

    @strawberry.mutation(
        description="Change a workspace; settings and limits are merged at every depth."
    )
    async def update_workspace(
        self, info: Info, input: Annotated[UpdateWorkspaceInput, INPUT]
    ) -> WorkspacePayload:
        values = fields_of(input, leave_out=frozenset({"id"}))
        return await _workspace(
            info,
            lambda ctx: workspace_changes.update_workspace(ctx, workspace_id=input.id, **values),
        )

    @strawberry.mutation(description="Archive a workspace, or open an archived one again.")
    async def archive_workspace(
        self,
        info: Info,
        id: WorkspaceId,
        archived: Annotated[bool, strawberry.argument(description="false opens it again.")] = True,
        expected_version: ExpectedVersion = None,
    ) -> WorkspacePayload:
        status = WorkspaceStatus.ARCHIVED if archived else WorkspaceStatus.ACTIVE
        return await _set_status(info, id, status, expected_version)

    @strawberry.mutation(description="Complete or archive a workspace, or open it again.")
    async def set_workspace_status(
        self,
        info: Info,
        id: WorkspaceId,
        status: Annotated[WorkspaceStatus, strawberry.argument(description="Its new status.")],
        expected_version: ExpectedVersion = None,
    ) -> WorkspacePayload:
        return await _set_status(info, id, status, expected_version)

    @strawberry.mutation(
        description="Delete a workspace with all below it; keys bound to it stop working."
    )
    async def delete_workspace(
        self,
        info: Info,
        id: WorkspaceId,
        force: Annotated[
            bool, strawberry.argument(description="Also while runs execute, which are stopped.")
        ] = False,
        expected_version: ExpectedVersion = None,
    ) -> DeleteWorkspacePayload:
        gone = await mutate(
            info,
            lambda ctx: workspace_changes.delete_workspace(
                ctx, workspace_id=id, force=force, expected_version=expected_version
            ),
        )
        return DeleteWorkspacePayload(workspace_id=strawberry.ID(gone.id))

    @strawberry.mutation(description="Let a user into a workspace.")
    async def add_member(self, info: Info, input: Annotated[MemberInput, INPUT]) -> MemberPayload:
        values = fields_of(input)
        return await _member(info, lambda ctx: members.add_member(ctx, **values))

    @strawberry.mutation(description="Give a member another role.")
    async def update_member(
        self, info: Info, input: Annotated[MemberInput, INPUT]
    ) -> MemberPayload:
        values = fields_of(input)
        return await _member(info, lambda ctx: members.update_member(ctx, **values))

    @strawberry.mutation(description="End a membership; everybody may end their own.")
    async def remove_member(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        user_id: Annotated[strawberry.ID, strawberry.argument(description="The member.")],
    ) -> RemoveMemberPayload:
        gone = await mutate(
            info,
            lambda ctx: members.remove_member(ctx, workspace_id=workspace_id, user_id=user_id),
        )
        return RemoveMemberPayload(
            workspace_id=strawberry.ID(gone.workspace_id), user_id=strawberry.ID(gone.user_id)
        )

    @strawberry.mutation(description="Tell a workspace's agents of a repository.")
    async def create_repository(
        self, info: Info, input: Annotated[CreateRepositoryInput, INPUT]
    ) -> RepositoryPayload:
        values = {name: value for name, value in fields_of(input).items() if value is not None}
        return await _repository(info, lambda ctx: repositories.create_repository(ctx, **values))

    @strawberry.mutation(description="Change a repository's entry.")
    async def update_repository(
        self, info: Info, input: Annotated[UpdateRepositoryInput, INPUT]
    ) -> RepositoryPayload:
        values = fields_of(input, leave_out=frozenset({"id"}))
        return await _repository(
            info,
            lambda ctx: repositories.update_repository(ctx, repository_id=input.id, **values),
        )

    @strawberry.mutation(description="Take a repository's entry away; nothing else is touched.")
    async def delete_repository(self, info: Info, id: RepositoryId) -> DeleteRepositoryPayload:
        gone = await mutate(info, lambda ctx: repositories.delete_repository(ctx, repository_id=id))
        return DeleteRepositoryPayload(
            workspace_id=gone.workspace_id, repository_id=strawberry.ID(gone.id)
        )


async def _set_status(
    info: Info, workspace_id: str, status: WorkspaceStatus, expected_version: int | None
) -> WorkspacePayload:
    return await _workspace(
        info,
        lambda ctx: workspace_changes.set_workspace_status(
            ctx, workspace_id=workspace_id, status=status, expected_version=expected_version
        ),
    )


async def _workspace(info: Info, run: Any) -> WorkspacePayload:
    workspace: Any = await mutate(info, run)
    return WorkspacePayload(workspace=workspace)


async def _member(info: Info, run: Any) -> MemberPayload:
    member: Any = await mutate(info, run)
    return MemberPayload(member=member)


async def _repository(info: Info, run: Any) -> RepositoryPayload:
    repository: Any = await mutate(info, run)
    return RepositoryPayload(repository=repository)
