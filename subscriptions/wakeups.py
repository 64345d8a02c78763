"""Telling the readers of a log that it has grown: here at once, elsewhere through broadcaster.

A message is `<sender> <key>`, for example `3f9c2a7d e:6f96…`: the sender's mark keeps a process
from being woken twice by its own message. A lost message costs latency only; the hub's tick finds
what it told of.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Final, Self

from broadcaster import Broadcast

from subscriptions.ports import (
    EVENTS,
    MAX_KEY_LENGTH,
    PRINCIPAL,
    RUN_OUTPUT,
    events_key,
    principal_key,
    run_key,
)

logger = logging.getLogger("dragoman.wakeups")

CHANNEL: Final = "dragoman"
MAX_PENDING: Final = 10_000

Listener = Callable[[Iterable[str]], None]


class WakeUps:
    """The wake-ups of one process. Start it before, and stop it after, whatever uses it.

    Args:
        broadcast: carries them to other processes; started and stopped by its owner.
        listeners: called in the event loop with the keys of each wake-up, from here or elsewhere;
            quick, never raising. `Hub.wake` is one.
        channel: the one channel of this installation, at most 63 bytes.
        is_alone: no other process hears this broadcast; then nothing is sent.

    Attributes:
        dropped: how many were not sent to other processes because too many waited.
    """

    def __init__(
        self,
        broadcast: Broadcast,
        *,
        listeners: Iterable[Listener] = (),
        channel: str = CHANNEL,
        is_alone: bool = False,
    ) -> None:
        self._broadcast = broadcast
        self._is_alone = is_alone
        self._listeners = list(listeners)
        self._channel = channel
        self._mark = secrets.token_hex(4)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: dict[str, None] = {}
        self._pending: dict[str, None] = {}
        self._filled = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.dropped = 0

    def add_listener(self, listener: Listener) -> None:
        """Call this, too, with the keys of each wake-up."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Subscribe to the channel, for good, and begin to send.

        Raises:
            Exception: whatever the backend refuses the channel with.
        """
        self._loop = asyncio.get_running_loop()
        receiver = asyncio.create_task(self._receive_for_ever(), name="wake-up receiver")
        subscribed = asyncio.create_task(self._subscribed.wait())
        await asyncio.wait({receiver, subscribed}, return_when=asyncio.FIRST_COMPLETED)
        if receiver.done():
            subscribed.cancel()
            receiver.result()
        sender = asyncio.create_task(self._send_for_ever(), name="wake-up sender")
        self._tasks = [receiver, sender]

    async def stop(self) -> None:
        """End; wake-ups of this process still reach its own listeners."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def events(self, stream_ids: Iterable[str]) -> None:
        """These event logs have grown."""
        self.notify(map(events_key, stream_ids))

    def run_output(self, run_id: str) -> None:
        """A run's output log has grown or ended."""
        self.notify((run_key(run_id),))

    def principal(self, principal_id: str) -> None:
        """A principal's credentials or roles changed: whatever comes next here knows it."""
        self.notify((principal_key(principal_id),))
        if self._is_here():
            self._tell()

    def notify(self, keys: Iterable[str]) -> None:
        """Wake whoever watches these keys, once for all calls of one turn of the event loop.

        Never blocks and never raises; may be called from any thread once started.
        """
        if self._loop is None or self._loop.is_closed():
            return
        # Consumed here: the caller may change its collection later on.
        fresh = tuple(key for key in keys if len(key) <= MAX_KEY_LENGTH)
        if self._is_here():
            self._collect(fresh)
        else:
            self._loop.call_soon_threadsafe(self._collect, fresh)

    def _is_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _collect(self, keys: Iterable[str]) -> None:
        if not self._news and self._loop is not None:
            self._loop.call_soon(self._tell)
        self._news.update(dict.fromkeys(keys))

    def _tell(self) -> None:
        news, self._news = self._news, {}
        if not news:
            return
        self._call_listeners(tuple(news))
        if self._is_alone:
            return
        for key in news:
            if len(self._pending) >= MAX_PENDING and key not in self._pending:
                self.dropped += 1
                continue
            self._pending[key] = None
        self._filled.set()

    def _call_listeners(self, keys: tuple[str, ...]) -> None:
        for listener in self._listeners:
            try:
                listener(keys)
            except Exception:
                logger.exception("a listener of wake-ups failed")

    async def _send_for_ever(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            pending, self._pending = self._pending, {}
            for key in pending:
                try:
                    await self._broadcast.publish(self._channel, f"{self._mark} {key}")
                except Exception:
                    self.dropped += 1
                    logger.exception("a wake-up could not be handed to broadcaster")

    async def _receive_for_ever(self) -> None:
        async with self._broadcast.subscribe(self._channel) as subscriber:
            self._subscribed.set()
            while True:
                event = await subscriber.get()
                key = self._key_of(event.message)
                if key is not None:
                    self._call_listeners((key,))

    def _key_of(self, message: object) -> str | None:
        """The key in a message from another process; None for our own and for what is no key."""
        if not isinstance(message, str):
            return None
        mark, _, key = message.partition(" ")
        known = key.startswith((EVENTS, RUN_OUTPUT, PRINCIPAL)) and len(key) <= MAX_KEY_LENGTH
        return key if known and mark != self._mark else None
