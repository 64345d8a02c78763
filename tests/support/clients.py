"""Clients that know nothing of the program but its addresses: HTTP, WebSocket, event stream."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 30.0
"""Seconds that anything a server should do may take on a busy machine."""


class RefusedError(Exception):
    """The answer has errors; ``code`` is that of the first."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(json.dumps(errors)[:2000])
        self.errors = errors
        self.extensions: dict[str, Any] = errors[0].get("extensions", {})
        self.code = str(self.extensions.get("code", ""))


def data_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The data of an answer; raises RefusedError where it has errors."""
    if answer.get("errors"):
        raise RefusedError(answer["errors"])
    data: dict[str, Any] = answer["data"]
    return data


def _headers(token: str | None, extra: dict[str, str] | None = None) -> dict[str, str]:
    return {**({"Authorization": f"Bearer {token}"} if token else {}), **(extra or {})}


class HttpClient:
    """GraphQL over HTTP; every request is one JSON POST.

    ``url`` may be set anew when the server comes back at another address.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.token = token
        self._http = httpx2.AsyncClient(timeout=PATIENCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(
        self, query: str, variables: dict[str, Any] | None = None, *, key: str | None = None
    ) -> httpx2.Response:
        """The whole response.

        Args:
            query: a GraphQL document.
            variables: of its operation.
            key: an idempotency key.
        """
        extra = {"Idempotency-Key": key} if key else None
        return await self._http.post(
            f"{self.url}/graphql",
            json={"query": query, "variables": variables or {}},
            headers=_headers(self.token, extra),
        )

    async def ask(
        self, query: str, variables: dict[str, Any] | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """The data of the answer; raises RefusedError."""
        return data_of((await self.post(query, variables, key=key)).json())

    async def get(self, path: str) -> httpx2.Response:
        """Any page, with the token."""
        return await self._http.get(self.url + path, headers=_headers(self.token))

    async def send(self, content: bytes, **headers: str) -> httpx2.Response:
        """A POST to the GraphQL endpoint with any body."""
        wanted = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return await self._http.post(
            f"{self.url}/graphql", content=content, headers=_headers(self.token, wanted)
        )

    @contextlib.asynccontextmanager
    async def events(
        self,
        query: str,
        variables: dict[str, Any] | None = None,
        *,
        last_event_id: str | None = None,
    ) -> AsyncIterator[AsyncIterator["ServerEvent"]]:
        """A subscription as server-sent events."""
        extra = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            extra["Last-Event-ID"] = last_event_id
        async with self._http.stream(
            "POST",
            f"{self.url}/graphql",
            json={"query": query, "variables": variables or {}},
            headers=_headers(self.token, extra),
        ) as response:
            assert response.status_code == 200, await response.aread()
            yield _server_events(response)


@dataclass(slots=True)
class ServerEvent:
    """One event of an event stream."""

    id: str | None = None
    event: str = "message"
    data: dict[str, Any] = field(default_factory=dict)


async def _server_events(response: httpx2.Response) -> AsyncIterator[ServerEvent]:
    event, text = ServerEvent(), ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            event.id = value
        elif name == "event":
            event.event = value
        elif name == "data":
            text += value
        elif not line and (text or event.event != "message"):
            event.data = json.loads(text) if text else {}
            yield event
            event, text = ServerEvent(), ""


class SocketClosedError(Exception):
    """The server closed the connection."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Operation:
    """One operation on a socket: its results in order; iteration ends with ``complete``."""

    def __init__(self, socket: "Socket", operation_id: str) -> None:
        self._socket = socket
        self._id = operation_id
        self._inbox: asyncio.Queue[dict[str, Any] | SocketClosedError] = asyncio.Queue()

    def put(self, message: dict[str, Any] | SocketClosedError) -> None:
        self._inbox.put_nowait(message)

    def __aiter__(self) -> "Operation":
        return self

    async def __anext__(self) -> dict[str, Any]:
        message = await self._inbox.get()
        if isinstance(message, SocketClosedError):
            raise message
        if message["type"] == "complete":
            raise StopAsyncIteration
        if message["type"] == "error":
            raise RefusedError(message["payload"])
        return data_of(message["payload"])

    async def next(self, within: float = PATIENCE) -> dict[str, Any]:
        """The next result's data; raises TimeoutError, RefusedError or SocketClosedError."""
        async with asyncio.timeout(within):
            return await anext(self)

    async def items(self, field_name: str, within: float = PATIENCE) -> AsyncIterator[Any]:
        """The values of one root field until the operation completes, each ``within`` seconds."""
        while True:
            try:
                async with asyncio.timeout(within):
                    result = await anext(self)
            except StopAsyncIteration:
                return
            yield result[field_name]

    async def stop(self) -> None:
        """Tell the server that no more is wanted."""
        await self._socket.send({"id": self._id, "type": "complete"})


class Socket:
    """A graphql-transport-ws connection with any number of operations."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.closed: SocketClosedError | None = None
        self._operations: dict[str, Operation] = {}
        self._ids = itertools.count(1)

    async def send(self, message: dict[str, Any]) -> None:
        await self.connection.send(json.dumps(message))

    async def subscribe(
        self, query: str, variables: dict[str, Any] | None = None, *, key: str | None = None
    ) -> Operation:
        """Start an operation of any kind."""
        identifier = str(next(self._ids))
        operation = self._operations[identifier] = Operation(self, identifier)
        if self.closed is not None:
            raise self.closed
        payload: dict[str, Any] = {"query": query, "variables": variables or {}}
        if key is not None:
            payload["extensions"] = {"idempotencyKey": key}
        await self.send({"id": identifier, "type": "subscribe", "payload": payload})
        return operation

    async def ask(
        self, query: str, variables: dict[str, Any] | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """The data of a query's or mutation's one answer; raises RefusedError."""
        operation = await self.subscribe(query, variables, key=key)
        return await operation.next()

    async def read(self) -> None:
        """Hand out messages until the connection ends; runs as a task of its own."""
        try:
            async for text in self.connection:
                message = json.loads(text)
                if message["type"] == "ping":
                    await self.send({"type": "pong"})
                elif (operation := self._operations.get(message.get("id", ""))) is not None:
                    operation.put(message)
        except ConnectionClosed:
            pass  # how it was closed is told below, alike for both ways to learn of it
        self.closed = SocketClosedError(
            self.connection.close_code, self.connection.close_reason or ""
        )
        for operation in self._operations.values():
            operation.put(self.closed)

    async def until_closed(self, within: float = PATIENCE) -> SocketClosedError:
        """Wait until the server closes the connection."""
        async with asyncio.timeout(within):
            await self.connection.wait_closed()
        return SocketClosedError(self.connection.close_code, self.connection.close_reason or "")


@contextlib.asynccontextmanager
async def open_socket(url: str, token: str | None) -> AsyncIterator[Socket]:
    """A connection that has said who it is.

    Args:
        url: ``ws://…/graphql``.
        token: bearer token, or None.

    Raises:
        SocketClosedError: the server would not have it.
    """
    async with connect(
        url, subprotocols=["graphql-transport-ws"], max_size=32 << 20, open_timeout=PATIENCE
    ) as connection:
        payload = {"authorization": f"Bearer {token}"} if token else {}
        await connection.send(json.dumps({"type": "connection_init", "payload": payload}))
        try:
            async with asyncio.timeout(PATIENCE):
                answer = json.loads(await connection.recv())
        except ConnectionClosed:
            raise SocketClosedError(connection.close_code, connection.close_reason or "") from None
        assert answer["type"] == "connection_ack", answer
        socket = Socket(connection)
        reading = asyncio.create_task(socket.read())
        try:
            yield socket
        finally:
            await connection.close()
            await reading
