"""PostHog Tasks as its clients speak it; every answer is held against the OpenAPI document."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from models.enums import Dialect, RunStatus
from resolvers.context import Context
from resolvers.principal import Principal
from resolvers.tokens import create_token
from rest_compat.posthog import words
from tests.support.inside import Inside
from tests.support.rest import RestClient, rest_client

PROJECT = "/api/projects/1"
TASKS = f"{PROJECT}/tasks"
UNKNOWN = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
async def posthog(inside: Inside) -> AsyncIterator[RestClient]:
    """The site owner's client, with one project."""
    made = await inside.post(
        'mutation { createWorkspace(input: {name: "Acme Web App"}) { cursor } }', token=inside.token
    )
    assert made.data
    async with rest_client(inside, "posthog") as client:
        yield client


def owner(inside: Inside) -> Context:
    principal = Principal(kind="user", id=inside.owner_id, name="owner", is_site_owner=True)
    return Context(inside.services, principal)


async def new_task(posthog: RestClient, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = await posthog.data("POST", TASKS + "/", fields, status=201)
    return made


async def new_run(posthog: RestClient, **fields: Any) -> tuple[str, dict[str, Any]]:
    task = await new_task(posthog, title="T")
    path = f"{TASKS}/{task['id']}/runs"
    run = await posthog.data("POST", path + "/", fields, status=201)
    return f"{path}/{run['id']}", run


async def test_a_task_is_made_changed_and_hidden(posthog: RestClient) -> None:
    task = await new_task(posthog, description="  Fix the login\nIt fails  ", unknown=1)
    assert task["task_number"] == 0
    assert task["slug"] == "AWA-0"
    assert (task["title"], task["title_manually_set"]) == ("Fix the login", False)
    assert task["latest_run"] is None
    assert task["created_by"]["id"] == 1
    assert (await new_task(posthog, title="B"))["task_number"] == 1
    path = f"{TASKS}/{task['id']}"
    changed = await posthog.data(
        "PATCH", path + "/", {"title": "", "repository": "Acme/Web", "archived": True}
    )
    assert (changed["title"], changed["title_manually_set"]) == ("", True)
    assert changed["repository"] == "acme/web"
    assert changed["archived_at"] is not None
    again = await posthog.data("PUT", path, {"archived": False, "origin_product": "slack"})
    assert (again["archived_at"], again["origin_product"]) == (None, "user_created")
    assert await posthog.data("GET", path) == again
    assert (await posthog.send("DELETE", path + "/")).status_code == 204
    for method in ("GET", "DELETE", "PATCH"):
        answer = await posthog.send(method, path)
        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"


async def test_lists_are_filtered_and_paged(posthog: RestClient) -> None:
    ids = [(await new_task(posthog, title=f"Task {n}"))["id"] for n in range(5)]
    await new_task(posthog, title="hidden", internal=True)
    await new_task(posthog, title="old", archived=True)
    page = await posthog.data("GET", f"{TASKS}/?limit=2&offset=2&search=Task")
    assert page["count"] == 5
    assert [task["id"] for task in page["results"]] == [ids[2], ids[1]]
    assert page["next"].endswith(f"{TASKS}/?search=Task&limit=2&offset=4")
    assert page["previous"].endswith(f"{TASKS}/?search=Task&limit=2")
    for query, count in (
        ("limit=0&offset=-1", 5), ("limit=500", 5), ("offset=99", 5), ("search=AWA-3", 1),
        ("internal=true", 1), ("internal=all", 6), ("archived=true", 1), ("archived=all", 6),
        ("created_by=1", 5), ("created_by=99", 0), ("origin_product=nothing", 0),
        ("status=queued", 0), ("stage=x", 0), ("organization=a", 0), ("nonsense=1", 5),
    ):  # fmt: skip
        assert (await posthog.data("GET", f"{TASKS}/?{query}"))["count"] == count, query
    for query, code, attr in (
        ("archived=maybe", "invalid_choice", "archived"),
        ("status=done", "invalid_choice", "status"),
        ("created_by=me", "invalid_input", "created_by"),
        ("repository=", "blank", "repository"),
    ):
        answer = await posthog.send("GET", f"{TASKS}?{query}")
        assert answer.status_code == 400
        assert (answer.json()["code"], answer.json()["attr"]) == (code, attr)
    short = await posthog.data("POST", f"{TASKS}/summaries/", {"ids": ids[:2]})
    assert [task["id"] for task in short["results"]] == [ids[1], ids[0]]


@pytest.mark.parametrize(
    ("body", "code", "attr"),
    [
        ({"title": "x" * 256}, "max_length", "title"),
        ({"title": None}, "null", "title"),
        ({"title": ["x"]}, "invalid_input", "title"),
        ({"archived": "maybe"}, "invalid_input", "archived"),
        ({"origin_product": "x"}, "invalid_choice", "origin_product"),
        ({"json_schema": []}, "not_a_dict", "json_schema"),
        ({"repository": "noslash"}, "invalid_input", "repository"),
        ({"repository": "a/b/c"}, "invalid_input", "repository"),
        ({"github_integration": 7}, "invalid_input", "github_integration"),
        ({"signal_report": "x"}, "invalid_input", "signal_report"),
        ({"description": "\x00"}, "invalid_input", "description"),
        ([], "invalid_input", None),
        ("x", "invalid_input", None),
    ],
)
async def test_bad_bodies_name_the_field(
    posthog: RestClient, body: Any, code: str, attr: str | None
) -> None:
    answer = await posthog.send("POST", TASKS + "/", body)
    assert answer.status_code == 400
    refusal = answer.json()
    assert (refusal["type"], refusal["code"], refusal["attr"]) == ("validation_error", code, attr)


@pytest.mark.parametrize(
    "content", [b"{", b'{"title": NaN}', b'{"a": 1e999}', b"\xff", b'"\\ud800"']
)
async def test_what_is_no_json(posthog: RestClient, content: bytes) -> None:
    answer = await posthog.send("POST", TASKS, content=content)
    assert answer.status_code == 400
    assert answer.json()["type"] in {"invalid_request", "validation_error"}


async def test_keys_and_projects(posthog: RestClient, inside: Inside) -> None:
    for token, code in (("phx_wrong", "authentication_failed"), ("", "not_authenticated")):
        headers = {"authorization": f"Bearer {token}" if token else ""}
        answer = await posthog.send("GET", TASKS, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert answer.headers["www-authenticate"] == "Bearer"
    for project in ("99", "x", "0", "9" * 30):
        answer = await posthog.send("GET", f"/api/projects/{project}/tasks")
        assert (answer.status_code, answer.json()["detail"]) == (404, "Project not found.")
    assert (await posthog.data("GET", "/api/projects/@current/tasks/"))["count"] == 0
    headers = {"authorization": ""}
    found = await posthog.send("GET", f"{TASKS}?personal_api_key={posthog.token}", headers=headers)
    assert found.status_code == 200
    made = await create_token(
        owner(inside), user_id=inside.owner_id, dialect=Dialect.POSTHOG, scopes=["task:read"]
    )
    reader = posthog.like(token=made.secret)
    assert (await reader.data("GET", TASKS))["count"] == 0
    answer = await reader.send("POST", TASKS, {})
    assert answer.status_code == 403
    assert answer.json()["detail"] == "API key missing required scope 'task:write'"


async def test_a_client_drives_its_run(posthog: RestClient) -> None:
    path, run = await new_run(posthog)
    assert (await posthog.http.get(run["log_url"])).status_code == 404
    assert (run["status"], run["environment"], run["state"]) == (
        "queued", "local", {"mode": "background"},
    )  # fmt: skip
    await posthog.data("PATCH", path + "/", {"status": "in_progress", "output": {"a": 1}})
    patched = await posthog.data(
        "PATCH", path, {"state": {"x": 1, "sandbox_id": "s"}, "output": {"b": 2}, "stage": "build"}
    )
    assert patched["state"] == {"mode": "background", "x": 1}
    assert patched["output"] == {"a": 1, "b": 2}
    assert patched["stage"] == "build"
    patched = await posthog.data("PATCH", path, {"state_remove_keys": ["x"], "output": None})
    assert (patched["state"], patched["output"]) == ({"mode": "background"}, None)
    replaced = await posthog.data("PATCH", f"{path}/set_output/", {"output": [1]})
    assert replaced["output"] == [1]
    chunk = {"notification": {"method": "session/update", "params": {
        "update": {"sessionUpdate": "agent_message_chunk"}}}}  # fmt: skip
    entries = [
        {"type": "notification", "timestamp": "2030-01-01T00:00:00Z", "n": 1},
        chunk,
        {"notification": {"method": "_posthog/x"}, "timestamp": "2030-01-02T00:00:00Z"},
    ]
    await posthog.data("POST", f"{path}/append_log/", {"entries": entries})
    await posthog.data("POST", f"{path}/append_log/", {"entries": [chunk]})
    log = await posthog.send("GET", f"{path}/logs")
    assert [orjson.loads(line) for line in log.content.splitlines()] == [entries[0], entries[2]]
    assert log.content.endswith(b"\n")
    anybody = await posthog.http.get(run["log_url"])
    assert anybody.content == log.content
    assert (await posthog.http.get(run["log_url"][:-1])).status_code == 403
    some = await posthog.send(
        "GET", f"{path}/session_logs/?after=2030-01-01T12:00:00Z&event_types=_posthog/x,y"
    )
    assert some.json() == [entries[2]]
    assert some.headers["x-total-count"] == "2"
    assert some.headers["x-has-more"] == "false"
    done = await posthog.data("PATCH", path, {"status": "completed"})
    assert done["completed_at"] is not None
    late = await posthog.data("PATCH", path, {"status": "failed", "error_message": "x"})
    assert late == done
    for body, code, attr in (
        ({"entries": []}, "invalid_input", "entries"),
        ({}, "required", "entries"),
        ({"entries": [1]}, "not_a_dict", "entries__0"),
        ({"entries": {}}, "not_a_list", "entries"),
    ):
        answer = await posthog.send("POST", f"{path}/append_log", body)
        assert (answer.status_code, answer.json()["code"], answer.json()["attr"]) == (
            400, code, attr,
        )  # fmt: skip


async def test_a_resumed_run_continues_the_log(posthog: RestClient) -> None:
    path, run = await new_run(posthog, environment="cloud", branch="main")
    await posthog.data("POST", f"{path}/append_log", {"entries": [{"n": 1}]})
    task_path = path.partition("/runs/")[0]
    body = {"resume_from_run_id": run["id"], "mode": "interactive", "pending_user_message": " go "}
    task = await posthog.data("POST", f"{task_path}/run/", body)
    latest = task["latest_run"]
    assert latest["id"] != run["id"]
    assert latest["state"] == {
        "mode": "interactive", "resume_from_run_id": run["id"], "pending_user_message": "go",
        "pr_base_branch": "main",
    }  # fmt: skip
    newer = f"{task_path}/runs/{latest['id']}"
    await posthog.data("POST", f"{newer}/append_log", {"entries": [{"n": 2}]})
    assert (await posthog.send("GET", f"{newer}/logs/")).content == b'{"n":1}\n{"n":2}\n'
    runs = await posthog.data("GET", f"{task_path}/runs/")
    assert [found["id"] for found in runs["results"]] == [latest["id"], run["id"]]
    answer = await posthog.send("POST", f"{task_path}/run", {"resume_from_run_id": UNKNOWN})
    assert answer.json() == {"detail": "Invalid resume_from_run_id"}
    answer = await posthog.send("POST", f"{task_path}/run", {"model": "m"})
    assert (answer.json()["attr"], answer.json()["code"]) == ("runtime_adapter", "invalid_input")
    for name, error in (
        ("resume_in_cloud", "Run is already active in cloud"),
        ("command", "No active sandbox for this task run"),
        ("connection_token", "No active sandbox for this task run"),
    ):
        body = {"jsonrpc": "2.0", "method": "user_message"} if name == "command" else None
        method = "GET" if name == "connection_token" else "POST"
        answer = await posthog.send(method, f"{newer}/{name}/", body)
        assert (answer.status_code, answer.json()) == (400, {"error": error})
    assert (await posthog.data("POST", f"{newer}/start/", {}))["id"] == task["id"]
    relayed = await posthog.data("POST", f"{newer}/relay_message/", {"text": "hello"})
    assert relayed == {"status": "skipped"}


async def test_output_has_to_obey_the_schema(posthog: RestClient) -> None:
    path, _ = await new_run(posthog)
    schema = {"type": "object", "required": ["verdict"]}
    await posthog.data("PATCH", path.partition("/runs/")[0], {"json_schema": schema})
    answer = await posthog.send("PATCH", f"{path}/set_output/", {"output": {}})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Output validation error: ")


async def test_a_stream_replays_follows_and_ends(posthog: RestClient) -> None:
    path, _ = await new_run(posthog)
    await posthog.data("POST", f"{path}/append_log", {"entries": [{"n": 1}]})
    reading = asyncio.create_task(posthog.send("GET", f"{path}/stream/"))
    await asyncio.sleep(0)
    await posthog.data("PATCH", path, {"status": "in_progress"})
    await posthog.data("POST", f"{path}/append_log", {"entries": [{"n": 2}]})
    await posthog.data("PATCH", path, {"status": "completed"})
    frames = (await reading).text.split("\n\n")
    data = [
        orjson.loads(line[6:]) for f in frames for line in f.splitlines() if line[:5] == "data:"
    ]
    assert [entry for entry in data if "n" in entry] == [{"n": 1}, {"n": 2}]
    states = [entry["status"] for entry in data if entry.get("type") == "task_run_state"]
    assert states[-1] == "completed"
    assert data[-1] == {"type": "stream-end"}
    seen = next(f.splitlines()[0] for f in frames if '"n":1' in f).removeprefix("id: ")
    again = await posthog.send("GET", f"{path}/stream", headers={"last-event-id": seen})
    assert '"n":1' not in again.text
    assert '"n":2' in again.text
    refused = await posthog.http.get(
        posthog.at + path + "/stream",
        headers={"authorization": f"Bearer {posthog.token}", "accept": "application/json"},
    )
    assert refused.status_code == 406


async def test_the_caller(posthog: RestClient) -> None:
    me = await posthog.data("GET", "/api/users/@me/")
    assert me["id"] == 1
    assert me["distinct_id"] == me["uuid"]
    reports = await posthog.data("GET", f"{PROJECT}/signals/reports/?task_id=1")
    assert reports == {"results": []}


@pytest.mark.parametrize("status", list(RunStatus))
def test_writing_back_the_word_that_was_read_changes_nothing(status: RunStatus) -> None:
    assert words.status_from(words.status_word(status), status) == status


def test_the_vocabulary_is_total() -> None:
    assert set(words.RUN_STATUS) == set(RunStatus)
    for word in words.RUN_STATUSES:
        shown = words.status_word(words.status_from(word))
        assert shown == ("queued" if word == "not_started" else word)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("Acme Web App", "AWA"), ("widgets", "WID"), ("", "TSK"), ("a-b", "AB"), ("éé", "TSK")],
)
def test_slugs(name: str, prefix: str) -> None:
    assert words.slug_prefix(name) == prefix
