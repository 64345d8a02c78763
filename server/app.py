"""The ASGI application: pages, health, GraphQL, and what starts and stops with them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from models.enums import RunStatus
from resolvers.idempotency import release_dead_instance
from server import pages
from server.collecting import collector
from server.downloads import download_routes
from server.graphql import graphql_app, make_turns, root_fields
from server.health import health_routes
from server.metrics import make_metrics
from server.observing import observer
from server.request_log import RequestLog
from server.rest import rest_app, rest_links
from server.services import Server, open_server
from server.settings import Settings
from workers.supervision import supervised_workers

log = structlog.get_logger("dragoman.server")


class _Late:
    """A route's application that exists once the server is open."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is None:
            await JSONResponse({"error": "starting"}, 503)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class _Shortcut:
    """ASGI middleware: what is posted to one path needs no routing."""

    def __init__(self, app: ASGIApp, *, path: str, to: ASGIApp) -> None:
        self._app = app
        self._path = path
        self._to = to

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_posted = scope["type"] == "http" and scope["method"] == "POST"
        app = self._to if is_posted and scope["path"] == self._path else self._app
        await app(scope, receive, send)


def create_app(settings: Settings) -> Starlette:
    """The application for a migrated database; its lifespan opens and closes the server.

    ``app.state.server`` is the open ``Server``; ``app.state.shut_down()`` begins the end: streams
    are closed with a resumable reason, so that no client holds the process back.
    ``app.state.plain`` answers plain GraphQL requests, while the server is open: whoever speaks
    HTTP may ask it past this application, of whose middleware only ``RequestLog`` concerns them.
    """
    metrics = make_metrics(settings, root_fields=root_fields(), statuses=list(RunStatus))
    graphql, rest = _Late(), _Late()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_server(settings, metrics) as server:
            app.state.server = server
            app.state.shut_down = server.hub.close
            turns = make_turns(settings)
            rest.app = rest_app(server, turns, nowhere=app.router.not_found)
            graphql.app, app.state.plain = graphql_app(
                settings,
                server.services,
                hub=server.hub,
                authenticator=server.authenticator,
                metrics=metrics,
                turns=turns,
            )
            metrics.start()
            try:
                await _recover(server)
                async with supervised_workers(
                    server.services,
                    server.dispatcher,
                    server.deliverer,
                    notifier=server.notifier,
                    event_retention=settings.event_retention,
                    collect=collector(server),
                    observe=None if settings.metrics_port == 0 else observer(server, metrics),
                ):
                    server.is_ready = True
                    yield
                    server.is_ready = False
                    server.hub.close()
            finally:
                metrics.stop()
                graphql.app = rest.app = app.state.plain = None

    app = Starlette(
        routes=[
            Route("/graphql", graphql),
            WebSocketRoute("/graphql", graphql),
            *pages.routes(settings, dialects=rest_links()),
            *health_routes(),
            *download_routes(),
            Route("/compat/{path:path}", rest),
            WebSocketRoute("/compat/{path:path}", rest),
        ],
        middleware=[
            Middleware(RequestLog, metrics=metrics),
            Middleware(_Shortcut, path="/graphql", to=graphql),
        ],
        exception_handlers={404: _not_found, 405: _not_allowed},
        lifespan=lifespan,
    )
    app.state.plain = None
    app.router.default = rest  # the languages' original paths
    return app


async def _recover(server: Server) -> None:
    """Free what a dead server left locked; only a SQLite database is surely ours alone."""
    if server.settings.uses_sqlite:
        await release_dead_instance(server.system(), instance=None)


async def _not_found(request: Request, _error: Exception) -> Response:
    return JSONResponse(
        {"error": {"code": "NOT_FOUND", "message": f"There is nothing at {request.url.path}"}}, 404
    )


async def _not_allowed(request: Request, error: Exception) -> Response:
    message = f"{request.method} is not possible at {request.url.path}"
    return JSONResponse(
        {"error": {"code": "INVALID", "message": message}},
        405,
        headers=getattr(error, "headers", None),
    )
