"""Members of a workspace: who lets whom in, with which role, and who may leave."""

import asyncio

import pytest

from models import User, Workspace
from models.enums import Role
from resolvers.authentication import authenticate
from resolvers.context import Context, Services
from resolvers.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from resolvers.event_queries import list_events
from resolvers.idempotency import claim_request
from resolvers.members import (
    add_member,
    list_members,
    remove_member,
    update_member,
    user_of_member,
)
from resolvers.paging import PageArguments
from resolvers.sessions import log_in
from resolvers.stamps import restore
from resolvers.users import create_user
from resolvers.workspace_changes import set_workspace_status
from resolvers.workspaces import create_workspace, get_workspace
from tests.support.fixtures import MakeContext
from tests.support.people import AsUser


@pytest.fixture
async def workspace(system: Context) -> Workspace:
    return await create_workspace(system, name="Board")


@pytest.fixture
async def ada(system: Context) -> User:
    return await create_user(system, name="ada", password="longenough")


@pytest.fixture
async def bob(system: Context) -> User:
    return await create_user(system, name="bob")


async def roles(ctx: Context, workspace: Workspace) -> dict[str, str]:
    await ctx.release()
    page = await list_members(ctx, workspace_id=workspace.id)
    found = {(await user_of_member(ctx, m)).name: m.role for m in page.nodes}
    await ctx.release()
    return found


async def test_a_member_sees_the_workspace_from_the_next_request_on(
    system: Context, workspace: Workspace, ada: User, services: Services,
    as_principal: MakeContext,
) -> None:  # fmt: skip
    session = await log_in(
        as_principal(None), name="ada", password="longenough", address="192.0.2.1"
    )
    assert session.secret is not None
    before = as_principal(await authenticate(services, session.secret))
    with pytest.raises(NotFoundError):
        await get_workspace(before, workspace_id=workspace.id)
    await add_member(system, workspace_id=workspace.id, user_id=ada.id, role=Role.VIEWER)
    assert services.wakeups.principals[-1] == f"user:{ada.id}"
    after = as_principal(await authenticate(services, session.secret))
    await get_workspace(after, workspace_id=workspace.id)
    await remove_member(system, workspace_id=workspace.id, user_id=ada.id)
    gone = as_principal(await authenticate(services, session.secret))
    with pytest.raises(NotFoundError):
        await get_workspace(gone, workspace_id=workspace.id)


async def test_changes_of_members_are_told_in_the_workspaces_log(
    system: Context, workspace: Workspace, ada: User
) -> None:
    await add_member(system, workspace_id=workspace.id, user_id=ada.id)
    await update_member(system, workspace_id=workspace.id, user_id=ada.id, role=Role.ADMIN)
    await update_member(system, workspace_id=workspace.id, user_id=ada.id, role=Role.ADMIN)
    with pytest.raises(ConflictError):
        await add_member(system, workspace_id=workspace.id, user_id=ada.id)
    await create_user(system, name="chief", role=Role.ADMIN)
    await remove_member(system, workspace_id=workspace.id, user_id=ada.id)
    events = await list_events(system, workspace_id=workspace.id, newest_first=False)
    told = [(e.type, e.entity_type, e.entity_id) for e in events.nodes[1:]]
    assert told == [
        (f"member.{what}", "member", ada.id) for what in ("added", "updated", "removed")
    ]
    assert events.nodes[2].payload["from_role"] == "DEVELOPER"
    assert events.nodes[3].payload["user_name"] == "ada"
    assert "longenough" not in str([event.payload for event in events.nodes])


async def test_nobody_gives_or_takes_more_than_they_have(
    system: Context, workspace: Workspace, ada: User, bob: User, as_user: AsUser
) -> None:
    chief = await create_user(system, name="chief")
    for user, role in ((ada, Role.MANAGER), (bob, Role.VIEWER), (chief, Role.ADMIN)):
        await add_member(system, workspace_id=workspace.id, user_id=user.id, role=role)
    ctx = await as_user(ada)
    where = {"workspace_id": workspace.id}
    await update_member(ctx, **where, user_id=bob.id, role=Role.MANAGER)
    await update_member(ctx, **where, user_id=bob.id, role=Role.DEVELOPER)
    for refused in (
        update_member(ctx, **where, user_id=bob.id, role=Role.ADMIN),
        update_member(ctx, **where, user_id=chief.id, role=Role.VIEWER),
        update_member(ctx, **where, user_id=ada.id, role=Role.ADMIN),
        remove_member(ctx, **where, user_id=chief.id),
    ):
        with pytest.raises(ForbiddenError):
            await refused
    developer = await as_user(bob)
    for refused in (
        update_member(developer, **where, user_id=bob.id, role=Role.VIEWER),
        remove_member(developer, **where, user_id=ada.id),
        add_member(developer, **where, user_id=bob.id),
    ):
        with pytest.raises(ForbiddenError):
            await refused
    await remove_member(ctx, **where, user_id=bob.id)
    with pytest.raises(InvalidError):
        await add_member(ctx, **where, user_id=bob.id, role="EMPEROR")
    assert await roles(system, workspace) == {"ada": "MANAGER", "chief": "ADMIN"}


async def test_everybody_may_leave_but_not_with_a_key_that_only_reads(
    system: Context, workspace: Workspace, ada: User, as_user: AsUser
) -> None:
    await add_member(system, workspace_id=workspace.id, user_id=ada.id, role=Role.VIEWER)
    reader = await as_user(ada, scopes=frozenset({"task:read"}))
    with pytest.raises(ForbiddenError):
        await remove_member(reader, workspace_id=workspace.id, user_id=ada.id)
    left = await remove_member(await as_user(ada), workspace_id=workspace.id, user_id=ada.id)
    assert left.role is None
    with pytest.raises(NotFoundError):
        await remove_member(system, workspace_id=workspace.id, user_id=ada.id)


async def test_strangers_can_neither_let_in_nor_be_let_in(
    system: Context, workspace: Workspace, ada: User, bob: User, as_user: AsUser
) -> None:
    await add_member(system, workspace_id=workspace.id, user_id=ada.id, role=Role.ADMIN)
    admin, stranger = await as_user(ada), await as_user(bob)
    for refused in (
        add_member(admin, workspace_id=workspace.id, user_id=bob.id),  # of another tenant
        add_member(admin, workspace_id=workspace.id, user_id="\x00"),
        add_member(stranger, workspace_id=workspace.id, user_id=bob.id),
        remove_member(stranger, workspace_id=workspace.id, user_id=ada.id),
        update_member(system, workspace_id=workspace.id, user_id=bob.id, role=Role.VIEWER),
        update_member(system, workspace_id=workspace.id, user_id="\x00", role=Role.VIEWER),
        list_members(stranger, workspace_id=workspace.id),
    ):
        with pytest.raises(NotFoundError):
            await refused
    shared = await create_workspace(system, name="shared")
    for user in (ada, bob):
        await add_member(system, workspace_id=shared.id, user_id=user.id)
    admin = await as_user(ada)
    await add_member(admin, workspace_id=workspace.id, user_id=bob.id)  # now a colleague


async def test_the_last_admin_stays_unless_there_is_a_site_admin(
    system: Context, workspace: Workspace, ada: User, bob: User, as_user: AsUser
) -> None:
    where = {"workspace_id": workspace.id}
    await add_member(system, **where, user_id=ada.id, role=Role.ADMIN)
    await add_member(system, **where, user_id=bob.id, role=Role.MANAGER)
    ctx = await as_user(ada)
    with pytest.raises(ConflictError):
        await remove_member(ctx, **where, user_id=ada.id)
    with pytest.raises(ConflictError):
        await update_member(ctx, **where, user_id=ada.id, role=Role.VIEWER)
    await update_member(ctx, **where, user_id=bob.id, role=Role.ADMIN)
    await update_member(ctx, **where, user_id=ada.id, role=Role.VIEWER)
    with pytest.raises(ConflictError):
        await remove_member(await as_user(bob), **where, user_id=bob.id)
    await create_user(system, name="chief", role=Role.ADMIN)
    await remove_member(await as_user(bob), **where, user_id=bob.id)


async def test_two_admins_who_leave_at_once_do_not_leave_it_to_nobody(
    system: Context, workspace: Workspace, ada: User, bob: User, as_user: AsUser
) -> None:
    for user in (ada, bob):
        await add_member(system, workspace_id=workspace.id, user_id=user.id, role=Role.ADMIN)
    leaving = [
        remove_member(await as_user(user), workspace_id=workspace.id, user_id=user.id)
        for user in (ada, bob)
    ]
    results = await asyncio.gather(*leaving, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ConflictError", "Member"]
    assert len(await roles(system, workspace)) == 1


async def test_access_can_be_taken_away_from_an_archived_workspace(
    system: Context, workspace: Workspace, ada: User
) -> None:
    await add_member(system, workspace_id=workspace.id, user_id=ada.id)
    await set_workspace_status(system, workspace_id=workspace.id, status="ARCHIVED")
    await remove_member(system, workspace_id=workspace.id, user_id=ada.id)
    assert await roles(system, workspace) == {}


async def test_members_are_listed_in_the_order_they_came_page_by_page(
    system: Context, workspace: Workspace, ada: User, bob: User
) -> None:
    for user in (bob, ada):
        await add_member(system, workspace_id=workspace.id, user_id=user.id)
    first = await list_members(system, workspace_id=workspace.id, page=PageArguments(first=1))
    assert ([m.user_id for m in first.nodes], first.has_next_page) == ([bob.id], True)
    rest = await list_members(
        system, workspace_id=workspace.id, page=PageArguments(first=1, after=first.cursors[0])
    )
    assert ([m.user_id for m in rest.nodes], rest.has_next_page) == ([ada.id], False)


async def test_a_repeated_request_is_answered_alike(
    system: Context, workspace: Workspace, ada: User
) -> None:
    system.idempotency = await claim_request(system, key="k", request_hash="h", steps_expected=1)
    member = await add_member(system, workspace_id=workspace.id, user_id=ada.id)
    assert await restore(system, system.idempotency.steps["0"]["result"]) == member
