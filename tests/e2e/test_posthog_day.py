"""A PostHog client's day with runs that the server executes, and one that it drives itself."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.e2e.conftest import BOTH
from tests.support.board import make_repository
from tests.support.clients import PATIENCE
from tests.support.rest import Document, RestClient
from tests.support.server import RunningServer, a_server

TASKS = "/api/projects/1/tasks"


async def until(client: RestClient, path: str, **wanted: Any) -> Any:
    """The run or task at a path, as soon as it has these values."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await client.data("GET", path)
            if all(found.get(name) == value for name, value in wanted.items()):
                return found
            await asyncio.sleep(0.05)


async def start(client: RestClient, description: str, **body: Any) -> tuple[str, str]:
    """A task and the address of its run, which the server executes."""
    task = await client.data("POST", TASKS + "/", {"description": description}, status=201)
    started = await client.data("POST", f"{TASKS}/{task['id']}/run/", body or None)
    run = started["latest_run"]
    assert (run["environment"], run["status"]) == ("cloud", "queued")
    return f"{TASKS}/{task['id']}", f"{TASKS}/{task['id']}/runs/{run['id']}"


@pytest.mark.long
@pytest.mark.parametrize("database", BOTH)
async def test_a_day_with_posthog(database: str, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "project")
    with a_server(tmp_path / "server", database=database) as server:
        await asyncio.to_thread(
            server.command, "workspace", "create", "Acme", "--path", str(repository)
        )
        token = await asyncio.to_thread(server.make_token, "owner", "--dialect", "posthog")
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as http:
            document = Document((await http.get("/compat/posthog/openapi.json")).json())
            client = RestClient(http, document, at="", token=token)
            await _the_server_works(client)
            await _it_stops(client, server)
            await _a_client_works_and_hands_over(client)
        assert server.complaints() == []


async def _the_server_works(client: RestClient) -> None:
    task, run = await start(client, "do: print begins\ndo: write page.md text")
    stream = await client.send("GET", f"{run}/stream/")
    data = [orjson.loads(x[6:]) for x in stream.text.splitlines() if x.startswith("data: ")]
    assert data[-1] == {"type": "stream-end"}
    states = [item["status"] for item in data if item.get("type") == "task_run_state"]
    assert states[-1] == "completed"
    done = await until(client, run, status="completed")
    assert done["completed_at"] is not None
    assert done["branch"]
    log = (await client.send("GET", f"{run}/logs")).content
    assert any(b'"message":"begins"' in line for line in log.splitlines())
    assert (await client.http.get(done["log_url"])).content == log
    entries = [orjson.loads(line) for line in log.splitlines()]
    assert {entry["type"] for entry in entries} == {"notification"}
    page = await client.data("GET", f"{TASKS}/?status=completed")
    assert [f"{TASKS}/{found['id']}" for found in page["results"]] == [task]


async def _it_stops(client: RestClient, server: RunningServer) -> None:
    _, run = await start(client, "do: print begins\ndo: count 1 600 100", mode="interactive")
    await until(client, run, status="in_progress")
    refused = await client.send(
        "POST", f"{run}/command/", {"jsonrpc": "2.0", "method": "user_message", "params": {}}
    )
    assert refused.status_code == 400
    answer = await client.data(
        "POST", f"{run}/command/", {"jsonrpc": "2.0", "id": 7, "method": "cancel"}
    )
    assert answer == {"jsonrpc": "2.0", "id": 7, "result": {"stopped": True}}
    await until(client, run, status="cancelled")
    await asyncio.to_thread(server.await_no_run_processes)
    _, second = await start(client, "do: print begins\ndo: count 1 600 100")
    await until(client, second, status="in_progress")
    await client.data("PATCH", f"{second}/", {"status": "cancelled", "state": {"why": "enough"}})
    stopped = await until(client, second, status="cancelled")
    assert stopped["state"]["why"] == "enough"


async def _a_client_works_and_hands_over(client: RestClient) -> None:
    made = {"description": "do: write handed.md over"}
    task = await client.data("POST", TASKS, made, status=201)
    runs = f"{TASKS}/{task['id']}/runs"
    run = f"{runs}/{(await client.data('POST', runs, {}, status=201))['id']}"
    await client.data("PATCH", run, {"status": "in_progress", "stage": "plan"})
    await client.data("POST", f"{run}/append_log", {"entries": [{"by": "client"}]})
    await client.data("PATCH", run, {"status": "failed", "error_message": "battery"})
    taken = await client.data("POST", f"{run}/resume_in_cloud/")
    assert (taken["status"], taken["environment"]) == ("queued", "cloud")
    assert (taken["completed_at"], taken["error_message"]) == (None, None)
    await until(client, run, status="completed")
    lines = (await client.send("GET", f"{run}/logs")).content.splitlines()
    assert orjson.loads(lines[0]) == {"by": "client"}
    assert len(lines) > 1
