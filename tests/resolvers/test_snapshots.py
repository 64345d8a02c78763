"""A request's snapshot goes back when nothing uses it any more, even if nobody waits for that."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from resolvers.context import Context, Services
from resolvers.principal import SYSTEM
from tests.support.inside import open_inside
from tests.support.server import fresh_postgres
from tests.support.tenants import make_tenant

COUNTING = """WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers
WHERE n < 300000) SELECT count(*) FROM numbers"""


async def test_a_statement_that_nobody_waits_for_ends_before_the_snapshot(
    services: Services,
) -> None:
    ctx = Context(services, SYSTEM)
    reader = await ctx.reader()
    under_way = asyncio.ensure_future(reader.scalar(sa.text(COUNTING)))
    queued = asyncio.ensure_future(reader.scalar(sa.text("SELECT 1")))
    while not reader.is_busy:
        await asyncio.sleep(0)
    await ctx.release()
    assert under_way.done()
    assert await under_way == 300_000
    with pytest.raises(RuntimeError, match="given back"):
        await queued
    with pytest.raises(RuntimeError, match="given back"):
        await reader.scalar(sa.text("SELECT 1"))
    assert await (await ctx.reader()).scalar(sa.text("SELECT 2")) == 2
    await ctx.release()


async def test_a_release_that_is_cancelled_gives_back_all_the_same(services: Services) -> None:
    ctx = Context(services, SYSTEM)
    reader = await ctx.reader()
    under_way = asyncio.ensure_future(reader.scalar(sa.text(COUNTING)))
    while not reader.is_busy:
        await asyncio.sleep(0)
    releasing = asyncio.ensure_future(ctx.release())
    await asyncio.sleep(0)
    releasing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await releasing
    assert await under_way == 300_000
    assert await (await ctx.reader()).scalar(sa.text("SELECT 2")) == 2
    await ctx.release()


@pytest.mark.postgres
async def test_an_error_beside_a_loader_spoils_no_connection(tmp_path: Any) -> None:
    with fresh_postgres() as url:
        async with open_inside(tmp_path / "data", database_url=url) as inside:
            tenant = await make_tenant(inside, "SNAP", tmp_path)
            text = (
                f'{{ task(id: "{tenant.ids["task"]}") {{ dependencies {{ createdAt }} }} '
                f'events(workspaceId: "{tenant.id}", types: [""]) {{ totalCountExact }} }}'
            )
            for _ in range(10):
                answer = await inside.post(text, token=inside.token)
                assert answer.codes == ["INVALID"]
            assert inside.internal_errors == []
