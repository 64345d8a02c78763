"""Inputs of mutations of workspaces, members and repositories."""

import strawberry
from strawberry.scalars import JSON

from models.enums import Role, Workflow, WorkspaceStatus
from resolvers.workspace_queries import WorkspaceFilter as WorkspaceConditions


@strawberry.input(description="Conditions on workspaces; those given combine with AND.")
class WorkspaceFilter:
    """See resolvers.workspace_queries.WorkspaceFilter."""

    status: list[WorkspaceStatus] | None = strawberry.field(
        default=None, description="One of these statuses."
    )
    search: str | None = strawberry.field(
        default=None,
        description="Part of name, slug or description in any case, or the number; up to 500 "
        "characters.",
    )


def conditions(filter: WorkspaceFilter | None) -> WorkspaceConditions:
    """The conditions of a filter."""
    return WorkspaceConditions() if filter is None else WorkspaceConditions(**vars(filter))


@strawberry.input(description="Fields of a workspace; absent ones stay, null clears.")
class WorkspaceFieldsInput:
    """See resolvers.workspaces.create_workspace."""

    slug: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="1 to 100 characters [a-z0-9._-], unique on the site; made from the name "
        "when absent. Cannot be cleared.",
    )
    description: str | None = strawberry.field(
        default=strawberry.UNSET, description="Up to 100,000 characters."
    )
    repository_url: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Where its repository can be cloned from: https, http, ssh or user@host:path.",
    )
    local_path: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Absolute path of a git repository on the server's disk. The site owner may "
        "name any, others those that the operator allows.",
    )
    default_branch: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="What branches start from; by default what localPath has checked out.",
    )
    settings: JSON | None = strawberry.field(
        default=strawberry.UNSET,
        description="A JSON object, merged at every depth; a null removes its key. At most 64 KiB.",
    )
    limits: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="A JSON object, merged like settings."
    )
    spec: str | None = strawberry.field(
        default=strawberry.UNSET, description="What is to be built; up to 100,000 characters."
    )
    language: str | None = strawberry.field(
        default=strawberry.UNSET, description="A BCP 47 tag, such as en. Cannot be cleared."
    )
    workflow: Workflow | None = strawberry.field(
        default=strawberry.UNSET, description="How the team works. Cannot be cleared."
    )
    agent_type: str | None = strawberry.field(
        default=strawberry.UNSET, description="Up to 100 characters."
    )
    github_organization: str | None = strawberry.field(
        default=strawberry.UNSET, description="An account on GitHub."
    )
    github_login: str | None = strawberry.field(
        default=strawberry.UNSET, description="A user on GitHub."
    )
    max_concurrent: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="How many runs may execute at once, 1 to 100. Cannot be cleared.",
    )
    pull_mode: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="Whether agents fetch their work, so that queued tasks start no runs. Cannot "
        "be cleared.",
    )


@strawberry.input(description="A workspace to create.")
class CreateWorkspaceInput(WorkspaceFieldsInput):
    """What createWorkspace needs."""

    name: str = strawberry.field(description="1 to 255 characters; need not be unique.")


@strawberry.input(description="Changes of a workspace; absent fields stay, null clears.")
class UpdateWorkspaceInput(WorkspaceFieldsInput):
    """What updateWorkspace takes."""

    id: strawberry.ID = strawberry.field(description="The workspace's id.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET, description="1 to 255 characters. Cannot be cleared."
    )
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with CONFLICT unless it is at this version."
    )


@strawberry.input(description="Who is to have which role in a workspace.")
class MemberInput:
    """What addMember and updateMember take."""

    workspace_id: strawberry.ID = strawberry.field(description="The workspace.")
    user_id: strawberry.ID = strawberry.field(description="A user you know of.")
    role: Role = strawberry.field(description="Not above your own.")


@strawberry.input(description="Fields of a repository's entry; absent ones stay, null empties.")
class RepositoryFieldsInput:
    """See resolvers.repositories.create_repository."""

    path: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="owner/name, an address git can clone from, or an absolute path on the "
        "server's disk, for which the rules of localPath hold.",
    )
    url: str | None = strawberry.field(
        default=strawberry.UNSET, description="An address git can clone from."
    )
    description: str | None = strawberry.field(
        default=strawberry.UNSET, description="Up to 100,000 characters."
    )
    access_agents: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Names of up to 100 agents; none for all."
    )


@strawberry.input(description="A repository to tell a workspace's agents of.")
class CreateRepositoryInput(RepositoryFieldsInput):
    """What createRepository needs."""

    workspace_id: strawberry.ID = strawberry.field(description="The workspace.")
    name: str = strawberry.field(
        description="1 to 100 characters [A-Za-z0-9._-], unique in the workspace."
    )


@strawberry.input(description="Changes of a repository's entry.")
class UpdateRepositoryInput(RepositoryFieldsInput):
    """What updateRepository takes."""

    id: strawberry.ID = strawberry.field(description="The entry's id.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET, description="A new name. Cannot be cleared."
    )
