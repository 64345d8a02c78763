"""Whether the process lives (``/healthz``) and whether it can serve (``/readyz``)."""

import asyncio
from typing import Any

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from models.errors import DatabaseBusyError, StorageFullError
from server.migrations import HEAD
from server.services import Server

CHECK_SECONDS = 5.0


def health_routes() -> list[BaseRoute]:
    """The two routes; neither needs a credential nor tells a secret."""
    return [Route("/healthz", _healthz), Route("/readyz", _readyz)]


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _readyz(request: Request) -> Response:
    server: Server | None = getattr(request.app.state, "server", None)
    if server is None or not server.is_ready:
        return JSONResponse({"status": "starting"}, 503)
    checks = {
        "database": await _database(server),
        "migrations": await _migrations(server),
        "streams": _streams(server),
    }
    healthy = all(check["ok"] for check in checks.values())
    return JSONResponse(
        {"status": "ok" if healthy else "unavailable", "checks": checks}, 200 if healthy else 503
    )


async def _database(server: Server) -> dict[str, Any]:
    """The write lane can be had: an empty transaction goes through."""
    try:
        async with asyncio.timeout(CHECK_SECONDS), server.services.database.write():
            return {"ok": True, "waiting_writers": server.services.database.write_waiters}
    except (TimeoutError, DatabaseBusyError, StorageFullError) as error:
        return {"ok": False, "reason": str(error) or "timeout"}


async def _migrations(server: Server) -> dict[str, Any]:
    """The database has the shape this program was written for."""
    try:
        async with asyncio.timeout(CHECK_SECONDS), server.services.database.read() as reader:
            found = await reader.scalar(sa.text("SELECT version_num FROM alembic_version"))
    except (TimeoutError, DatabaseBusyError) as error:
        return {"ok": False, "reason": str(error) or "timeout"}
    return {"ok": found == HEAD, "revision": found}


def _streams(server: Server) -> dict[str, Any]:
    return {
        "ok": not server.hub.is_closing,
        "watchers": server.hub.watchers,
        "wakeups_lost": server.hub.wakeups_lost_total,
        "wakeups_unsent": server.wakeups.dropped,
    }
