"""The REST languages put together with what the rest of the server uses already."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import structlog
from starlette.types import ASGIApp, Receive, Scope

from models.enums import Dialect
from resolvers.errors import RateLimitedError
from rest_compat.catalog import CATALOG
from rest_compat.dispatcher import Dispatcher
from rest_compat.house import House
from rest_compat.refusals import Kind, Refusal
from server.graphql import Turns
from server.limits import concurrency, http
from server.logs import bind_operation
from server.pages import Link
from server.services import Server

log = structlog.get_logger("dragoman.rest")

BODY_SECONDS = 30.0
KINDS = {408: Kind.TOO_SLOW, 413: Kind.TOO_LARGE, 415: Kind.MEDIA_TYPE}


def rest_app(server: Server, turns: Turns, *, nowhere: ASGIApp) -> Dispatcher:
    """The application in front of all REST languages.

    Args:
        server: open.
        turns: those that GraphQL uses.
        nowhere: answers addresses that belong to no language.
    """
    settings = server.settings
    policy = http.OriginPolicy(settings.allowed_origins)
    house = House(
        services=server.services,
        hub=server.hub,
        authenticate=server.authenticator.principal,
        turn=_turn_of(turns.requests),
        stream_turn=_turn_of(turns.streams),
        read_body=_read_body,
        drain=http.throw_away,
        parse_json=_refusing(http.parse_json),
        check_media_type=_refusing(http.check_media_type),
        is_foreign=lambda scope: not policy.allows(scope),
        log_error=_log_error,
        name_operation=bind_operation,
        allowed_origins=settings.allowed_origins,
        public_url=settings.public_url,
        max_body_bytes=settings.max_body_bytes,
        rate_limits=server.rates,
    )
    root = settings.compat_root
    default = Dialect(root.upper()) if root is not None else None
    return Dispatcher(CATALOG, house, default=default, nowhere=nowhere)


def rest_links() -> list[Link]:
    """The documentation of each language, for the first page."""
    return [
        Link(f"/compat/{entry.name}/docs", entry.title, "this board in that REST language")
        for entry in CATALOG
    ]


def _turn_of(
    limiter: concurrency.ConcurrencyLimiter,
) -> Callable[[str], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def turn(key: str) -> AsyncIterator[None]:
        held = limiter.turn(key)
        try:
            await held.__aenter__()
        except concurrency.RateLimitedError as error:
            raise RateLimitedError(str(error), retry_after=error.retry_after) from None
        try:
            yield
        finally:
            await held.__aexit__(None, None, None)

    return turn


async def _read_body(scope: Scope, receive: Receive, /, *, max_bytes: int) -> bytes | None:
    try:
        return await http.read_body(scope, receive, max_bytes=max_bytes, seconds=BODY_SECONDS)
    except http.RequestRefusedError as refusal:
        raise _refusal(refusal) from None
    except http.ClientLeftError:
        return None


def _refusing(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        try:
            return check(value)
        except http.RequestRefusedError as refusal:
            raise _refusal(refusal) from None

    return checked


def _refusal(refusal: http.RequestRefusedError) -> Refusal:
    kind = KINDS.get(refusal.status, Kind.MALFORMED)
    return Refusal(kind, refusal.error.message)


def _log_error(error: BaseException, /, *, error_id: str, path: str) -> None:
    log.error("internal error", error_id=error_id, path=path, exc_info=error)
