"""A Viban client's whole day, against a real server with real runs, worktrees and webhooks."""

import asyncio
import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import BOTH
from tests.support.board import EVENTS, make_repository
from tests.support.clients import PATIENCE, open_socket
from tests.support.receivers import Received, a_receiver
from tests.support.rest import Document, RestClient
from tests.support.server import RunningServer, a_server

SECRET = "between us"
HOOKS = ["task.created", "task.started", "task.completed", "task.failed"]
SIGHT_SECONDS = 0.1
"""Within which one client sees what another did, on a machine that has nothing else to do."""


class Day:
    """One client; every answer is held against the OpenAPI document."""

    def __init__(self, client: RestClient) -> None:
        self.client = client
        self.get = lambda path: client.data("GET", path)

    async def post(self, path: str, body: Any = None, *, status: int = 201) -> Any:
        return (await self.client.data("POST", path, body, status=status))["data"]

    async def move(self, task: str, word: str) -> Any:
        return (await self.client.data("PATCH", f"/api/v1/tasks/{task}", {"status": word}))["data"]

    async def until(self, path: str, **wanted: Any) -> Any:
        """The newest thing at a path, as soon as it has these values."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = (await self.get(path))["data"]
                newest = (found[0] if found else {}) if isinstance(found, list) else found
                if all(newest.get(name) == value for name, value in wanted.items()):
                    return newest
                await asyncio.sleep(0.05)


@pytest.mark.long
@pytest.mark.parametrize("database", BOTH)
async def test_a_day_with_viban(database: str, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "project")
    async with a_receiver() as receiver:
        with a_server(
            tmp_path / "server",
            database=database,
            webhook_allow_loopback="1",
            allow_local_repositories="1",
        ) as server:
            words = ("--dialect", "viban", "--scope", "task:write")
            token = await asyncio.to_thread(server.make_token, "owner", *words)
            async with httpx2.AsyncClient(base_url=server.url, timeout=90) as http:
                document = (await http.get("/compat/viban/openapi.json")).json()
                client = RestClient(http, Document(document), at="", token=token)
                await _morning(Day(client), repository, receiver.url)
                await _the_agents_work(Day(client), server)
            await receiver.until(8)
            await asyncio.to_thread(server.restart)
            async with httpx2.AsyncClient(base_url=server.url, timeout=90) as http:
                client = RestClient(http, Document(document), at="/compat/viban", token=token)
                await _evening(Day(client), server)
            assert server.complaints() == []
    _check_hooks(receiver.received)


async def _morning(day: Day, repository: Path, hook: str) -> None:
    project = await day.post(
        "/api/v1/projects", {"name": "Site", "repository_url": str(repository)}
    )
    made = await day.post(
        f"/api/v1/projects/{project['id']}/webhooks/",
        {"url": hook, "events": HOOKS, "secret": SECRET},
    )
    assert made["active"] is True
    assert (await day.get(f"/api/v1/projects/{project['id']}/webhooks"))["data"] == [made]
    for title, description in (
        ("write a page", "do: write page.md text\ndo: print written"),
        ("fail", "do: err it does not work\ndo: exit 3"),
        ("take long", "do: print begins\ndo: count 1 600 100"),
    ):
        await day.post(
            f"/api/v1/projects/{project['id']}/tasks", {"title": title, "description": description}
        )


async def _tasks(day: Day) -> tuple[str, dict[str, str]]:
    [project] = (await day.get("/api/v1/projects"))["data"]
    listed = await day.get(f"/api/v1/projects/{project['id']}/tasks")
    return project["id"], {task["title"]: task["id"] for task in listed["data"]}


async def _the_agents_work(day: Day, server: RunningServer) -> None:
    project, tasks = await _tasks(day)
    refined = await day.post(f"/api/v1/tasks/{tasks['write a page']}/refine", status=200)
    assert "written" in refined["refined_description"]
    await _is_seen_at_once(day, tasks["write a page"], server)
    await day.move(tasks["write a page"], "inprogress")
    executions = f"/api/v1/tasks/{tasks['write a page']}/executions"
    done = await day.until(executions, status="completed")
    assert done["exit_code"] == 0
    assert (Path(done["worktree_path"]) / "page.md").read_text() == "text\n"
    await day.until(f"/api/v1/tasks/{tasks['write a page']}", status="inreview")
    await day.move(tasks["write a page"], "done")

    await day.move(tasks["fail"], "inprogress")
    failed = await day.until(f"/api/v1/tasks/{tasks['fail']}/executions", status="failed")
    assert failed["exit_code"] == 3
    assert "does not work" in failed["error_message"]
    assert (await day.get(f"/api/v1/tasks/{tasks['fail']}"))["data"]["status"] == "inprogress"

    await day.move(tasks["take long"], "inprogress")
    running = await day.until(f"/api/v1/tasks/{tasks['take long']}/executions", status="running")
    cancelled = await day.post(f"/api/v1/executions/{running['id']}/cancel", status=200)
    assert cancelled["status"] == "cancelled"
    await asyncio.to_thread(server.await_no_run_processes)
    await day.until(f"/api/v1/tasks/{tasks['take long']}/executions", status="cancelled")
    kept = (await day.get(f"/api/v1/tasks/{tasks['take long']}"))["data"]
    assert kept["status"] == "inprogress"
    counts = {
        word: (await day.get(f"/api/v1/projects/{project}/tasks?status={word}"))["meta"]["total"]
        for word in ("todo", "inprogress", "inreview", "done")
    }
    assert counts == {"todo": 0, "inprogress": 2, "inreview": 0, "done": 1}


async def _is_seen_at_once(day: Day, task: str, server: RunningServer) -> None:
    """A subscriber sees the client's change, and the client the subscriber's."""
    ask = {
        "query": "{ workspaces { nodes { id cursor } } "
        "tasks(orderBy: NUMBER_ASC) { nodes { id } } }"
    }
    headers = {"authorization": f"Bearer {server.token}"}
    found = (await day.client.http.post("/graphql", json=ask, headers=headers)).json()["data"]
    [workspace], ours = found["workspaces"]["nodes"], found["tasks"]["nodes"][0]["id"]
    given = {"workspaceId": workspace["id"], "after": workspace["cursor"]}
    async with open_socket(server.websocket_url, server.token) as socket:
        stream = await socket.subscribe(EVENTS, given)
        best = PATIENCE
        for number in range(5):
            began = time.perf_counter()
            title = {"title": f"write a page {number}"}
            await day.client.data("PATCH", f"/api/v1/tasks/{task}", title)
            async for item in stream:
                event = item["events"]
                if event["__typename"] == "Event" and event["type"] == "task.updated":
                    break
            best = min(best, time.perf_counter() - began)
        assert best < SIGHT_SECONDS
    change = {"query": f'mutation {{ updateTask(input: {{id: "{ours}", title: "write a page"}}) '
              "{ cursor } }"}  # fmt: skip
    await day.client.http.post("/graphql", json=change, headers=headers)
    assert (await day.get(f"/api/v1/tasks/{task}"))["data"]["title"] == "write a page"


async def _evening(day: Day, server: RunningServer) -> None:
    """After a restart everything is there; then it is tidied up."""
    project, tasks = await _tasks(day)
    [hook] = (await day.get(f"/api/v1/projects/{project}/webhooks"))["data"]
    await day.client.data("DELETE", f"/api/v1/webhooks/{hook['id']}", status=204)
    for task in tasks.values():
        await day.client.data("DELETE", f"/api/v1/tasks/{task}", status=204)
    assert (await day.get(f"/api/v1/projects/{project}/tasks"))["data"] == []
    worktrees = server.data_dir / "data" / "worktrees"
    async with asyncio.timeout(PATIENCE):
        while list(worktrees.rglob("page.md")):
            await asyncio.sleep(0.05)


def _check_hooks(received: list[Received]) -> None:
    # At least once: a restart may repeat one that was under way, under the same id.
    once = {call.headers["x-viban-delivery"]: call for call in received}
    names = [call.headers["x-viban-event"] for call in once.values()]
    assert sorted(names) == sorted(
        ["task.created"] * 3 + ["task.started"] * 3 + ["task.completed", "task.failed"]
    )
    for call in received:
        assert call.body == once[call.headers["x-viban-delivery"]].body
        digest = hmac.new(SECRET.encode(), call.body, hashlib.sha256).hexdigest()
        assert call.headers["x-viban-signature"] == f"sha256={digest}"
    [completed] = [call.json for call in once.values() if call.json["event"] == "task.completed"]
    assert completed["data"]["task"]["status"] == "inreview"
    assert completed["data"]["execution"]["status"] == "completed"
