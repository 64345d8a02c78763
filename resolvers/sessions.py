"""Logging in and out: a session is a key whose seven days begin anew with each use."""

import ipaddress
from datetime import timedelta

import sqlalchemy as sa

from models import ApiKey, User, table_of
from models.enums import Dialect, KeyKind
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, ForbiddenError, NotFoundError, UnauthenticatedError
from resolvers.keys import KEY, CreatedKey, insert_key, is_live, revoke_key, wake_holder
from resolvers.operation import operation, step
from resolvers.throttle import count_attempt, forgive
from resolvers.users import NAME, PASSWORD_MAX, USER, has_name

SESSION_LIFETIME = timedelta(days=7)
NAME_MAX = 100
ADDRESS_MAX = 45
_NETWORK_BITS = 64
"""One customer has at least this much of an IPv6 address for itself."""


async def log_in(
    ctx: Context, *, name: str, password: str, address: str, dialect: str | None = None
) -> CreatedKey:
    """Exchange a password for a session key of seven days, which each use prolongs.

    An unknown name and a wrong password get the same answer after the same time.

    Args:
        ctx: needs no principal.
        name: in any case, up to 100 characters.
        password: up to 200 characters.
        address: where the client's connection comes from; ten failures a minute are allowed from
            one address, in all and for one name.
        dialect: the legacy API the session belongs to; None for native.

    Raises:
        UnauthenticatedError: name and password do not belong together.
        ForbiddenError: they do, but the account is disabled.
        InvalidError: one of them is too long.
        RateLimitedError: too many failures.
    """
    check.text(name, field="name", maximum=NAME_MAX)
    check.text(password, field="password", maximum=PASSWORD_MAX)
    if dialect is not None:
        dialect = check.word(dialect, Dialect, field="dialect")
    attempts = _attempts(name, address)
    user = await _claim_log_in(ctx, name=name, attempts=attempts)
    stored = user.password_hash if user is not None else None
    fits = await ctx.services.passwords.verify(password, stored)
    if user is None or not fits:
        raise _refusal()
    return await _settle_log_in(
        ctx, user_id=user.id, stored=stored, attempts=attempts, dialect=dialect
    )


def _refusal() -> UnauthenticatedError:
    return UnauthenticatedError("Name and password do not belong together")


def _attempts(name: str, address: str) -> list[str]:
    where = client_network(address)
    return [f"address:{where}", f"name:{where}:{name.lower()[:NAME_MAX]}"]


def client_network(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "".join(c for c in address if c.isascii() and c.isprintable())[:ADDRESS_MAX]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, _NETWORK_BITS), strict=False))
    return str(parsed)


@step
async def _claim_log_in(ctx: Context, *, name: str, attempts: list[str]) -> User | None:
    await count_attempt(ctx, attempts)
    if NAME.fullmatch(name) is None:
        return None
    return await ctx.transaction.find(User, has_name(name))


@operation
async def _settle_log_in(
    ctx: Context, *, user_id: str, stored: str | None, attempts: list[str], dialect: str | None
) -> CreatedKey:
    await forgive(ctx, attempts)
    users = await ctx.transaction.records(
        User, select_all(User).where(USER.id == user_id).with_for_update(key_share=True)
    )
    if not users or users[0].password_hash != stored:
        raise _refusal()
    if not users[0].is_active:
        raise ForbiddenError("The account is disabled", reason="account_disabled")
    user = await ctx.transaction.update_by_id(User, user_id, last_login_at=ctx.now)
    await _make_room(ctx, user_id)
    ctx.emit("user.logged_in", user, workspace_id=None)
    return await insert_key(
        ctx,
        kind=KeyKind.SESSION,
        user_id=user_id,
        dialect=dialect,
        name="log-in",
        lifetime=int(SESSION_LIFETIME.total_seconds()),
        sliding=True,
    )


async def _make_room(ctx: Context, user_id: str) -> None:
    """End the oldest sessions of a user who has as many as allowed."""
    newest = (
        sa.select(KEY.id)
        .where(KEY.user_id == user_id, KEY.kind == KeyKind.SESSION, is_live(ctx))
        .order_by(KEY.created_at.desc(), KEY.id.desc())
        .limit(ctx.limits.keys_per_user - 1)
    )
    ended = await ctx.transaction.execute(
        sa.update(table_of(ApiKey))
        .where(
            KEY.user_id == user_id,
            KEY.kind == KeyKind.SESSION,
            KEY.revoked_at.is_(None),
            KEY.id.not_in(newest),
        )
        .values(revoked_at=ctx.now)
    )
    if ended:
        wake_holder(ctx, user_id=user_id)


@operation
async def log_out(ctx: Context) -> ApiKey:
    """Revoke the key in use, whatever its kind; doing so again changes nothing.

    Raises:
        ConflictError: the caller uses no key.
    """
    principal = ctx.authenticated()
    if principal.key_id is None:
        raise ConflictError("There is no key to revoke: this caller uses none")
    key = await ctx.transaction.find_by_id(ApiKey, principal.key_id)
    if key is None:
        raise NotFoundError("Token")
    return await revoke_key(ctx, key)
