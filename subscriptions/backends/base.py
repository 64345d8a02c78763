"""What our network backends share: supervision, bounds, and a publisher that nobody waits for.

A backend carries hints. Losing one costs latency, so everything here prefers dropping a message
(and counting it) to growing, blocking or raising.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final

from broadcaster import BroadcastBackend, Event

from subscriptions.backends.backoff import Backoff

logger = logging.getLogger("dragoman.broadcast")

QUEUE_SIZE: Final = 10_000
BATCH_SIZE: Final = 500
FIRST_CONNECTION_WAIT: Final = 2.0
OPERATION_TIMEOUT: Final = 5.0
PROBE_INTERVAL: Final = 15.0
MAX_CHANNEL_BYTES: Final = 63  # PostgreSQL's limit for an identifier; the same everywhere
MAX_MESSAGE_BYTES: Final = 1_000


class BoundedInbox:
    """Received messages, oldest dropped first when nobody fetches them."""

    def __init__(self, size: int = QUEUE_SIZE) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue(size)
        self.dropped = 0

    def put(self, event: Event) -> None:
        """Keep a message; never blocks."""
        if self._queue.full():
            self._queue.get_nowait()
            self.dropped += 1
        self._queue.put_nowait(event)

    async def get(self) -> Event:
        """The oldest message, waiting for one if need be."""
        return await self._queue.get()


def checked_channel(channel: str) -> str:
    """The channel's name.

    Raises:
        ValueError: it is empty, has NUL, or is longer than 63 bytes.
    """
    if not channel or "\0" in channel or len(channel.encode()) > MAX_CHANNEL_BYTES:
        raise ValueError(f"a channel's name has 1 to {MAX_CHANNEL_BYTES} bytes and no NUL")
    return channel


def checked_message(message: str) -> str:
    """The message.

    Raises:
        ValueError: it is empty, has NUL, or is longer than 1,000 bytes.
    """
    if not message or "\0" in message or len(message.encode()) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message has 1 to {MAX_MESSAGE_BYTES} bytes and no NUL")
    return message


class SupervisedBackend(BroadcastBackend, abc.ABC):
    """A backend over a connection that may be lost at any time and is then made anew.

    One task listens, in sessions with a fixed set of channels; another sends what `publish` put
    down, equal messages once. Subclasses say how to do one session and one batch; both report
    loss by raising, and are tried again after a wait that grows with each failure.

    Attributes:
        reconnects: how many listening sessions began after the first one.
        dropped: how many messages were given up because a queue was full.
    """

    def __init__(self, *, name: str, min_send_interval: float = 0.0) -> None:
        self._name = name
        self._min_send_interval = min_send_interval
        self._inbox = BoundedInbox()
        self._outbox: dict[tuple[str, str], None] = {}
        self._outbox_filled = asyncio.Event()
        self._outbox_dropped = 0
        self._channels: frozenset[str] = frozenset()
        self._listening = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._sessions = 0

    @property
    def reconnects(self) -> int:
        """Listening sessions begun after the first."""
        return max(0, self._sessions - 1)

    @property
    def dropped(self) -> int:
        """Messages given up because a queue was full."""
        return self._inbox.dropped + self._outbox_dropped

    @property
    def is_listening(self) -> bool:
        """Whether a session stands right now."""
        return self._listening.is_set()

    async def connect(self) -> None:
        """Begin sending. Never fails: a server that is down is tried again until it is up."""
        self._sender = asyncio.create_task(self._send_for_ever(), name=f"{self._name} sender")

    async def disconnect(self) -> None:
        """End all tasks and connections; what is not sent yet is given up."""
        await _end(self._listener)
        await _end(self._sender)
        self._listener = self._sender = None
        await self._close_sender()

    async def subscribe(self, group: str) -> None:
        """Listen to one more channel. Returns when it stands, or after two seconds without it.

        Raises:
            ValueError: the name is not a channel's.
        """
        await self._listen_to(self._channels | {checked_channel(group)})

    async def unsubscribe(self, group: str) -> None:
        """Listen to one channel less."""
        await self._listen_to(self._channels - {group})

    async def publish(self, channel: str, message: str) -> None:
        """Put a message down for the sender. Returns at once, whatever the connection does.

        Raises:
            ValueError: the channel or the message is outside its bounds.
        """
        self._put_out((checked_channel(channel), checked_message(message)))

    def _put_out(self, entry: tuple[str, str]) -> None:
        if len(self._outbox) >= QUEUE_SIZE and entry not in self._outbox:
            del self._outbox[next(iter(self._outbox))]
            self._outbox_dropped += 1
        self._outbox[entry] = None
        self._outbox_filled.set()

    async def next_published(self) -> Event:
        """The next message from outside."""
        return await self._inbox.get()

    async def wait_listening(self, *, timeout: float) -> bool:  # noqa: ASYNC109 - answers, not raises
        """Whether a session stands within `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._listening.wait()
        return self._listening.is_set()

    @abc.abstractmethod
    async def _listen(self, channels: frozenset[str]) -> None:
        """Do one session: connect, subscribe, `_began`, hand in what arrives, until it is lost."""

    @abc.abstractmethod
    async def _send(self, batch: Sequence[tuple[str, str]]) -> None:
        """Publish these (channel, message) pairs, or raise."""

    @abc.abstractmethod
    async def _close_sender(self) -> None:
        """Close the sending connection; never raises."""

    def _began(self) -> None:
        self._sessions += 1
        self._listening.set()

    def _received(self, channel: str, message: str) -> None:
        self._inbox.put(Event(channel=channel, message=message))

    async def _listen_to(self, channels: frozenset[str]) -> None:
        await _end(self._listener)
        self._listener = None
        self._listening.clear()
        self._channels = channels
        if channels:
            self._listener = asyncio.create_task(
                self._listen_for_ever(channels), name=f"{self._name} listener"
            )
            await self.wait_listening(timeout=FIRST_CONNECTION_WAIT)

    async def _listen_for_ever(self, channels: frozenset[str]) -> None:
        backoff = Backoff()
        while True:
            sessions = self._sessions
            try:
                await self._listen(channels)
            except Exception as error:  # noqa: BLE001 - whatever a driver raises means "lost"
                logger.warning("%s: listening failed: %r", self._name, error)
            finally:
                self._listening.clear()
            if self._sessions > sessions:
                backoff.reset()
            await asyncio.sleep(backoff.next_wait())

    async def _send_for_ever(self) -> None:
        backoff = Backoff()
        while True:
            await self._outbox_filled.wait()
            # Taken out before it is sent: the same message published meanwhile must go out again,
            # because what it announces may be newer than what the first one is read for.
            batch = list(self._outbox)[:BATCH_SIZE]
            for entry in batch:
                del self._outbox[entry]
            try:
                async with asyncio.timeout(OPERATION_TIMEOUT):
                    await self._send(batch)
            except Exception as error:  # noqa: BLE001 - whatever a driver raises means "lost"
                logger.warning("%s: publishing failed: %r", self._name, error)
                for entry in batch:
                    self._put_out(entry)
                await self._close_sender()
                await asyncio.sleep(backoff.next_wait())
                continue
            backoff.reset()
            if not self._outbox:
                self._outbox_filled.clear()
            # Messages of the same moment go together; a burst becomes a few sends a second.
            await asyncio.sleep(self._min_send_interval)


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
