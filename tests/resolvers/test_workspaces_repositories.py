"""Entries of repositories: names, addresses and paths, and who keeps them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models import Workspace
from models.enums import Role
from resolvers.context import Context, Services
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    LimitExceededError,
    NotFoundError,
)
from resolvers.event_queries import list_events
from resolvers.members import add_member
from resolvers.ports import RepositoryFacts, Trust
from resolvers.repositories import (
    create_repository,
    delete_repository,
    get_repository,
    list_repositories,
    update_repository,
)
from resolvers.users import create_user
from resolvers.workspace_changes import delete_workspace, set_workspace_status
from resolvers.workspaces import create_workspace
from tests.support.people import AsUser


class AnyGit:
    """Takes every directory for a repository."""

    async def probe(self, path: str) -> RepositoryFacts:
        return RepositoryFacts(path, "main", None)


@pytest.fixture
def services(services: Services) -> Services:
    return replace(services, git=AnyGit())


@pytest.fixture
async def workspace(owner: Context) -> Workspace:
    return await create_workspace(owner, name="Board")


async def test_entries_are_kept_by_name(owner: Context, workspace: Workspace) -> None:
    made = await create_repository(
        owner,
        workspace_id=workspace.id,
        name="web.site",
        path="acme/web",
        url="https://example.org/acme/web",
        description="front",
        access_agents=["builder", "builder"],
    )
    assert (made.path, made.access_agents) == ("acme/web", ["builder"])
    await create_repository(owner, workspace_id=workspace.id, name="api")
    listed = await list_repositories(owner, workspace_id=workspace.id)
    assert [entry.name for entry in listed] == ["api", "web.site"]
    with pytest.raises(ConflictError):
        await create_repository(owner, workspace_id=workspace.id, name="api")
    with pytest.raises(ConflictError):
        await update_repository(owner, repository_id=made.id, name="api")
    after = await update_repository(
        owner, repository_id=made.id, name="web", path=None, description=None, access_agents=None
    )
    assert (after.name, after.path, after.description, after.access_agents) == ("web", "", "", [])
    assert after.url == made.url
    assert (await update_repository(owner, repository_id=made.id, name="web")) is not None
    gone = await delete_repository(owner, repository_id=made.id)
    assert gone.id == made.id
    for missing in (made.id, "no id", "\x00"):
        with pytest.raises(NotFoundError):
            await get_repository(owner, repository_id=missing)
    events = await list_events(owner, workspace_id=workspace.id, newest_first=False)
    assert [event.type for event in events.nodes][1:] == [
        "repository.created",
        "repository.created",
        "repository.updated",
        "repository.deleted",
    ]


async def test_fields_are_such_that_no_program_is_misled(
    owner: Context, workspace: Workspace
) -> None:
    for field, value in (
        ("name", ""),
        ("name", "a b"),
        ("name", "../up"),
        ("name", "-rf"),
        ("name", "x" * 101),
        ("path", "a/b/c"),
        ("path", "../up"),
        ("path", "-o/x"),
        ("path", "relative"),
        ("path", "ext::sh -c id"),
        ("path", "/no/such/place"),
        ("path", "  /no/such/place"),
        ("url", "file:///etc"),
        ("url", "-x@y:z"),
        ("description", "\x00"),
        ("access_agents", ["x"] * 101),
        ("access_agents", ["two\nlines"]),
    ):
        given: dict[str, Any] = {"name": "x", field: value}
        with pytest.raises(InvalidError) as refusal:
            await create_repository(owner, workspace_id=workspace.id, **given)
        assert refusal.value.details["field"].lower() == field.replace("_", "")


async def test_local_paths_keep_to_the_operators_roots(
    owner: Context, services: Services, workspace: Workspace, as_user: AsUser, tmp_path: Path
) -> None:
    (tmp_path / "inside").mkdir()
    ada = await create_user(owner, name="ada")
    await add_member(owner, workspace_id=workspace.id, user_id=ada.id)
    rooted = replace(services, trust=Trust(repository_roots=(str(tmp_path / "inside"),)))
    ctx = Context(rooted, (await as_user(ada)).principal)
    for path in (str(tmp_path), f"  {tmp_path}", f"{tmp_path}/inside/.."):
        with pytest.raises(ForbiddenError):
            await create_repository(ctx, workspace_id=workspace.id, name="x", path=path)
    inside = f"{tmp_path}/inside"
    made = await create_repository(ctx, workspace_id=workspace.id, name="x", path=f" {inside}/")
    assert made.path == inside
    for path in (str(tmp_path), f"\t{tmp_path}"):
        with pytest.raises(ForbiddenError):
            await update_repository(ctx, repository_id=made.id, path=path)
    moved = await update_repository(owner, repository_id=made.id, path=str(tmp_path))
    assert moved.path == str(tmp_path)


async def test_who_may_keep_them(owner: Context, workspace: Workspace, as_user: AsUser) -> None:
    viewer, stranger = [await create_user(owner, name=name) for name in ("viewer", "stranger")]
    await add_member(owner, workspace_id=workspace.id, user_id=viewer.id, role=Role.VIEWER)
    made = await create_repository(owner, workspace_id=workspace.id, name="x")
    reading = await as_user(viewer)
    assert len(await list_repositories(reading, workspace_id=workspace.id)) == 1
    hidden = await as_user(stranger)
    for ctx, error in ((reading, ForbiddenError), (hidden, NotFoundError)):
        for refused in (
            create_repository(ctx, workspace_id=workspace.id, name="y"),
            create_repository(ctx, workspace_id=workspace.id, name="y", path="/no/such"),
            update_repository(ctx, repository_id=made.id, name="y"),
            update_repository(ctx, repository_id=made.id, path="/no/such"),
            delete_repository(ctx, repository_id=made.id),
        ):
            with pytest.raises(error):
                await refused
    with pytest.raises(NotFoundError):
        await list_repositories(hidden, workspace_id=workspace.id)


async def test_they_stay_as_they_are_below_an_inactive_workspace(
    owner: Context, workspace: Workspace
) -> None:
    made = await create_repository(owner, workspace_id=workspace.id, name="x")
    await set_workspace_status(owner, workspace_id=workspace.id, status="ARCHIVED")
    for refused in (
        create_repository(owner, workspace_id=workspace.id, name="y"),
        update_repository(owner, repository_id=made.id, name="y"),
        delete_repository(owner, repository_id=made.id),
    ):
        with pytest.raises(ConflictError):
            await refused
    await delete_workspace(owner, workspace_id=workspace.id)
    with pytest.raises(NotFoundError):
        await get_repository(owner, repository_id=made.id)


async def test_there_is_a_limit(services: Services, owner: Context, workspace: Workspace) -> None:
    small = replace(services, limits=replace(services.limits, list_items=1))
    ctx = Context(small, owner.principal)
    await create_repository(ctx, workspace_id=workspace.id, name="x")
    with pytest.raises(LimitExceededError):
        await create_repository(ctx, workspace_id=workspace.id, name="y")
