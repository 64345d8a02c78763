"""Handing notifications to the operator's notifier: the other half of ``notifications``."""

import asyncio
from contextlib import suppress

import structlog

from resolvers.context import Context, Services
from resolvers.errors import UnavailableError
from resolvers.notifications import (
    ClaimedNotification,
    any_notification_due,
    claim_notifications,
    notification_body,
    settle_notification,
)
from resolvers.ports import OutboundAnswer, SendNotification
from resolvers.principal import SYSTEM

log = structlog.get_logger("dragoman.notifier")

LOOK_SECONDS = 1.0


class NotificationSender:
    """The port ``resolvers.ports.Notifier``, and the loop behind it.

    Args:
        send: one attempt at the operator's target; never raises.
    """

    def __init__(self, send: SendNotification) -> None:
        self._send = send
        self._news = asyncio.Event()

    def wake(self) -> None:
        """A notification waits."""
        self._news.set()

    async def run_for_ever(self, services: Services) -> None:
        """Send until cancelled; what is under way then is sent again when its lease ends."""
        while True:
            self._news.clear()
            try:
                await self._look(services)
            except UnavailableError as error:
                log.warning("database is busy", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()

    async def _look(self, services: Services) -> None:
        ctx = Context(services, SYSTEM)
        while True:
            try:
                waits = await any_notification_due(ctx)
            finally:
                await ctx.release()
            if not waits:
                return
            claimed = await claim_notifications(ctx)
            await asyncio.gather(*(self._attempt(services, one) for one in claimed))

    async def _attempt(self, services: Services, claimed: ClaimedNotification) -> None:
        ctx = Context(services, SYSTEM)
        try:
            answer = await self._send(notification_body(ctx, claimed))
        except UnavailableError as error:
            answer = OutboundAnswer(None, 0.0, error.message)
        taken = await settle_notification(ctx, claimed=claimed, answer=answer)
        log.info(
            "notification attempted",
            notification_id=claimed.notification.id,
            answered=answer.status,
            error=answer.error,
            taken=taken,
        )
