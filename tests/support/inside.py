"""The whole server inside the test's process: its real ASGI application, without a socket.

Nothing goes on by itself (no dispatcher, no sweeps), so what changes was changed by a request.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
import structlog
from starlette.applications import Starlette

from compiler.front import leave_to_reference
from models import metadata
from resolvers.context import Context, Services
from resolvers.principal import SYSTEM
from server.app import create_app
from server.migrations import migrate
from server.plain import PlainGraphQL
from server.security import ArgonPasswords
from server.settings import Settings
from tests.support.fakes import ForgeWithoutNetwork, GitWithoutNetwork

PATIENCE = 20.0
CLIENT = ("127.0.0.1", 40000)
UNWATCHED = frozenset({"alembic_version", "idempotency_record", "login_throttle"})
"""Tables that say how somebody asked, not what there is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response of the GraphQL endpoint."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = orjson.loads(self.body)
        return parsed

    @property
    def data(self) -> dict[str, Any]:
        """The data of an answer without errors."""
        assert "errors" not in self.json, self.text[:2000]
        found: dict[str, Any] = self.json["data"]
        return found

    @property
    def errors(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json.get("errors") or []
        return found

    @property
    def codes(self) -> list[str]:
        """The codes of all errors, in order."""
        return [str(error.get("extensions", {}).get("code")) for error in self.errors]

    def outcome(self, root: str) -> str:
        """The code of the first error; else ``null`` or ``ok`` as the root field is."""
        if self.errors:
            return self.codes[0]
        return "null" if self.json["data"][root] is None else "ok"


@dataclass(slots=True)
class Inside:
    """An open server; ``token`` is the site owner's, ``log`` what it wrote of internal errors."""

    app: Starlette
    services: Services
    token: str
    owner_id: str
    internal_errors: list[str] = field(default_factory=list)

    def system(self) -> Context:
        """A context of the server's own."""
        return Context(self.services, SYSTEM)

    async def post(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A JSON request."""
        body = orjson.dumps({"query": query, "variables": variables or {}})
        return await self.send(body, token=token, headers=headers)

    async def send(
        self, body: bytes, *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """A request with any body."""
        status, parts = 0, []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self.app(_scope(token, headers or {}), receive, send)
        return Answer(status, b"".join(parts))

    async def stream(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        items: int = 1,
        headers: Mapping[str, str] | None = None,
        quiet_after: float | None = None,
    ) -> list[dict[str, Any]]:
        """The first results of a subscription over server-sent events, then the client leaves.

        A refusal, sent as plain JSON, is one result. Fewer than ``items`` where the stream ends,
        or where it has been open for ``quiet_after`` seconds (it may have nothing to tell).
        """
        requested = False
        gone = asyncio.Event()
        results: list[dict[str, Any]] = []
        text, is_stream = "", False
        body = orjson.dumps({"query": query, "variables": variables or {}})

        async def receive() -> dict[str, Any]:
            nonlocal requested
            if not requested:
                requested = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal text, is_stream
            if message["type"] == "http.response.start":
                is_stream = b"event-stream" in dict(message["headers"]).get(b"content-type", b"")
                return
            text += message.get("body", b"").decode()
            if is_stream:
                *whole, text = re.split(r"\r?\n\r?\n", text)
                results.extend(data for event in whole if (data := _event_data(event)) is not None)
                if len(results) >= items:
                    gone.set()
            elif not message.get("more_body"):
                results.append(orjson.loads(text))

        extra = {"accept": "text/event-stream", **(headers or {})}
        if quiet_after is not None:
            asyncio.get_running_loop().call_later(quiet_after, gone.set)
        async with asyncio.timeout(PATIENCE):
            await self.app(_scope(token, extra), receive, send)
        return results[:items]

    # --- what is in the database ---

    async def fingerprint(self, *besides: str) -> str:
        """Changes whenever an event is written or a row comes or goes, besides in these tables."""
        async with self.services.database.read() as reader:
            (row,) = await reader.rows(_fingerprint(*besides))
        return repr(tuple(row))

    async def rows_about(self, words: Iterable[str]) -> dict[str, list[str]]:
        """Every row, as text, that has one of the words in it, by table."""
        pattern = re.compile("|".join(map(re.escape, words)))
        found: dict[str, list[str]] = {}
        async with self.services.database.read() as reader:
            for table in _watched_tables():
                rows = [repr(tuple(row)) for row in await reader.rows(sa.select(*table.c))]
                found[table.name] = sorted(row for row in rows if pattern.search(row))
        return found


@cache
def _fingerprint(*besides: str) -> sa.Select[Any]:
    counts = [
        sa.select(sa.func.count()).select_from(table).scalar_subquery()
        for table in _watched_tables()
        if table.name not in besides
    ]
    stream = metadata.tables["event_stream"].c
    return sa.select(sa.select(sa.func.sum(stream.seq)).scalar_subquery(), *counts)


def _watched_tables() -> Sequence[sa.Table]:
    return [table for table in metadata.sorted_tables if table.name not in UNWATCHED]


def _scope(token: str | None, headers: Mapping[str, str]) -> dict[str, Any]:
    given = {"content-type": "application/json", "host": "testserver", **headers}
    if token is not None:
        given["authorization"] = f"Bearer {token}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/graphql",
        "raw_path": b"/graphql",
        "query_string": b"",
        "root_path": "",
        "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in given.items()],
        "client": CLIENT,
        "server": ("testserver", 80),
        "state": {},
    }


def _event_data(event: str) -> dict[str, Any] | None:
    lines = event.splitlines()
    data = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    if not data or "event: complete" in lines or not data[0]:
        return None
    parsed: dict[str, Any] = json.loads("".join(data))
    return parsed


@contextlib.asynccontextmanager
async def open_inside(
    folder: Path,
    *,
    database_url: str | None = None,
    owner: tuple[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Inside]:
    """A server on an empty database, or on one that has been used.

    Args:
        folder: its data folder.
        database_url: another database than a SQLite file in the folder.
        owner: token and id of the site's owner, where there is one already.
        settings: further settings; CUSTOM is an executor by default.
    """
    from resolvers.users import create_first_user

    given: dict[str, Any] = {
        "data_dir": folder,
        "custom_command": ["/bin/true", "{prompt_file}"],
        "sqlite_synchronous": "NORMAL",
        "metrics_port": 0,
        # Nothing starts them here, so none ever ends.
        "max_concurrent_commands": 1_000,
        "max_commands_per_user": 1_000,
        **settings,
    }
    if database_url is not None:
        given["database_url"] = database_url
    chosen = Settings(**given)
    folder.mkdir(parents=True, exist_ok=True)
    await migrate(chosen.database_dsn)
    with pytest.MonkeyPatch.context() as patch, _quiet_log():
        patch.setattr("server.app.supervised_workers", _no_workers)
        patch.setattr("server.services.ArgonPasswords", partial(ArgonPasswords, fast=True))
        patch.setattr("server.services.make_git", lambda _: GitWithoutNetwork())
        patch.setattr("server.services.make_forge", lambda _: ForgeWithoutNetwork())
        errors: list[str] = []
        patch.setattr("server.graphql._log_internal_error", _recorder(errors))
        patch.setattr("server.rest._log_error", _recorder(errors))
        app = create_app(chosen)
        async with app.router.lifespan_context(app):
            services: Services = app.state.server.services
            if owner is None:
                user, key = await create_first_user(Context(services, SYSTEM))
                owner = key.secret or "", user.id
            yield Inside(app, services, *owner, errors)


@contextlib.contextmanager
def not_compiled() -> Iterator[None]:
    """Documents are left to graphql-core meanwhile."""
    with leave_to_reference(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainGraphQL, "find", lambda *_: None)
        yield


@contextlib.contextmanager
def _quiet_log() -> Iterator[None]:
    """No line for each of thousands of requests."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**before)


@contextlib.asynccontextmanager
async def _no_workers(*_: Any, **__: Any) -> AsyncIterator[None]:
    yield


def _recorder(errors: list[str]) -> Any:
    def record(error: BaseException, *, error_id: str, path: Any = None) -> None:
        errors.append(f"{path}: {type(error).__name__}: {error}"[:1000])

    return record


def stable_number(text: str) -> int:
    """A number that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
