"""Deliveries: made out of the event log, claimed by one server, sent, settled; at least once.

The log is the queue. A webhook has a place in it (``read_seq``); a bounded number of events behind
that become deliveries, which advances the place in the same transaction. So a server that is
killed anywhere loses nothing, and a receiver that is down for days does not fill a table.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from models import Delivery, Event, EventStream, Webhook, Workspace, new_id, table_of
from models.base import column_names
from models.enums import DeliveryStatus
from models.prepared import Prepared
from models.transaction import select_all
from resolvers.context import Context
from resolvers.errors import UnavailableError
from resolvers.operation import step
from resolvers.ports import OutboundAnswer
from resolvers.webhook_formats import Message, Ordering, OutgoingRequest, WebhookPolicy, matches
from resolvers.webhooks import WEBHOOK, change_webhook, format_of, secrets_of

DELIVERY = table_of(Delivery).c
EVENT = table_of(Event).c
STREAM = table_of(EventStream).c
WORKSPACE = table_of(Workspace).c

LEASE = timedelta(seconds=45)
"""Longer than any attempt takes; a dead server's deliveries are taken over after it."""
HEAD_START = timedelta(seconds=1)
"""How long a first attempt that is under way keeps the next one waiting, for the order."""
EVENTS_AT_ONCE = 200
WEBHOOKS_AT_ONCE = 100
ATTEMPTS_KEPT = 20
EXCERPT = 500
GONE = 410


def _is_waiting(now: datetime | sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """SQL: pending, due, and nobody's."""
    return sa.and_(
        DELIVERY.status == DeliveryStatus.PENDING,
        DELIVERY.next_attempt_at <= now,
        sa.or_(DELIVERY.lease_expires_at.is_(None), DELIVERY.lease_expires_at <= now),
    )


# --- from the log ---


def _behind(_dialect: object) -> sa.Select[Any]:
    return (
        sa.select(WEBHOOK.id)
        .join(table_of(EventStream), STREAM.id == WEBHOOK.workspace_id)
        .where(WEBHOOK.is_active.is_(True), STREAM.seq > WEBHOOK.read_seq)
        .order_by(WEBHOOK.id)
        .limit(WEBHOOKS_AT_ONCE)
    )


# A busy board asks this, and what is due, many times a second.
_BEHIND = Prepared(Webhook, ["id"], [], _behind)


async def webhooks_behind(ctx: Context) -> list[str]:
    """Webhooks whose log has grown beyond their place: a read, cheap while there is nothing."""
    return [webhook.id for webhook in await (await ctx.reader()).fetch(_BEHIND)]


@step
async def plan_deliveries(ctx: Context, *, webhook_ids: Collection[str]) -> int:
    """Make deliveries out of events that came after the webhooks' places; how many places moved."""
    statement = (
        select_all(Webhook)
        .where(WEBHOOK.id.in_(webhook_ids), WEBHOOK.is_active.is_(True))
        .order_by(WEBHOOK.id)
        .with_for_update(skip_locked=True)
    )
    webhooks = await ctx.transaction.records(Webhook, statement)
    moved = 0
    for webhook in webhooks:
        moved += await _plan(ctx, webhook)
    return moved


async def _plan(ctx: Context, webhook: Webhook) -> bool:
    form, tx = format_of(ctx, webhook.dialect), ctx.transaction
    waiting = await tx.scalar(
        sa.select(sa.func.count()).where(
            DELIVERY.webhook_id == webhook.id, DELIVERY.status == DeliveryStatus.PENDING
        )
    )
    room = min(form.policy.backlog - waiting, EVENTS_AT_ONCE)
    if room <= 0:
        return False
    events = await tx.records(
        Event,
        select_all(Event)
        .where(EVENT.stream_id == webhook.workspace_id, EVENT.seq > webhook.read_seq)
        .order_by(EVENT.seq)
        .limit(room),
    )
    if not events:
        return False
    wanted = [
        event
        for event in events
        if (name := form.name_of(event)) is not None and matches(name, webhook.event_types)
    ]
    await tx.insert_many(Delivery, [_new(webhook, event, ctx.now) for event in wanted])
    await tx.update_by_id(Webhook, webhook.id, read_seq=events[-1].seq)
    return True


def _new(webhook: Webhook, event: Event, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "webhook_id": webhook.id,
        "stream_id": event.stream_id,
        "seq": event.seq,
        "event_type": event.type,
        "entity_id": event.entity_id,
        "next_attempt_at": now,
        "created_at": now,
    }


# --- claim, effect, settle ---


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that is this server's to send, under a token; ``event`` is None if it is gone."""

    delivery: Delivery
    webhook: Webhook
    workspace: Workspace
    event: Event | None
    task: Mapping[str, Any] | None
    token: int


def _due(_dialect: object) -> sa.Select[Any]:
    now = sa.bindparam("now", type_=DELIVERY.next_attempt_at.type)
    waiting = sa.select(DELIVERY.webhook_id).where(_is_waiting(now)).distinct()
    return (
        sa.select(*WEBHOOK)
        .where(WEBHOOK.is_active.is_(True), WEBHOOK.id.in_(waiting))
        .limit(WEBHOOKS_AT_ONCE)
    )


_DUE = Prepared(Webhook, column_names(Webhook), ["now"], _due)


async def webhooks_due(ctx: Context) -> list[str]:
    """Webhooks with a delivery that may be sent now: reads, so that waiting ones cost no write."""
    webhooks = await (await ctx.reader()).fetch(_DUE, ctx.now)
    return [webhook.id for webhook in webhooks if await _sendable(ctx, webhook, 1)]


@step
async def claim_deliveries(
    ctx: Context, *, webhook_ids: Collection[str], maximum: int
) -> list[ClaimedDelivery]:
    """Take deliveries that may be sent now, each webhook's as its policy orders them.

    Args:
        ctx: the system's.
        webhook_ids: of which webhooks.
        maximum: how many at most.
    """
    statement = (
        select_all(Webhook)
        .where(WEBHOOK.id.in_(webhook_ids), WEBHOOK.is_active.is_(True))
        .order_by(WEBHOOK.id)
        .with_for_update(skip_locked=True)
    )
    claimed: list[ClaimedDelivery] = []
    for webhook in await ctx.transaction.records(Webhook, statement):
        ids = await _sendable(ctx, webhook, maximum - len(claimed))
        claimed += [await _claim(ctx, webhook, delivery_id) for delivery_id in ids]
        if len(claimed) >= maximum:
            break
    return claimed


async def _sendable(ctx: Context, webhook: Webhook, maximum: int) -> list[str]:
    """Deliveries of a webhook that may be sent now, in order."""
    policy, reader = format_of(ctx, webhook.dialect).policy, await ctx.reader()
    under_way = await reader.scalar(
        sa.select(sa.func.count()).where(
            DELIVERY.webhook_id == webhook.id,
            DELIVERY.status == DeliveryStatus.PENDING,
            DELIVERY.lease_expires_at > ctx.now,
        )
    )
    room = min(policy.at_once - under_way, maximum)
    if room <= 0:
        return []
    return await reader.scalars(
        sa.select(DELIVERY.id)
        .where(
            DELIVERY.webhook_id == webhook.id,
            _is_waiting(ctx.now),
            sa.or_(DELIVERY.is_redelivery.is_(True), sa.not_(_is_held_back(ctx, policy.ordering))),
        )
        .order_by(DELIVERY.seq)
        .limit(room)
    )


def _is_held_back(ctx: Context, ordering: Ordering) -> sa.ColumnElement[bool]:
    """SQL: an earlier delivery of the same webhook has to come first."""
    earlier = table_of(Delivery).alias("earlier")
    conditions = [
        earlier.c.webhook_id == DELIVERY.webhook_id,
        earlier.c.status == DeliveryStatus.PENDING,
        earlier.c.is_redelivery.is_(False),
        earlier.c.seq < DELIVERY.seq,
    ]
    if ordering == Ordering.ENTITY:
        conditions.append(earlier.c.entity_id == DELIVERY.entity_id)
    elif ordering == Ordering.FIRST_ATTEMPTS:
        fresh = ctx.now + LEASE - HEAD_START
        not_begun = sa.or_(earlier.c.lease_expires_at.is_(None), earlier.c.lease_expires_at > fresh)
        conditions += [earlier.c.attempt_count == 0, DELIVERY.attempt_count == 0, not_begun]
    return sa.exists(sa.select(sa.literal(1)).select_from(earlier).where(*conditions))


async def _claim(ctx: Context, webhook: Webhook, delivery_id: str) -> ClaimedDelivery:
    tx = ctx.transaction
    delivery = await tx.update_by_id(
        Delivery,
        delivery_id,
        lease_owner=ctx.services.instance,
        lease_token=DELIVERY.lease_token + 1,
        lease_expires_at=ctx.now + LEASE,
    )
    event = await tx.find(Event, EVENT.stream_id == delivery.stream_id, EVENT.seq == delivery.seq)
    workspace = await tx.find_by_id(Workspace, str(webhook.workspace_id))
    assert workspace is not None  # noqa: S101  # its deletion takes the webhook along
    task = await _task_after(ctx, event) if event is not None else None
    return ClaimedDelivery(delivery, webhook, workspace, event, task, delivery.lease_token)


async def _task_after(ctx: Context, event: Event) -> Mapping[str, Any] | None:
    """The snapshot of the task that an event is about, itself or through its run.

    What happens to a run and to its task is one transaction, in which the task comes second.
    """
    if event.entity_type == "task":
        task: Mapping[str, Any] | None = event.payload.get("task")
        return task
    task_id = event.payload.get("run", {}).get("task_id")
    if task_id is None:
        return None
    payload = await ctx.transaction.scalar(
        sa.select(EVENT.payload)
        .where(
            EVENT.stream_id == event.stream_id,
            EVENT.entity_id == task_id,
            EVENT.entity_type == "task",
            EVENT.seq <= event.seq + 1,
        )
        .order_by(EVENT.seq.desc())
        .limit(1)
    )
    return None if payload is None else payload.get("task")


def request_of(ctx: Context, claimed: ClaimedDelivery, event: Event) -> OutgoingRequest:
    """What is to be sent.

    Raises:
        UnavailableError: a secret cannot be decrypted.
    """
    message = Message(
        webhook=claimed.webhook,
        delivery=claimed.delivery,
        event=event,
        workspace=claimed.workspace,
        secrets=secrets_of(ctx, claimed.webhook),
        sent_at=ctx.now,
        task=claimed.task,
    )
    return format_of(ctx, claimed.webhook.dialect).render(message)


@step
async def settle_delivery(
    ctx: Context, *, claimed: ClaimedDelivery, answer: OutboundAnswer, final: bool = False
) -> DeliveryStatus | None:
    """Write down how an attempt ended, and what comes next.

    Args:
        ctx: the system's.
        claimed: what was sent.
        answer: how it ended.
        final: whether it makes no sense to try again.

    Returns:
        Where the delivery stands now; None when the claim was not this server's any more.
    """
    tx = ctx.transaction
    # Everybody who takes both rows takes the webhook's first, so that nobody waits in a circle.
    webhooks = await tx.records(
        Webhook, select_all(Webhook).where(WEBHOOK.id == claimed.webhook.id).with_for_update()
    )
    webhook = webhooks[0] if webhooks else None
    delivery = await tx.find(
        Delivery, DELIVERY.id == claimed.delivery.id, DELIVERY.lease_token == claimed.token
    )
    if webhook is None or delivery is None:
        return None
    policy = format_of(ctx, webhook.dialect).policy
    count = delivery.attempt_count + 1
    changes = _next(ctx, delivery, policy, answer, count=count, final=final)
    await tx.update_by_id(
        Delivery,
        delivery.id,
        attempts=[*delivery.attempts[1 - ATTEMPTS_KEPT :], _attempt(ctx, claimed, answer)],
        attempt_count=count,
        lease_owner=None,
        lease_expires_at=None,
        **changes,
    )
    status = DeliveryStatus(changes.get("status", DeliveryStatus.PENDING))
    if not delivery.is_redelivery or answer.status == GONE:
        await _count_failure(ctx, webhook, policy, status, answer)
    return status


def _next(
    ctx: Context,
    delivery: Delivery,
    policy: WebhookPolicy,
    answer: OutboundAnswer,
    *,
    count: int,
    final: bool,
) -> dict[str, Any]:
    """The columns that change: delivered, given up, or when to try again."""
    if _succeeded(answer):
        return {
            "status": DeliveryStatus.DELIVERED,
            "delivered_at": ctx.now,
            "next_attempt_at": None,
        }
    exhausted = delivery.is_redelivery or count > len(policy.schedule)
    if final or exhausted or answer.status == GONE:
        return {"status": DeliveryStatus.FAILED, "next_attempt_at": None}
    pause = policy.schedule[count - 1]
    pause += pause * policy.jitter * secrets.randbelow(1_001) / 1_000
    if answer.retry_after is not None:
        pause = max(pause, min(answer.retry_after, max(policy.schedule)))
    return {"next_attempt_at": ctx.now + timedelta(seconds=pause)}


def _succeeded(answer: OutboundAnswer) -> bool:
    return answer.status is not None and 200 <= answer.status < 300  # noqa: PLR2004  # 2xx


def _attempt(ctx: Context, claimed: ClaimedDelivery, answer: OutboundAnswer) -> dict[str, Any]:
    """One attempt for the log; a receiver that echoes our secrets does not get them in there."""
    text = answer.excerpt[:EXCERPT].decode("utf-8", "replace").replace("\x00", "\ufffd")
    try:
        hidden = secrets_of(ctx, claimed.webhook)
    except UnavailableError:  # without its key nothing was signed that could be echoed
        hidden = []
    for secret in hidden:
        text = text.replace(secret, "[redacted]")
    return {
        "at": ctx.now.isoformat(),
        "status": answer.status,
        "error": answer.error,
        "duration_ms": round(answer.seconds * 1000),
        "response": text,
    }


async def _count_failure(
    ctx: Context,
    webhook: Webhook,
    policy: WebhookPolicy,
    status: DeliveryStatus,
    answer: OutboundAnswer,
) -> None:
    """Disable a webhook whose receiver is gone or fails for too long, where everybody sees it."""
    if status == DeliveryStatus.DELIVERED and webhook.failures:
        await ctx.transaction.update_by_id(Webhook, webhook.id, failures=0)
    if status != DeliveryStatus.FAILED or not webhook.is_active:
        return
    failures = webhook.failures + 1
    if answer.status == GONE or failures >= policy.disable_after:
        reason = "GONE" if answer.status == GONE else "FAILING"
        await change_webhook(
            ctx,
            webhook,
            "webhook.disabled",
            is_active=False,
            disabled_reason=reason,
            failures=failures,
        )
    else:
        await ctx.transaction.update_by_id(Webhook, webhook.id, failures=failures)


@step
async def release_deliveries(ctx: Context, *, delivery_ids: Collection[str] | None) -> None:
    """Give claims back: of some deliveries, or (None) of whatever a dead server left."""
    mine = DELIVERY.id.in_(delivery_ids) if delivery_ids is not None else sa.true()
    await ctx.transaction.execute(
        sa.update(table_of(Delivery))
        .where(DELIVERY.status == DeliveryStatus.PENDING, DELIVERY.lease_owner.is_not(None), mine)
        .values(lease_owner=None, lease_expires_at=None, lease_token=DELIVERY.lease_token + 1)
    )
