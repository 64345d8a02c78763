"""Viban's webhooks as its contract tells them, over real sockets."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from models.enums import Executor, RunStatus
from resolvers.run_claims import claim_run
from resolvers.run_execution import RunOutcome, finish_run
from tests.support.inside import Inside, open_inside
from tests.support.receivers import Received, Receiver, a_receiver
from tests.support.rest import RestClient
from workers.webhooks import WebhookDeliverer

ALL = ["task.created", "task.started", "task.completed", "task.failed"]


@pytest.fixture
async def inside(tmp_path: Path, database_url: str) -> AsyncIterator[Inside]:
    """A server whose webhooks may go to this machine."""
    async with open_inside(
        tmp_path / "data", database_url=database_url, webhook_allow_loopback=True
    ) as opened:
        yield opened
        assert opened.internal_errors == []


@asynccontextmanager
async def delivering(inside: Inside) -> AsyncIterator[None]:
    task = asyncio.create_task(WebhookDeliverer(sole=True).run_for_ever(inside.services))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def new_project(viban: RestClient) -> str:
    given = {"name": "Site", "repository_url": "https://git.example.org/site.git"}
    return str((await viban.data("POST", "/api/v1/projects", given, status=201))["data"]["id"])


async def new_hook(viban: RestClient, project: str, receiver: Receiver, **fields: Any) -> Any:
    given = {"url": receiver.url, "events": ALL, **fields}
    path = f"/api/v1/projects/{project}/webhooks"
    return (await viban.data("POST", path, given, status=201))["data"]


async def execute(inside: Inside, outcome: RunOutcome) -> None:
    """Start the run that waits, and end it."""
    claimed = await claim_run(
        inside.system(), host="here", executors=[e.value for e in Executor], maximum=9
    )
    assert claimed is not None
    await finish_run(inside.system(), run_id=claimed.run.id, token=claimed.token, outcome=outcome)


def check_headers(received: Received, secret: str) -> None:
    digest = hmac.new(secret.encode(), received.body, hashlib.sha256).hexdigest()
    assert received.headers["x-viban-signature"] == f"sha256={digest}"
    assert received.headers["x-viban-event"] == received.json["event"]
    assert received.headers["x-viban-delivery"] == received.json["id"]
    assert received.headers["user-agent"] == "Viban-Webhooks/1"
    assert received.headers["content-type"] == "application/json"


async def test_a_cards_life_is_told(inside: Inside, viban: RestClient) -> None:
    async with a_receiver() as receiver, delivering(inside):
        project = await new_project(viban)
        hook = await new_hook(viban, project, receiver, secret="psst")
        assert hook == {
            "id": hook["id"], "project_id": project, "url": receiver.url, "events": ALL,
            "active": True, "created_at": hook["created_at"],
        }  # fmt: skip
        path = f"/api/v1/projects/{project}/tasks"
        task = (await viban.data("POST", path, {"title": "Do it"}, status=201))["data"]
        for status, outcome in (
            ("todo", RunOutcome(RunStatus.FAILED, "exit_code", error="broken", exit_code=2)),
            ("todo", RunOutcome(RunStatus.FAILED, "time_limit", error="too long")),
            ("todo", RunOutcome(RunStatus.COMPLETED, "done", exit_code=0)),
        ):
            await viban.data("PATCH", f"/api/v1/tasks/{task['id']}", {"status": status})
            await viban.data("PATCH", f"/api/v1/tasks/{task['id']}", {"status": "inprogress"})
            await execute(inside, outcome)
        received = await receiver.until(7)
        for one in received:
            check_headers(one, "psst")
            assert one.json["project_id"] == project
        bodies = [one.json for one in received]
        assert [body["event"] for body in bodies] == [
            "task.created", "task.started", "task.failed", "task.started", "task.failed",
            "task.started", "task.completed",
        ]  # fmt: skip
        assert bodies[0]["data"] == {"task": task}
        assert [body["data"]["task"]["status"] for body in bodies] == [
            "todo", *["inprogress"] * 5, "inreview",
        ]  # fmt: skip
        assert [b["data"]["execution"]["status"] for b in bodies[1:]] == [
            "running", "failed", "running", "failed", "running", "completed",
        ]  # fmt: skip
        assert bodies[2]["data"]["error"] == {"code": "agent_failed", "message": "broken"}
        assert bodies[4]["data"]["error"]["code"] == "timeout"
        assert bodies[6]["data"]["execution"]["exit_code"] == 0


async def test_without_a_secret_there_is_no_signature(inside: Inside, viban: RestClient) -> None:
    async with a_receiver() as receiver, delivering(inside):
        project = await new_project(viban)
        await new_hook(viban, project, receiver, events=["task.created"])
        await viban.data(
            "POST", f"/api/v1/projects/{project}/tasks", {"title": "Do it"}, status=201
        )
        (received,) = await receiver.until(1)
        assert "x-viban-signature" not in received.headers


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"url": "ftp://example.org/"}, "url"),
    ({"url": "http://169.254.169.254/"}, "url"),
    ({"url": "https://user:password@example.org/"}, "url"),
    ({"url": ""}, "url"),
    ({"events": []}, "events"),
    ({"events": ["task.created", "task.created"]}, "events"),
    ({"events": ["task.gone"]}, "events"),
    ({"secret": ""}, "secret"),
    ({"secret": "x" * 256}, "secret"),
]


async def test_what_is_wrong_is_named(viban: RestClient) -> None:
    project = await new_project(viban)
    for given, field in WRONG:
        body = {"url": "https://9.9.9.9/", "events": ALL, **given}
        answer = await viban.send("POST", f"/api/v1/projects/{project}/webhooks", body)
        assert answer.status_code == 422, answer.text
        assert list(answer.json()["error"]["details"]) == [field]


async def test_hooks_are_listed_and_dropped(viban: RestClient) -> None:
    project = await new_project(viban)
    async with a_receiver() as receiver:
        hook = await new_hook(viban, project, receiver)
    listed = await viban.data("GET", f"/api/v1/projects/{project}/webhooks")
    assert listed == {"data": [hook]}
    await viban.data("DELETE", f"/api/v1/webhooks/{hook['id']}", status=204)
    assert (await viban.data("GET", f"/api/v1/projects/{project}/webhooks")) == {"data": []}
    again = await viban.send("DELETE", f"/api/v1/webhooks/{hook['id']}")
    assert (again.status_code, again.json()["error"]["message"]) == (404, "Webhook not found")
