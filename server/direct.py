"""The short way for GraphQL over HTTP: from a body to an answer, past Strawberry's view.

Strawberry's view and lifecycle cost more than a small query does. A request that is plain in every
respect (JSON by POST, no idempotency key, no stream, a document that has been checked, priced and
compiled before, a principal who is known and has a turn) is answered here, under the same checks.
Anything else goes to the unmodified application, as if nobody had looked.
"""

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from graphql import FieldNode, GraphQLError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compiler import CompiledExecutor, Outcome
from compiler.execute import Compiled
from compiler.front import leave_to_reference
from compiler.outcome import to_json
from compiler.waves import resumed
from resolvers.principal import Principal
from schema.context import GraphQLContext
from server.limits.concurrency import ConcurrencyLimiter
from server.limits.cost import Cost
from server.limits.http import RequestRefusedError, parse_graphql_body
from server.limits.operation import CheckedDocument, find_operation
from server.limits.schema import LimitedSchema
from server.logs import bind_operation
from server.metrics import Metrics

_JSON = frozenset({b"application/json", b"application/json; charset=utf-8"})
_UNUSUAL = frozenset({b"idempotency-key", b"content-encoding", b"transfer-encoding"})
_BEARER = b"Bearer "


@dataclass(frozen=True, slots=True)
class _Operation:
    """One request whose every part has been found ready."""

    checked: CheckedDocument
    compiled: Compiled
    name: str | None
    variables: dict[str, Any]
    cost: Cost


class DirectGraphQL:
    """ASGI application in front of the GraphQL application ``app``.

    Args:
        app: answers what is not answered here.
        schema: with limits and renderer.
        executor: the schema's own, so that plans and counts are shared.
        known: the principal of a token, if that was looked up a moment ago.
        context: makes a request's context: principal, token, scope.
        limiter: turns of callers.
        metrics: told of each operation.
        max_body_bytes: longer bodies are left to ``app``, which refuses them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        schema: LimitedSchema,
        executor: CompiledExecutor,
        known: Callable[[str], Principal | None],
        context: Callable[[Principal, str, Scope], GraphQLContext],
        limiter: ConcurrencyLimiter,
        metrics: Metrics,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._guard = schema.guard
        self._renderer = schema.renderer
        self._executor = executor
        self._known = known
        self._context = context
        self._limiter = limiter
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a connection."""
        token = _token_of_plain_request(scope)
        principal = None if token is None else self._known(token)
        if token is None or principal is None:
            await self._app(scope, receive, send)
            return
        coroutine: Any = receive()
        message, rest = _already_there(coroutine)
        if message is None:
            await self._app(scope, _after(rest, receive), send)
            return
        operation = self._find(message)
        if operation is None or not self._limiter.try_start(principal.key):
            await self._app(scope, _after(_given(message), receive), send)
            return
        try:
            body = await self._run(operation, self._context(principal, token, scope))
        finally:
            self._limiter.release(principal.key)
        if body is None:
            with leave_to_reference():
                await self._app(scope, _after(_given(message), receive), send)
            return
        await _send(send, body, operation.cost)

    def _find(self, message: Message) -> _Operation | None:
        """The operation of a whole, plain body whose document is compiled; None otherwise."""
        body: bytes = message.get("body", b"")
        if message.get("more_body") or len(body) > self._max_body_bytes:
            return None
        try:
            request = parse_graphql_body(body)
        except RequestRefusedError:
            return None
        checked = self._guard.accepted.find(request.query)
        if checked is None or checked.introspects or request.extensions is not None:
            return None
        operation = find_operation(checked.document, request.operation_name)
        if operation is None:
            return None
        name = operation.name.value if operation.name else None
        variables = request.variables or {}
        compiled = self._executor.ready(request.query, operation_name=name, variables=variables)
        cost = self._guard.cost(checked, name, variables)
        if compiled is None or cost is None or cost.refusal is not None:
            return None
        return _Operation(checked, compiled, name, variables, cost)

    async def _run(self, operation: _Operation, ctx: GraphQLContext) -> bytes | None:
        """The body of the answer; None where graphql-core has to answer, from the start."""
        bind_operation(operation.name)
        began = time.perf_counter()
        try:
            try:
                outcome = await self._executor.run(
                    operation.compiled,
                    operation.checked.document,
                    operation_name=operation.name,
                    variables=operation.variables,
                    context=ctx,
                    for_json=True,
                )
            finally:
                await ctx.close()
        except Exception as error:  # noqa: BLE001  # as Strawberry does: whatever it is, it is rendered
            outcome = Outcome(errors=[GraphQLError(str(error), original_error=error)])
        if not outcome.is_answer:
            return None
        errors = self._renderer.render(outcome.errors, ctx) if outcome.errors else None
        kind, root_field = _label(operation.compiled)
        self._metrics.graphql_operation(
            kind=kind,
            root_field=root_field,
            code=str((errors[0].extensions or {}).get("code", "INTERNAL")) if errors else None,
            seconds=time.perf_counter() - began,
        )
        parts = [b'{"data":', to_json(outcome.data)]
        if errors:
            parts += b',"errors":', to_json([error.formatted for error in errors])
        cost = operation.cost
        parts.append(
            b',"extensions":{"cost":{"requested":%d,"limit":%d}}}' % (cost.requested, cost.limit)
        )
        return b"".join(parts)


def _label(compiled: Compiled) -> tuple[str, str]:
    operation = compiled.plan.operation
    first = operation.selection_set.selections[0]
    name = first.name.value if isinstance(first, FieldNode) else "fragment"
    return operation.operation.value, name


def _token_of_plain_request(scope: Scope) -> str | None:
    """The bearer token of a POST with nothing special about it; None for anything else."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    token: bytes | None = None
    is_json = False
    for name, value in scope["headers"]:
        if name == b"authorization":
            if token is not None or not value.startswith(_BEARER):
                return None
            token = value[len(_BEARER) :]
        elif name == b"content-type":
            if is_json or value.lower() not in _JSON:
                return None
            is_json = True
        elif name in _UNUSUAL or (name == b"accept" and (b"stream" in value or b"mult" in value)):
            return None
    return token.decode("latin-1") if token and is_json else None


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
