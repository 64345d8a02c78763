"""Counting failures per minute in the database, so that all servers count together."""

from collections.abc import Collection
from datetime import timedelta

import sqlalchemy as sa

from models import LoginThrottle, table_of
from models.transaction import upsert
from resolvers.context import Context
from resolvers.errors import RateLimitedError

THROTTLE = table_of(LoginThrottle).c
WINDOW = timedelta(minutes=1)
FAILURES_MAX = 10
ROWS_MAX = 20_000
"""Rows kept at most: under a flood from countless addresses the oldest are forgotten early."""
DROPPED_AT_ONCE = 1_000


async def count_attempt(ctx: Context, keys: Collection[str]) -> None:
    """Count an attempt as a failure before it is made; :func:`forgive` takes it back.

    Counting first means that attempts made at the same moment cannot slip through together.

    Args:
        ctx: in an operation.
        keys: what is counted; each allows 10 failures in a minute.

    Raises:
        RateLimitedError: there were too many for one of the keys.
    """
    now = ctx.now
    table = table_of(LoginThrottle)
    over = table.c.window_started_at <= now - WINDOW
    for key in sorted(keys):  # one order, so that two attempts never wait for each other
        insert = upsert(ctx.transaction, LoginThrottle).values(
            key=key, window_started_at=now, failures=1
        )
        row = await ctx.transaction.first(
            insert.on_conflict_do_update(
                index_elements=["key"],
                set_={
                    "failures": sa.case((over, 1), else_=table.c.failures + 1),
                    "window_started_at": sa.case((over, now), else_=table.c.window_started_at),
                },
            ).returning(table.c.failures, table.c.window_started_at)
        )
        assert row is not None  # noqa: S101  # an upsert returns its row
        if row.failures > FAILURES_MAX:
            left = row.window_started_at + WINDOW - now
            raise RateLimitedError(
                "Too many failed attempts; wait a moment",
                retry_after=max(1, -(-left // timedelta(seconds=1))),
            )
    await _drop_old(ctx)


async def forgive(ctx: Context, keys: Collection[str]) -> None:
    """Take one counted attempt back, because it succeeded."""
    for key in sorted(keys):
        await ctx.transaction.execute(
            sa.update(table_of(LoginThrottle))
            .where(THROTTLE.key == key, THROTTLE.failures > 0)
            .values(failures=THROTTLE.failures - 1)
        )


async def _drop_old(ctx: Context) -> None:
    await _drop(ctx, THROTTLE.window_started_at <= ctx.now - WINDOW)
    count = sa.select(sa.func.count()).select_from(table_of(LoginThrottle))
    if await ctx.transaction.scalar(count) > ROWS_MAX:
        await _drop(ctx, sa.true())


async def _drop(ctx: Context, condition: sa.ColumnElement[bool]) -> None:
    oldest = (
        sa.select(THROTTLE.key)
        .where(condition)
        .order_by(THROTTLE.window_started_at)
        .limit(DROPPED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    await ctx.transaction.execute(
        sa.delete(table_of(LoginThrottle)).where(THROTTLE.key.in_(oldest))
    )
