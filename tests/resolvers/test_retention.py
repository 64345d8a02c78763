"""Old events may be forgotten: from the beginning, without holes, not before they are delivered."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from models import Delivery, Event, EventStream, Webhook, table_of, utcnow
from models.transaction import select_all
from resolvers.context import Context
from resolvers.operation import step
from resolvers.retention import prune_events
from resolvers.workspaces import create_workspace

EVENT, STREAM = table_of(Event).c, table_of(EventStream).c


@step
async def _age(ctx: Context, *, stream_id: str, up_to: int, days: int) -> None:
    await ctx.transaction.execute(
        sa.update(table_of(Event))
        .where(EVENT.stream_id == stream_id, EVENT.seq <= up_to)
        .values(at=utcnow() - timedelta(days=days))
    )


async def _log(ctx: Context, stream_id: str) -> tuple[int, list[int]]:
    await ctx.release()
    reader = await ctx.reader()
    floor = await reader.scalar(sa.select(STREAM.floor).where(STREAM.id == stream_id))
    events = await reader.records(
        Event, select_all(Event).where(EVENT.stream_id == stream_id).order_by(EVENT.seq)
    )
    await ctx.release()
    return floor, [event.seq for event in events]


@pytest.fixture
async def stream_id(owner: Context) -> str:
    from resolvers.tasks import create_task

    workspace = await create_workspace(owner, name="W")
    for index in range(9):
        await create_task(owner, workspace_id=workspace.id, title=f"t{index}")
    return workspace.id


async def test_only_what_is_old_goes_and_the_floor_tells(
    owner: Context, system: Context, stream_id: str
) -> None:
    await _age(system, stream_id=stream_id, up_to=4, days=10)
    assert await prune_events(system, older_than=timedelta(days=30)) == 0
    assert await prune_events(system, older_than=timedelta(days=5)) == 4
    assert await _log(owner, stream_id) == (4, [5, 6, 7, 8, 9, 10])
    assert await prune_events(system, older_than=timedelta(days=5)) == 0


async def test_what_a_webhook_waits_for_stays(
    owner: Context, system: Context, stream_id: str
) -> None:
    now = utcnow()

    @step
    async def add_webhook(ctx: Context) -> None:
        webhook = await ctx.transaction.insert(
            Webhook,
            workspace_id=stream_id,
            url="https://example.org/",
            read_seq=8,
            created_at=now,
            updated_at=now,
        )
        await ctx.transaction.insert(
            Delivery, webhook_id=webhook.id, stream_id=stream_id, seq=6, created_at=now
        )

    await add_webhook(system)
    await _age(system, stream_id=stream_id, up_to=10, days=10)
    assert await prune_events(system, older_than=timedelta(days=5)) == 5
    assert await _log(owner, stream_id) == (5, [6, 7, 8, 9, 10])
