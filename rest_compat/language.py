"""One language at work: its routes, its errors, its credentials, and how a request is served."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resolvers.errors import OperationError, RateLimitedError, as_refusal
from resolvers.principal import Principal
from rest_compat.answers import Answer
from rest_compat.catalog import Entry
from rest_compat.context import RestContext
from rest_compat.documents import openapi_document
from rest_compat.house import House
from rest_compat.refusals import Kind, Refusal
from rest_compat.routing import WEBSOCKET, Call, DialectRoute, RouteTable

OPENAPI_PATH = "/openapi.json"
CORS_SECONDS = 600
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
Authenticate = Callable[[House, HTTPConnection], Awaitable[Principal | None]]
Render = Callable[[OperationError], Answer]


class Language:
    """A language's ASGI application, behind the dispatcher.

    Args:
        entry: what the catalogue says of it.
        house: the server.
        version: of the API, for its OpenAPI document.
        routers: its routes.
        render: its error table: an answer for every refusal, ``Refusal`` and ``BadShape`` among
            them; the request's id is put into its ``X-Request-ID`` anyway.
        authenticate: who asks; None for nobody, which only open routes allow.
        authenticates_first: whether a missing credential hides which paths there are.
        checks_media_type: whether a body must be declared as JSON.
        has_ambient_credential: whether browsers send its credential by themselves (a cookie, or
            none is needed): then pages of other sites may not change anything.
        origins: of pages that may call it, besides those of the settings.
        with_credentials: whether such pages may send cookies.
        exposed_headers: what such pages may read besides the usual ones.
        aliases: beginnings of paths that stand for another one.
        security: the scheme of its credentials as OpenAPI describes it.
        max_body_bytes: where it differs from the server's limit.
    """

    def __init__(
        self,
        entry: Entry,
        house: House,
        *,
        version: str,
        routers: Iterable[APIRouter],
        render: Render,
        authenticate: Authenticate,
        authenticates_first: bool = False,
        checks_media_type: bool = True,
        has_ambient_credential: bool = False,
        origins: tuple[str, ...] = (),
        with_credentials: bool = False,
        exposed_headers: tuple[str, ...] = (),
        aliases: Mapping[str, str] | None = None,
        security: Mapping[str, Any] | None = None,
        max_body_bytes: int | None = None,
    ) -> None:
        self.entry = entry
        self.house = house
        self.render = render
        self.authenticate = authenticate
        self.authenticates_first = authenticates_first
        self.checks_media_type = checks_media_type
        self.has_ambient_credential = has_ambient_credential
        self.aliases = dict(aliases or {})
        self.security = dict(security or {"type": "http", "scheme": "bearer"})
        self.max_body_bytes = max_body_bytes
        self.app = FastAPI(
            title=f"{entry.title} over Dragoman",
            version=version,
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
        )
        for router in routers:
            self.app.router.routes.extend(router.routes)
        self.table = RouteTable(self.app.router.routes)
        self._document: bytes | None = None
        self._front: ASGIApp = self._serve
        allowed = (*house.allowed_origins, *origins)
        if allowed:
            self._front = CORSMiddleware(
                self._serve,
                allow_origins=allowed,
                allow_methods=METHODS,
                allow_headers=["*"],
                allow_credentials=with_credentials,
                expose_headers=["X-Request-ID", "Retry-After", *exposed_headers],
                max_age=CORS_SECONDS,
            )

    def canonical(self, path: str) -> str:
        """A path with its alias resolved."""
        for alias, meant in self.aliases.items():
            if path == alias or path.startswith(f"{alias}/"):
                return meant + path[len(alias) :]
        return path

    def methods_at(self, path: str) -> frozenset[str]:
        """The methods of a path without closing slash, as the dispatcher asks."""
        found = self.table.find(self.canonical(path))
        return frozenset(found[0]) if found is not None else frozenset()

    def openapi(self) -> bytes:
        """Its OpenAPI 3.1 document; made at the first call."""
        if self._document is None:
            self._document = openapi_document(
                self.app, security=self.security, root=f"/compat/{self.entry.name}"
            )
        return self._document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; ``scope["compat_path"]`` is its path within the language."""
        await self._front(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as held:
            ctx = RestContext(
                self.house.services, None, request_id=str(scope["state"].get("request_id", ""))
            )
            held.push_async_callback(ctx.release)
            call = Call(scope, receive, house=self.house, ctx=ctx) if _is_http(scope) else None
            if call is None:
                await self._connect(scope, receive, send)
                return
            extra: dict[str, str] = {}
            try:
                answer = await self._answer(call, held, extra)
            except Exception as error:  # noqa: BLE001  # what is no refusal is masked and logged
                refusal = as_refusal(error)
                if refusal is None:
                    answer = self._failed(error, call)
                    await self._keep(ctx, None)
                else:
                    answer = self._refused(refusal, extra)
                    await self._keep(ctx, answer)
                if isinstance(error, Refusal) and error.kind == Kind.TOO_LARGE:
                    await self._send_and_drain(answer, extra, receive, send)
                    return
            if answer is None:
                return  # the client has gone
            if isinstance(answer, Response):
                await answer(scope, receive, _with_headers(send, extra))
            else:
                answer.headers = {**extra, **answer.headers}
                await answer.send(send, with_body=scope["method"] != "HEAD")

    async def _answer(self, call: Call, held: AsyncExitStack, extra: dict[str, str]) -> Any:
        """What the request is answered with; headers that every answer has go into ``extra``."""
        scope = call.scope
        path = self.canonical(scope["compat_path"])
        if path == OPENAPI_PATH and call.method in {"GET", "HEAD"}:
            return Answer(200, self.openapi())
        found = self.table.find(path)
        methods = found[0] if found is not None else {}
        if call.method == "OPTIONS" and found is not None:
            return Answer(204, headers={"Allow": _allowed(methods)})
        route = methods.get(call.method)
        if self.has_ambient_credential and call.method not in {"GET", "HEAD"}:
            self._refuse_foreign(scope)
        if not (isinstance(route, DialectRoute) and route.is_open) and (
            found is not None or self.authenticates_first
        ):
            await self._admit(call, extra)
        if found is None:
            raise Refusal(Kind.NO_ROUTE, "There is nothing at this address")
        if not isinstance(route, DialectRoute):
            raise Refusal(
                Kind.METHOD, f"{call.method} is not possible here", allow=_allowed(methods)
            )
        self.house.name_operation(f"{self.entry.name}.{route.name}")
        scope["path_params"] = found[1]
        return await self._run(route, call, held)

    async def _run(self, route: DialectRoute, call: Call, held: AsyncExitStack) -> Any:
        caller = call.ctx.principal.key if call.ctx.principal else f"address:{_address(call)}"
        async with self.house.turn(caller):
            answer = await route.respond(call, call.scope["path_params"], self)
            if isinstance(answer, Answer):
                await self._keep(call.ctx, answer)
                return answer
        await self._keep(call.ctx, None)
        if isinstance(answer, StreamingResponse):
            await held.enter_async_context(self.house.stream_turn(caller))
        return answer

    async def _admit(self, call: Call, extra: dict[str, str]) -> None:
        """Find out who asks, and count the request.

        Raises:
            OperationError: the credential is refused, or there are too many requests.
        """
        principal: Principal | None = None
        refused: OperationError | None = None
        try:
            principal = await self.authenticate(self.house, call)
        except OperationError as error:
            refused = error
        if self.house.rate_limits is not None:
            extra.update(
                await self.house.rate_limits.count(
                    self.entry.dialect, scope=call.scope, principal=principal
                )
            )
        call.ctx.principal = principal
        call.ctx.client_address = _address(call)
        if refused is not None:
            raise refused
        call.ctx.authenticated()
        if principal is not None:
            call.scope["state"]["principal_id"] = principal.key

    def _refuse_foreign(self, scope: Scope) -> None:
        if self.house.is_foreign(scope):
            raise Refusal(Kind.FOREIGN_ORIGIN, "This origin may not use the server")

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a WebSocket to its route, or close the handshake."""
        found = self.table.find(self.canonical(scope["compat_path"]))
        route: Any = found[0].get(WEBSOCKET) if found is not None else None
        if found is None or route is None or self.house.is_foreign(scope):
            await send({"type": "websocket.close", "code": 1008})
            return
        scope["path_params"] = found[1]
        scope["house"] = self.house
        await route.app(scope, receive, send)

    def _refused(self, error: OperationError, extra: dict[str, str]) -> Answer:
        answer = self.render(error)
        if isinstance(error, RateLimitedError):
            extra.update(error.details.get("headers", {}))
        retry_after = error.details.get("retry_after")
        if retry_after is not None:
            answer.headers.setdefault("Retry-After", str(max(1, int(retry_after))))
        if isinstance(error, Refusal) and error.kind == Kind.METHOD:
            answer.headers["Allow"] = str(error.details["allow"])
        if error.code == "UNAUTHENTICATED":
            answer.headers.setdefault("WWW-Authenticate", "Bearer")
        return answer

    def _failed(self, error: Exception, call: Call) -> Answer:
        error_id = call.ctx.request_id or "unknown"
        self.house.log_error(error, error_id=error_id, path=str(call.scope["path"]))
        return self.render(Refusal(Kind.INTERNAL, "Internal error", id=error_id))

    async def _keep(self, ctx: RestContext, answer: Answer | None) -> None:
        """Settle the request's idempotency key, if it has claimed one."""
        try:
            await ctx.keep(answer)
        except OperationError as error:
            # Its lock ends by itself; the answer stands.
            self.house.log_error(error, error_id=ctx.request_id, path="idempotency")

    async def _send_and_drain(
        self, answer: Answer, extra: dict[str, str], receive: Receive, send: Send
    ) -> None:
        """Answer at once, then let a client that still sends its body finish and read the answer.

        The rest of the body is not used, so neither is the connection.
        """
        answer.headers = {**extra, **answer.headers, "Connection": "close"}
        await answer.send(send, more=True)
        await self.house.drain(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_http(scope: Scope) -> bool:
    return bool(scope["type"] == "http")


def _address(call: HTTPConnection) -> str:
    return call.client.host if call.client else ""


def _allowed(methods: Mapping[str, Any]) -> str:
    return ", ".join(sorted({*methods, "OPTIONS"} - {WEBSOCKET}))


def _with_headers(send: Send, extra: Mapping[str, str]) -> Send:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in extra.items():
                headers[name] = value
        await send(message)

    return add
