"""Logging: one line per happening, JSON for machines or columns for a terminal, to stderr.

Everything goes through here, uvicorn's own lines and those of libraries too, so that each line
has an ISO time in UTC, the id of its request, and no secrets.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextlib import nullcontext, suppress
from contextvars import ContextVar, Token
from functools import cache
from types import MappingProxyType
from typing import Any, Final, TextIO

import orjson
import structlog

from server.redaction import redact_event
from server.settings import Settings

# They tell every connection or query at "info"; a board's own lines would drown.
_TALKATIVE = ("asyncio", "aiosqlite", "websockets", "alembic", "sqlalchemy.engine", "httpx2")
_LINES_HELD: Final = 256

Bound = Mapping[str, str]
"""What every line of a request has."""

_bound: ContextVar[Bound] = ContextVar("bound", default=MappingProxyType({}))
_root = logging.getLogger()
_second = (0, "")
"""The second of the last line, and how it is written."""


def configure_logging(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send all logging of this process to ``stream`` (stderr) in the format of the settings.

    Start uvicorn with ``log_config=None, access_log=False``; the lines of requests are written by
    ``RequestLog``. May be called again; the last call counts.
    """
    stream = stream or sys.stderr
    shared: list[Any] = [
        _merge_bound,
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
    for other in [other for other in _root.handlers if isinstance(other, _Handler)]:
        other.flush()
        _root.removeHandler(other)
    _root.addHandler(handler)
    _root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("uvicorn.error").addFilter(_is_no_handshake)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(_root.level, logging.WARNING))
    logging.captureWarnings(capture=True)


def bind(bound: Bound) -> Token[Bound]:
    """Put this, and nothing from before, on all further lines of the context."""
    return _bound.set(bound)


def unbind(token: Token[Bound]) -> Bound:
    """Undo ``bind``, in the same context; what was bound at the end."""
    bound = _bound.get()
    _bound.reset(token)
    return bound


def bind_operation(name: str | None) -> None:
    """Put the name of the GraphQL operation (or REST route) on all further lines of the request."""
    _bound.set({**_bound.get(), "operation": operation_label(name)})


def operation_label(name: str | None) -> str:
    """An operation's name as lines have it."""
    return (name or "anonymous")[:128]


def _merge_bound(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {**_bound.get(), **event}


def write_line(logger: logging.Logger, level: int, event: dict[str, Any]) -> None:
    """Write a line like any other, but past the records and chains of two libraries.

    For lines that every request has.

    Args:
        logger: whose line it is; the caller has asked it whether it is enabled for the level.
        level: of the line.
        event: all there is to tell, its secrets covered; the rest of a line is added.
    """
    event["level"] = _level_name(level)
    event["logger"] = logger.name
    event["timestamp"] = _timestamp()
    for handler in _root.handlers:
        if isinstance(handler, _Handler):
            handler.write(event)
        else:
            handler.handle(logger.makeRecord(logger.name, level, "", 0, event, (), None))


@cache
def _level_name(level: int) -> str:
    return logging.getLevelName(level).lower()


def _timestamp() -> str:
    """The time in ISO form; most lines come in the same second as the one before."""
    global _second  # noqa: PLW0603  # replaced whole, so that threads need no lock
    now = time.time_ns() // 1_000
    second, text = _second
    if second != now // 1_000_000:
        second = now // 1_000_000
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = (second, text)
    return f"{text}.{str(now)[-6:]}Z"


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; those of one turn of the event loop together, at its end."""

    def __init__(self, stream: TextIO, renderer: Any) -> None:
        super().__init__(stream)
        self._renderer = renderer
        self._held: list[str] = []
        self._flushing_in: asyncio.AbstractEventLoop | None = None

    def write(self, event: dict[str, Any]) -> None:
        """Write an event that is complete, its secrets covered."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        with self.lock or nullcontext():
            self._held.append(self._renderer(None, "", event))
            if loop is None or len(self._held) == _LINES_HELD:
                self.flush()
            elif loop is not self._flushing_in:
                self._flushing_in = loop
                loop.call_soon(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, behind the lines that came before it."""
        self._write_held()
        super().emit(record)

    def flush(self) -> None:
        """Write what is held; called at exit too."""
        # As in logging's own handlers: a log that cannot be written fails no request.
        with self.lock or nullcontext(), suppress(OSError, ValueError):
            self._flushing_in = None
            self._write_held()
            super().flush()

    def _write_held(self) -> None:
        held, self._held = self._held, []
        if held:
            self.stream.write("\n".join(held) + "\n")


def _is_no_handshake(record: logging.LogRecord) -> bool:
    """False for uvicorn's lines of WebSocket handshakes: they would tell the query string."""
    return '"WebSocket %s"' not in str(record.msg)


def _renderer(settings: Settings, stream: TextIO) -> Any:
    as_columns = settings.log_format == "console" or (
        settings.log_format == "auto" and stream.isatty()
    )
    if as_columns:
        return structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return _as_json


def _as_json(_logger: Any, _method: str, event: Any) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # lone surrogates and integers beyond 64 bits, which the fast encoder refuses
        return json.dumps(event, default=str)
