"""Keys as rows: making their secrets, writing them, revoking them. Who may is decided elsewhere."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import ApiKey, table_of
from models.enums import Dialect, KeyKind
from resolvers.authentication import NATIVE_PREFIX, hash_secret, new_secret
from resolvers.context import Context
from resolvers.stamps import restore_entity, restores

KEY = table_of(ApiKey).c
PREFIX_LENGTH = 12
KEPT_AFTER_END = timedelta(days=30)
"""How long the row of a revoked or expired key is kept, for lists; events are kept anyway."""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key and its secret, which nobody can read again: a replay has None in its place."""

    key: ApiKey
    secret: str | None

    def to_stamp(self) -> dict[str, Any]:
        """What an idempotency record keeps: never the secret."""
        return {"kind": "created_key", "id": self.key.id}


@restores("created_key")
async def _restore_created_key(ctx: Context, stamp: dict[str, Any]) -> CreatedKey:
    return CreatedKey(await restore_entity(ctx, "ApiKey", stamp["id"]), None)


def secret_prefix(dialect: str | None, workspace_id: str | None) -> str:
    """What a secret begins with, so that a dialect's clients take it for one of theirs."""
    if dialect == Dialect.TOBAN:
        return f"tb_{(workspace_id or 'site')[:8]}_sk_"
    return "phx_" if dialect == Dialect.POSTHOG else NATIVE_PREFIX


async def insert_key(
    ctx: Context,
    *,
    kind: KeyKind,
    user_id: str | None = None,
    agent_id: str | None = None,
    workspace_id: str | None = None,
    dialect: str | None = None,
    scopes: list[str] | None = None,
    name: str = "",
    lifetime: int | None = None,
    sliding: bool = False,
) -> CreatedKey:
    """Write a key and its event; the caller has checked everything.

    Args:
        ctx: in an operation.
        kind: where the key comes from.
        user_id: whose it is; or
        agent_id: whose it is.
        workspace_id: the only workspace it opens; None for all its holder sees.
        dialect: the legacy API it belongs to; None for native.
        scopes: what it is limited to; none for no limit.
        name: for lists.
        lifetime: seconds; None for ever.
        sliding: whether each use starts the lifetime anew.
    """
    await _forget_ended(ctx, user_id=user_id, agent_id=agent_id)
    secret = new_secret(secret_prefix(dialect, workspace_id))
    now = ctx.now
    key = await ctx.transaction.insert(
        ApiKey,
        secret_hash=hash_secret(secret),
        prefix=secret[:PREFIX_LENGTH],
        name=name,
        kind=kind,
        user_id=user_id,
        agent_id=agent_id,
        workspace_id=workspace_id,
        dialect=dialect,
        scopes=scopes or [],
        expires_at=now + timedelta(seconds=lifetime) if lifetime is not None else None,
        sliding_seconds=lifetime if sliding else None,
        created_by=ctx.principal.user_id if ctx.principal else None,
        created_at=now,
    )
    ctx.emit("token.created", key, workspace_id=None, entity_type="token")
    return CreatedKey(key, secret)


def holder(*, user_id: str | None, agent_id: str | None) -> sa.ColumnElement[bool]:
    """SQL: keys of this user or agent."""
    return KEY.user_id == user_id if user_id is not None else KEY.agent_id == agent_id


def is_live(ctx: Context) -> sa.ColumnElement[bool]:
    """SQL: neither revoked nor expired."""
    alive = sa.or_(KEY.expires_at.is_(None), KEY.expires_at > ctx.now)
    return sa.and_(KEY.revoked_at.is_(None), alive)


async def _forget_ended(ctx: Context, *, user_id: str | None, agent_id: str | None) -> None:
    end = ctx.now - KEPT_AFTER_END
    await ctx.transaction.execute(
        sa.delete(table_of(ApiKey)).where(
            holder(user_id=user_id, agent_id=agent_id),
            sa.or_(KEY.revoked_at <= end, KEY.expires_at <= end),
        )
    )


async def revoke_key(ctx: Context, key: ApiKey) -> ApiKey:
    """Revoke a key now, with its event; a revoked one is left as it is."""
    if key.revoked_at is not None:
        return key
    revoked = await ctx.transaction.update_by_id(ApiKey, key.id, revoked_at=ctx.now)
    ctx.emit("token.revoked", revoked, workspace_id=None, entity_type="token")
    wake_holder(ctx, user_id=key.user_id, agent_id=key.agent_id)
    return revoked


async def revoke_sessions(ctx: Context, *, user_id: str, but: str | None = None) -> int:
    """End a user's log-ins, except the key ``but``; how many there were."""
    conditions = [KEY.user_id == user_id, KEY.kind == KeyKind.SESSION, KEY.revoked_at.is_(None)]
    if but is not None:
        conditions.append(KEY.id != but)
    return await ctx.transaction.execute(
        sa.update(table_of(ApiKey)).where(*conditions).values(revoked_at=ctx.now)
    )


def wake_holder(ctx: Context, *, user_id: str | None = None, agent_id: str | None = None) -> None:
    """After the commit, let every server look again at what this user or agent may do."""
    principal_key = f"user:{user_id}" if user_id is not None else f"agent:{agent_id}"
    ctx.after_commit(lambda: ctx.services.wakeups.principal(principal_key))
