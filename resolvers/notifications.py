"""Telling users, through the operator's notifier, that a run of a task of theirs needs them.

Who is told is decided in the transaction of the change, and stands in the log beside it as
``notification.decided``: nobody has to guess why a telephone stayed silent.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from models import Device, Membership, Notification, Presence, Run, Task, User, table_of
from models.enums import RunStatus
from models.transaction import select_all
from resolvers.context import Context
from resolvers.operation import step
from resolvers.ports import OutboundAnswer

DEVICE = table_of(Device).c
PRESENCE = table_of(Presence).c
NOTIFICATION = table_of(Notification).c
USER = table_of(User).c
MEMBER = table_of(Membership).c
TASK = table_of(Task).c

TELLS = {
    RunStatus.COMPLETED: "run.completed",
    RunStatus.FAILED: "run.failed",
    RunStatus.AWAITING_INPUT: "run.awaiting_input",
}
"""Changes of a run that its people are told of."""
SCHEDULE = (5, 30, 120, 600)
"""Pauses after failed attempts, seconds; later than that nobody wants to hear of it."""
LEASE = timedelta(seconds=60)
AT_ONCE = 16
ERROR_LENGTH = 500


async def decide_notifications(ctx: Context, before: Run, run: Run) -> None:
    """Inside the operation that changed a run: decide whom that is told to.

    Candidates are who made the task, who is assigned and who started the run, as far as they have
    devices and still see the workspace; not who made the change. Each is NOTIFIED, or, while one
    of their devices shows the task, WATCHING and left in peace.
    """
    type_ = TELLS.get(RunStatus(run.status))
    if type_ is None or run.status == before.status or run.task_id is None:
        return
    task = await ctx.transaction.find(Task, TASK.id == run.task_id)
    if task is None or task.deleted_at is not None:
        return
    people = {task.created_by, task.assignee_id, run.created_by} - {None}
    actor = ctx.principal.user_id if ctx.principal else None
    reachable = await _reachable(ctx, people - {actor}, run.workspace_id)
    if not reachable:
        return
    watching = await _watching(ctx, reachable, task.id)
    ctx.emit(
        "notification.decided",
        run,
        workspace_id=run.workspace_id,
        about=type_,
        recipients=[
            {"user_id": user_id, "decision": "WATCHING" if user_id in watching else "NOTIFIED"}
            for user_id in reachable
        ],
    )
    if ctx.services.notifier is None:
        return
    payload = {
        "task": {"id": task.id, "number": task.number, "title": task.title},
        "run": {"id": run.id, "status": run.status, "error": (run.error or "")[:ERROR_LENGTH]},
    }
    await ctx.transaction.insert_many(
        Notification,
        [
            {
                "workspace_id": run.workspace_id,
                "user_id": user_id,
                "type": type_,
                "payload": payload,
                "next_attempt_at": ctx.now,
                "created_at": ctx.now,
            }
            for user_id in reachable
            if user_id not in watching
        ],
    )
    ctx.after_commit(ctx.services.notifier.wake)


async def _reachable(
    ctx: Context, people: Collection[str | None], workspace_id: str
) -> Sequence[str]:
    """Those who have a device and see the workspace, in the order of their ids."""
    if not people:
        return []
    member = sa.exists().where(MEMBER.user_id == USER.id, MEMBER.workspace_id == workspace_id)
    return await ctx.transaction.scalars(
        sa.select(USER.id)
        .where(
            USER.id.in_(people),
            USER.is_active.is_(True),
            sa.or_(USER.is_site_owner.is_(True), USER.role.is_not(None), member),
            sa.exists().where(DEVICE.user_id == USER.id),
        )
        .order_by(USER.id)
    )


async def _watching(ctx: Context, people: Collection[str], task_id: str) -> set[str]:
    found = await ctx.transaction.scalars(
        sa.select(DEVICE.user_id)
        .join(table_of(Presence), PRESENCE.device_id == DEVICE.id)
        .where(
            PRESENCE.task_id == task_id,
            PRESENCE.expires_at > ctx.now,
            DEVICE.user_id.in_(people),
        )
    )
    return set(found)


# --- claim, effect, settle ---


@dataclass(frozen=True, slots=True)
class ClaimedNotification:
    """A notification that is this server's to send, under a token, with its user's devices."""

    notification: Notification
    devices: Sequence[Device]

    @property
    def token(self) -> int:
        """What fences the claim."""
        return self.notification.lease_token


async def any_notification_due(ctx: Context) -> bool:
    """Whether any waits: a read."""
    found = await (await ctx.reader()).scalar(
        sa.select(NOTIFICATION.id).where(NOTIFICATION.next_attempt_at <= ctx.now).limit(1)
    )
    return found is not None


@step
async def claim_notifications(ctx: Context) -> list[ClaimedNotification]:
    """Take up to 16 that are due; another server gets them when this one says nothing more."""
    due = (
        sa.select(NOTIFICATION.id)
        .where(NOTIFICATION.next_attempt_at <= ctx.now)
        .order_by(NOTIFICATION.next_attempt_at, NOTIFICATION.id)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    claimed = []
    for notification_id in await ctx.transaction.scalars(due):
        notification = await ctx.transaction.update_by_id(
            Notification,
            notification_id,
            lease_token=NOTIFICATION.lease_token + 1,
            next_attempt_at=ctx.now + LEASE,
        )
        devices = await ctx.transaction.records(
            Device,
            select_all(Device)
            .where(DEVICE.user_id == notification.user_id)
            .order_by(DEVICE.last_seen_at.desc(), DEVICE.id),
        )
        claimed.append(ClaimedNotification(notification, devices))
    return claimed


def notification_body(ctx: Context, claimed: ClaimedNotification) -> bytes:
    """What the notifier gets: whom to tell what, and by which push tokens.

    Raises:
        UnavailableError: a token cannot be decrypted.
    """
    told = claimed.notification
    devices: list[dict[str, Any]] = [
        {
            "id": device.id,
            "platform": device.platform,
            "token": ctx.services.secrets.decrypt(device.token_encrypted),
        }
        for device in claimed.devices
    ]
    return orjson.dumps(
        {
            "id": told.id,
            "type": told.type,
            "created_at": told.created_at,
            "workspace_id": told.workspace_id,
            "user_id": told.user_id,
            "devices": devices,
            **told.payload,
        }
    )


@step
async def settle_notification(
    ctx: Context, *, claimed: ClaimedNotification, answer: OutboundAnswer
) -> bool | None:
    """Write down how an attempt ended: True when it was taken, False when it was given up.

    Returns:
        None when it will be tried again, or was not this server's any more.
    """
    mine = sa.and_(
        NOTIFICATION.id == claimed.notification.id, NOTIFICATION.lease_token == claimed.token
    )
    taken = answer.status is not None and 200 <= answer.status < 300  # noqa: PLR2004  # 2xx
    count = claimed.notification.attempt_count + 1
    if taken or count > len(SCHEDULE):
        gone = await ctx.transaction.execute(sa.delete(table_of(Notification)).where(mine))
        return taken if gone else None
    await ctx.transaction.execute(
        sa.update(table_of(Notification))
        .where(mine)
        .values(
            attempt_count=count,
            next_attempt_at=ctx.now + timedelta(seconds=SCHEDULE[count - 1]),
        )
    )
    return None
