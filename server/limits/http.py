"""The HTTP face of the GraphQL endpoint: who may ask, in which form, and how much.

Decisions are made on `scope["headers"]` and `scope["method"]`; `request.url` is never consulted,
because its host and path can be talked into anything by the Host header.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from strawberry.http.websocket_origin import (
    is_same_origin,
    normalize_allowed_origins,
    normalize_origin,
)

from server.limits.errors import client_error

TOO_LARGE = 413
DRAIN_BYTES = 8 << 20
DRAIN_SECONDS = 5.0
REQUEST_SCOPE_KEY = "dragoman.graphql_request"
JSON_MEDIA_TYPES = frozenset({"application/json", "application/graphql-response+json"})
MAX_JSON_VALUES = 50_000
_WRITABLE_NESTING = 253  # what orjson is willing to write
_POLICY_VIOLATION = 1008
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Possessive throughout, and content with a missing end: linear in whatever is thrown at it.
_JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


class RequestRefusedError(Exception):
    """A request that is answered before any operation runs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "INVALID",
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = client_error(message, code=code, details=details)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The refusal in the shape of a GraphQL answer."""
        body = orjson.dumps({"errors": [self.error.formatted]})
        return Response(body, self.status, self.headers, media_type="application/json")


class GraphQLRequest(NamedTuple):
    """The body of a GraphQL POST, its shape checked."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None
    extensions: dict[str, Any] | None


def parse_json(body: bytes | str) -> Any:
    """The value of a JSON text: strict UTF-8 without byte order mark, finite numbers only.

    At most 253 arrays and objects inside each other, and `MAX_JSON_VALUES` commas and opening
    brackets altogether.
    Integers beyond 64 bits become floats, as in JavaScript.

    Raises:
        RequestRefusedError: 400, saying what is wrong and where.
    """
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if data.startswith(_BYTE_ORDER_MARK):
        raise RequestRefusedError(400, "The body must not begin with a byte order mark.")
    # Every value is the first one, follows a comma or opens an array or object.
    if len(data) > MAX_JSON_VALUES:
        _check_count(data)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            data.decode()
        except UnicodeDecodeError as broken:
            message = f"The body is not valid UTF-8 (byte {broken.start})."
        else:
            message = f"The body is not valid JSON: {error}."
        raise RequestRefusedError(400, message) from None
    if len(data) > 2 * _WRITABLE_NESTING:  # each is opened and closed
        _check_nesting(data, value)
    return value


def parse_graphql_body(body: bytes) -> GraphQLRequest:
    """The GraphQL request in a body.

    Raises:
        RequestRefusedError: 400 for what is no JSON, no object, a batch, or wrongly typed.
    """
    data = parse_json(body)
    if isinstance(data, list):
        raise RequestRefusedError(400, "Batches are not supported: send one operation a request.")
    if not isinstance(data, dict):
        raise RequestRefusedError(400, "The body must be a JSON object.")
    query = data.get("query")
    if not isinstance(query, str) or not query:
        raise RequestRefusedError(400, "`query` must be a string with a GraphQL document.")
    variables, name, extensions = map(data.get, ("variables", "operationName", "extensions"))
    if variables is not None and not isinstance(variables, dict):
        raise _wrongly_typed("variables", "an object")
    if name is not None and not isinstance(name, str):
        raise _wrongly_typed("operationName", "a string")
    if extensions is not None and not isinstance(extensions, dict):
        raise _wrongly_typed("extensions", "an object")
    return GraphQLRequest(query, variables, name, extensions)


@dataclass(frozen=True, slots=True)
class OriginPolicy:
    """Which pages may talk to the server.

    Browsers name the page in the Origin header; a request without one comes from no page of
    another site. The server's own origin (same host and port as the Host header) is allowed, others
    when listed as "https://host[:port]"; "null" never.
    """

    allowed_origins: Iterable[str] = ()
    _normalized: frozenset[str] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        object.__setattr__(self, "_normalized", normalize_allowed_origins(self.allowed_origins))

    def allows(self, scope: Scope) -> bool:
        """Whether the origin of this HTTP request or WebSocket handshake may use the server."""
        origins = header_values(scope, b"origin")
        if not origins:
            return True
        if len(set(origins)) > 1:
            return False
        hosts = header_values(scope, b"host")
        if len(hosts) == 1 and is_same_origin(origins[0], hosts[0]):
            return True
        normalized = normalize_origin(origins[0])
        return normalized is not None and (
            "*" in self._normalized or normalized in self._normalized
        )


class OriginGuard:
    """ASGI middleware: refuses foreign origins for WebSockets and for HTTP methods that change.

    With `safe_methods_too`, as on the GraphQL endpoint, GET and HEAD are refused as well.
    """

    def __init__(
        self, app: ASGIApp, *, policy: OriginPolicy, safe_methods_too: bool = False
    ) -> None:
        self.app = app
        self.policy = policy
        self.safe_methods = set[str]() if safe_methods_too else {"GET", "HEAD"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, answer 403, or close the handshake before it is accepted."""
        if scope["type"] == "websocket" and not self.policy.allows(scope):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        elif (
            scope["type"] == "http"
            and scope["method"] not in self.safe_methods
            and not self.policy.allows(scope)
        ):
            refusal = RequestRefusedError(
                403, "This origin may not use the server.", code="FORBIDDEN"
            )
            await refusal.response()(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class GraphQLGuard:
    """ASGI middleware around a GraphQL endpoint: method, media type, body size and form.

    Reads the body of a POST whole (at most `max_body_bytes`, within `body_seconds`), leaves the
    parsed request in `scope[REQUEST_SCOPE_KEY]` and replays the bytes to the application.
    WebSockets pass.
    """

    def __init__(
        self, app: ASGIApp, *, max_body_bytes: int = 1_048_576, body_seconds: float = 30.0
    ) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request or answer 400, 405, 408, 413 or 415 in GraphQL's shape."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = await self._checked_body(scope, receive)
        except RequestRefusedError as refusal:
            await _refuse(refusal, scope, receive, send)
            return
        except ClientLeftError:
            return
        await self.app(scope, receive if body is None else _replay(body, receive), send)

    async def _checked_body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body of a POST, None for a GET."""
        if scope["method"] in {"GET", "HEAD"}:
            return None
        if scope["method"] != "POST":
            raise RequestRefusedError(
                405, "GraphQL takes GET and POST only.", headers={"Allow": "GET, POST"}
            )
        check_media_type(scope)
        body = await read_body(
            scope, receive, max_bytes=self.max_body_bytes, seconds=self.body_seconds
        )
        scope[REQUEST_SCOPE_KEY] = parse_graphql_body(body)
        return body


def check_media_type(scope: Scope) -> None:
    """Accept JSON in UTF-8 only: what a page may send without asking first (forms, text) is not.

    Raises:
        RequestRefusedError: 415.
    """
    values = header_values(scope, b"content-type")
    media_type, _, parameters = (values[0] if len(values) == 1 else "").partition(";")
    if media_type.strip().lower() not in JSON_MEDIA_TYPES:
        raise RequestRefusedError(415, "The Content-Type must be application/json.")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if name.strip().lower() == "charset" and charset not in {"utf-8", "utf8"}:
            raise RequestRefusedError(415, "The charset must be UTF-8.")
    if header_values(scope, b"content-encoding") not in ([], ["identity"]):
        raise RequestRefusedError(415, "The body must not be compressed.")


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body, counted as it arrives whether or not its length was announced.

    Raises:
        RequestRefusedError: 413 beyond `max_bytes`, 408 when it has not arrived after `seconds`.
    """
    announced = header_values(scope, b"content-length")
    if announced and announced[0].isascii() and announced[0].isdigit():
        # Thousands of digits are a number as well, and int() of them is slow.
        size = int(announced[0][:19])
        if size > max_bytes:
            raise _too_large(size, max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _receive_body(receive, max_bytes)
    except TimeoutError:
        raise RequestRefusedError(
            408, f"The body did not arrive within {seconds:g} s.", headers={"Connection": "close"}
        ) from None


def header_values(scope: Scope, name: bytes) -> list[str]:
    """All values of a header, given in lower case, in the order they were sent."""
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name]


class ClientLeftError(Exception):
    """The client went away before its body was complete: nobody is left to answer."""


async def _refuse(refusal: RequestRefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once; then, before the end, let a client that is still sending finish.

    The server closes the connection at the answer's end. A client cut off in the middle of its
    body would find the connection reset instead of reading the reason.
    """
    if refusal.status != TOO_LARGE:
        await refusal.response()(scope, receive, send)
        return

    async def send_then_drain(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({**message, "more_body": True})
        await throw_away(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    await refusal.response()(scope, receive, send_then_drain)


async def throw_away(receive: Receive) -> None:
    """What is still being sent, within bounds."""
    thrown_away = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while thrown_away < DRAIN_BYTES:
                message = await receive()
                thrown_away += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


async def _receive_body(receive: Receive, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(size, max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _too_large(size: int, max_bytes: int) -> RequestRefusedError:
    return RequestRefusedError(
        413,
        f"The body has more than {max_bytes} bytes.",
        code="LIMIT_EXCEEDED",
        details=_limit("bodyBytes", size, max_bytes),
        # The rest of the body is not read, so the connection cannot be used again.
        headers={"Connection": "close"},
    )


def _limit(name: str, value: int, maximum: int) -> dict[str, Any]:
    return {"limit": {"name": name, "value": value, "max": maximum}}


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that delivers `body` first and what follows it (the disconnect) later."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _check_count(data: bytes) -> None:
    """Refuse to build hundreds of thousands of values, which takes longer than their text."""
    if _count_marks(data) > MAX_JSON_VALUES:
        count = _count_marks(_JSON_STRING.sub(b"", data))
        if count > MAX_JSON_VALUES:
            raise RequestRefusedError(
                400,
                f"The body has more than {MAX_JSON_VALUES} commas and brackets.",
                code="LIMIT_EXCEEDED",
                details=_limit("jsonValues", count, MAX_JSON_VALUES),
            )


def _count_marks(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _check_nesting(data: bytes, value: Any) -> None:
    if data.count(b"[") + data.count(b"{") > _WRITABLE_NESTING:
        try:
            orjson.dumps(value)  # its own bound on nesting, found in C
        except TypeError:
            raise RequestRefusedError(
                400, "The body nests too many arrays and objects inside each other."
            ) from None


def _wrongly_typed(name: str, what: str) -> RequestRefusedError:
    return RequestRefusedError(400, f"`{name}` must be {what} or null.")
