"""A small client of the public API: GraphQL over one WebSocket (graphql-transport-ws).

``dragoman demo`` talks to its server through this and nothing else.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

PROTOCOL = Subprotocol("graphql-transport-ws")
OPEN_SECONDS = 10.0
ANSWER_SECONDS = 60.0
MAX_MESSAGE_BYTES = 16 << 20
WAITING_MESSAGES = 1_000
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class BoardError(Exception):
    """The server refused something, or cannot be reached; ``code`` is its word for it, if any."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def websocket_address(url: str) -> str:
    """Where the WebSocket of a server is, given the address people use.

    Raises:
        BoardError: the address is not one of http or https.
    """
    parts = urlsplit(url.strip())
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise BoardError(f"{url!r} is not an address such as http://127.0.0.1:8000")
    path = parts.path.rstrip("/").removesuffix("/graphql") + "/graphql"
    return urlunsplit((scheme, parts.netloc, path, "", ""))


class BoardClient:
    """Operations over an open connection; made by :func:`open_board`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._answers: dict[str, asyncio.Queue[Any]] = {}

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """The data of a query or mutation.

        Raises:
            BoardError: it was refused, or there was no answer within a minute.
        """
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                aclosing(self.follow(document, **variables)) as results,
            ):
                answers = [data async for data in results]
        except TimeoutError:
            raise BoardError(f"The server did not answer within {ANSWER_SECONDS:g} s") from None
        if len(answers) != 1:
            raise BoardError("The server gave no answer")
        return answers[0]

    async def follow(self, document: str, **variables: Any) -> AsyncGenerator[dict[str, Any], None]:
        """The data of each result of a subscription.

        Raises:
            BoardError: it was refused, or the connection was lost.
        """
        name = str(next(self._numbers))
        answers = self._answers[name] = asyncio.Queue(WAITING_MESSAGES)
        await self._send({
            "id": name,
            "type": "subscribe",
            "payload": {"query": document, "variables": variables},
        })  # fmt: skip
        completed = False
        try:
            while (answer := await answers.get()) is not None:
                if isinstance(answer, BoardError):
                    completed = True
                    raise answer
                if answer.get("errors"):
                    raise _refusal(answer["errors"])
                yield answer["data"]
            completed = True
        finally:
            self._answers.pop(name, None)
            if not completed:
                await self._send({"id": name, "type": "complete"})

    async def introduce(self, token: str) -> None:
        """Begin the conversation.

        Raises:
            BoardError: the token is not valid, or this is no such server.
        """
        payload = {"authorization": f"Bearer {token}"}
        await self._send({"type": "connection_init", "payload": payload})
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                answer = json.loads(await self._connection.recv())
        except TimeoutError:
            raise BoardError("The server did not acknowledge the connection") from None
        except ConnectionClosed as error:
            raise _lost(error) from None
        if answer.get("type") != "connection_ack":
            raise BoardError("This is not a server of this kind")

    async def listen(self) -> None:
        """Hand every message to the operation it is for, until the connection ends."""
        try:
            async for text in self._connection:
                message = json.loads(text)
                if message["type"] == "ping":
                    await self._send({"type": "pong"})
                elif (answers := self._answers.get(message.get("id", ""))) is not None:
                    await answers.put(_answer_of(message))
            end = BoardError("The server closed the connection")
        except ConnectionClosed as error:
            end = _lost(error)
        for answers in list(self._answers.values()):
            await answers.put(end)

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._connection.send(json.dumps(message))
        except ConnectionClosed as error:
            # A lost connection needs no farewell.
            if message["type"] != "complete":
                raise _lost(error) from None


@asynccontextmanager
async def open_board(url: str, token: str) -> AsyncIterator[BoardClient]:
    """A conversation with the server at ``url``; for loopback addresses past any proxy.

    Raises:
        BoardError: nobody answers there, or the token is not valid.
    """
    address = websocket_address(url)
    direct = urlsplit(address).hostname in _LOOPBACK
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(
                connect(
                    address,
                    subprotocols=[PROTOCOL],
                    open_timeout=OPEN_SECONDS,
                    max_size=MAX_MESSAGE_BYTES,
                    proxy=None if direct else True,
                )
            )
        except (OSError, TimeoutError, WebSocketException) as error:
            raise BoardError(f"Nobody answers at {url}: {str(error) or 'timeout'}") from None
        client = BoardClient(connection)
        await client.introduce(token)
        listening = asyncio.create_task(client.listen(), name="demo client")
        try:
            yield client
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def _answer_of(message: dict[str, Any]) -> Any:
    if message["type"] == "next":
        return message["payload"]
    return _refusal(message["payload"]) if message["type"] == "error" else None


def _refusal(errors: list[dict[str, Any]]) -> BoardError:
    first = errors[0]
    code = str((first.get("extensions") or {}).get("code", ""))
    return BoardError(f"{first['message']} ({code})" if code else first["message"], code=code)


def _lost(error: ConnectionClosed) -> BoardError:
    closed = error.rcvd
    why = f"{closed.code} {closed.reason}".strip() if closed else "without a word"
    return BoardError(f"The server closed the connection: {why}", code=str(closed and closed.code))
