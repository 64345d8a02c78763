"""Reaching and preparing repositories: root fields."""

from datetime import datetime
from typing import Annotated, Any

import strawberry

from resolvers import git_access, worktrees
from schema.common import INPUT, fields_of, log_cursor, mutate
from schema.context import Info
from schema.workspace_mutations import WorkspaceId, WorkspacePayload


@strawberry.type(description="That a workspace has a credential for a git host.")
class GitAccess:
    """See resolvers.git_access.GitAccess."""

    host: str = strawberry.field(description="The host, with its port where it has one.")
    username: str = strawberry.field(description="The name given with the secret.")
    updated_at: datetime = strawberry.field(description="When it was set.")


@strawberry.input(description="A credential for a git host.")
class SetGitAccessInput:
    """See resolvers.git_access.set_git_access."""

    workspace_id: strawberry.ID = strawberry.field(description="Whose repositories it opens.")
    host: str = strawberry.field(description="Such as github.com or git.example.org:8443.")
    username: str = strawberry.field(
        description="What the host wants, up to 255 characters; for tokens often any word."
    )
    secret: str = strawberry.field(
        description="Password or token, up to 10,000 characters. Kept encrypted, shown to nobody."
    )


@strawberry.input(description="How new worktrees are prepared.")
class SetWorktreeSetupInput:
    """See resolvers.git_access.set_worktree_setup."""

    workspace_id: strawberry.ID = strawberry.field(description="Whose worktrees.")
    copy: list[str] = strawberry.field(
        default_factory=list,
        description="Up to 100 paths or patterns below the workspace's local repository, of files "
        "that git does not keep.",
    )
    commands: list[list[str]] = strawberry.field(
        default_factory=list,
        description="Up to 20 argument lists, run one after the other in each new worktree.",
    )


@strawberry.input(description="Which worktrees to remove.")
class CleanWorktreesInput:
    """See resolvers.worktrees.clean_worktrees."""

    workspace_id: strawberry.ID = strawberry.field(description="Whose worktrees.")
    task_id: strawberry.ID | None = strawberry.field(
        default=None, description="Only that of this task."
    )
    only_merged: bool = strawberry.field(
        default=True, description="Only where the branch is merged into its base; false for all."
    )
    force: bool = strawberry.field(
        default=False,
        description="Also what is not committed, and branches with commits that are nowhere else. "
        "A worktree that a run uses is kept in any case.",
    )
    keep_branch: bool = strawberry.field(default=False, description="Let all branches be.")


@strawberry.type(description="What became of a task's worktree.")
class CleanedWorktree:
    """See resolvers.worktrees.CleanedWorktree."""

    task_id: strawberry.ID = strawberry.field(description="Whose it is or was.")
    path: str = strawberry.field(description="Where it is or was.")
    branch: str | None = strawberry.field(description="The task's branch.")
    removed: bool = strawberry.field(description="Whether it is gone.")
    branch_deleted: bool = strawberry.field(description="Whether the branch is gone.")
    reason: str | None = strawberry.field(description="Why it, or its branch, was kept.")


@strawberry.type(description="What cleanWorktrees did.")
class CleanWorktreesPayload:
    """What cleanWorktrees returns."""

    workspace_id: strawberry.Private[str]
    worktrees: list[CleanedWorktree] = strawberry.field(
        description="One entry for each worktree there was, at most 1,000.",
        metadata={"list_size": 100},
    )

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type
class GitQuery:
    """Root fields about reaching repositories."""

    @strawberry.field(
        description="The git hosts a workspace has a credential for, at most 20; for those who "
        "manage it.",
        metadata={"list_size": 20},
    )
    async def git_access(self, info: Info, workspace_id: WorkspaceId) -> list[GitAccess]:
        found: Any = await git_access.list_git_access(info.context, workspace_id=workspace_id)
        return found


@strawberry.type
class GitMutation:
    """Root mutations about reaching repositories."""

    @strawberry.mutation(
        description="Keep the credential for a git host; it replaces the one there was."
    )
    async def set_git_access(
        self, info: Info, input: Annotated[SetGitAccessInput, INPUT]
    ) -> WorkspacePayload:
        values = fields_of(input)
        return await _workspace(info, lambda ctx: git_access.set_git_access(ctx, **values))

    @strawberry.mutation(description="Forget the credential for a git host.")
    async def remove_git_access(
        self,
        info: Info,
        workspace_id: WorkspaceId,
        host: Annotated[str, strawberry.argument(description="As it was given.")],
    ) -> WorkspacePayload:
        return await _workspace(
            info,
            lambda ctx: git_access.remove_git_access(ctx, workspace_id=workspace_id, host=host),
        )

    @strawberry.mutation(
        description="Say how new worktrees of a workspace are prepared; for the site owner."
    )
    async def set_worktree_setup(
        self, info: Info, input: Annotated[SetWorktreeSetupInput, INPUT]
    ) -> WorkspacePayload:
        values = fields_of(input)
        return await _workspace(info, lambda ctx: git_access.set_worktree_setup(ctx, **values))

    @strawberry.mutation(
        description="Remove worktrees of tasks that have served; says what was kept and why. "
        "It can be repeated, and an idempotency key does not keep its answer."
    )
    async def clean_worktrees(
        self, info: Info, input: Annotated[CleanWorktreesInput, INPUT]
    ) -> CleanWorktreesPayload:
        found: Any = await worktrees.clean_worktrees(info.context, **fields_of(input))
        return CleanWorktreesPayload(workspace_id=input.workspace_id, worktrees=found)


async def _workspace(info: Info, run: Any) -> WorkspacePayload:
    workspace: Any = await mutate(info, run)
    return WorkspacePayload(workspace=workspace)
