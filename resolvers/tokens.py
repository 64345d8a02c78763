"""Keys of users and agents: create, list, revoke. No key grants more than its creator has."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import Agent, ApiKey, Membership, User, Workspace, table_of
from models.enums import Dialect, KeyKind, Permission
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    LimitExceededError,
    NotFoundError,
)
from resolvers.keys import KEY, CreatedKey, holder, insert_key, is_live, revoke_key
from resolvers.operation import operation
from resolvers.paging import Order, Page, PageArguments, read_page
from resolvers.principal import SCOPE_PERMISSIONS, SCOPES
from resolvers.users import get_user, own_id, require_power_over
from resolvers.workspaces import get_workspace

AGENT = table_of(Agent).c
MEMBER = table_of(Membership).c
WORKSPACE = table_of(Workspace).c
NAME_MAX = 200
LIFETIME_MIN = 60
LIFETIME_MAX = 10 * 365 * 24 * 3600
MANAGES_KEYS = Permission.MANAGE_QUEUES
"""What it takes to hand out and see the keys of a workspace's agents: a manager's rights."""


@operation
async def create_token(
    ctx: Context,
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    workspace_id: str | None = None,
    dialect: str | None = None,
    scopes: Sequence[str] = (),
    name: str = "",
    expires_in: int | None = None,
    sliding: bool = False,
) -> CreatedKey:
    """Make a key; its secret is in the result and nowhere else.

    Args:
        ctx: the user in question, ``admin`` on the whole site for other users, or a manager of
            the agent's workspace.
        user_id: whose key; by default the caller's own.
        agent_id: or the agent's whose it is; such a key opens the agent's workspace only.
        workspace_id: the only workspace it is to open.
        dialect: the legacy API it belongs to; TOBAN needs a workspace.
        scopes: what it is limited to, out of ``task:read task:write run:execute admin *``; none
            for no limit. A limited key makes only keys with the same or narrower limits.
        name: for lists, up to 200 characters.
        expires_in: lifetime in seconds, 60 to 315,360,000; None for ever.
        sliding: whether each use starts the lifetime anew.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: the user is not active.
        LimitExceededError: the user or agent has 100 keys.
    """
    if user_id is not None and agent_id is not None:
        raise InvalidError("Give userId or agentId, not both", field="agentId")
    values: dict[str, Any] = {
        "name": check.optional_line(name, field="name", maximum=NAME_MAX) or "",
        "scopes": _checked_scopes(ctx, scopes),
        "lifetime": await _checked_lifetime(ctx, expires_in, sliding=sliding),
        "sliding": sliding,
        "dialect": check.word(dialect, Dialect, field="dialect") if dialect is not None else None,
    }
    ctx.require_scope(Permission.WRITE)
    if agent_id is not None:
        return await _create_for_agent(ctx, agent_id, workspace_id, values)
    user = await _holder(ctx, user_id or own_id(ctx))
    workspace_id = workspace_id or ctx.authenticated().workspace_id
    if workspace_id is not None:
        await get_workspace(ctx, workspace_id=workspace_id)
        await _require_sight(ctx, user, workspace_id)
    elif values["dialect"] == Dialect.TOBAN:
        raise InvalidError("A TOBAN key opens one workspace: say which", field="workspaceId")
    await _refuse_too_many(ctx, user_id=user.id, agent_id=None)
    return await insert_key(
        ctx, kind=KeyKind.PERSONAL, user_id=user.id, workspace_id=workspace_id, **values
    )


async def _create_for_agent(
    ctx: Context, agent_id: str, workspace_id: str | None, values: dict[str, Any]
) -> CreatedKey:
    agent = await _get_agent(ctx, agent_id)
    if workspace_id not in {None, agent.workspace_id}:
        raise InvalidError("An agent's key opens the agent's workspace only", field="workspaceId")
    await _refuse_too_many(ctx, user_id=None, agent_id=agent.id)
    return await insert_key(
        ctx, kind=KeyKind.AGENT, agent_id=agent.id, workspace_id=agent.workspace_id, **values
    )


async def _holder(ctx: Context, user_id: str) -> User:
    """The user a key is made for; locked, so that keys are counted one creation at a time."""
    user = await get_user(ctx, user_id=user_id)
    require_power_over(ctx, user)
    if not user.is_active:
        raise ConflictError("The user is not active")
    return user


async def _get_agent(ctx: Context, agent_id: str) -> Agent:
    """An agent whose keys the principal manages; locked inside an operation."""
    ctx.authenticated()
    if not check.is_id(agent_id):
        raise NotFoundError("Agent")
    statement = (
        select_all(Agent)
        .join(table_of(Workspace), WORKSPACE.id == AGENT.workspace_id)
        .where(AGENT.id == agent_id, WORKSPACE.deleted_at.is_(None))
    )
    if ctx.in_transaction:
        statement = statement.with_for_update(of=table_of(Agent))
    found = await (await ctx.reader()).records(Agent, statement)
    if not found:
        raise NotFoundError("Agent")
    ctx.require(MANAGES_KEYS, found[0].workspace_id, kind="Agent")
    return found[0]


async def _require_sight(ctx: Context, user: User, workspace_id: str) -> None:
    if user.is_site_owner or user.role is not None:
        return
    member = await ctx.transaction.scalar(
        sa.select(MEMBER.user_id).where(
            MEMBER.user_id == user.id, MEMBER.workspace_id == workspace_id
        )
    )
    if member is None:
        raise InvalidError("The user does not see this workspace", field="workspaceId")


def _checked_scopes(ctx: Context, scopes: Sequence[str]) -> list[str]:
    if len(scopes) > len(SCOPES):
        raise InvalidError(f"There are only {len(SCOPES)} scopes", field="scopes")
    checked = list(dict.fromkeys(check.one_of(s, SCOPES, field="scopes") for s in scopes))
    mine = ctx.authenticated().scopes
    if mine and not (checked and _permissions(checked) <= _permissions(mine)):
        raise ForbiddenError(
            "A key cannot make one with wider scopes than its own", scopes=sorted(mine)
        )
    return checked


def _permissions(scopes: Collection[str]) -> frozenset[Permission]:
    return frozenset().union(*(SCOPE_PERMISSIONS.get(scope, frozenset()) for scope in scopes))


async def _checked_lifetime(ctx: Context, expires_in: int | None, *, sliding: bool) -> int | None:
    if expires_in is not None:
        check.integer(expires_in, field="expiresIn", minimum=LIFETIME_MIN, maximum=LIFETIME_MAX)
    elif sliding:
        raise InvalidError("A sliding key needs expiresIn", field="expiresIn")
    key_id = ctx.authenticated().key_id
    key = await ctx.transaction.find_by_id(ApiKey, key_id) if key_id is not None else None
    if key is not None and key.expires_at is not None and key.sliding_seconds is None:
        end = ctx.now + timedelta(seconds=expires_in) if expires_in is not None else None
        if sliding or end is None or end > key.expires_at:
            raise ForbiddenError(
                "A key that expires cannot make one that lives longer",
                expires_at=key.expires_at.isoformat(),
            )
    return expires_in


async def _refuse_too_many(ctx: Context, *, user_id: str | None, agent_id: str | None) -> None:
    count = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(
            holder(user_id=user_id, agent_id=agent_id),
            KEY.kind != KeyKind.SESSION,
            is_live(ctx),
        )
    )
    if count >= ctx.limits.keys_per_user:
        raise LimitExceededError("There are too many keys", limit=ctx.limits.keys_per_user)


async def list_tokens(
    ctx: Context,
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    include_ended: bool = False,
    page: PageArguments | None = None,
) -> Page[ApiKey]:
    """A page of the keys of a user or an agent, newest first; never their secrets.

    Args:
        ctx: as for :func:`create_token`; a key of one workspace lists only keys of that one.
        user_id: whose; by default the caller's own.
        agent_id: or an agent's.
        include_ended: also revoked and expired ones, which are kept for 30 days.
        page: which page.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
    """
    ctx.require_scope(Permission.READ)
    if agent_id is not None:
        if user_id is not None:
            raise InvalidError("Give userId or agentId, not both", field="agentId")
        await _get_agent(ctx, agent_id)
    else:
        user_id = user_id or own_id(ctx)
        require_power_over(ctx, await get_user(ctx, user_id=user_id))
    statement = select_all(ApiKey).where(holder(user_id=user_id, agent_id=agent_id))
    bound = ctx.authenticated().workspace_id
    if bound is not None:
        statement = statement.where(KEY.workspace_id == bound)
    if not include_ended:
        statement = statement.where(is_live(ctx))
    order = [Order(KEY.created_at, True), Order(KEY.id, True)]
    return await read_page(ctx, ApiKey, statement, order=order, page=page or PageArguments())


@operation
async def revoke_token(ctx: Context, *, key_id: str) -> ApiKey:
    """Make a key useless at once; doing so again changes nothing.

    Args:
        ctx: as for :func:`create_token`.
        key_id: which key.

    Raises:
        NotFoundError: unknown, or of somebody the principal does not act for.
        ForbiddenError: the key in use may not write.
    """
    principal = ctx.authenticated()
    ctx.require_scope(Permission.WRITE)
    key = await ctx.transaction.find_by_id(ApiKey, key_id) if check.is_id(key_id) else None
    if key is None or principal.workspace_id not in {None, key.workspace_id}:
        raise NotFoundError("Token")
    try:
        if key.agent_id is not None:
            await _get_agent(ctx, key.agent_id)
        elif key.user_id is not None:
            require_power_over(ctx, await get_user(ctx, user_id=key.user_id))
    except (NotFoundError, ForbiddenError):
        raise NotFoundError("Token") from None
    return await revoke_key(ctx, key)
