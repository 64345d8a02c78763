"""Devices of users, and which task each of them shows just now."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from models import Device, Presence, table_of
from models.enums import DevicePlatform, Permission
from models.transaction import select_all, upsert
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.operation import operation, step
from resolvers.stamps import restores
from resolvers.task_access import get_task
from resolvers.users import own_id

DEVICE = table_of(Device).c
PRESENCE = table_of(Presence).c
TOKEN_LENGTH = 512
DEVICES_PER_USER = 20
TTL_SECONDS = 60
TTL_SECONDS_MAX = 600
DROPPED_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Watching:
    """A task that a device shows (or showed) until ``expires_at``."""

    workspace_id: str
    task_id: str
    expires_at: datetime

    def to_stamp(self) -> dict[str, Any]:
        """For a retried request."""
        return {
            "kind": "watching",
            "workspace_id": self.workspace_id,
            "task_id": self.task_id,
            "expires_at": self.expires_at.isoformat(),
        }


@restores("watching")
async def _restore_watching(_ctx: Context, stamp: dict[str, Any]) -> Watching:
    end = datetime.fromisoformat(stamp["expires_at"])
    return Watching(stamp["workspace_id"], stamp["task_id"], end)


@dataclass(frozen=True, slots=True)
class Unregistered:
    """Whether a device was known before it was forgotten."""

    was_registered: bool

    def to_stamp(self) -> dict[str, Any]:
        """For a retried request."""
        return {"kind": "unregistered", "was_registered": self.was_registered}


@restores("unregistered")
async def _restore_unregistered(_ctx: Context, stamp: dict[str, Any]) -> Unregistered:
    return Unregistered(stamp["was_registered"])


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


async def list_devices(ctx: Context) -> Sequence[Device]:
    """The caller's devices, the one seen last first: at most 20.

    Raises:
        UnauthenticatedError, ForbiddenError.
        InvalidError: an agent asks, which has none.
    """
    ctx.require_scope(Permission.READ)
    return await (await ctx.reader()).records(
        Device,
        select_all(Device)
        .where(DEVICE.user_id == own_id(ctx))
        .order_by(DEVICE.last_seen_at.desc(), DEVICE.id),
    )


@operation
async def register_device(ctx: Context, *, token: str, platform: str) -> Device:
    """Make a device of the caller's known, or say that it is still in use.

    Of more than 20 the one that was not seen for longest is forgotten.

    Args:
        ctx: a user.
        token: what the push service calls it, 1 to 512 characters; never shown again.
        platform: IOS, ANDROID or WEB.

    Raises:
        UnauthenticatedError, ForbiddenError, InvalidError.
    """
    ctx.require_scope(Permission.WRITE)
    user_id, now = own_id(ctx), ctx.now
    given = check.line(token, field="token", maximum=TOKEN_LENGTH)
    kind = check.word(platform, DevicePlatform, field="platform")
    known = await ctx.transaction.find(
        Device, DEVICE.user_id == user_id, DEVICE.token_hash == _hash(given)
    )
    if known is not None:
        return await ctx.transaction.update_by_id(Device, known.id, platform=kind, last_seen_at=now)
    device = await ctx.transaction.insert(
        Device,
        user_id=user_id,
        platform=kind,
        token_hash=_hash(given),
        token_encrypted=ctx.services.secrets.encrypt(given),
        created_at=now,
        last_seen_at=now,
    )
    kept = (
        sa.select(DEVICE.id)
        .where(DEVICE.user_id == user_id)
        .order_by(DEVICE.last_seen_at.desc(), DEVICE.id)
        .limit(DEVICES_PER_USER)
    )
    await ctx.transaction.execute(
        sa.delete(table_of(Device)).where(DEVICE.user_id == user_id, DEVICE.id.not_in(kept))
    )
    ctx.emit("device.registered", device, workspace_id=None)
    return device


@operation
async def unregister_device(ctx: Context, *, token: str) -> Unregistered:
    """Forget a device of the caller's, if it is known.

    Raises:
        UnauthenticatedError, ForbiddenError, InvalidError.
    """
    ctx.require_scope(Permission.WRITE)
    device = await ctx.transaction.find(
        Device, DEVICE.user_id == own_id(ctx), DEVICE.token_hash == _hash(token.strip())
    )
    if device is None:
        return Unregistered(was_registered=False)
    await ctx.transaction.delete_by_id(Device, device.id)
    ctx.emit("device.removed", device, workspace_id=None)
    return Unregistered(was_registered=True)


@operation
async def watch_task(
    ctx: Context, *, task_id: str, device_id: str, ttl_seconds: int = TTL_SECONDS
) -> Watching:
    """Say that a device of the caller's shows a task; to be repeated while it does.

    As long as one of a user's devices shows a task, none of them is notified about it.

    Args:
        ctx: a user who may read the task, with a key that may write.
        task_id: which task.
        device_id: which of the caller's devices.
        ttl_seconds: for how long, 10 to 600.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, UnauthenticatedError.
    """
    seconds = check.integer(ttl_seconds, field="ttlSeconds", minimum=10, maximum=TTL_SECONDS_MAX)
    workspace_id = await _require_own(ctx, task_id=task_id, device_id=device_id)
    end = ctx.now + timedelta(seconds=seconds)
    insert = upsert(ctx.transaction, Presence).values(
        task_id=task_id, device_id=device_id, expires_at=end
    )
    await ctx.transaction.execute(
        insert.on_conflict_do_update(
            index_elements=["task_id", "device_id"], set_={"expires_at": end}
        )
    )
    return Watching(workspace_id, task_id, end)


@operation
async def unwatch_task(ctx: Context, *, task_id: str, device_id: str) -> Watching:
    """Say that a device of the caller's does not show a task any more.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, UnauthenticatedError: as :func:`watch_task`.
    """
    workspace_id = await _require_own(ctx, task_id=task_id, device_id=device_id)
    await ctx.transaction.execute(
        sa.delete(table_of(Presence)).where(
            PRESENCE.task_id == task_id, PRESENCE.device_id == device_id
        )
    )
    return Watching(workspace_id, task_id, ctx.now)


async def _require_own(ctx: Context, *, task_id: str, device_id: str) -> str:
    """The workspace of a visible task, if the device is the caller's."""
    ctx.require_scope(Permission.WRITE)
    task = await get_task(ctx, task_id=task_id)
    user_id = own_id(ctx)
    known = check.is_id(device_id)
    device = await ctx.transaction.find_by_id(Device, device_id) if known else None
    if device is None or device.user_id != user_id:
        raise NotFoundError("Device")
    return task.workspace_id


@step
async def drop_ended_presences(ctx: Context) -> int:
    """Forget what devices showed; how many."""
    ended = (
        sa.select(PRESENCE.task_id, PRESENCE.device_id)
        .where(PRESENCE.expires_at <= ctx.now)
        .limit(DROPPED_AT_ONCE)
    )
    return await ctx.transaction.execute(
        sa.delete(table_of(Presence)).where(
            sa.tuple_(PRESENCE.task_id, PRESENCE.device_id).in_(ended)
        )
    )
