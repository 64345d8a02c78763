"""The short way for GraphQL over HTTP/1.1: plain requests are answered past ASGI.

ASGI's messages, a task for each request and the layers between cost more than a small query does.
A plain request (see ``server.plain``) that arrives whole, the first of its packet, while nothing
else is under way on its connection, is run in the very callback that brings it; where it ends
without waiting, its answer is one write. Everything else is uvicorn's, as ever.

While a request runs there, no task is current: code that takes hold of the current task
(``asyncio.timeout``) fails loudly, and graphql-core answers in a task. What had to wait for
something the last time, and every mutation, is run in a task from the start.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any, NamedTuple

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from compiler.front import leave_to_reference
from compiler.waves import resumed
from schema.context import GraphQLContext
from server.plain import PlainGraphQL, PlainHead, PlainOperation, plain_head
from server.request_log import request_id
from subscriptions.transports.uvicorn_protocols import AbortableHttpProtocol

# OriginGuard and CORS judge who names an origin; uvicorn answers expectations when it is read on.
_UNUSUAL = frozenset({b"origin", b"expect", b"upgrade"})
_BLANK_LINE = b"\r\n\r\n"
_HEADS_KEPT = 8
_HEAD_BYTES_KEPT = 2_048
_ANSWER_HEAD = (
    b"content-length: %d\r\ncontent-type: application/json\r\n"
    b"x-query-cost: %d\r\nx-query-cost-limit: %d\r\nx-request-id: %b\r\n"
)


class _Request:
    """A plain request that may have a turn and is ready to be run.

    It takes the turn before it waits for anything: until then nobody else can run.
    """

    __slots__ = ("began", "ctx", "operation", "plain", "principal", "run")

    def __init__(
        self, plain: PlainGraphQL, operation: PlainOperation, ctx: GraphQLContext, principal: str
    ) -> None:
        self.began = time.perf_counter()
        self.plain = plain
        self.operation = operation
        self.ctx = ctx
        self.principal = principal
        self.run: Any = plain.run(operation, ctx)

    def hold(self) -> None:
        """Take the turn."""
        self.plain.limiter.start(self.principal)

    async def in_task(self) -> bytes | None:
        """Run it; notes whether it had to wait. The body is None as of ``PlainGraphQL.run``."""
        known = self.operation.known
        body: bytes | None
        try:
            first = self.run.send(None)
        except StopIteration as done:
            known.waits = known.is_mutation
            body = done.value
        else:
            known.waits = True
            body = await resumed(self.run, first)
        return body

    def release(self) -> None:
        """Give the turn back."""
        self.plain.limiter.release(self.principal)

    def tell(self) -> None:
        """It has been answered."""
        self.plain.teller.tell(
            {"request_id": self.ctx.request_id, "operation": self.operation.known.label},
            method="POST",
            path="/graphql",
            principal=self.principal,
            status=200,
            seconds=time.perf_counter() - self.began,
        )


class _Head(NamedTuple):
    """What counts of a plain request's head; ``address`` is where it comes from."""

    plain: PlainHead
    address: str
    body_bytes: int


class PlainHttpProtocol(AbortableHttpProtocol):
    """uvicorn's protocol, with the short way.

    Clients send the same head again and again: where the very bytes of one that was plain come
    again, at a place where a request begins, they are not parsed again.

    Args:
        plain: asked once what answers a connection's plain requests; None leaves all to the
            application.
    """

    def __init__(self, *args: Any, plain: Callable[[], PlainGraphQL | None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plain = plain()
        # What uvicorn would do more for each request is left to it.
        self._is_usual = not (self.root_path or self.limit_concurrency or self.access_log)
        app: Any = self.app
        self._proxies = app.trusted_hosts if isinstance(app, ProxyHeadersMiddleware) else None
        self._heads: dict[bytes, _Head] = {}
        self._is_between = True
        self._packet = b""  # one that begins with a request
        self._is_first = False
        self._head: PlainHead | None = None
        self._body = b""
        self._starting: tuple[Callable[..., Awaitable[None]], Context] | None = None
        self._answered_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Take a packet."""
        self._is_first = self._is_usual
        if self._is_between:
            self._packet = data
            end = data.find(_BLANK_LINE) + len(_BLANK_LINE)
            head = self._heads.get(data[:end])
            if head is not None and len(data) == end + head.body_bytes and self._is_idle():
                if self._serve(head, data[end:]):
                    return
                self._is_first = False
        super().data_received(data)
        self._packet = b""
        if self._head is not None:  # the rest of its body is still to come
            self._leave()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._is_between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hold a request that may be plain until its body is there, or begin it."""
        is_first, self._is_first = self._is_first, False
        if is_first and self.url == b"/graphql" and self._is_idle() and self._is_post():
            self._head = plain_head(self.headers, unusual=_UNUSUAL)
        if self._head is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self._head is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Answer a plain request; others are uvicorn's."""
        self._is_between = True
        if self._head is not None:
            body = self._body
            head = _Head(self._head, self._address(), len(body))
            if self._serve(head, body):
                self._head, self._body = None, b""
                self._remember(head)
                return
            self._leave()
        super().on_message_complete()

    def _is_idle(self) -> bool:
        """Whether nothing is under way, and the client reads."""
        return (
            self._has_answered()
            and not self.pipeline
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _has_answered(self) -> bool:
        """Whether no request is under way."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _is_post(self) -> bool:
        """Whether a POST of HTTP/1.1 begins, after which the connection is kept."""
        parser: Any = self.parser
        return bool(
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
        )

    def _remember(self, head: _Head) -> None:
        """Remember the head of a request that was all there was in its packet."""
        end = len(self._packet) - head.body_bytes
        if end <= _HEAD_BYTES_KEPT and self._packet.find(_BLANK_LINE) + len(_BLANK_LINE) == end:
            if len(self._heads) == _HEADS_KEPT:
                self._heads.clear()
            self._heads[self._packet[:end]] = head

    def _leave(self) -> None:
        """Give what was held to uvicorn."""
        body = self._body
        self._head, self._body = None, b""
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _address(self) -> str:
        """Where the request comes from, as ``ProxyHeadersMiddleware`` would tell."""
        peer = self.client[0] if self.client else ""
        if self._proxies is None or peer not in self._proxies:
            return peer
        given = b", ".join(value for name, value in self.headers if name == b"x-forwarded-for")
        host: str = self._proxies.get_trusted_client_address(given.decode("latin-1"))[0]
        return host or peer

    def _find(self, head: _Head, body: bytes) -> _Request | None:
        plain = self._plain
        principal = None if plain is None else plain.known(head.plain.digest)
        if plain is None or principal is None:
            return None
        operation = plain.find(body)
        if operation is None:
            return None
        key = principal.key
        ctx = plain.context(principal, request_id(head.plain.request_id), head.address)
        return _Request(plain, operation, ctx, key) if plain.limiter.may_start(key) else None

    def _serve(self, head: _Head, body: bytes) -> bool:
        """Answer a plain request, or leave it; ``_starting`` says how, if not as any other."""
        try:
            request = self._find(head, body)
        except Exception:  # noqa: BLE001  # the application meets it again, and reports it
            return False
        if request is None:
            return False
        known, context = request.operation.known, Context()
        if known.waits:
            request.hold()
            self._starting = (partial(self._finish, request, request.in_task()), context)
            return False
        answer: bytes | None = None
        try:
            first = context.run(request.run.send, None)
        except StopIteration as done:
            answer = done.value
        except (Exception, asyncio.CancelledError):  # noqa: BLE001  # met again where it is reported
            answer = None
        else:
            known.waits = True
            request.hold()
            rest = resumed(request.run, first)
            self._starting = (partial(self._finish, request, rest), context)
            return False
        if answer is None:
            self._starting = (self._left_to_reference, context)
            return False
        self._write(request, answer, keep_alive=True)
        self._rest()
        return True

    def _rest(self) -> None:
        """After an answer on the short way: what ``on_response_complete`` does, but for the timer.

        One that is there already is left, and looks at when the last answer was.
        """
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self._close_in(self.timeout_keep_alive)

    def _close_in(self, seconds: float) -> None:
        handler = self.timeout_keep_alive_handler
        self.timeout_keep_alive_task = self.loop.call_later(seconds, handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if nothing came since the last answer."""
        self.timeout_keep_alive_task = None
        if not self._has_answered():
            return  # what is under way came in one packet with what was answered; a timer follows
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0 and not self.transport.is_closing():
            self._close_in(left)
        else:
            super().timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a request in a context of its own, not that of who was answered before it."""
        answer, context = self._starting or (None, Context())
        self._starting = None
        run = cycle.run_asgi(app if answer is None else partial(answer, cycle))
        task = self.loop.create_task(run, context=context)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _left_to_reference(self, _cycle: Any, scope: Any, receive: Any, send: Any) -> None:
        with leave_to_reference():
            await self.app(scope, receive, send)

    async def _finish(
        self,
        request: _Request,
        rest: Awaitable[bytes | None],
        cycle: RequestResponseCycle,
        *asgi: Any,
    ) -> None:
        """Answer a request that has to wait, as an application of ASGI that writes itself."""
        try:
            body = await rest
        finally:
            request.release()
        if body is None:
            await self._left_to_reference(cycle, *asgi)
            return
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        cycle.response_started = cycle.response_complete = True
        if cycle.disconnected:
            request.tell()
            return
        self._write(request, body, keep_alive=cycle.keep_alive)
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _write(self, request: _Request, body: bytes, *, keep_alive: bool) -> None:
        cost = request.operation.cost
        parts = [b"HTTP/1.1 200 OK\r\n"]
        for name, value in self.server_state.default_headers:
            parts += name, b": ", value, b"\r\n"
        id_ = request.ctx.request_id.encode()
        parts.append(_ANSWER_HEAD % (len(body), cost.requested, cost.limit, id_))
        parts += (b"\r\n" if keep_alive else b"connection: close\r\n\r\n"), body
        self.transport.write(b"".join(parts))
        request.tell()
