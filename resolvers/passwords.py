"""Changing a password: hashed outside the database, between a claim and its settling."""

from models import User
from models.enums import Permission
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, ForbiddenError, InvalidError
from resolvers.keys import revoke_sessions, wake_holder
from resolvers.operation import operation, step
from resolvers.throttle import count_attempt, forgive
from resolvers.users import PASSWORD_MAX, check_password, get_user, own_id, require_power_over


async def change_password(
    ctx: Context,
    *,
    new_password: str,
    current_password: str | None = None,
    user_id: str | None = None,
) -> User:
    """Set a password; the user's other log-ins end.

    Args:
        ctx: the user in question with an unlimited key, or ``admin`` on the whole site.
        new_password: 8 to 200 characters.
        current_password: needed for one's own password, if there is one.
        user_id: whose; by default the caller's own.

    Raises:
        NotFoundError, ForbiddenError.
        InvalidError: the current password is wrong, the new one too short or too long.
        ConflictError: it was changed meanwhile.
        RateLimitedError: the current password was wrong too often.
    """
    check_password(new_password, field="newPassword")
    if current_password is not None:
        check.text(current_password, field="currentPassword", maximum=PASSWORD_MAX)
    chosen = user_id or own_id(ctx)
    stored, own = await _claim_password_change(
        ctx, user_id=chosen, proves=current_password is not None
    )
    if own and stored is not None:
        fits = await ctx.services.passwords.verify(current_password or "", stored)
        if not fits:
            raise InvalidError("The current password is wrong", field="currentPassword")
    hashed = await ctx.services.passwords.hash(new_password)
    return await _settle_password_change(ctx, user_id=chosen, stored=stored, hashed=hashed)


@step
async def _claim_password_change(
    ctx: Context, *, user_id: str, proves: bool
) -> tuple[str | None, bool]:
    user = await get_user(ctx, user_id=user_id)
    principal = ctx.authenticated()
    require_power_over(ctx, user)
    # A password opens everything its user may: a limited key must not turn itself into one.
    ctx.require_scope(Permission.ADMIN)
    if principal.workspace_id is not None:
        raise ForbiddenError("A key of one workspace cannot change a password")
    own = principal.user_id == user.id
    if own and user.password_hash is not None:
        if not proves:
            raise InvalidError("The current password is needed", field="currentPassword")
        await count_attempt(ctx, [_guesses(user_id)])
    return user.password_hash, own


@operation
async def _settle_password_change(
    ctx: Context, *, user_id: str, stored: str | None, hashed: str
) -> User:
    user = await get_user(ctx, user_id=user_id)
    require_power_over(ctx, user)
    if user.password_hash != stored:
        raise ConflictError("The password was changed meanwhile")
    after = await ctx.transaction.update_by_id(
        User, user.id, password_hash=hashed, updated_at=ctx.now, version=user.version + 1
    )
    await revoke_sessions(ctx, user_id=user.id, but=ctx.authenticated().key_id)
    await forgive(ctx, [_guesses(user_id)])
    ctx.emit("user.password_changed", after, workspace_id=None)
    wake_holder(ctx, user_id=user.id)
    return after


def _guesses(user_id: str) -> str:
    return f"password:{user_id}"
