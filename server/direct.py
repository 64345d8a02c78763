"""The short way for GraphQL over ASGI: plain requests are answered past the application."""

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compiler.front import is_left_to_reference, leave_to_reference
from compiler.waves import resumed
from server.limits.cost import Cost
from server.plain import PlainGraphQL, PlainHead, PlainOperation, plain_head
from server.request_log import request_id_of


class DirectGraphQL:
    """ASGI application in front of the GraphQL application ``app``.

    Args:
        app: answers what is not plain.
        plain: answers what is.
    """

    def __init__(self, app: ASGIApp, plain: PlainGraphQL) -> None:
        self._app = app
        self._plain = plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a connection."""
        head = _plain_head(scope)
        principal = None if head is None else self._plain.known(head.digest)
        if head is None or principal is None:
            await self._app(scope, receive, send)
            return
        coroutine: Any = receive()
        message, rest = _already_there(coroutine)
        if message is None:
            await self._app(scope, _after(rest, receive), send)
            return
        operation = self._find(message)
        limiter = self._plain.limiter
        if operation is None or not limiter.may_start(principal.key):
            await self._app(scope, _after(_given(message), receive), send)
            return
        limiter.start(principal.key)
        scope["state"]["principal_id"] = principal.key
        client = scope.get("client")
        address = client[0] if client else ""
        try:
            ctx = self._plain.context(principal, request_id_of(scope), address)
            body = await self._plain.run(operation, ctx)
        finally:
            limiter.release(principal.key)
        if body is None:
            with leave_to_reference():
                await self._app(scope, _after(_given(message), receive), send)
            return
        await _send(send, body, operation.cost)

    def _find(self, message: Message) -> PlainOperation | None:
        return None if message.get("more_body") else self._plain.find(message.get("body", b""))


def _plain_head(scope: Scope) -> PlainHead | None:
    if scope["type"] != "http" or scope["method"] != "POST" or is_left_to_reference():
        return None
    return plain_head(scope["headers"])


def _already_there(
    coroutine: Coroutine[Any, Any, Message],
) -> tuple[Message | None, Callable[[], Any]]:
    """The message if it has arrived, without waiting; else what waits for it.

    A plain request's body comes with its headers; only one that does not needs a time limit.
    """
    try:
        first = coroutine.send(None)
    except StopIteration as done:
        return done.value, lambda: None
    return None, lambda: resumed(coroutine, first)


def _given(message: Message) -> Callable[[], Any]:
    async def given() -> Message:
        return message

    return given


def _after(first: Callable[[], Any], receive: Receive) -> Receive:
    """A `receive` whose first message comes from somewhere else."""
    is_first = True

    async def receive_again() -> Message:
        nonlocal is_first
        if is_first:
            is_first = False
            message: Message = await first()
            return message
        return await receive()

    return receive_again


async def _send(send: Send, body: bytes, cost: Cost) -> None:
    headers = [
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"application/json"),
        (b"x-query-cost", b"%d" % cost.requested),
        (b"x-query-cost-limit", b"%d" % cost.limit),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
