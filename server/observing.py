"""What is measured by looking, every few seconds, because nothing tells when it changes."""

import asyncio
from collections.abc import Awaitable, Callable

from resolvers.run_queries import count_live_runs
from server.metrics import Metrics
from server.services import Server

LOOK_SECONDS = 5.0


def observer(server: Server, metrics: Metrics) -> Callable[[], Awaitable[None]]:
    """A worker that keeps the gauges of runs and the count of lost wake-ups up to date."""

    async def observe_for_ever() -> None:
        lost = 0
        while True:
            ctx = server.system()
            try:
                metrics.runs_counted(await count_live_runs(ctx))
            finally:
                await ctx.release()
            total = server.hub.wakeups_lost_total
            metrics.wakeups_lost(total - lost)
            lost = total
            await asyncio.sleep(LOOK_SECONDS)

    return observe_for_ever
