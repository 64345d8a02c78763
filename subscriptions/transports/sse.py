"""GraphQL over server-sent events ("distinct connections" mode), resumable by `Last-Event-ID`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import Any, ClassVar

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from strawberry.http import GraphQLHTTPResponse
from strawberry.http.streaming import JSONEncoder, SSETransport

from subscriptions.delivery import Delivery, current_delivery
from subscriptions.transports.limits import TransportLimits, abort_connection

Process = Callable[[Any], Awaitable[GraphQLHTTPResponse]]


class EventStreamTransport(SSETransport):
    """Strawberry's encoding, with the cursor of each result as the event's id."""

    headers: ClassVar[Mapping[str, str]] = {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }

    def encode_result(
        self, response: GraphQLHTTPResponse, encode_json: JSONEncoder, *, cursor: str | None
    ) -> str:
        """One result as an event; `cursor` is what the browser sends back as Last-Event-ID."""
        event = self.encode_next(response, encode_json)
        return event if cursor is None else f"id: {cursor}\r\n{event}"


async def event_stream_body(
    results: AsyncGenerator[Any, None],
    *,
    transport: EventStreamTransport,
    delivery: Delivery,
    process: Process,
    encode_json: JSONEncoder,
    heartbeat: float,
) -> AsyncGenerator[str, None]:
    """The text of an event stream: results, comments in silences, `complete` at the end.

    Args:
        results: what the schema yields; closed at the end, whatever the end is.
        transport: how results are written.
        delivery: where the stream leaves the cursor of each result.
        process: makes the response of a result.
        encode_json: JSON on one line.
        heartbeat: seconds of silence after which a comment is sent.
    """
    # One result waits here and one is being made: back-pressure reaches the stream.
    ready: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1)

    failures: list[Exception] = []

    async def pump() -> None:
        # One task pulls the results from first to last: the stream finds its `Delivery` in it.
        current_delivery.set(delivery)
        try:
            async with aclosing(results):
                async for result in results:
                    response = await process(result)
                    text = transport.encode_result(response, encode_json, cursor=delivery.cursor)
                    await ready.put(text)
        except Exception as error:  # noqa: BLE001 - raised again where the response is sent
            failures.append(error)
        await ready.put(None)

    pumping = asyncio.create_task(pump(), name="event stream")
    try:
        while True:
            try:
                async with asyncio.timeout(heartbeat):
                    text = await ready.get()
            except TimeoutError:
                yield transport.encode_comment("ping")
                continue
            if text is None:
                break
            yield text
        if failures:
            raise failures[0]
        yield transport.encode_complete()
    finally:
        pumping.cancel()
        await asyncio.wait([pumping])


class EventStreamResponse(StreamingResponse):
    """A streaming response whose every part has a deadline, and whose body is always closed.

    Args:
        content: the body.
        headers: the response's headers.
        limits: the deadline is `send_timeout`.
        counted: a block around the sending of the response.
    """

    def __init__(
        self,
        content: AsyncGenerator[str, None],
        *,
        headers: Mapping[str, str],
        status_code: int,
        limits: TransportLimits,
        counted: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(content, status_code=status_code, headers=headers)
        self._content = content
        self._limits = limits
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, or cut the connection of a client that does not read."""
        is_too_slow = False

        async def send_in_time(message: Message) -> None:
            nonlocal is_too_slow
            try:
                async with asyncio.timeout(self._limits.send_timeout):
                    await send(message)
            except TimeoutError:
                is_too_slow = True
                raise

        try:
            with self._counted():
                await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            if not is_too_slow:
                raise
            abort_connection(scope)
            await asyncio.sleep(0)  # the server notices the cut before the application returns

    async def stream_response(self, send: Send) -> None:
        """Send start, parts and end, closing the body in any case."""
        async with aclosing(self._content):
            await super().stream_response(send)
