"""Requests that nobody sends in good faith, to every operation of every language's document.

Whatever comes, the answer is one that the document tells of, and never a failure of the server.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
import pytest
import pytest_asyncio

from rest_compat.catalog import CATALOG
from tests.support.inside import open_inside, stable_number
from tests.support.rest import RestClient, rest_client
from tests.support.rest_seeds import path_arguments
from tests.support.rest_values import (
    QUERIES,
    QUERY_VALUES,
    RAW_BODIES,
    RAW_VALUES,
    SEGMENTS,
    Operation,
    example,
    operations_of,
    places,
    with_raw,
)
from tests.support.server import fresh_postgres
from tests.support.tenants import Tenant, make_tenant

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),  # all requests on PostgreSQL take a minute on a machine to itself
]
T = TypeVar("T")
LANGUAGES = [entry.name for entry in CATALOG]
KINDS = [
    pytest.param(("sqlite", 20), id="quick"),
    pytest.param(("sqlite", 1), id="sqlite", marks=pytest.mark.long),
    pytest.param(
        ("postgresql", 1), id="postgresql", marks=[pytest.mark.postgres, pytest.mark.long]
    ),
]
"""Which database, and which part of all requests (one of so many)."""
UNLIMITED = {name: dict.fromkeys(("minute", "hour", "refused"), 0) for name in ("VIBAN", "POSTHOG")}
HEADERS: tuple[dict[str, Any], ...] = (
    {"content-type": "text/plain"}, {"content-type": "application/json; charset=utf-16"},
    {"content-type": ""}, {"content-type": "multipart/form-data"}, {"host": "["},
    {"host": "a b"}, {"host": ""}, {"host": "x" * 3_000}, {"host": "board.test:99999999"},
    {"accept": "nothing/*"}, {"last-event-id": "9" * 400}, {"last-event-id": "-"},
    {"idempotency-key": ""}, {"idempotency-key": "k" * 400}, {"idempotency-key": "a\tb"},
    {"if-match": "*"}, {"range": "bytes=5-1"}, {"x-forwarded-for": "'"}, {"content-encoding": "br"},
    {"origin": "null"}, {"authorization": "Bearer"}, {"authorization": b"Bearer \xff"},
    {"authorization": "Basic Og=="}, {"authorization": "Bearer " + "x" * 5_000},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A language of a server with something in it; ``share`` is which part is sent."""

    client: RestClient
    tenant: Tenant
    share: int
    ids: dict[str, dict[str, str]]
    problems: list[str] = field(default_factory=list)

    @property
    def operations(self) -> list[Operation]:
        """Those that destroy come last."""
        found = operations_of(self.client.document.document)
        return sorted(found, key=lambda o: (o.method == "DELETE", "cancel" in o.name))

    def some(self, values: Sequence[T], where: object) -> Sequence[T]:
        """A part of the values, another one at each place; at least one."""
        if self.share == 1:
            return values
        step = min(self.share, len(values))
        return values[stable_number(str(where)) % step :: step]

    def path(self, operation: Operation, **other: str) -> str:
        """The operation's path, with other segments for some of its arguments."""
        chosen = "ended" if "stream" in operation.name else "open"
        given = {name: self.ids[chosen][name] for name in operation.arguments} | other
        if operation.name == "refine":  # it would wait for a run that nothing executes here
            given["task_id"] = other.get("task_id", "task_000000000000")
        return operation.path.format(**given)

    async def send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """One request; what is wrong with its answer goes into ``problems``."""
        async with asyncio.timeout(20):
            given = {"authorization": f"Bearer {self.tenant.tokens['admin']}"}
            given |= options.pop("headers", {})
            answer = await self.client.http.request(
                method, self.client.at + path, headers=given, **options
            )
        failed = self.tenant.inside.internal_errors
        if answer.status_code not in {*range(500), 503} or failed:
            about = f"{method} {path[:300]} {str(options)[:500]}"
            self.problems.append(f"{about}: {answer.status_code} {answer.text[:200]} {failed}")
            failed.clear()
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def tenant(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Tenant, int]]:
    folder = tmp_path_factory.mktemp("hostile")
    database, share = request.param
    async with AsyncExitStack() as held:
        url = held.enter_context(fresh_postgres()) if database == "postgresql" else None
        inside = await held.enter_async_context(
            open_inside(folder / "data", database_url=url, rate_limits=UNLIMITED)
        )
        yield await make_tenant(inside, "Aardvark", folder), share


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LANGUAGES)
async def target(
    request: pytest.FixtureRequest, tenant: tuple[Tenant, int]
) -> AsyncIterator[Target]:
    made, share = tenant
    token = made.tokens["admin"]
    async with rest_client(made.inside, request.param, token=token) as client:
        ids = {
            "open": await path_arguments(made, request.param, client),
            "ended": await path_arguments(made, request.param, client, ended=True),
        }
        yield Target(client, made, share, ids)


def none_of(target: Target) -> None:
    """Fail with what went wrong."""
    found, target.problems[:] = [*target.problems], []
    assert not found, "\n".join(found[:20])


async def test_bodies(target: Target) -> None:
    for operation in target.operations:
        path = target.path(operation)
        headers = {"content-type": "application/json"}
        for raw in target.some(RAW_BODIES, operation.name):
            await target.send(operation.method, path, content=raw, headers=headers)
        if operation.body is None:
            continue
        whole = example(operation)
        for place in places(whole):
            for raw in target.some(RAW_VALUES, f"{operation.name} {place}"):
                for alone in (True, False):
                    body = with_raw(whole, place, raw, alone=alone)
                    await target.send(operation.method, path, content=body, headers=headers)
    none_of(target)


async def test_paths(target: Target) -> None:
    for operation in target.operations:
        body: dict[str, Any] = {} if operation.body is None else {"json": example(operation)}
        for name in operation.arguments:
            for segment in target.some(SEGMENTS, f"{operation.name} {name}"):
                path = target.path(operation, **{name: segment})
                answer = await target.send(operation.method, path, **body)
                assert answer.status_code >= 400 or segment in {"@current", ".", ".."}, path
        for odd in ("{}//", "//{}", "{}/.", "{}%00", "{};x", "{}/%2e%2e/x", "{}%2F"):
            answer = await target.send(operation.method, odd.format(target.path(operation)), **body)
    none_of(target)


async def test_queries(target: Target) -> None:
    for operation in target.operations:
        if operation.method == "DELETE":
            continue
        path = target.path(operation)
        for name in (*operation.query, "limit", "offset", "page", "per_page"):
            for value in target.some(QUERY_VALUES, f"{operation.name} {name}"):
                await target.send(operation.method, f"{path}?{name}={value}")
        for query in target.some(QUERIES, operation.name):
            await target.send(operation.method, f"{path}?{query}")
    none_of(target)


async def test_headers_and_methods(target: Target) -> None:
    for operation in target.operations:
        path = target.path(operation)
        body: dict[str, Any] = {} if operation.body is None else {"json": example(operation)}
        for headers in target.some(HEADERS, operation.name):
            await target.send(operation.method, path, headers=dict(headers), **body)
        for method in ("TRACE", "PROPFIND", "OPTIONS", "HEAD", "PUT", "x" * 300):
            await target.send(method, path)
    none_of(target)
