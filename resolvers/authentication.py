"""From a bearer token to a principal."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from models import Agent, ApiKey, Membership, User, Workspace, table_of
from models.enums import Role
from models.errors import DatabaseBusyError
from models.transaction import Reader
from resolvers.context import Context, Services
from resolvers.errors import UnauthenticatedError, UnavailableError
from resolvers.operation import step
from resolvers.principal import Principal

NATIVE_PREFIX = "dgm_"
TOKEN_LENGTH_MAX = 512
LAST_USED_RESOLUTION = timedelta(minutes=1)

KEY = table_of(ApiKey).c
USER = table_of(User).c
AGENT = table_of(Agent).c
WORKSPACE = table_of(Workspace).c
MEMBERSHIP = table_of(Membership).c


def new_secret(prefix: str = NATIVE_PREFIX) -> str:
    """A fresh bearer token: the prefix and 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """SHA-256 of a token; tokens carry 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def bearer_token(authorization: str | None) -> str | None:
    """The token of an Authorization header's value; None when there is no such header.

    Raises:
        UnauthenticatedError: the header is not ``Bearer <token>``.
    """
    if authorization is None or not authorization.strip():
        return None
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError("The Authorization header must be: Bearer <token>")
    return token.strip()


async def authenticate(services: Services, token: str) -> Principal:
    """The principal a bearer token stands for.

    Raises:
        UnauthenticatedError: unknown, expired or revoked; all alike.
        UnavailableError: the database is busy.
    """
    if not token or len(token) > TOKEN_LENGTH_MAX:
        raise UnauthenticatedError("The token is not valid")
    try:
        key, principal = await _look_up(services, hash_secret(token))
    except DatabaseBusyError as error:
        raise UnavailableError(str(error)) from error
    now = services.clock()
    if key.last_used_at is None or now - key.last_used_at >= LAST_USED_RESOLUTION:
        with suppress(UnavailableError):  # a busy writer must not lock readers out
            await _touch_key(Context(services, principal), key_id=key.id)
    return principal


async def _look_up(services: Services, digest: str) -> tuple[ApiKey, Principal]:
    async with services.database.read() as reader:
        key = await reader.find(ApiKey, KEY.secret_hash == digest)
        now = services.clock()
        if (
            key is None
            or not hmac.compare_digest(key.secret_hash, digest)
            or key.revoked_at is not None
            or (key.expires_at is not None and key.expires_at <= now)
        ):
            raise UnauthenticatedError("The token is not valid")
        return key, await _principal_of(reader, key)


async def _principal_of(reader: Reader, key: ApiKey) -> Principal:
    if key.workspace_id is not None:
        live = await reader.scalar(
            sa.select(WORKSPACE.id).where(
                WORKSPACE.id == key.workspace_id, WORKSPACE.deleted_at.is_(None)
            )
        )
        if live is None:
            raise UnauthenticatedError("The token is not valid")
    scopes = frozenset(key.scopes)
    if key.agent_id is not None:
        agent = await reader.find(Agent, AGENT.id == key.agent_id)
        if agent is None:
            raise UnauthenticatedError("The token is not valid")
        return Principal(
            kind="agent",
            id=agent.id,
            name=agent.name,
            key_id=key.id,
            scopes=scopes,
            workspace_id=agent.workspace_id,
            dialect=key.dialect,
        )
    user = await reader.find(User, USER.id == key.user_id)
    if user is None or not user.is_active:
        raise UnauthenticatedError("The token is not valid")
    memberships = await reader.rows(
        sa.select(MEMBERSHIP.workspace_id, MEMBERSHIP.role).where(MEMBERSHIP.user_id == user.id)
    )
    return user_principal(user, memberships=memberships, key=key)


def user_principal(
    user: User, *, memberships: Sequence[sa.Row[Any]], key: ApiKey | None = None
) -> Principal:
    """The principal of a user who uses a key (or, for the command line, none)."""
    return Principal(
        kind="user",
        id=user.id,
        name=user.name,
        key_id=key.id if key else None,
        role=Role(user.role) if user.role else None,
        is_site_owner=user.is_site_owner,
        memberships=MappingProxyType({row.workspace_id: Role(row.role) for row in memberships}),
        scopes=frozenset(key.scopes) if key else frozenset(),
        workspace_id=key.workspace_id if key else None,
        dialect=key.dialect if key else None,
        tier=user.tier,
    )


@step
async def _touch_key(ctx: Context, *, key_id: str) -> None:
    """Remember that a key was used, and slide its expiry; at most once a minute per key."""
    key = await ctx.transaction.find_by_id(ApiKey, key_id)
    if key is None:
        return
    expires_at = key.expires_at
    if key.sliding_seconds is not None:
        expires_at = ctx.now + timedelta(seconds=key.sliding_seconds)
    await ctx.transaction.update_by_id(ApiKey, key_id, last_used_at=ctx.now, expires_at=expires_at)
