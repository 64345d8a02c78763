"""The backend of one process on its own: a bounded queue."""

from __future__ import annotations

from broadcaster import BroadcastBackend, Event

from subscriptions.backends.base import BoundedInbox, checked_channel, checked_message


class MemoryBackend(BroadcastBackend):
    """Delivers what this process publishes to this process; nothing leaves it.

    Attributes:
        dropped: how many messages were given up because the queue was full.
    """

    def __init__(self) -> None:
        self._inbox = BoundedInbox()
        self._channels: set[str] = set()

    @property
    def dropped(self) -> int:
        """Messages given up because the queue was full."""
        return self._inbox.dropped

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def disconnect(self) -> None:
        """There is nothing to close."""
        self._channels.clear()

    async def subscribe(self, group: str) -> None:
        """Let messages of this channel through."""
        self._channels.add(checked_channel(group))

    async def unsubscribe(self, group: str) -> None:
        """Let messages of this channel through no longer."""
        self._channels.discard(group)

    async def publish(self, channel: str, message: str) -> None:
        """Queue a message if somebody subscribed to the channel."""
        if checked_channel(channel) in self._channels:
            self._inbox.put(Event(channel=channel, message=checked_message(message)))

    async def next_published(self) -> Event:
        """The next message."""
        return await self._inbox.get()
