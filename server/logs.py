"""Logging: one line per happening, JSON for machines or columns for a terminal, to stderr.

Everything goes through here, uvicorn's own lines and those of libraries too, so that each line
has an ISO time in UTC, the id of its request, and no secrets.
"""

import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, TextIO
from uuid import UUID, uuid4

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.metrics import Metrics
from server.redaction import redact_event
from server.settings import Settings

REQUEST_ID_HEADER = "X-Request-ID"
_ID_HEADER = REQUEST_ID_HEADER.lower().encode()
_MAX_PATH = 1024
_SERVER_ERROR = 500
# Asked every few seconds by machines, or once per page by browsers: no news while it works.
_QUIET_PATHS = ("/healthz", "/readyz", "/assets/")
# They tell every connection or query at "info"; a board's own lines would drown.
_TALKATIVE = ("asyncio", "aiosqlite", "websockets", "alembic", "sqlalchemy.engine", "httpx2")

_requests = logging.getLogger("dragoman.request")


def configure_logging(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send all logging of this process to ``stream`` (stderr) in the format of the settings.

    Start uvicorn with ``log_config=None, access_log=False``; the lines of requests are written by
    ``RequestLog``. May be called again; the last call counts.
    """
    stream = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    renderer = _renderer(settings, stream)
    handler = _Handler(stream, renderer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                redact_event,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _Handler)]
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("uvicorn.error").addFilter(_is_no_handshake)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(capture=True)


def bind_operation(name: str | None) -> None:
    """Put the name of the GraphQL operation (or REST route) on all further lines of the request."""
    structlog.contextvars.bind_contextvars(operation=(name or "anonymous")[:128])


def request_id_of(scope: Scope) -> str:
    """The id of a request behind ``RequestLog``, for error bodies.

    Raises:
        KeyError: the request did not come through ``RequestLog``.
    """
    return str(scope["state"]["request_id"])


class RequestLog:
    """ASGI middleware: a request id for every request, its header, one line at the end.

    The id is the caller's ``X-Request-ID`` if that is a UUID, else a new one. The line has no
    body and no query string; ``scope["state"]["principal_id"]``, if someone behind sets it, is
    named. Where a WebSocket ends, ``status`` is its close code.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics | None = None) -> None:
        self._app = app
        self._metrics = metrics or Metrics()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        outcome = _Outcome(send, receive, request_id)
        started = time.perf_counter()
        before = structlog.contextvars.bind_contextvars(request_id=request_id, operation=...)
        try:
            await self._app(scope, outcome.receive, outcome.send)
        except Exception:
            outcome.status = outcome.status or _SERVER_ERROR
            raise
        finally:
            self._write(scope, outcome.status, time.perf_counter() - started)
            structlog.contextvars.reset_contextvars(**before)

    def _write(self, scope: Scope, status: int | None, seconds: float) -> None:
        path = str(scope["path"])
        is_http = scope["type"] == "http"
        method = str(scope["method"]) if is_http else "WEBSOCKET"
        failed = is_http and status is not None and status >= _SERVER_ERROR
        quiet = path.startswith(_QUIET_PATHS) and not failed
        level = logging.ERROR if failed else logging.DEBUG if quiet else logging.INFO
        if _requests.isEnabledFor(level):
            told = {"method": method[:16], "path": _printable(path[:_MAX_PATH])}
            principal = scope["state"].get("principal_id")
            if principal is not None:
                told["principal"] = str(principal)
            facts = {"status": status, "duration_ms": round(seconds * 1000, 2)}
            _log_request(level, told, facts)
        self._metrics.http_request(method=method, path=path, status=status or 0, seconds=seconds)


def _log_request(level: int, told: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write a request's line: like any other, but past the records and chains of two libraries.

    Every request has one, so its way is short: only what others have chosen may have secrets.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    event = {
        **redact_event(None, "", {**told, **structlog.contextvars.get_contextvars()}),
        **facts,
        "event": "request",
        "level": logging.getLevelName(level).lower(),
        "logger": _requests.name,
        "timestamp": f"{now.isoformat(timespec='microseconds')}Z",
    }
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.write(event)
        else:
            record = _requests.makeRecord(_requests.name, level, "", 0, event, (), None)
            handler.handle(record)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that a second call finds and replaces it and leaves those of others."""

    def __init__(self, stream: TextIO, renderer: Any) -> None:
        super().__init__(stream)
        self._renderer = renderer

    def write(self, event: dict[str, Any]) -> None:
        """Write an event that is complete, its secrets covered."""
        line = self._renderer(None, "", event)
        # As in logging's own handlers: a log that cannot be written fails no request.
        with self.lock or nullcontext(), suppress(OSError, ValueError):
            self.stream.write(f"{line}\n")
            self.flush()


def _is_no_handshake(record: logging.LogRecord) -> bool:
    """False for uvicorn's lines of WebSocket handshakes: they would tell the query string."""
    return '"WebSocket %s"' not in str(record.msg)


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
            if all(name.lower() != _ID_HEADER for name, _ in headers):
                message["headers"] = [*headers, (_ID_HEADER, self._request_id.encode())]
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


def _request_id(scope: Scope) -> str:
    given = ""
    for name, value in scope["headers"]:
        if name == _ID_HEADER:
            given = value.decode("latin-1")
            break
    try:
        return str(UUID(given)) if len(given) in {32, 36} else str(uuid4())
    except ValueError:
        return str(uuid4())


def _printable(text: str) -> str:
    """The text with everything that could forge a line or move a cursor escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _renderer(settings: Settings, stream: TextIO) -> Any:
    as_columns = settings.log_format == "console" or (
        settings.log_format == "auto" and stream.isatty()
    )
    if as_columns:
        return structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.processors.JSONRenderer(serializer=_to_json)


def _to_json(event: Any, **_options: Any) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # lone surrogates and integers beyond 64 bits, which the fast encoder refuses
        return json.dumps(event, default=str)
