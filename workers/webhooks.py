"""Delivering webhooks: reads the event log forward, sends what is due, writes down how it went."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

from resolvers.context import Context, Services
from resolvers.errors import UnavailableError
from resolvers.ports import OutboundAnswer
from resolvers.principal import SYSTEM
from resolvers.webhook_deliveries import (
    ClaimedDelivery,
    claim_deliveries,
    plan_deliveries,
    release_deliveries,
    request_of,
    settle_delivery,
    webhooks_behind,
    webhooks_due,
)
from resolvers.webhooks import format_of
from subscriptions.ports import EVENTS

log = structlog.get_logger("dragoman.webhooks")

AT_ONCE = 32
"""Attempts of one server under way at the same time; each webhook has its own bound below that."""
LOOK_SECONDS = 1.0
IN_A_ROW = 20
"""Deliveries of one webhook after each other before others get its turn."""
REST_SECONDS = 0.05
"""Shortest time between two looks, so that a busy log is read in pages and not event by event."""


class WebhookDeliverer:
    """The loop behind webhooks. Several servers may run one each.

    Args:
        sole: no other server uses this database, so whatever is claimed at the start was left by
            a dead one and is sent again at once instead of when its lease ends.
    """

    def __init__(self, *, sole: bool) -> None:
        self.sole = sole
        self._news = asyncio.Event()
        self._active: dict[asyncio.Task[None], str] = {}
        self._closing = False
        self._services: Services | None = None

    def wake(self, keys: Iterable[str]) -> None:
        """A listener of wake-ups: some event log has grown."""
        if any(key.startswith(EVENTS) for key in keys):
            self._news.set()

    @asynccontextmanager
    async def _system(self) -> AsyncIterator[Context]:
        assert self._services is not None  # noqa: S101  # set by run_for_ever
        ctx = Context(self._services, SYSTEM)
        try:
            yield ctx
        finally:
            await ctx.release()

    async def run_for_ever(self, services: Services) -> None:
        """Deliver until cancelled; then give back what is claimed."""
        self._services = services
        self._closing = False
        self._active.clear()
        try:
            if self.sole:
                async with self._system() as ctx:
                    await release_deliveries(ctx, delivery_ids=None)
            while True:
                self._news.clear()
                try:
                    await self._look()
                except UnavailableError as error:
                    log.warning("database is busy", error=str(error))
                await asyncio.sleep(REST_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._news.wait()
        finally:
            await self._let_go()

    async def _look(self) -> None:
        async with self._system() as ctx:
            behind = await webhooks_behind(ctx)
        if behind:
            async with self._system() as ctx:
                if await plan_deliveries(ctx, webhook_ids=behind):
                    self._news.set()  # there may be another page behind this one
        room = AT_ONCE - len(self._active)
        if room <= 0:
            return
        async with self._system() as ctx:
            due = await webhooks_due(ctx)
        if not due:
            return
        async with self._system() as ctx:
            claimed = await claim_deliveries(ctx, webhook_ids=due, maximum=room)
        for delivery in claimed:
            task = asyncio.create_task(self._see_to_its_end(delivery))
            self._active[task] = delivery.delivery.id

    async def _see_to_its_end(self, first: ClaimedDelivery) -> None:
        """Attempt a delivery, and then what its webhook has next, as long as others can wait."""
        task: Any = asyncio.current_task()
        try:
            await self._attempt(first)
            for _ in range(1, IN_A_ROW):
                claimed = await self._next(first.webhook.id)
                if claimed is None:
                    return
                self._active[task] = claimed.delivery.id
                await self._attempt(claimed)
        except UnavailableError as error:
            # Not written down: when the lease ends it is sent again.
            log.warning("delivery not settled", error=str(error))
        except Exception:
            log.exception("delivery failed in the server", webhook_id=first.webhook.id)
        finally:
            if not self._closing:  # else its claim is given back by who cancelled it
                self._active.pop(task, None)
            self._news.set()

    async def _next(self, webhook_id: str) -> ClaimedDelivery | None:
        async with self._system() as ctx:
            if webhook_id not in await webhooks_due(ctx):
                return None
        async with self._system() as ctx:
            found = await claim_deliveries(ctx, webhook_ids=[webhook_id], maximum=1)
        return found[0] if found else None

    async def _attempt(self, claimed: ClaimedDelivery) -> None:
        answer, final = await self._send(claimed)
        async with self._system() as ctx:
            status = await settle_delivery(ctx, claimed=claimed, answer=answer, final=final)
        log.info(
            "webhook attempted",
            webhook_id=claimed.webhook.id,
            delivery_id=claimed.delivery.id,
            attempt=claimed.delivery.attempt_count + 1,
            answered=answer.status,
            error=answer.error,
            delivery=status,
        )

    async def _send(self, claimed: ClaimedDelivery) -> tuple[OutboundAnswer, bool]:
        if claimed.event is None:
            return OutboundAnswer(None, 0.0, "the event is no longer kept"), True
        async with self._system() as ctx:
            try:
                request = request_of(ctx, claimed, claimed.event)
            except UnavailableError as error:
                return OutboundAnswer(None, 0.0, error.message), False
            answer = await ctx.services.outbound.post(
                request.url,
                headers=request.headers,
                body=request.body,
                seconds=format_of(ctx, claimed.webhook.dialect).policy.timeout,
            )
        return answer, False

    async def _let_go(self) -> None:
        """Stop sending; the next server need not wait for leases to end."""
        self._closing = True
        for task in self._active:
            task.cancel()
        if not self._active:
            return
        await asyncio.wait(self._active)
        try:
            async with self._system() as ctx:
                await release_deliveries(ctx, delivery_ids=list(self._active.values()))
        except UnavailableError as error:
            log.warning("deliveries not given back", error=str(error))
