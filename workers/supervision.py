"""What goes on by itself beside the requests: kept alive while the server lives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from resolvers.agent_reports import purge_agent_progress
from resolvers.agent_stalls import sweep_stalled_agents
from resolvers.artifacts import sweep_artifacts
from resolvers.context import Context, Services
from resolvers.devices import drop_ended_presences
from resolvers.errors import UnavailableError
from resolvers.idempotency import drop_expired_requests
from resolvers.principal import SYSTEM
from resolvers.retention import prune_events, prune_queue_statistics
from resolvers.webhook_history import drop_old_deliveries
from workers.dispatch import RunDispatcher
from workers.notifier import NotificationSender
from workers.webhooks import WebhookDeliverer

log = structlog.get_logger("dragoman.workers")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
SWEEP_SECONDS = 60.0


@asynccontextmanager
async def supervised_workers(
    services: Services,
    dispatcher: RunDispatcher,
    deliverer: WebhookDeliverer,
    *,
    notifier: NotificationSender | None = None,
    event_retention: float = 0.0,
    collect: Callable[[], Awaitable[None]] | None = None,
    observe: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[None]:
    """Run dispatcher, deliverer, sweeps and ``observe`` (for metrics) for the length of the block.

    ``collect`` removes garbage, again and again. Events older than ``event_retention`` seconds are
    forgotten; 0 keeps them all.

    One that fails is logged and begun again after a pause that grows.
    """
    workers: dict[str, Callable[[], Awaitable[None]]] = {
        "dispatch": lambda: dispatcher.run_for_ever(services),
        "webhooks": lambda: deliverer.run_for_ever(services),
        "sweep": lambda: _sweep_for_ever(services, event_retention),
    }
    if collect is not None:
        workers["collect"] = collect
    if notifier is not None:
        workers["notifier"] = lambda: notifier.run_for_ever(services)
    if observe is not None:
        workers["observe"] = observe
    tasks = [
        asyncio.create_task(_keep_going(name, work), name=f"worker {name}")
        for name, work in workers.items()
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_going(name: str, work: Callable[[], Awaitable[None]]) -> None:
    pause = FIRST_PAUSE
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await work()
        except UnavailableError as error:
            log.warning("database is busy", worker=name, error=str(error))
        except Exception:
            log.exception("worker failed", worker=name)
        if loop.time() - began > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def _sweep_for_ever(services: Services, event_retention: float) -> None:
    while True:
        system = Context(services, SYSTEM)
        await sweep_stalled_agents(system)
        await purge_agent_progress(system)
        await drop_expired_requests(system)
        await drop_old_deliveries(system)
        await drop_ended_presences(system)
        await prune_queue_statistics(system)
        await sweep_artifacts(system)
        if event_retention:
            await prune_events(system, older_than=timedelta(seconds=event_retention))
        await asyncio.sleep(SWEEP_SECONDS)
