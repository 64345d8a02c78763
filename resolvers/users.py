"""Users: create, look up, change. Others than site admins know only their colleagues."""

import re
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from models import Membership, User, table_of
from models.enums import KeyKind, Permission, Role, UserKind, UserTier
from models.event import SITE_STREAM
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from resolvers.keys import CreatedKey, insert_key, revoke_sessions, wake_holder
from resolvers.merging import merged
from resolvers.operation import operation
from resolvers.paging import Order, Page, PageArguments, read_page
from resolvers.task_access import check_version
from resolvers.task_queries import visible_workspaces
from resolvers.validation import Unset

USER = table_of(User).c
MEMBER = table_of(Membership).c
NAME = re.compile(r"[A-Za-z0-9._@+-]{1,100}", re.ASCII)
PASSWORD_MIN = 8
PASSWORD_MAX = 200
SEARCH_LENGTH = 200
FIRST_USER = "owner"
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")
_WEB_ADDRESS = re.compile(r"https?://[^\s/]+\S*")
_ADMIN_FIELDS = frozenset({"role", "is_active", "tier"})


class UserOrder(StrEnum):
    """Orders of a list of users; ids break ties."""

    NAME_ASC = "NAME_ASC"
    CREATED_AT_ASC = "CREATED_AT_ASC"
    CREATED_AT_DESC = "CREATED_AT_DESC"


_ORDERS: dict[UserOrder, tuple[Order, ...]] = {
    UserOrder.NAME_ASC: (Order(USER.name), Order(USER.id)),
    UserOrder.CREATED_AT_ASC: (Order(USER.created_at), Order(USER.id)),
    UserOrder.CREATED_AT_DESC: (Order(USER.created_at, True), Order(USER.id, True)),
}


# --- who sees whom ---


def is_site_admin(ctx: Context) -> bool:
    """Whether the principal, with this key, may administer the whole site."""
    try:
        ctx.require_site(Permission.ADMIN)
    except ForbiddenError:
        return False
    return True


def visible_users(ctx: Context) -> sa.ColumnElement[bool]:
    """SQL: users the principal may know of.

    Site admins know all; others themselves and the members of workspaces they see. Who sees every
    workspace also knows those who do so without being a member.

    Raises:
        UnauthenticatedError, ForbiddenError: nobody asks, or the key may not read.
    """
    principal = ctx.authenticated()
    ctx.require_scope(Permission.READ)
    if is_site_admin(ctx):
        return sa.true()
    members = sa.select(MEMBER.user_id).where(MEMBER.workspace_id.in_(visible_workspaces(ctx)))
    conditions: list[sa.ColumnElement[bool]] = [USER.id.in_(members)]
    if principal.user_id is not None:
        conditions.append(USER.id == principal.user_id)
    if principal.sees_all_workspaces:
        conditions += [USER.role.is_not(None), USER.is_site_owner.is_(True)]
    return sa.or_(*conditions)


async def get_user(ctx: Context, *, user_id: str) -> User:
    """A user the principal may know of; inside an operation the row is locked.

    Raises:
        NotFoundError: unknown, or a stranger.
    """
    condition = visible_users(ctx)
    if not check.is_id(user_id):
        raise NotFoundError("User")
    return await _get(ctx, USER.id == user_id, condition)


async def get_user_by_name(ctx: Context, *, name: str) -> User:
    """A user by name, in any case; else as :func:`get_user`."""
    condition = visible_users(ctx)
    if NAME.fullmatch(name) is None:
        raise NotFoundError("User")
    return await _get(ctx, has_name(name), condition)


async def get_user_by_number(ctx: Context, *, number: int) -> User:
    """A user by number, counted from 1; else as :func:`get_user`."""
    condition = visible_users(ctx)
    if not 1 <= number < 2**31:
        raise NotFoundError("User")
    return await _get(ctx, USER.number == number, condition)


async def _get(ctx: Context, *conditions: sa.ColumnElement[bool]) -> User:
    statement = select_all(User).where(*conditions)
    if ctx.in_transaction:
        statement = statement.with_for_update(key_share=True)
    found = await (await ctx.reader()).records(User, statement)
    if not found:
        raise NotFoundError("User")
    return found[0]


def has_name(name: str) -> sa.ColumnElement[bool]:
    """SQL: the user of this name, in any case."""
    return sa.func.lower(USER.name) == name.lower()


async def list_users(
    ctx: Context,
    *,
    search: str | None = None,
    order: UserOrder = UserOrder.NAME_ASC,
    page: PageArguments | None = None,
) -> Page[User]:
    """A page of the users the principal may know of.

    Args:
        ctx: needs ``read``.
        search: part of the name or full name, in any case; up to 200 characters.
        order: see :class:`UserOrder`.
        page: which page.
    """
    statement = select_all(User).where(visible_users(ctx))
    if search is not None and search.strip():
        words = check.text(search.strip(), field="search", maximum=SEARCH_LENGTH).lower()
        statement = statement.where(
            sa.or_(
                sa.func.lower(USER.name).contains(words, autoescape=True),
                sa.func.lower(USER.full_name).contains(words, autoescape=True),
            )
        )
    return await read_page(ctx, User, statement, order=_ORDERS[order], page=page or PageArguments())


# --- creating ---


@operation
async def create_first_user(ctx: Context) -> tuple[User, CreatedKey]:
    """Make ``owner``, to whom the site belongs, and a key without limits; the server does it.

    Raises:
        ConflictError: there are users already.
        ForbiddenError: somebody other than the system asks.
    """
    if ctx.authenticated().kind != "system":
        raise ForbiddenError("Only the server itself makes the first user")
    number = await ctx.transaction.next_number(SITE_STREAM, "user")
    if await ctx.transaction.scalar(sa.select(USER.id).limit(1)) is not None:
        raise ConflictError("There are users already")
    user = await _insert(ctx, number=number, name=FIRST_USER, role=Role.ADMIN, is_site_owner=True)
    key = await insert_key(ctx, kind=KeyKind.PERSONAL, user_id=user.id, name="first key")
    return user, key


async def create_user(
    ctx: Context,
    *,
    name: str,
    kind: str = UserKind.PERSON,
    role: str | None = None,
    email: str | None = None,
    full_name: str | None = None,
    avatar_url: str | None = None,
    password: str | None = None,
) -> User:
    """Make a user.

    Args:
        ctx: needs ``admin`` on the whole site.
        name: 1 to 100 characters ``[A-Za-z0-9._@+-]``, unique in any case; it never changes.
        kind: PERSON or SERVICE.
        role: the role in all workspaces, or None for none but those the user is a member of.
        email: one address.
        full_name: for people, up to 200 characters.
        avatar_url: http or https address of a picture.
        password: 8 to 200 characters; without one, the user has only keys.

    Raises:
        ForbiddenError, InvalidError.
        ConflictError: the name is taken.
    """
    ctx.require_site(Permission.ADMIN)
    values: dict[str, Any] = {
        "name": check_name(name),
        "kind": check.word(kind, UserKind, field="kind"),
        **_checked(
            ctx, None, {"role": role, "email": email, "full_name": full_name,
                        "avatar_url": avatar_url},
        ),
    }  # fmt: skip
    if password is not None:
        values["password_hash"] = await ctx.services.passwords.hash(check_password(password))
    return await _insert_checked(ctx, **values)


@operation
async def _insert_checked(ctx: Context, *, name: str, **values: Any) -> User:
    # The counter's row is held until the commit, so names are compared one creation at a time.
    number = await ctx.transaction.next_number(SITE_STREAM, "user")
    if await ctx.transaction.scalar(sa.select(USER.id).where(has_name(name))) is not None:
        raise ConflictError(f"The name {name} is taken", field="name")
    return await _insert(ctx, number=number, name=name, **values)


async def _insert(ctx: Context, **values: Any) -> User:
    now = ctx.now
    user = await ctx.transaction.insert(User, created_at=now, updated_at=now, **values)
    ctx.emit("user.created", user, workspace_id=None)
    return user


# --- changing ---


@operation
async def update_user(
    ctx: Context, *, user_id: str, expected_version: int | None = None, **fields: Any
) -> User:
    """Change a user; what is not given stays, None clears.

    Args:
        ctx: the user in question, or ``admin`` on the whole site.
        user_id: who.
        expected_version: refuse with CONFLICT unless the user is at this version.
        fields: ``full_name``, ``avatar_url``, ``email``, ``preferences`` (merged at every depth);
            and by site admins ``role``, ``is_active``, ``tier``.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: another version, or the site owner would lose role or activity.
    """
    user = await _get_editable(ctx, user_id)
    check_version(user.version, expected_version)
    given = {name: value for name, value in fields.items() if not isinstance(value, Unset)}
    if _ADMIN_FIELDS & given.keys():
        ctx.require_site(Permission.ADMIN)
    values = _checked(ctx, user, given)
    if user.is_site_owner and (values.get("role", Role.ADMIN) != Role.ADMIN
                               or not values.get("is_active", True)):  # fmt: skip
        raise ConflictError("The site owner stays an active admin")
    changes = {name: value for name, value in values.items() if getattr(user, name) != value}
    return await _change(ctx, user, changes) if changes else user


async def _change(ctx: Context, user: User, changes: dict[str, Any]) -> User:
    after = await ctx.transaction.update_by_id(
        User, user.id, updated_at=ctx.now, version=user.version + 1, **changes
    )
    event = "user.updated"
    if "is_active" in changes:
        event = "user.activated" if after.is_active else "user.deactivated"
        if not after.is_active:
            await revoke_sessions(ctx, user_id=user.id)
    ctx.emit(event, after, workspace_id=None, changed=sorted(changes))
    if _ADMIN_FIELDS & changes.keys():
        wake_holder(ctx, user_id=user.id)
    return after


async def set_preferences(
    ctx: Context, *, preferences: dict[str, Any], user_id: str | None = None
) -> User:
    """Merge into a user's preferences at every depth; a null removes its key. At most 64 KiB.

    Args:
        ctx: the user in question, or ``admin`` on the whole site.
        preferences: the changes.
        user_id: whose; by default the caller's own.
    """
    return await update_user(ctx, user_id=user_id or own_id(ctx), preferences=preferences)


def own_id(ctx: Context) -> str:
    """The id of the user who asks.

    Raises:
        InvalidError: an agent or the server asks.
    """
    user_id = ctx.authenticated().user_id
    if user_id is None:
        raise InvalidError("Say which user: you are none", field="userId")
    return user_id


async def _get_editable(ctx: Context, user_id: str) -> User:
    user = await get_user(ctx, user_id=user_id)
    require_power_over(ctx, user)
    ctx.require_scope(Permission.WRITE)
    return user


def require_power_over(ctx: Context, user: User) -> None:
    """Make sure the principal may act for a user: as that user, or as a site admin.

    For the site owner nobody else acts but the server itself: an admin who could would be one.

    Raises:
        ForbiddenError: it may not.
    """
    principal = ctx.authenticated()
    if principal.user_id == user.id:
        return
    ctx.require_site(Permission.ADMIN)
    if user.is_site_owner and not principal.is_site_owner and principal.kind != "system":
        raise ForbiddenError("Only the site owner changes the site owner's account")


# --- checks ---


def check_name(name: str) -> str:
    """A user name.

    Raises:
        InvalidError: not 1 to 100 characters ``[A-Za-z0-9._@+-]``.
    """
    if NAME.fullmatch(name) is None:
        raise InvalidError("name must be 1 to 100 characters [A-Za-z0-9._@+-]", field="name")
    return name


def check_password(password: str, *, field: str = "password") -> str:
    """A password to be set.

    Raises:
        InvalidError: shorter than 8 or longer than 200 characters.
    """
    check.text(password, field=field, maximum=PASSWORD_MAX)
    if len(password) < PASSWORD_MIN:
        raise InvalidError(f"{field} must have at least {PASSWORD_MIN} characters", field=field)
    return password


def _checked(ctx: Context, user: User | None, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _checked_field(ctx, user, name, value) for name, value in fields.items()}


def _checked_field(ctx: Context, user: User | None, name: str, value: Any) -> Any:
    match name:
        case "full_name":
            return check.optional_line(value, field="fullName", maximum=200)
        case "email":
            return _matching(value, _EMAIL, field="email", maximum=320, what="an address")
        case "avatar_url":
            return _matching(
                value, _WEB_ADDRESS, field="avatarUrl", maximum=2048, what="an http(s) address"
            )
        case "role":
            return None if value is None else check.word(value, Role, field="role")
        case "preferences":
            if value is None:
                return {}
            return merged(
                user.preferences if user else {},
                value,
                field="preferences",
                maximum_bytes=ctx.limits.json_bytes,
            )
        case "is_active" | "tier" if value is None:
            raise InvalidError(f"{name} must not be null", field=name)
        case "is_active":
            return bool(value)
        case "tier":
            return check.word(value, UserTier, field="tier")
    raise TypeError(f"a user has no field {name} to set")


def _matching(
    value: str | None, pattern: re.Pattern[str], *, field: str, maximum: int, what: str
) -> str | None:
    checked = check.optional_line(value, field=field, maximum=maximum)
    if checked is not None and pattern.fullmatch(checked) is None:
        raise InvalidError(f"{field} must be {what}", field=field)
    return checked
