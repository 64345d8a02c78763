"""The short way for GraphQL over HTTP/1.1: plain requests are answered past ASGI.

ASGI's messages, a task for each request and the layers between cost more than a small query does.
A plain request (see ``server.plain``) that arrives whole, the first of its packet, while nothing
else is under way on its connection, is run in the very callback that brings it; where it ends
without waiting, its answer is one write. Everything else is uvicorn's, as ever.

While a request runs there, no task is current: code that takes hold of the current task
(``asyncio.timeout``) fails loudly, and graphql-core answers in a task. What had to wait for
something the last time, and every mutation, is run in a task from the start. A request that goes
on in a task stands where uvicorn has the cycle of one of its own, so that uvicorn does what it
always does: what comes meanwhile is queued behind it, and the connection is closed after it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any, ClassVar

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from compiler.front import leave_to_reference
from compiler.waves import resumed
from schema.context import GraphQLContext
from server.plain import PlainGraphQL, PlainHead, PlainOperation, plain_head
from server.plain_heads import RememberedHead
from server.request_log import request_id
from subscriptions.transports.uvicorn_protocols import AbortableHttpProtocol

# OriginGuard and CORS judge who names an origin; uvicorn answers expectations when it is read on.
_UNUSUAL = frozenset({b"origin", b"expect", b"upgrade"})
_HEADS_KEPT = 8
_ANSWER_HEAD = (
    b"content-length: %d\r\ncontent-type: application/json\r\n"
    b"x-query-cost: %d\r\nx-query-cost-limit: %d\r\nx-request-id: %b\r\n"
)


class _Request:
    """A plain request that may have a turn and is ready to be run.

    Attributes:
        head, body, keep_alive, disconnected, response_complete, message_event: of one that goes on
            in a task; the last four are what uvicorn asks and tells its own.
    """

    head: RememberedHead
    body: bytes
    keep_alive = True
    disconnected = response_complete = False
    message_event: ClassVar = asyncio.Event()  # nobody waits for it

    def __init__(
        self, plain: PlainGraphQL, operation: PlainOperation, ctx: GraphQLContext, principal: str
    ) -> None:
        self.began = time.perf_counter()
        self.plain = plain
        self.operation = operation
        self.ctx = ctx
        self.principal = principal
        self.run: Any = plain.run(operation, ctx)

    async def in_task(self) -> bytes | None:
        """Run a query; notes whether it had to wait."""
        body: bytes | None
        try:
            first = self.run.send(None)
        except StopIteration as done:
            self.operation.known.waits = False
            body = done.value
        else:
            body = await resumed(self.run, first)
        return body

    def hold(self) -> None:
        """Take the turn, before it waits for anything: until then nobody else can run."""
        self.plain.limiter.start(self.principal)

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


class PlainHttpProtocol(AbortableHttpProtocol):
    """uvicorn's protocol, with the short way.

    Clients send the same head again and again: where the very bytes of one that was plain come
    again, at a place where a request begins, they are not parsed again. Only the length that they
    tell may be another.

    Args:
        plain: asked once what answers a connection's plain requests; None leaves all to the
            application.
    """

    cycle: Any
    """A cycle of uvicorn's or a ``_Request``, under way or over; None where there is nothing."""

    def __init__(self, *args: Any, plain: Callable[[], PlainGraphQL | None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._plain = plain()
        # What uvicorn would do more for each request is left to it.
        self._is_usual = not (self.root_path or self.limit_concurrency or self.access_log)
        app: Any = self.app
        self._proxies = app.trusted_hosts if isinstance(app, ProxyHeadersMiddleware) else None
        self._heads: list[RememberedHead] = []
        self._is_between = True
        self._packet = b""  # one that begins with a request
        self._is_first = False
        self._head: PlainHead | None = None
        self._body = b""
        self._answered_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Take a packet."""
        self._is_first = self._is_usual
        if self._is_between:
            self._packet = data
            for head in self._heads:
                body = head.body_in(data)
                if body is not None:
                    if self._is_idle():
                        if self._serve(head, body):
                            return
                        self._is_first = False
                    break
        super().data_received(data)
        self._packet = b""
        if self._head is not None:  # the rest of its body is still to come
            self._release()

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
            head = RememberedHead(self._head, self._address(), self.scope)
            if self._serve(head, body):
                self._head, self._body = None, b""
                self._remember(head.of(self._packet, len(body)))
                return
            self._release()
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
        return self.cycle is None or self.cycle.response_complete

    def _is_post(self) -> bool:
        """Whether a POST of HTTP/1.1 begins, after which the connection is kept."""
        parser: Any = self.parser
        return bool(
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
        )

    def _remember(self, head: RememberedHead | None) -> None:
        if head is not None:
            if len(self._heads) == _HEADS_KEPT:
                self._heads.clear()
            self._heads.append(head)

    def _release(self) -> None:
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

    def _find(self, head: RememberedHead, body: bytes) -> _Request | None:
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

    def _serve(self, head: RememberedHead, body: bytes) -> bool:
        """Answer a plain request now or in a task; False where nothing has been done about it."""
        try:
            request = self._find(head, body)
        except Exception:  # noqa: BLE001  # the application meets it again, and reports it
            return False
        if request is None:
            return False
        known, context = request.operation.known, Context()
        rest: Awaitable[bytes | None] | None = None
        if known.waits:
            rest = request.run if known.is_mutation else request.in_task()
        else:
            answer: bytes | None = None
            try:
                first = context.run(request.run.send, None)
            except StopIteration as done:
                answer = done.value
            except (Exception, asyncio.CancelledError):  # noqa: BLE001  # met again where it is reported
                answer = None
            else:
                known.waits = True
                rest = resumed(request.run, first)
            if answer is not None:
                self._write(request, answer)
                self._rest()
                return True
        request.head, request.body = head, body
        self._start(request, rest, context)
        return True

    def _rest(self) -> None:
        """After an answer on the short way.

        A timer that is there already is left, and looks at when the last answer was.
        """
        self._answered_at = self.loop.time()
        if self.pipeline or self.timeout_keep_alive_task is None:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1

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

    def _start(
        self, request: _Request, rest: Awaitable[bytes | None] | None, context: Context
    ) -> None:
        """Go on with a request in a task; without a rest, from the start on graphql-core."""
        if rest is None:
            run = self._leave(request, self.app)
        else:
            request.hold()
            run = self._finish(request, rest)
        self.cycle = request
        task = self.loop.create_task(run, context=context)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _finish(self, request: _Request, rest: Awaitable[bytes | None]) -> None:
        app: Any = self.app
        try:
            try:
                body = await rest
            finally:
                request.release()
            if body is not None:
                if self.flow.write_paused and not self.transport.is_closing():
                    await self.flow.drain()
                self._answer(request, body)
                return
        except BaseException as error:  # noqa: BLE001  # reported as any application's
            app = partial(_raise, error)
        await self._leave(request, app)

    def _answer(self, request: _Request, body: bytes) -> None:
        request.response_complete = True
        if self.cycle is request:
            self.cycle = None
        if self.transport.is_closing():
            request.tell()
            return
        self._write(request, body)
        if not request.keep_alive:
            self.transport.close()
        self._rest()

    async def _leave(self, request: _Request, app: Any) -> None:
        """Have uvicorn run an application for a request that began here."""
        scope: Any = {
            **request.head.scope,
            "method": "POST",
            "path": "/graphql",
            "raw_path": b"/graphql",
            "query_string": b"",
            "headers": [
                (name, b"%d" % len(request.body) if name == b"content-length" else value)
                for name, value in request.head.scope["headers"]
            ],
            "state": self.app_state.copy(),
        }
        cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=request.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body += request.body
        cycle.more_body = False
        cycle.message_event.set()
        cycle.disconnected = request.disconnected
        cycle.response_started = cycle.response_complete = request.response_complete
        if self.cycle is request:
            self.cycle = cycle
        with leave_to_reference():
            await cycle.run_asgi(app)

    def _write(self, request: _Request, body: bytes) -> None:
        cost = request.operation.cost
        parts = [b"HTTP/1.1 200 OK\r\n"]
        for name, value in self.server_state.default_headers:
            parts += name, b": ", value, b"\r\n"
        id_ = request.ctx.request_id.encode()
        parts.append(_ANSWER_HEAD % (len(body), cost.requested, cost.limit, id_))
        parts += (b"\r\n" if request.keep_alive else b"connection: close\r\n\r\n"), body
        self.transport.write(b"".join(parts))
        request.tell()


async def _raise(error: BaseException, *_: Any) -> None:
    raise error
