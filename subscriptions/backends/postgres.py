"""Wake-ups over PostgreSQL's LISTEN and NOTIFY."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]  # ships no type information

from subscriptions.backends.base import OPERATION_TIMEOUT, PROBE_INTERVAL, SupervisedBackend

CONNECT_TIMEOUT: Final = 5.0

# A transaction with a pending NOTIFY takes a lock that the whole cluster shares when it commits.
# So nothing notifies inside a business transaction, and a burst becomes a hundred a second at most.
MIN_NOTIFY_INTERVAL: Final = 0.01

_NOTIFY: Final = "SELECT pg_notify(c, m) FROM unnest($1::text[], $2::text[]) AS pending(c, m)"


class PostgresBackend(SupervisedBackend):
    """Two connections: a listening one runs nothing else, so publishing never disturbs it.

    Args:
        url: `postgresql://…`; a SQLAlchemy driver suffix such as `+asyncpg` is ignored.
        probe_interval: seconds between questions for a sign of life on the listening connection.
    """

    def __init__(self, url: str, *, probe_interval: float = PROBE_INTERVAL) -> None:
        super().__init__(name="postgresql", min_send_interval=MIN_NOTIFY_INTERVAL)
        scheme, separator, rest = url.partition("://")
        self._dsn = scheme.partition("+")[0] + separator + rest
        self._probe_interval = probe_interval
        self._publisher: Any = None

    async def _connect(self, purpose: str) -> Any:
        return await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT,
            command_timeout=OPERATION_TIMEOUT,
            # Without prepared statements the connection also works behind a session pooler.
            statement_cache_size=0,
            server_settings={"application_name": f"dragoman {purpose} {os.getpid()}"},
        )

    async def _listen(self, channels: frozenset[str]) -> None:
        connection = await self._connect("wake-up listener")
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            for channel in channels:
                await connection.add_listener(channel, self._notified)
            self._began()
            while not lost.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._probe_interval):
                        await lost.wait()
                if not lost.is_set():
                    await connection.execute("SELECT 1")
        finally:
            connection.terminate()
        raise ConnectionError("the server ended the connection")

    def _notified(self, _connection: Any, _pid: int, channel: str, payload: str) -> None:
        self._received(channel, payload)

    async def _send(self, batch: Sequence[tuple[str, str]]) -> None:
        if self._publisher is None or self._publisher.is_closed():
            self._publisher = await self._connect("wake-up publisher")
        await self._publisher.execute(
            _NOTIFY, [channel for channel, _ in batch], [message for _, message in batch]
        )

    async def _close_sender(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.terminate()
