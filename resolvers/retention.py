"""Forgetting old events, where the operator wants that: a prefix of each log, never a hole."""

from datetime import timedelta

import sqlalchemy as sa

from models import Delivery, Event, EventStream, QueueStatistic, Webhook, table_of
from models.enums import DeliveryStatus
from resolvers.context import Context
from resolvers.operation import step
from resolvers.run_totals import LONG, SHORT

EVENT = table_of(Event).c
STREAM = table_of(EventStream).c
DELIVERY = table_of(Delivery).c
WEBHOOK = table_of(Webhook).c
STATISTIC = table_of(QueueStatistic).c
BATCH = 5_000
"""Events removed in one transaction at the most, so that writers are not kept waiting."""


async def prune_events(ctx: Context, *, older_than: timedelta) -> int:
    """Remove events before an age from every log; how many.

    What a webhook still waits for stays, and with it everything after it. Streams that resume from
    a removed place are told so (``ResyncRequired``, TRIMMED).
    """
    before = ctx.now - older_than
    stream_ids = await (await ctx.reader()).scalars(
        sa.select(STREAM.id).where(STREAM.seq > STREAM.floor)
    )
    await ctx.release()
    removed = 0
    for stream_id in stream_ids:
        while (count := await _prune_batch(ctx, stream_id=stream_id, before=before)) > 0:
            removed += count
    return removed


@step
async def prune_queue_statistics(ctx: Context) -> int:
    """Forget statistics of queues that no report shows any more; how many rows."""
    removed = 0
    for seconds, kept in ((SHORT, timedelta(hours=3)), (LONG, timedelta(days=400))):
        before = int((ctx.now - kept).timestamp())
        removed += await ctx.transaction.execute(
            sa.delete(table_of(QueueStatistic)).where(
                STATISTIC.seconds == seconds, STATISTIC.starts_at < before
            )
        )
    return removed


@step
async def _prune_batch(ctx: Context, *, stream_id: str, before: object) -> int:
    tx = ctx.transaction
    floor = await tx.scalar(sa.select(STREAM.floor).where(STREAM.id == stream_id).with_for_update())
    first_kept = await tx.scalar(
        sa.select(sa.func.min(EVENT.seq)).where(
            EVENT.stream_id == stream_id, EVENT.seq > floor, EVENT.at >= before
        )
    )
    head = await tx.scalar(sa.select(STREAM.seq).where(STREAM.id == stream_id))
    last = min(head if first_kept is None else first_kept - 1, floor + BATCH)
    for waiting in (await _undelivered(ctx, stream_id), await _unread(ctx, stream_id)):
        if waiting is not None:
            last = min(last, waiting)
    if last <= floor:
        return 0
    await tx.execute(
        sa.delete(table_of(Event)).where(EVENT.stream_id == stream_id, EVENT.seq <= last)
    )
    await tx.execute(
        sa.update(table_of(EventStream)).where(STREAM.id == stream_id).values(floor=last)
    )
    return int(last - floor)


async def _undelivered(ctx: Context, stream_id: str) -> int | None:
    """The last event before the first one that is still to be delivered."""
    first = await ctx.transaction.scalar(
        sa.select(sa.func.min(DELIVERY.seq))
        .join(table_of(Webhook), WEBHOOK.id == DELIVERY.webhook_id)
        .where(
            WEBHOOK.workspace_id == stream_id,
            WEBHOOK.is_active.is_(True),
            DELIVERY.stream_id == stream_id,
            DELIVERY.status == DeliveryStatus.PENDING,
        )
    )
    return None if first is None else int(first) - 1


async def _unread(ctx: Context, stream_id: str) -> int | None:
    """How far the slowest active webhook has read the log."""
    found = await ctx.transaction.scalar(
        sa.select(sa.func.min(WEBHOOK.read_seq)).where(
            WEBHOOK.workspace_id == stream_id, WEBHOOK.is_active.is_(True)
        )
    )
    return None if found is None else int(found)
