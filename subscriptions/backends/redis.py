"""Wake-ups over Redis or Valkey publish/subscribe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from subscriptions.backends.base import OPERATION_TIMEOUT, PROBE_INTERVAL, SupervisedBackend

CONNECT_TIMEOUT: Final = 3.0


class RedisBackend(SupervisedBackend):
    """Two clients, one that listens and one that publishes.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py reads it.
        probe_interval: seconds of silence after which the listening connection is asked for a
            sign of life; without one within five seconds it counts as lost.
    """

    def __init__(self, url: str, *, probe_interval: float = PROBE_INTERVAL) -> None:
        super().__init__(name="redis")
        self._url = url
        self._probe_interval = probe_interval
        self._publisher: Redis | None = None

    def _client(self, purpose: str) -> Redis:
        # The driver's own retries would hide a lost connection from the supervisor.
        return Redis.from_url(
            self._url,
            client_name=f"dragoman-{purpose}-{os.getpid()}",
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=OPERATION_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )

    async def _listen(self, channels: frozenset[str]) -> None:
        client = self._client("listener")
        pubsub: Any = client.pubsub()
        try:
            # Each SUBSCRIBE is acknowledged before the session counts as begun: only from there on
            # is a published message certain to arrive.
            await pubsub.subscribe(*channels)
            for _ in channels:
                if await self._next_message(pubsub, OPERATION_TIMEOUT) is None:
                    raise TimeoutError("SUBSCRIBE was not acknowledged")
            self._began()
            while True:
                message = await self._next_message(pubsub, self._probe_interval)
                if message is None:
                    await pubsub.ping()
                    message = await self._next_message(pubsub, OPERATION_TIMEOUT)
                    if message is None:
                        raise TimeoutError("no answer to PING")
                if message["type"] == "message":
                    self._received(_text(message["channel"]), _text(message["data"]))
        finally:
            await pubsub.aclose()
            await client.aclose()

    async def _next_message(self, pubsub: Any, seconds: float) -> dict[str, Any] | None:
        # get_message may also return None early (a health check's answer), hence the deadline.
        deadline = asyncio.get_running_loop().time() + seconds
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            message: dict[str, Any] | None = await pubsub.get_message(timeout=left)
            if message is not None:
                return message
        return None

    async def _send(self, batch: Sequence[tuple[str, str]]) -> None:
        if self._publisher is None:
            self._publisher = self._client("publisher")
        pipeline = self._publisher.pipeline(transaction=False)
        for channel, message in batch:
            pipeline.publish(channel, message)
        await pipeline.execute()

    async def _close_sender(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.aclose()


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
