"""What is told of every request: its id, one line of the log at its end, and metrics."""

import logging
import random
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.logs import Bound, bind, unbind, write_line
from server.metrics import Metrics
from server.redaction import redact_field, redact_text

REQUEST_ID_HEADER: Final = b"x-request-id"
_MAX_PATH = 1024
_SERVER_ERROR = 500
# Asked every few seconds by machines, or once per page by browsers: no news while it works.
_QUIET_PATHS = ("/healthz", "/readyz", "/assets/")
_UUID_LENGTHS = frozenset({32, 36})
_VERSION_4 = 0x4000_8000_0000_0000_0000
_FREE_BITS = ~0xF000_C000_0000_0000_0000
_TEXTS_KEPT = 1_024

_log = logging.getLogger("dragoman.request")


def request_id_of(scope: Scope) -> str:
    """The id of a request behind ``RequestLog``, for error bodies.

    Raises:
        KeyError: the request did not come through ``RequestLog``.
    """
    return str(scope["state"]["request_id"])


def request_id(given: bytes | None) -> str:
    """The id for a request whose ``X-Request-ID`` is this: the caller's if it is a UUID."""
    if given is None or len(given) not in _UUID_LENGTHS:
        return _new_id()
    try:
        return str(UUID(given.decode("latin-1")))
    except ValueError:
        return _new_id()


def _new_id() -> str:
    """A random UUID (version 4), as text; no secret, so it need not be one that nobody guesses."""
    bits = random.getrandbits(128) & _FREE_BITS | _VERSION_4  # as said
    raw = bits.to_bytes(16)
    return f"{raw[:4].hex()}-{raw[4:10].hex('-', 2)}-{raw[10:].hex()}"


class RequestTeller:
    """Writes a request's line and counts it.

    The line has no body and no query string; only what others have chosen may have secrets.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def tell(
        self,
        bound: Bound,
        *,
        method: str,
        path: str,
        principal: str | None,
        status: int | None,
        seconds: float,
    ) -> None:
        """A request is over.

        Args:
            bound: what its other lines had: its id and, where it came so far, its operation.
            method: of HTTP, or "WEBSOCKET".
            path: as it was asked for.
            principal: who asked, where that is known.
            status: of the answer, if there was one; where a WebSocket ends, its close code.
            seconds: how long it took.
        """
        told = _told(method[:16], path[:_MAX_PATH], principal, bound.get("operation"), status)
        if _log.isEnabledFor(told.level):
            event = told.event.copy()
            event["request_id"] = bound["request_id"]  # a UUID
            event["duration_ms"] = round(seconds * 1000, 2)
            write_line(_log, told.level, event)
        self._metrics.http_request(method=method, path=path, status=status or 0, seconds=seconds)


class _Told(NamedTuple):
    """What lines have in common; ``event`` has places for the rest."""

    level: int
    event: dict[str, Any]


@lru_cache(_TEXTS_KEPT)
def _told(
    method: str, path: str, principal: str | None, operation: str | None, status: int | None
) -> _Told:
    event: dict[str, Any] = {"method": redact_text(method), "path": redact_text(_printable(path))}
    if principal is not None:
        event["principal"] = redact_field("principal", principal)
    event["request_id"] = ""
    if operation is not None:
        event["operation"] = redact_field("operation", operation)
    event |= {"status": status, "duration_ms": 0.0, "event": "request"}
    if status is not None and status >= _SERVER_ERROR and method != "WEBSOCKET":
        return _Told(logging.ERROR, event)
    return _Told(logging.DEBUG if path.startswith(_QUIET_PATHS) else logging.INFO, event)


class RequestLog:
    """ASGI middleware: a request id for every request, its header, one line at the end.

    The id is the caller's ``X-Request-ID`` if that is a UUID, else a new one. In the line,
    ``scope["state"]["principal_id"]``, if someone behind sets it, is named.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics | None = None) -> None:
        self._app = app
        self._teller = RequestTeller(metrics or Metrics())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        id_ = request_id(_given_id(scope))
        scope.setdefault("state", {})["request_id"] = id_
        outcome = _Outcome(send, receive, id_)
        started = time.perf_counter()
        token = bind({"request_id": id_})
        try:
            await self._app(scope, outcome.receive, outcome.send)
        except Exception:
            outcome.status = outcome.status or _SERVER_ERROR
            raise
        finally:
            principal = scope["state"].get("principal_id")
            self._teller.tell(
                unbind(token),
                method=str(scope["method"]) if scope["type"] == "http" else "WEBSOCKET",
                path=str(scope["path"]),
                principal=None if principal is None else str(principal),
                status=outcome.status,
                seconds=time.perf_counter() - started,
            )


class _Outcome:
    """Looks at the messages of one connection for its status, and adds the id to the answer."""

    def __init__(self, send: Send, receive: Receive, request_id: str) -> None:
        self._send: Callable[[Message], Awaitable[None]] = send
        self._receive = receive
        self._request_id = request_id
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in {
            "http.response.start",
            "websocket.accept",
            "websocket.http.response.start",
        }:
            headers = message.get("headers", ())
            if all(name.lower() != REQUEST_ID_HEADER for name, _ in headers):
                message["headers"] = [*headers, (REQUEST_ID_HEADER, self._request_id.encode())]
        if kind in {"http.response.start", "websocket.http.response.start"}:
            self.status = message["status"]
        elif kind == "websocket.close":
            self.status = message.get("code", 1000)
        await self._send(message)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect" and self.status is None:
            self.status = message.get("code", 1005)
        return message


def _given_id(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER:
            found: bytes = value
            return found
    return None


def _printable(text: str) -> str:
    """The text with everything that could forge a line or move a cursor escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
