"""Keys: what they open, how they end, and that none grants more than its creator has."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from models import Agent, User, Workspace
from models.enums import KeyKind, Role
from models.transaction import Transaction
from resolvers.authentication import authenticate
from resolvers.context import Context, Services
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    LimitExceededError,
    NotFoundError,
    UnauthenticatedError,
)
from resolvers.event_queries import list_events
from resolvers.idempotency import claim_request
from resolvers.keys import CreatedKey
from resolvers.members import add_member, remove_member
from resolvers.operation import operation
from resolvers.principal import SCOPES
from resolvers.stamps import restore
from resolvers.tokens import create_token, list_tokens, revoke_token
from resolvers.users import create_user, update_user
from resolvers.workspace_changes import delete_workspace
from resolvers.workspaces import create_workspace
from tests.support.fixtures import MakeContext
from tests.support.people import AsUser


@pytest.fixture
async def ada(owner: Context) -> User:
    return await create_user(owner, name="ada")


@pytest.fixture
async def board(owner: Context, ada: User) -> Workspace:
    workspace = await create_workspace(owner, name="board")
    await add_member(owner, workspace_id=workspace.id, user_id=ada.id)
    return workspace


@operation
async def insert_agent(ctx: Context, *, workspace: Workspace, name: str = "robot") -> Agent:
    tx: Transaction = ctx.transaction
    return await tx.insert(
        Agent, workspace_id=workspace.id, name=name, created_at=ctx.now, updated_at=ctx.now
    )


async def with_key(services: Services, created: CreatedKey) -> Context:
    assert created.secret is not None
    return Context(services, await authenticate(services, created.secret))


async def test_a_key_stands_for_its_user_within_its_limits(
    services: Services, as_user: AsUser, ada: User, board: Workspace
) -> None:
    created = await create_token(
        await as_user(ada), workspace_id=board.id, scopes=["task:read", "task:read"], name=" ci "
    )
    assert created.secret is not None
    assert re.fullmatch(r"dgm_[A-Za-z0-9_-]{43}", created.secret)
    assert created.key.prefix == created.secret[:12]
    assert (created.key.name, created.key.kind) == ("ci", KeyKind.PERSONAL)
    principal = await authenticate(services, created.secret)
    assert principal.id == ada.id
    assert principal.scopes == {"task:read"}
    assert principal.workspace_id == board.id


@pytest.mark.parametrize(
    ("dialect", "pattern"),
    [
        (None, r"dgm_[A-Za-z0-9_-]{43}"),
        ("VIBAN", r"dgm_[A-Za-z0-9_-]{43}"),
        ("TOBAN", r"tb_[0-9a-f]{8}_sk_[A-Za-z0-9_-]{43}"),
        ("POSTHOG", r"phx_[A-Za-z0-9_-]{43}"),
    ],
)
async def test_each_dialect_recognizes_its_own_keys(
    services: Services, as_user: AsUser, ada: User, board: Workspace,
    dialect: str | None, pattern: str,
) -> None:  # fmt: skip
    created = await create_token(await as_user(ada), workspace_id=board.id, dialect=dialect)
    assert created.secret is not None
    assert re.fullmatch(pattern, created.secret)
    assert (await authenticate(services, created.secret)).dialect == dialect


async def test_arguments_are_checked(as_user: AsUser, ada: User, board: Workspace) -> None:
    ctx = await as_user(ada)
    for field, arguments in (
        ("scopes", {"scopes": ["everything"]}),
        ("scopes", {"scopes": ["*"] * 6}),
        ("dialect", {"dialect": "KLINGON"}),
        ("workspaceId", {"dialect": "TOBAN"}),
        ("name", {"name": "x" * 201}),
        ("expiresIn", {"expires_in": 59}),
        ("expiresIn", {"expires_in": 2**40}),
        ("expiresIn", {"sliding": True}),
        ("agentId", {"user_id": ada.id, "agent_id": ada.id}),
    ):
        with pytest.raises(InvalidError) as refusal:
            await create_token(ctx, **arguments)
        assert refusal.value.details["field"] == field


async def test_keys_end_when_their_time_is_over(
    services: Services, as_user: AsUser, ada: User
) -> None:
    ctx = await as_user(ada)
    fixed = await create_token(ctx, expires_in=60)
    sliding = await create_token(ctx, expires_in=60, sliding=True)
    later = replace(services, clock=lambda: ctx.now + timedelta(seconds=50))
    for created in (fixed, sliding):
        await with_key(later, created)
    later = replace(services, clock=lambda: ctx.now + timedelta(seconds=100))
    with pytest.raises(UnauthenticatedError):
        await with_key(later, fixed)
    await with_key(later, sliding)


async def test_no_key_makes_a_stronger_one(
    services: Services, as_user: AsUser, ada: User, board: Workspace, owner: Context
) -> None:
    other = await create_workspace(owner, name="other")
    await add_member(owner, workspace_id=other.id, user_id=ada.id)
    full = await as_user(ada)
    writer = await with_key(services, await create_token(full, scopes=["task:write"]))
    assert (await create_token(writer, scopes=["task:read"])).key.scopes == ["task:read"]
    for wider in ([], ["*"], ["admin"], ["task:write", "run:execute"]):
        with pytest.raises(ForbiddenError):
            await create_token(writer, scopes=wider)
    reader = await with_key(services, await create_token(full, scopes=["task:read"]))
    with pytest.raises(ForbiddenError):
        await create_token(reader, scopes=["task:read"])
    bound = await with_key(services, await create_token(full, workspace_id=board.id))
    assert (await create_token(bound)).key.workspace_id == board.id
    with pytest.raises(NotFoundError):
        await create_token(bound, workspace_id=other.id)
    short = await with_key(services, await create_token(full, expires_in=600))
    for longer in ({}, {"expires_in": 700}, {"expires_in": 60, "sliding": True}):
        with pytest.raises(ForbiddenError):
            await create_token(short, **longer)
    await create_token(short, expires_in=500)


async def test_a_key_cannot_be_bound_where_its_user_sees_nothing(
    owner: Context, as_user: AsUser, ada: User, board: Workspace
) -> None:
    elsewhere = await create_workspace(owner, name="elsewhere")
    for workspace_id in (elsewhere.id, "no id", "\x00"):
        with pytest.raises(NotFoundError):
            await create_token(await as_user(ada), workspace_id=workspace_id)
    with pytest.raises(InvalidError):
        await create_token(owner, user_id=ada.id, workspace_id=elsewhere.id)


async def test_who_makes_keys_for_whom(
    owner: Context, system: Context, as_user: AsUser, ada: User, as_principal: MakeContext
) -> None:
    admin = await create_user(owner, name="admin", role=Role.ADMIN)
    assert owner.principal is not None
    owner_id = owner.principal.id
    assert (await create_token(system, user_id=owner_id)).key.user_id == owner_id
    assert (await create_token(await as_user(admin), user_id=ada.id)).key.user_id == ada.id
    with pytest.raises(ForbiddenError):  # that key would be an owner's
        await create_token(await as_user(admin), user_id=owner_id)
    with pytest.raises(NotFoundError):  # a stranger
        await create_token(await as_user(ada), user_id=admin.id)
    with pytest.raises(InvalidError):
        await create_token(system)
    with pytest.raises(UnauthenticatedError):
        await create_token(as_principal(None))
    await update_user(owner, user_id=ada.id, is_active=False)
    with pytest.raises(ConflictError):
        await create_token(owner, user_id=ada.id)


async def test_keys_of_agents_open_their_workspace_and_are_a_managers_matter(
    services: Services, owner: Context, as_user: AsUser, ada: User, board: Workspace
) -> None:
    agent = await insert_agent(owner, workspace=board)
    with pytest.raises(ForbiddenError):
        await create_token(await as_user(ada), agent_id=agent.id)
    await remove_member(owner, workspace_id=board.id, user_id=ada.id)
    with pytest.raises(NotFoundError):
        await create_token(await as_user(ada), agent_id=agent.id)
    await add_member(owner, workspace_id=board.id, user_id=ada.id, role=Role.MANAGER)
    ctx = await as_user(ada)
    created = await create_token(ctx, agent_id=agent.id)
    assert (created.key.kind, created.key.workspace_id) == (KeyKind.AGENT, board.id)
    as_agent = await with_key(services, created)
    assert as_agent.principal is not None
    assert as_agent.principal.workspace_id == board.id
    other = await create_workspace(owner, name="other")
    with pytest.raises(InvalidError):
        await create_token(owner, agent_id=agent.id, workspace_id=other.id)
    with pytest.raises(ForbiddenError):  # agents hand out no keys
        await create_token(as_agent, agent_id=agent.id)
    with pytest.raises(InvalidError):
        await create_token(as_agent)
    assert [key.id for key in (await list_tokens(ctx, agent_id=agent.id)).nodes] == [created.key.id]
    await revoke_token(ctx, key_id=created.key.id)
    with pytest.raises(UnauthenticatedError):
        await with_key(services, created)
    assert services.wakeups.principals[-1] == f"agent:{agent.id}"


async def test_a_revoked_key_is_useless_at_once_and_revoking_again_changes_nothing(
    services: Services, owner: Context, as_user: AsUser, ada: User
) -> None:
    ctx = await as_user(ada)
    created = await create_token(ctx)
    first = await revoke_token(ctx, key_id=created.key.id)
    with pytest.raises(UnauthenticatedError):
        await with_key(services, created)
    assert services.wakeups.principals[-1] == f"user:{ada.id}"
    assert (await revoke_token(ctx, key_id=created.key.id)).revoked_at == first.revoked_at
    events = await list_events(owner, workspace_id=None, types=["token.revoked"])
    assert len(events.nodes) == 1
    assert (await list_tokens(ctx)).nodes == []
    ended = (await list_tokens(ctx, include_ended=True)).nodes
    assert [key.id for key in ended] == [created.key.id]


async def test_keys_of_others_do_not_exist(
    services: Services, owner: Context, as_user: AsUser, ada: User, board: Workspace
) -> None:
    bob = await create_user(owner, name="bob")
    await add_member(owner, workspace_id=board.id, user_id=bob.id, role=Role.ADMIN)
    theirs = await create_token(await as_user(ada))
    mine = await as_user(bob)
    for key_id in (theirs.key.id, "no id", "\x00"):
        with pytest.raises(NotFoundError):
            await revoke_token(mine, key_id=key_id)
    with pytest.raises(ForbiddenError):  # ada is a colleague, her keys are not
        await list_tokens(mine, user_id=ada.id)
    admin = await as_user(await create_user(owner, name="admin", role=Role.ADMIN))
    assert len((await list_tokens(admin, user_id=ada.id)).nodes) == 1
    assert owner.principal is not None
    first = (await list_tokens(owner)).nodes[0]
    with pytest.raises(NotFoundError):
        await revoke_token(admin, key_id=first.id)
    await revoke_token(admin, key_id=theirs.key.id)


async def test_a_key_of_one_workspace_knows_only_keys_of_that_one(
    services: Services, as_user: AsUser, ada: User, board: Workspace
) -> None:
    ctx = await as_user(ada)
    wide = await create_token(ctx)
    narrow = await create_token(ctx, workspace_id=board.id)
    bound = await with_key(services, narrow)
    assert [key.id for key in (await list_tokens(bound)).nodes] == [narrow.key.id]
    await bound.release()
    with pytest.raises(NotFoundError):
        await revoke_token(bound, key_id=wide.key.id)
    await revoke_token(bound, key_id=narrow.key.id)


async def test_there_is_a_limit_of_keys(
    services: Services, as_principal: MakeContext, as_user: AsUser, ada: User
) -> None:
    small = replace(services, limits=replace(services.limits, keys_per_user=2))
    ctx = Context(small, (await as_user(ada)).principal)
    first = await create_token(ctx)
    await create_token(ctx)
    with pytest.raises(LimitExceededError):
        await create_token(ctx)
    await revoke_token(ctx, key_id=first.key.id)
    await create_token(ctx)


async def test_keys_bound_to_a_deleted_workspace_stop_working(
    services: Services, owner: Context, as_user: AsUser, ada: User, board: Workspace
) -> None:
    created = await create_token(await as_user(ada), workspace_id=board.id)
    agent = await insert_agent(owner, workspace=board)
    of_agent = await create_token(owner, agent_id=agent.id)
    await delete_workspace(owner, workspace_id=board.id)
    for key in (created, of_agent):
        with pytest.raises(UnauthenticatedError):
            await with_key(services, key)
    woken = services.wakeups.principals
    assert {f"user:{ada.id}", f"agent:{agent.id}"} <= set(woken)


async def test_a_repeated_request_does_not_show_the_secret_again(
    as_user: AsUser, ada: User
) -> None:
    ctx = await as_user(ada)
    ctx.idempotency = await claim_request(ctx, key="k", request_hash="h", steps_expected=1)
    created = await create_token(ctx)
    stamp = ctx.idempotency.steps["0"]
    assert created.secret is not None
    assert created.secret not in str(stamp)
    again = await restore(ctx, stamp["result"])
    assert (again.key.id, again.secret) == (created.key.id, None)


def test_every_scope_has_a_meaning() -> None:
    assert set(SCOPES) == {"task:read", "task:write", "run:execute", "admin", "*"}
