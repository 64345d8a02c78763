"""Members of a workspace and their roles. Nobody gives or takes a role above their own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from models import Membership, User, table_of
from models.enums import Permission, Role
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    LimitExceededError,
    NotFoundError,
    OperationError,
)
from resolvers.keys import wake_holder
from resolvers.loading import load_by_id
from resolvers.operation import operation
from resolvers.paging import Order, Page, PageArguments
from resolvers.principal import ROLE_PERMISSIONS
from resolvers.siblings import Parents, in_workspaces, only, read_pages
from resolvers.stamps import restores
from resolvers.users import USER, get_user
from resolvers.workspaces import lock_workspace

MEMBER = table_of(Membership).c
MANAGES_MEMBERS = Permission.MANAGE_QUEUES
"""What it takes to change who belongs to a workspace: a manager's rights."""
MEMBERS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Member:
    """A user's membership of a workspace; ``role`` is None when it has just ended."""

    workspace_id: str
    user_id: str
    role: str | None
    created_at: datetime

    def to_stamp(self) -> dict[str, Any]:
        """For a retried request: memberships have no id of their own."""
        return {
            "kind": "member",
            "workspace_id": self.workspace_id,
            "user_id": self.user_id,
            "role": self.role,
            "created_at": self.created_at.isoformat(),
        }


@restores("member", for_leavers=True)
async def _restore_member(_ctx: Context, stamp: dict[str, Any]) -> Member:
    since = datetime.fromisoformat(stamp["created_at"])
    return Member(stamp["workspace_id"], stamp["user_id"], stamp["role"], since)


@operation
async def add_member(
    ctx: Context, *, workspace_id: str, user_id: str, role: str = Role.DEVELOPER
) -> Member:
    """Let a user into a workspace.

    Args:
        ctx: needs ``manage_queues`` in the workspace.
        workspace_id: where.
        user_id: who; somebody the caller knows of.
        role: VIEWER, DEVELOPER, MANAGER or ADMIN, not above the caller's own.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: the user is a member already.
        LimitExceededError: the workspace has 10,000 members.
    """
    wanted = check.word(role, Role, field="role")
    await lock_workspace(ctx, workspace_id=workspace_id, permission=MANAGES_MEMBERS)
    _require_power(ctx, workspace_id, wanted)
    user = await get_user(ctx, user_id=user_id)
    if await _find(ctx, workspace_id, user_id) is not None:
        raise ConflictError(f"{user.name} is a member already", user_id=user_id)
    count = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(MEMBER.workspace_id == workspace_id)
    )
    if count >= MEMBERS_MAX:
        raise LimitExceededError("The workspace has its maximum of members", limit=MEMBERS_MAX)
    membership = await ctx.transaction.insert(
        Membership,
        workspace_id=workspace_id,
        user_id=user_id,
        role=wanted,
        created_at=ctx.now,
        updated_at=ctx.now,
    )
    return _told(ctx, "member.added", membership, user)


@operation
async def update_member(ctx: Context, *, workspace_id: str, user_id: str, role: str) -> Member:
    """Give a member another role; the same one changes nothing.

    Args:
        ctx: needs ``manage_queues`` in the workspace.
        workspace_id: where.
        user_id: who.
        role: not above the caller's own; neither may the member's present one be.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: it is the last admin, and there is no site admin.
    """
    wanted = check.word(role, Role, field="role")
    await lock_workspace(ctx, workspace_id=workspace_id, permission=MANAGES_MEMBERS)
    membership = await _get(ctx, workspace_id, user_id)
    if membership.role == wanted:
        return _member(membership)
    _require_power(ctx, workspace_id, wanted)
    _require_power(ctx, workspace_id, Role(membership.role))
    await _refuse_last_admin(ctx, membership)
    user = await _user_of(ctx, membership)
    after = await ctx.transaction.update(
        Membership,
        MEMBER.workspace_id == workspace_id,
        MEMBER.user_id == user_id,
        role=wanted,
        updated_at=ctx.now,
    )
    assert after is not None  # noqa: S101  # read above, under the workspace's lock
    return _told(ctx, "member.updated", after, user, from_role=membership.role)


@operation
async def remove_member(ctx: Context, *, workspace_id: str, user_id: str) -> Member:
    """End a membership; everybody may end their own.

    Args:
        ctx: needs ``manage_queues`` in the workspace, or is the member.
        workspace_id: where.
        user_id: who.

    Raises:
        NotFoundError, ForbiddenError.
        ConflictError: it is the last admin, and there is no site admin.
    """
    own = ctx.authenticated().user_id == user_id
    await lock_workspace(
        ctx, workspace_id=workspace_id, permission=Permission.READ if own else MANAGES_MEMBERS
    )
    ctx.require_scope(Permission.WRITE)
    membership = await _get(ctx, workspace_id, user_id)
    if not own:
        _require_power(ctx, workspace_id, Role(membership.role))
    await _refuse_last_admin(ctx, membership)
    user = await _user_of(ctx, membership)
    await ctx.transaction.execute(
        sa.delete(table_of(Membership)).where(
            MEMBER.workspace_id == workspace_id, MEMBER.user_id == user_id
        )
    )
    return replace(_told(ctx, "member.removed", membership, user), role=None)


def _told(ctx: Context, event: str, membership: Membership, user: User, **facts: Any) -> Member:
    ctx.emit(
        event,
        membership,
        workspace_id=membership.workspace_id,
        entity_type="member",
        entity_id=membership.user_id,
        user_name=user.name,
        **facts,
    )
    wake_holder(ctx, user_id=membership.user_id)
    return _member(membership)


def _member(row: Membership) -> Member:
    return Member(row.workspace_id, row.user_id, row.role, row.created_at)


def _require_power(ctx: Context, workspace_id: str, role: Role) -> None:
    """Refuse to give or take a role that holds more than the caller does."""
    mine = ctx.authenticated().role_in(workspace_id) or frozenset()
    if not ROLE_PERMISSIONS[role] <= mine:
        raise ForbiddenError(f"Your role does not allow to give or take {role}", role=role)


async def _find(ctx: Context, workspace_id: str, user_id: str) -> Membership | None:
    if not check.is_id(user_id):
        return None
    return await (await ctx.reader()).find(
        Membership, MEMBER.workspace_id == workspace_id, MEMBER.user_id == user_id
    )


async def _get(ctx: Context, workspace_id: str, user_id: str) -> Membership:
    membership = await _find(ctx, workspace_id, user_id)
    if membership is None:
        raise NotFoundError("Member")
    return membership


async def _user_of(ctx: Context, membership: Membership) -> User:
    user = await ctx.transaction.find_by_id(User, membership.user_id)
    assert user is not None  # noqa: S101  # a foreign key
    return user


async def _refuse_last_admin(ctx: Context, membership: Membership) -> None:
    """Refuse to leave a workspace to nobody: called before an admin's role changes or ends."""
    if membership.role != Role.ADMIN:
        return
    other = await ctx.transaction.scalar(
        sa.select(USER.id)
        .outerjoin(
            table_of(Membership),
            sa.and_(
                MEMBER.user_id == USER.id,
                MEMBER.workspace_id == membership.workspace_id,
                MEMBER.user_id != membership.user_id,
            ),
        )
        .where(
            USER.is_active.is_(True),
            sa.or_(
                MEMBER.role == Role.ADMIN, USER.role == Role.ADMIN, USER.is_site_owner.is_(True)
            ),
        )
        .limit(1)
    )
    if other is None:
        raise ConflictError("The last admin cannot leave: make somebody else an admin first")


async def list_members(
    ctx: Context, *, workspace_id: str, page: PageArguments | None = None
) -> Page[Membership]:
    """A page of the members of a workspace, in the order they came.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError, InvalidError.
    """
    return only(await members_of_workspaces(ctx, [workspace_id], page=page or PageArguments()))


async def members_of_workspaces(
    ctx: Context, workspace_ids: Sequence[str], *, page: PageArguments
) -> list[Page[Membership] | OperationError]:
    """The same page of the members of each workspace; a refusal where one is not visible.

    Raises:
        InvalidError: page arguments that cannot be accepted.
    """

    async def read(ids: list[str]) -> list[Page[Membership]]:
        return await read_pages(
            ctx,
            Membership,
            select_all(Membership),
            Parents(ids, lambda parent: MEMBER.workspace_id == parent),
            order=[Order(MEMBER.created_at), Order(MEMBER.user_id)],
            page=page,
        )

    return await in_workspaces(ctx, workspace_ids, lambda key: key, read)


async def user_of_member(ctx: Context, member: Member | Membership) -> User:
    """The user of a membership that was read or changed here; batched over a page."""
    user = await load_by_id(ctx, User, member.user_id)
    assert user is not None  # noqa: S101  # users are never deleted
    return user
