"""Users: who may make, see and change whom; passwords."""

import pytest

from models import ApiKey, User, Workspace, table_of
from models.enums import KeyKind, Role, UserKind
from models.transaction import select_all
from resolvers.authentication import authenticate
from resolvers.context import Context, Services
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RateLimitedError,
    UnauthenticatedError,
)
from resolvers.event_queries import list_events
from resolvers.members import add_member
from resolvers.paging import PageArguments
from resolvers.passwords import change_password
from resolvers.principal import Principal
from resolvers.sessions import log_in
from resolvers.users import (
    UserOrder,
    create_first_user,
    create_user,
    get_user,
    get_user_by_name,
    list_users,
    set_preferences,
    update_user,
)
from resolvers.viewing import knows_details_of, permissions_in, site_permissions
from resolvers.workspaces import create_workspace
from tests.support.fixtures import MakeContext
from tests.support.people import AsUser


async def names(ctx: Context) -> list[str]:
    return [user.name for user in (await list_users(ctx)).nodes]


async def test_the_first_user_owns_the_site_and_there_is_only_one(
    system: Context, owner: Context, services: Services
) -> None:
    first = await get_user_by_name(system, name="OWNER")
    assert (first.name, first.kind, first.role) == ("owner", UserKind.PERSON, Role.ADMIN)
    assert first.is_site_owner
    with pytest.raises(ConflictError):
        await create_first_user(system)
    with pytest.raises(ForbiddenError):
        await create_first_user(owner)


async def test_the_first_key_opens_everything(system: Context, services: Services) -> None:
    user, created = await create_first_user(system)
    assert created.secret is not None
    principal = await authenticate(services, created.secret)
    assert (principal.id, principal.is_site_owner, principal.scopes) == (user.id, True, frozenset())
    assert (created.key.expires_at, created.key.workspace_id) == (None, None)


async def test_names_keep_to_their_alphabet(owner: Context) -> None:
    for name in ("", "a b", "ä", "x" * 101, "a/b", "nul\x00", "tab\t", "trailing\n"):
        with pytest.raises(InvalidError) as refusal:
            await create_user(owner, name=name)
        assert refusal.value.details["field"] == "name"


async def test_names_are_unique_in_any_case(owner: Context) -> None:
    await create_user(owner, name="Ada.L+1@x-y_z")
    with pytest.raises(ConflictError):
        await create_user(owner, name="ada.l+1@X-Y_Z")


async def test_fields_are_checked(owner: Context) -> None:
    for field, value in (
        ("email", "nobody"),
        ("email", "a b@c"),
        ("avatar_url", "javascript:alert(1)"),
        ("full_name", "x" * 201),
        ("password", "short"),
        ("password", "x" * 201),
        ("role", "EMPEROR"),
        ("kind", "ROBOT"),
    ):
        with pytest.raises(InvalidError) as refusal:
            await create_user(owner, name="ada", **{field: value})  # wrong on purpose
        assert refusal.value.details["field"].lower() == field.replace("_", "")


@pytest.mark.parametrize("role", [None, Role.VIEWER, Role.DEVELOPER, Role.MANAGER])
async def test_only_site_admins_make_users(
    owner: Context, as_user: AsUser, role: Role | None
) -> None:
    ada = await create_user(owner, name="ada", role=role)
    with pytest.raises(ForbiddenError):
        await create_user(await as_user(ada), name="bob")


async def test_limited_keys_of_site_admins_make_no_users(owner: Context, as_user: AsUser) -> None:
    ada = await create_user(owner, name="ada", role=Role.ADMIN)
    workspace = await create_workspace(owner, name="one")
    for limit in ({"scopes": frozenset({"task:write"})}, {"workspace_id": workspace.id}):
        with pytest.raises(ForbiddenError):
            await create_user(await as_user(ada, **limit), name="bob")
    await create_user(await as_user(ada), name="bob")


async def test_people_of_other_tenants_do_not_exist(owner: Context, as_user: AsUser) -> None:
    ada, bob, eve = [await create_user(owner, name=name) for name in ("ada", "bob", "eve")]
    ours = await create_workspace(owner, name="ours")
    theirs = await create_workspace(owner, name="theirs")
    for workspace, user in ((ours, ada), (ours, bob), (theirs, eve)):
        await add_member(owner, workspace_id=workspace.id, user_id=user.id)
    ctx = await as_user(ada)
    assert await names(ctx) == ["ada", "bob", "owner"]
    page = await list_users(ctx, search="eve")
    assert (page.nodes, await page.count()) == ([], (0, True))
    for refused in (eve.id, "no id", "\x00"):
        with pytest.raises(NotFoundError):
            await get_user(ctx, user_id=refused)
    for name in ("eve", "nobody", "a b"):
        with pytest.raises(NotFoundError):
            await get_user_by_name(ctx, name=name)
    with pytest.raises(NotFoundError):
        await update_user(ctx, user_id=eve.id, full_name="E")
    bound = await as_user(ada, workspace_id=theirs.id)
    assert await names(bound) == ["ada"]
    agent = Principal(kind="agent", id=None, name="robot", workspace_id=theirs.id)
    assert await names(Context(owner.services, agent)) == ["eve", "owner"]


async def test_who_sees_every_workspace_sees_everybody_in_them(
    owner: Context, as_user: AsUser
) -> None:
    viewer = await create_user(owner, name="viewer", role=Role.VIEWER)
    await create_user(owner, name="chief", role=Role.MANAGER)
    member = await create_user(owner, name="member")
    await create_user(owner, name="nowhere")
    workspace = await create_workspace(owner, name="one")
    await add_member(owner, workspace_id=workspace.id, user_id=member.id)
    assert await names(await as_user(viewer)) == ["chief", "member", "owner", "viewer"]
    assert "nowhere" in await names(owner)


async def test_nobody_sees_nobody(as_principal: MakeContext) -> None:
    with pytest.raises(UnauthenticatedError):
        await list_users(as_principal(None))


async def test_lists_of_users_are_searched_ordered_and_paged(owner: Context) -> None:
    for name, full_name in (("a_1", "Zoë"), ("b3", "Ada Lovelace")):
        await create_user(owner, name=name, full_name=full_name)
    found = await list_users(owner, search="LOVE")
    assert [user.name for user in found.nodes] == ["b3"]
    assert [user.name for user in (await list_users(owner, search="_")).nodes] == ["a_1"]
    seen, after = [], None
    while True:
        page = await list_users(
            owner,
            order=UserOrder.CREATED_AT_DESC,
            page=PageArguments(first=1, after=after),
        )
        seen += [user.name for user in page.nodes]
        if not page.has_next_page:
            break
        after = page.cursors[-1]
    assert seen == ["b3", "a_1", "owner"]


async def test_users_change_themselves_but_not_their_rights(
    owner: Context, as_user: AsUser
) -> None:
    ada = await create_user(owner, name="ada")
    ctx = await as_user(ada)
    after = await update_user(
        ctx, user_id=ada.id, full_name=" Ada L. ", email="ada@example.org", expected_version=1
    )
    assert (after.full_name, after.email, after.version) == ("Ada L.", "ada@example.org", 2)
    assert (await update_user(ctx, user_id=ada.id, full_name="Ada L.")).version == 2
    with pytest.raises(ConflictError):
        await update_user(ctx, user_id=ada.id, email=None, expected_version=1)
    assert (await update_user(ctx, user_id=ada.id, email=None)).email is None
    for change in ({"role": "ADMIN"}, {"is_active": True}, {"tier": "PREMIUM"}):
        with pytest.raises(ForbiddenError):
            await update_user(ctx, user_id=ada.id, **change)
    reader = await as_user(ada, scopes=frozenset({"task:read"}))
    with pytest.raises(ForbiddenError):
        await update_user(reader, user_id=ada.id, full_name="x")


async def test_colleagues_do_not_change_each_other(owner: Context, as_user: AsUser) -> None:
    ada, bob = [await create_user(owner, name=name) for name in ("ada", "bob")]
    workspace = await create_workspace(owner, name="one")
    for user in (ada, bob):
        await add_member(owner, workspace_id=workspace.id, user_id=user.id, role=Role.ADMIN)
    ctx = await as_user(ada)
    with pytest.raises(ForbiddenError):
        await update_user(ctx, user_id=bob.id, full_name="x")
    with pytest.raises(ForbiddenError):
        await change_password(ctx, user_id=bob.id, new_password="longenough")


async def test_site_admins_change_others_but_not_the_owner(
    owner: Context, as_user: AsUser, services: Services
) -> None:
    ada = await create_user(owner, name="ada", role=Role.ADMIN)
    bob = await create_user(owner, name="bob")
    ctx = await as_user(ada)
    after = await update_user(ctx, user_id=bob.id, role="VIEWER", tier="PREMIUM")
    assert (after.role, after.tier) == ("VIEWER", "PREMIUM")
    assert f"user:{bob.id}" in services.wakeups.principals
    assert owner.principal is not None
    owner_id = owner.principal.id
    assert owner_id is not None
    for change in ({"full_name": "x"}, {"email": "x@example.org"}, {"is_active": False}):
        with pytest.raises(ForbiddenError):
            await update_user(ctx, user_id=owner_id, **change)
    with pytest.raises(ForbiddenError):
        await change_password(ctx, user_id=owner_id, new_password="longenough")
    for change in ({"role": None}, {"role": "VIEWER"}, {"is_active": False}):
        with pytest.raises(ConflictError):
            await update_user(owner, user_id=owner_id, **change)
    with pytest.raises(InvalidError):
        await update_user(owner, user_id=bob.id, is_active=None)
    with pytest.raises(InvalidError):
        await update_user(owner, user_id=bob.id, tier=None)


async def test_preferences_are_merged_at_every_depth(owner: Context, as_user: AsUser) -> None:
    ada = await create_user(owner, name="ada")
    ctx = await as_user(ada)
    await set_preferences(ctx, preferences={"a": {"b": 1, "c": [1]}, "d": 2})
    after = await set_preferences(ctx, preferences={"a": {"b": None, "c": [2], "e": 3}, "d": {}})
    assert after.preferences == {"a": {"c": [2], "e": 3}, "d": {}}
    assert (await update_user(ctx, user_id=ada.id, preferences=None)).preferences == {}
    for wrong in ([], "x", {"x": "y" * 70_000}, {"x": "\x00"}, {"x": "\ud800"}, {"x": 2**70}):
        with pytest.raises(InvalidError):
            await set_preferences(ctx, preferences=wrong)  # wrong on purpose
    events = await list_events(owner, workspace_id=None, entity_id=ada.id)
    assert all("preferences" not in event.payload["user"] for event in events.nodes)
    half = {"x": "y" * 40_000}
    await set_preferences(ctx, preferences=half)
    with pytest.raises(InvalidError):
        await set_preferences(ctx, preferences={"z": "y" * 40_000})


async def test_agents_and_the_server_have_no_preferences(system: Context, owner: Context) -> None:
    with pytest.raises(InvalidError):
        await set_preferences(system, preferences={})


async def test_a_deactivated_user_is_out_at_once(
    owner: Context, services: Services, as_principal: MakeContext
) -> None:
    ada = await create_user(owner, name="ada", password="longenough")
    session = await log_in(
        as_principal(None), name="ada", password="longenough", address="192.0.2.1"
    )
    await update_user(owner, user_id=ada.id, is_active=False)
    assert session.secret is not None
    with pytest.raises(UnauthenticatedError):
        await authenticate(services, session.secret)
    events = await list_events(owner, workspace_id=None, types=["user.deactivated"])
    assert [event.entity_id for event in events.nodes] == [ada.id]
    assert f"user:{ada.id}" in services.wakeups.principals


async def sessions_of(ctx: Context, user: User) -> list[ApiKey]:
    await ctx.release()
    keys = table_of(ApiKey).c
    return await (await ctx.reader()).records(
        ApiKey,
        select_all(ApiKey).where(
            keys.user_id == user.id, keys.kind == KeyKind.SESSION, keys.revoked_at.is_(None)
        ),
    )


async def test_a_new_password_ends_all_other_log_ins(
    owner: Context, as_user: AsUser, as_principal: MakeContext
) -> None:
    ada = await create_user(owner, name="ada", password="longenough")
    stranger = as_principal(None)
    mine, _other = [
        await log_in(stranger, name="ada", password="longenough", address="192.0.2.1")
        for _ in range(2)
    ]
    ctx = await as_user(ada, key_id=mine.key.id)
    with pytest.raises(InvalidError) as refusal:
        await change_password(ctx, new_password="even longer")
    assert refusal.value.details["field"] == "currentPassword"
    with pytest.raises(InvalidError):
        await change_password(ctx, new_password="even longer", current_password="wrong")
    with pytest.raises(InvalidError):
        await change_password(ctx, new_password="short", current_password="longenough")
    assert len(await sessions_of(owner, ada)) == 2
    await change_password(ctx, new_password="even longer", current_password="longenough")
    assert [key.id for key in await sessions_of(owner, ada)] == [mine.key.id]
    with pytest.raises(UnauthenticatedError):
        await log_in(stranger, name="ada", password="longenough", address="192.0.2.1")
    await log_in(stranger, name="ada", password="even longer", address="192.0.2.1")
    events = await list_events(owner, workspace_id=None, types=["user.password_changed"])
    assert len(events.nodes) == 1
    assert "longer" not in str(events.nodes[0].payload)


async def test_guessing_the_current_password_is_throttled(owner: Context, as_user: AsUser) -> None:
    ada = await create_user(owner, name="ada", password="longenough")
    ctx = await as_user(ada)
    for _ in range(10):
        with pytest.raises(InvalidError):
            await change_password(ctx, new_password="even longer", current_password="wrong")
    with pytest.raises(RateLimitedError):
        await change_password(ctx, new_password="even longer", current_password="longenough")


async def test_limited_keys_cannot_turn_themselves_into_passwords(
    owner: Context, as_user: AsUser
) -> None:
    ada = await create_user(owner, name="ada")
    workspace = await create_workspace(owner, name="one")
    await add_member(owner, workspace_id=workspace.id, user_id=ada.id)
    for limit in ({"scopes": frozenset({"task:write"})}, {"workspace_id": workspace.id}):
        with pytest.raises(ForbiddenError):
            await change_password(await as_user(ada, **limit), new_password="longenough")
    await change_password(await as_user(ada), new_password="longenough")  # there was none


async def test_site_admins_and_the_server_reset_passwords_unasked(
    owner: Context, system: Context, as_principal: MakeContext
) -> None:
    ada = await create_user(owner, name="ada", password="longenough")
    for ctx, password in ((owner, "second one"), (system, "third one")):
        await change_password(ctx, user_id=ada.id, new_password=password)
        await log_in(as_principal(None), name="ada", password=password, address="192.0.2.1")


async def test_details_are_for_oneself_and_site_admins(
    owner: Context, as_user: AsUser, as_principal: MakeContext
) -> None:
    ada, bob = [await create_user(owner, name=name) for name in ("ada", "bob")]
    ctx = await as_user(ada)
    assert knows_details_of(ctx, ada.id)
    assert not knows_details_of(ctx, bob.id)
    assert knows_details_of(owner, bob.id)
    assert not knows_details_of(as_principal(None), bob.id)


async def test_permissions_are_told_as_role_and_key_together(
    owner: Context, as_user: AsUser
) -> None:
    workspace: Workspace = await create_workspace(owner, name="one")
    ada = await create_user(owner, name="ada")
    await add_member(owner, workspace_id=workspace.id, user_id=ada.id, role=Role.MANAGER)
    ctx = await as_user(ada)
    assert site_permissions(ctx) == []
    assert permissions_in(ctx, workspace.id) == ["read", "write", "execute", "manage_queues"]
    reader = await as_user(ada, scopes=frozenset({"task:read"}))
    assert permissions_in(reader, workspace.id) == ["read"]
    assert permissions_in(reader, "elsewhere") == []
    assert len(site_permissions(owner)) == 5
