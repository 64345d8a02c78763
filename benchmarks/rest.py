"""Part rest: what the REST languages cost beside GraphQL, and how soon one sees the other.

The same rows by the same server, one request after the other, GraphQL and the language in turn; CPU
is the server's, by the scheduler's count.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.processes import cpu_seconds
from benchmarks.report import Section
from tests.support.board import EVENTS
from tests.support.clients import open_socket
from tests.support.server import RunningServer, a_server

TASKS = 50
ROUNDS, REQUESTS = 9, 60
QUICK_ROUNDS, QUICK_REQUESTS = 3, 20
SIGHTS = 100
MANY = 10_000_000
"""Requests are counted, and none is refused."""
FIGURES = (
    "CPU ms per request of the equal compiled query and of the list; median of slices in turn, "
    f"ratio of slices that follow each other. Times in ms: median and worst of {SIGHTS}."
)
QUERIES = {
    "viban": """query ($id: ID!) { tasks(workspaceId: $id, first: 50, orderBy: CREATED_AT_ASC) {
      totalCount nodes { id title description status createdAt updatedAt
      workspace { number } } } }""",
    "posthog": """query ($id: ID!) { tasks(workspaceId: $id, first: 50, orderBy: CREATED_AT_DESC) {
      totalCount nodes { id number title description repository archivedAt createdAt updatedAt
      workspace { name } latestRun { id status branch error
      createdAt updatedAt finishedAt } } } }""",
}

Ask = Callable[[], Awaitable[httpx2.Response]]


class _Bench:
    """A server with a board of tasks, and the owner's connection."""

    def __init__(self, server: RunningServer, http: httpx2.AsyncClient) -> None:
        self.server = server
        self.http = http
        self.project = self.workspace = ""

    async def graphql(self, query: str, **variables: Any) -> httpx2.Response:
        return await self.http.post("/graphql", json={"query": query, "variables": variables})

    async def fill(self) -> None:
        body = {"name": "Bench", "repository_url": "https://git.example.org/bench.git"}
        made = await self.http.post("/compat/viban/api/v1/projects", json=body)
        self.project = made.json()["data"]["id"]
        for number in range(TASKS):
            task = {"title": f"Task {number}", "description": "Lorem ipsum " * 8}
            await self.http.post(f"/compat/viban/api/v1/projects/{self.project}/tasks", json=task)
        found = await self.graphql("{ workspaces { nodes { id number } } }")
        self.workspace = found.json()["data"]["workspaces"]["nodes"][0]["id"]

    def lists(self) -> dict[str, tuple[Ask, Ask]]:
        """For each language the equal GraphQL query, and its own list."""
        paths = {
            "viban": f"/compat/viban/api/v1/projects/{self.project}/tasks?limit=50",
            "posthog": "/compat/posthog/api/projects/1/tasks/?limit=50",
        }
        return {
            language: (
                lambda query=QUERIES[language]: self.graphql(query, id=self.workspace),
                lambda path=path: self.http.get(path),
            )
            for language, path in paths.items()
        }

    async def cpu(self, ask: Ask, requests: int) -> float:
        """Milliseconds of CPU a request takes."""
        assert self.server.process is not None
        pids = [self.server.process.pid]
        before = cpu_seconds(pids)
        for _ in range(requests):
            answer = await ask()
            assert answer.is_success, answer.text
            assert "errors" not in answer.json(), answer.text
        return (cpu_seconds(pids) - before) / requests * 1000

    async def sights(self, count: int) -> list[float]:
        """Milliseconds from a Viban client's request to the event at a subscriber."""
        path = f"/compat/viban/api/v1/projects/{self.project}/tasks"
        task = (await self.http.get(path)).json()["data"][0]["id"]
        found = await self.graphql("{ workspaces { nodes { id cursor } } }")
        cursor = found.json()["data"]["workspaces"]["nodes"][0]["cursor"]
        given = {"workspaceId": self.workspace, "after": cursor}
        times = []
        async with open_socket(self.server.websocket_url, self.server.token) as socket:
            stream = await socket.subscribe(EVENTS, given)
            for number in range(count):
                began = time.perf_counter()
                change = asyncio.create_task(
                    self.http.patch(
                        f"/compat/viban/api/v1/tasks/{task}", json={"title": f"New {number}"}
                    )
                )
                async for item in stream:
                    if item["events"]["__typename"] == "Event":
                        break
                times.append((time.perf_counter() - began) * 1000)
                assert (await change).is_success
        return times

    async def sights_back(self, count: int) -> list[float]:
        """Milliseconds from a GraphQL client's request until a Viban client has read the change."""
        path = f"/compat/viban/api/v1/projects/{self.project}/tasks?limit=1"
        found = await self.graphql(QUERIES["viban"], id=self.workspace)
        task = found.json()["data"]["tasks"]["nodes"][0]["id"]
        change = (
            "mutation ($id: ID!, $t: String!) "
            "{ updateTask(input: {id: $id, title: $t}) { cursor } }"
        )
        times = []
        for number in range(count):
            began = time.perf_counter()
            await self.graphql(change, id=task, t=f"Newer {number}")
            seen = (await self.http.get(path)).json()["data"][0]["title"]
            times.append((time.perf_counter() - began) * 1000)
            assert seen == f"Newer {number}"
        return times


def section(*, quick: bool) -> Section:
    """The figures as a part of the report."""
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(_measure(Path(folder), quick=quick))
    return Section(
        f"REST: lists of {TASKS} tasks, and who sees what when",
        ["what", "GraphQL", "REST", "REST / GraphQL"],
        rows,
        [FIGURES],
    )


async def _measure(folder: Path, *, quick: bool) -> list[list[str]]:
    rounds, requests = (QUICK_ROUNDS, QUICK_REQUESTS) if quick else (ROUNDS, REQUESTS)
    with a_server(
        folder,
        rate_limits=json.dumps(
            {name: {"minute": MANY, "hour": MANY} for name in ("VIBAN", "POSTHOG")}
        ),
    ) as server:
        headers = {"authorization": f"Bearer {server.token}"}
        async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as http:
            bench = _Bench(server, http)
            await bench.fill()
            rows = [await _row(bench, *both, rounds, requests) for both in bench.lists().items()]
            for name, times in (
                ("Viban's change reaches a subscriber, ms", await bench.sights(SIGHTS)),
                ("GraphQL's change is read by Viban, ms", await bench.sights_back(SIGHTS)),
            ):
                rows.append([name, "", f"{statistics.median(times):.1f} / {max(times):.1f}", ""])
            return rows


async def _row(
    bench: _Bench, language: str, asks: tuple[Ask, Ask], rounds: int, requests: int
) -> list[str]:
    for ask in asks:
        await bench.cpu(ask, 10)
    slices = [[await bench.cpu(ask, requests) for ask in asks] for _ in range(rounds)]
    ours, theirs = (statistics.median(part) for part in zip(*slices, strict=True))
    ratio = statistics.median(rest / graphql for graphql, rest in slices)
    return [f"{language}: list, CPU ms", f"{ours:.2f}", f"{theirs:.2f}", f"{ratio:.2f}"]
