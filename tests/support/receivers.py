"""Servers that receive webhooks: real sockets, and whatever misbehaviour a test asks for."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in; header names in small letters."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


Reply = int | bytes | None
"""A status, a whole raw response, or None for closing the connection without a word."""


@dataclass(slots=True)
class Receiver:
    """A server on the loopback address; ``reply`` decides each answer (200 by default)."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    reply: Callable[[Received], Awaitable[Reply]] | None = None
    connections: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def answers(self, *replies: Reply) -> None:
        """Give these answers in order, then 200 for ever."""
        left = list(replies)

        async def reply(_: Received) -> Reply:
            return left.pop(0) if left else 200

        self.reply = reply

    async def until(self, count: int) -> list[Received]:
        """Wait for so many requests in all; raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < count:
                self._news.clear()
                await self._news.wait()
        return self.received[:count]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            received = Received(head[0].split(" ")[1], headers, body)
            self.received.append(received)
            self._news.set()
            reply = 200 if self.reply is None else await self.reply(received)
            if isinstance(reply, int):
                reply = f"HTTP/1.1 {reply} X\r\nContent-Length: 2\r\n\r\nok".encode()
            if reply is None:
                writer.transport.abort()
                return
            writer.write(reply)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the sender went away: a fault that tests make on purpose
        finally:
            writer.close()


@asynccontextmanager
async def a_receiver(
    *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A receiver that listens as long as the block."""
    receiver = Receiver()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(receiver.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.wait({task})

    server = await asyncio.start_server(handle, host, 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        for task in tasks:
            task.cancel()
        server.close()
