"""Counters for Prometheus, on a port of their own; off unless ``DRAGOMAN_METRICS_PORT`` is set.

Callers hold a ``Metrics`` and tell it what happened; the base class hears and forgets, so nobody
asks whether metrics are on. Every label has a bounded set of values, whatever clients send.
"""

from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer

from server.settings import Settings

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
_AREAS = {
    "graphql": "graphql",
    "graphiql": "pages",
    "assets": "pages",
    "": "pages",
    "healthz": "health",
    "readyz": "health",
    "compat": "compat",
    "api": "compat",
}
_KINDS = frozenset({"query", "mutation", "subscription"})
_TRANSPORTS = frozenset({"websocket", "sse", "dialect"})
_OTHER = "other"
_AREAS_KEPT = 256
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WAIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """What can be counted; this class counts nothing (metrics are off)."""

    def http_request(self, *, method: str, path: str, status: int, seconds: float) -> None:
        """A request was answered; for a WebSocket, it ended with close code ``status``."""

    def graphql_operation(
        self, *, kind: str, root_field: str, code: str | None, seconds: float
    ) -> None:
        """An operation ended; ``code`` is its first error's code or None.

        ``root_field`` is its first root field, not the name that the client gave it.
        """

    def graphql_execution(self, how: str) -> None:
        """An operation was answered by compiled code, or why it was left to graphql-core."""

    def graphql_compared(self, how: str) -> None:
        """A compiled answer was equal to graphql-core's, different, or that one failed."""

    def db_write_waited(self, seconds: float) -> None:
        """A write got its turn after so many seconds."""

    def wakeups_lost(self, count: int = 1) -> None:
        """Events that the one-second tick found because no wake-up had told of them."""

    def events_appended(self, count: int) -> None:
        """Events were committed."""

    def subscriber_opened(self, transport: str) -> None:
        """A stream began; ``transport`` is websocket, sse or dialect."""

    def subscriber_closed(self, transport: str) -> None:
        """A stream ended."""

    def runs_counted(self, by_status: Mapping[str, int]) -> None:
        """How many runs that are not over there are, by status; a status not named has none."""

    def run_ended(self, status: str) -> None:
        """A run reached its last status."""

    def start(self) -> None:
        """Begin to listen, if there is anything to tell."""

    def stop(self) -> None:
        """Listen no longer."""


class PrometheusMetrics(Metrics):
    """Metrics that are kept in a registry of their own and told over HTTP by a thread.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes any free one, see ``port`` after ``start``.
        root_fields: names of the GraphQL schema's root fields; others count as "other".
        statuses: names of all run statuses; others count as "other".
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        root_fields: Collection[str] = (),
        statuses: Collection[str] = (),
    ) -> None:
        # Imported here: a server without metrics does not pay for the library.
        from prometheus_client import (
            CollectorRegistry,
            Counter,
            Gauge,
            Histogram,
            PlatformCollector,
            ProcessCollector,
        )

        from server.histograms import UnlockedHistogram

        self._host = host
        self.port = port
        self._root_fields = frozenset(root_fields)
        self._statuses = frozenset(statuses)
        self._server: tuple[WSGIServer, Thread] | None = None
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

        def made(kind: Any, name: str, text: str, labels: tuple[str, ...] = (), **more: Any) -> Any:
            return kind(f"dragoman_{name}", text, labels, registry=self.registry, **more)

        self._http = made(
            UnlockedHistogram,
            "http_request_seconds",
            "Time of HTTP requests.",
            ("method", "area", "status"),
            buckets=_REQUEST_BUCKETS,
        ).series
        self._sockets = made(
            Counter, "websockets_ended", "WebSocket connections that ended.", ("area", "code")
        )
        self._graphql = made(
            UnlockedHistogram,
            "graphql_operation_seconds",
            "Time of GraphQL operations.",
            ("kind", "root_field", "outcome"),
            buckets=_REQUEST_BUCKETS,
        ).series
        executions = made(
            Counter,
            "graphql_executions",
            "GraphQL operations answered by compiled code, or why they were not.",
            ("how",),
        )
        self._execution = cache(lambda how: executions.labels(how.replace(" ", "_")))
        self._comparisons = made(
            Counter,
            "graphql_comparisons",
            "Compiled answers compared with graphql-core's (`DRAGOMAN_COMPILE_SHADOW`): "
            "`equal`, `different`, or `failed`.",
            ("how",),
        )
        self._write_wait = made(
            Histogram,
            "db_write_wait_seconds",
            "Wait of writes for their turn.",
            buckets=_WAIT_BUCKETS,
        )
        self._lost = made(Counter, "wakeups_lost", "Events found by the tick, not by a wake-up.")
        self._events = made(Counter, "events_appended", "Events committed.")
        self._subscribers = made(Gauge, "subscribers", "Open streams.", ("transport",))
        self._runs = made(Gauge, "runs", "Runs that are not over.", ("status",))
        self._ended = made(Counter, "runs_ended", "Runs that are over.", ("status",))

    def http_request(self, *, method: str, path: str, status: int, seconds: float) -> None:
        """See ``Metrics``."""
        area = _area(path[1:65])
        if method == "WEBSOCKET":
            self._sockets.labels(area, _close_code(status)).inc()
            return
        method = method if method in _METHODS else _OTHER
        self._http[method, area, str(status)].observe(seconds)

    def graphql_operation(
        self, *, kind: str, root_field: str, code: str | None, seconds: float
    ) -> None:
        """See ``Metrics``."""
        self._graphql[
            kind if kind in _KINDS else _OTHER,
            root_field if root_field in self._root_fields else _OTHER,
            "ok" if code is None else _error_code(code),
        ].observe(seconds)

    def graphql_execution(self, how: str) -> None:
        """See ``Metrics``."""
        self._execution(how).inc()

    def graphql_compared(self, how: str) -> None:
        """See ``Metrics``."""
        self._comparisons.labels(how).inc()

    def db_write_waited(self, seconds: float) -> None:
        """See ``Metrics``."""
        self._write_wait.observe(seconds)

    def wakeups_lost(self, count: int = 1) -> None:
        """See ``Metrics``."""
        self._lost.inc(count)

    def events_appended(self, count: int) -> None:
        """See ``Metrics``."""
        self._events.inc(count)

    def subscriber_opened(self, transport: str) -> None:
        """See ``Metrics``."""
        self._subscribers.labels(transport if transport in _TRANSPORTS else _OTHER).inc()

    def subscriber_closed(self, transport: str) -> None:
        """See ``Metrics``."""
        self._subscribers.labels(transport if transport in _TRANSPORTS else _OTHER).dec()

    def runs_counted(self, by_status: Mapping[str, int]) -> None:
        """See ``Metrics``."""
        for status in self._statuses:
            self._runs.labels(status).set(by_status.get(status, 0))

    def run_ended(self, status: str) -> None:
        """See ``Metrics``."""
        self._ended.labels(status if status in self._statuses else _OTHER).inc()

    def start(self) -> None:
        """Listen on the port.

        Raises:
            OSError: the address is taken or not this machine's.
        """
        from prometheus_client import start_http_server

        self._server = start_http_server(self.port, self._host, self.registry)
        self.port = self._server[0].server_port

    def stop(self) -> None:
        """See ``Metrics``."""
        if self._server is not None:
            server, thread = self._server
            self._server = None
            server.shutdown()
            server.server_close()
            thread.join()


def make_metrics(
    settings: Settings, *, root_fields: Collection[str] = (), statuses: Collection[str] = ()
) -> Metrics:
    """The metrics of the settings, not yet listening; see ``PrometheusMetrics``."""
    if settings.metrics_port == 0:
        return Metrics()
    return PrometheusMetrics(
        host=settings.metrics_host,
        port=settings.metrics_port,
        root_fields=root_fields,
        statuses=statuses,
    )


@lru_cache(_AREAS_KEPT)
def _area(path: str) -> str:
    return _AREAS.get(path.partition("/")[0], _OTHER)


def _error_code(code: str) -> str:
    """An operation's outcome; codes are the server's own short words, never a client's."""
    return code if code.isascii() and code.isidentifier() and len(code) <= 32 else _OTHER  # noqa: PLR2004  # as long as a label may be


def _close_code(code: int) -> str:
    """Close codes a peer may choose freely are one value; those of protocols stay."""
    known = {1000, 1001, 1005, 1006, 1009, 1011, 1012, 1013}
    known |= {4400, 4401, 4403, 4408, 4409, 4429, 4500, 4503}
    return str(code) if code in known else _OTHER
