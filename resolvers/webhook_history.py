"""Deliveries for people: looked at, sent once more, and forgotten after a while."""

from datetime import timedelta

import sqlalchemy as sa

from models import Delivery, Event, table_of
from models.enums import DeliveryStatus
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, NotFoundError
from resolvers.operation import operation, step
from resolvers.paging import Order, Page, PageArguments, read_page
from resolvers.webhooks import get_webhook

DELIVERY = table_of(Delivery).c
EVENT = table_of(Event).c
KEPT_AFTER_END = timedelta(days=30)
"""How long settled deliveries are kept for looking at and redelivery."""
DROPPED_AT_ONCE = 1_000


async def get_delivery(ctx: Context, *, delivery_id: str) -> Delivery:
    """A delivery of a webhook the principal may see; both are locked inside an operation.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError, ConflictError: see ``get_webhook``.
    """
    ctx.authenticated()
    if not check.is_id(delivery_id):
        raise NotFoundError("Delivery")
    delivery = await (await ctx.reader()).find_by_id(Delivery, delivery_id)
    if delivery is None:
        raise NotFoundError("Delivery")
    try:
        await get_webhook(ctx, webhook_id=delivery.webhook_id)
    except NotFoundError:
        raise NotFoundError("Delivery") from None
    return delivery


async def list_deliveries(
    ctx: Context,
    *,
    webhook_id: str,
    status: str | None = None,
    page: PageArguments | None = None,
) -> Page[Delivery]:
    """A page of a webhook's deliveries, newest event first; settled ones are kept for 30 days.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError, InvalidError.
    """
    await get_webhook(ctx, webhook_id=webhook_id)
    statement = select_all(Delivery).where(DELIVERY.webhook_id == webhook_id)
    if status is not None:
        wanted = check.word(status, DeliveryStatus, field="status")
        statement = statement.where(DELIVERY.status == wanted)
    order = [Order(DELIVERY.seq, True), Order(DELIVERY.id, True)]
    return await read_page(ctx, Delivery, statement, order=order, page=page or PageArguments())


@operation
async def redeliver(ctx: Context, *, delivery_id: str) -> Delivery:
    """Send a settled delivery once more: one attempt, under the same id, out of order.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError.
        ConflictError: it is still pending, its webhook is inactive, or its event was removed.
    """
    delivery = await get_delivery(ctx, delivery_id=delivery_id)
    webhook = await get_webhook(ctx, webhook_id=delivery.webhook_id)
    if not webhook.is_active:
        raise ConflictError("The webhook is inactive")
    if delivery.status == DeliveryStatus.PENDING:
        raise ConflictError("The delivery is still on its way", status=delivery.status)
    event = await ctx.transaction.scalar(
        sa.select(EVENT.seq).where(EVENT.stream_id == delivery.stream_id, EVENT.seq == delivery.seq)
    )
    if event is None:
        raise ConflictError("The event is no longer kept")
    after = await ctx.transaction.update_by_id(
        Delivery,
        delivery.id,
        status=DeliveryStatus.PENDING,
        next_attempt_at=ctx.now,
        is_redelivery=True,
    )
    ctx.emit(
        "webhook.redelivery_requested",
        webhook,
        workspace_id=webhook.workspace_id,
        delivery_id=delivery.id,
    )
    return after


@step
async def drop_old_deliveries(ctx: Context) -> int:
    """Forget deliveries that were settled long ago; how many."""
    old = (
        sa.select(DELIVERY.id)
        .where(
            DELIVERY.status != DeliveryStatus.PENDING,
            DELIVERY.created_at < ctx.now - KEPT_AFTER_END,
        )
        .limit(DROPPED_AT_ONCE)
    )
    return await ctx.transaction.execute(sa.delete(table_of(Delivery)).where(DELIVERY.id.in_(old)))
