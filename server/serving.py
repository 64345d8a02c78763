"""``dragoman serve``: migrate, make the first user, listen, say so, and end without harm."""

import asyncio
import fcntl
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import structlog
import uvicorn

from server.logs import configure_logging
from server.migrations import HEAD, MigrationFailedError, migrated_apart
from server.settings import Settings, variable_of

log = structlog.get_logger("dragoman.server")

KEEP_ALIVE_SECONDS = 130
"""Idle HTTP connections are kept this long: real clients reuse them after two minutes."""
WEBSOCKET_BYTES = 1 << 20
LAST_WORDS_SECONDS = 5.0
"""Streams that have not said within this time where to resume are closed without."""


class DataFolderInUseError(Exception):
    """Another server uses this data folder."""


class WrongPromptsError(Exception):
    """Some run would fail for the operator's prompt templates."""


def serve_forever(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; the process's exit code."""
    configure_logging(settings)
    try:
        _check_prompts(settings)
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (
            _sole_user_of(settings),
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            return runner.run(_serve(settings))
    except (DataFolderInUseError, WrongPromptsError, OSError) as error:
        print(f"dragoman: {error}", file=sys.stderr)
        return 1
    except MigrationFailedError:
        return 1


def _check_prompts(settings: Settings) -> None:
    """Refuse to start with templates that some run would fail for. Raises WrongPromptsError."""
    if settings.prompt_templates is not None:
        from runner.prompts import PromptMaker

        wrong = PromptMaker(settings.prompt_templates.absolute()).check()
        if wrong:
            raise WrongPromptsError(f"{variable_of('prompt_templates')}: {'; '.join(wrong)}")


def _loop_factory() -> Any:
    import uvloop

    return uvloop.new_event_loop


@contextmanager
def _sole_user_of(settings: Settings) -> Iterator[None]:
    """Hold the lock that keeps a second server off a SQLite database and its run folders.

    Raises:
        DataFolderInUseError: another process holds it.
    """
    if not settings.uses_sqlite:
        yield
        return
    path = settings.data_dir / "server.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderInUseError(
                f"{settings.data_dir} is in use by another server; with SQLite there can be one"
            ) from None
        yield
    finally:
        os.close(descriptor)


async def _serve(settings: Settings) -> int:
    async with migrated_apart(settings.database_dsn) as before:
        from server.app import create_app  # with all that is served: most of the time of a start
    if before != HEAD:
        log.info("migrated", before=before, revision=HEAD)
    token = await _first_user(settings)
    app = create_app(settings)
    server = _Uvicorn(_uvicorn_config(settings, app), app=app, settings=settings, token=token)
    await server.serve()
    return 0 if server.started else 1


async def _first_user(settings: Settings) -> str | None:
    """Make ``owner`` if there is no user yet; the token of the first one, else None."""
    from resolvers.errors import ConflictError
    from resolvers.users import create_first_user
    from server.services import command_line_context

    async with command_line_context(settings) as ctx:
        try:
            _user, created = await create_first_user(ctx)
        except ConflictError:
            return None
    return created.secret


def _uvicorn_config(settings: Settings, app: Any) -> uvicorn.Config:
    from server.plain_http import PlainHttpProtocol
    from subscriptions.transports.uvicorn_protocols import AbortableWebSocketProtocol

    http: Any = partial(PlainHttpProtocol, plain=lambda: app.state.plain)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=http,
        ws=AbortableWebSocketProtocol,
        ws_max_size=WEBSOCKET_BYTES,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies) or None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.shutdown_grace) or None,
        lifespan="on",
        reset_contextvars=True,  # a request begins in a context of its own
    )


def _calm_garbage_collector() -> None:
    """What was imported is never looked at again, and collections come less often.

    With thousands of open streams the collector's passes over all of them are most of a server's
    latency; measured, this halves it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


class _Uvicorn(uvicorn.Server):
    """uvicorn that says when it is ready, and ends streams before it waits for requests."""

    def __init__(
        self, config: uvicorn.Config, *, app: Any, settings: Settings, token: str | None
    ) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._token = token

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then tell where."""
        await super().startup(sockets)
        if self.started and not self.should_exit:
            _calm_garbage_collector()
            self._announce()

    def _announce(self) -> None:
        address = self._address()
        if self._token is not None:
            sys.stderr.write(
                "\n  First start: the user 'owner' was created. The token, shown only this once:\n"
                f"\n    {self._token}\n\n"
                f"  Open {address}/graphiql and put it into the field at the top.\n"
                "  A lost one is replaced by: dragoman token create --user owner\n\n"
            )
            sys.stderr.flush()
        print(f"Dragoman is ready: {address}", flush=True)

    def _address(self) -> str:
        host, port = self._settings.host, self._settings.port
        for server in self.servers:
            for sock in server.sockets:
                port = sock.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"

    async def shutdown(self, sockets: Any = None) -> None:
        """Let streams say where to resume before uvicorn closes their connections."""
        for listener in self.servers:
            listener.close()
        opened = getattr(self._app.state, "server", None)
        if opened is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(LAST_WORDS_SECONDS, self._settings.shutdown_grace)):
                    await opened.hub.unwatched()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """On the first signal, close streams with a resumable reason; then end as usual."""
        shut_down = getattr(self._app.state, "shut_down", None)
        if shut_down is not None:
            asyncio.get_event_loop().call_soon_threadsafe(shut_down)
        super().handle_exit(sig, frame)
