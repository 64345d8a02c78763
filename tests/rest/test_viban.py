import re
from typing import Any

import pytest

from models.enums import Dialect
from resolvers.context import Context
from resolvers.principal import Principal
from resolvers.tokens import create_token
from resolvers.users import create_user
from tests.support.inside import Inside
from tests.support.rest import RestClient

NEW_PROJECT = {"name": " Site ", "repository_url": "https://git.example.org/site.git"}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


async def new_project(viban: RestClient) -> str:
    made = await viban.data("POST", "/api/v1/projects", NEW_PROJECT, status=201)
    return str(made["data"]["id"])


async def new_task(viban: RestClient, project: str, **fields: Any) -> str:
    path = f"/api/v1/projects/{project}/tasks"
    made = await viban.data("POST", path, {"title": "Do it", **fields}, status=201)
    return str(made["data"]["id"])


def owner(inside: Inside) -> Context:
    principal = Principal(kind="user", id=inside.owner_id, name="owner", is_site_owner=True)
    return Context(inside.services, principal)


def refusal(answer: Any) -> tuple[int, str, dict[str, Any]]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["details"]


async def test_a_project_is_registered_and_found(viban: RestClient) -> None:
    made = (await viban.data("POST", "/api/v1/projects", NEW_PROJECT, status=201))["data"]
    assert made["name"] == "Site"
    assert made["repository_url"] == NEW_PROJECT["repository_url"]
    assert MOMENT.fullmatch(made["created_at"])
    assert await viban.data("GET", f"/api/v1/projects/{made['id']}") == {"data": made}
    assert await viban.data("GET", "/api/v1/projects") == {"data": [made]}


async def test_a_card_goes_across_the_board(viban: RestClient) -> None:
    project = await new_project(viban)
    task = await new_task(viban, project)
    before = (await viban.data("GET", f"/api/v1/tasks/{task}"))["data"]
    assert before["status"] == "todo"
    assert before["description"] is None
    moved = await viban.data("PATCH", f"/api/v1/tasks/{task}", {"status": "inprogress"})
    assert moved["data"]["status"] == "inprogress"
    [execution] = (await viban.data("GET", f"/api/v1/tasks/{task}/executions"))["data"]
    assert execution["status"] == "pending"
    again = await viban.data("PATCH", f"/api/v1/tasks/{task}", {"status": "inprogress"})
    assert again == moved, "a word that was read is written back without effect"
    cancelled = await viban.data("POST", f"/api/v1/executions/{execution['id']}/cancel")
    assert cancelled["data"]["status"] == "cancelled"
    assert cancelled["data"]["completed_at"] is not None
    assert (await viban.data("GET", f"/api/v1/tasks/{task}"))["data"]["status"] == "inprogress"
    answer = await viban.send("POST", f"/api/v1/executions/{execution['id']}/cancel")
    assert refusal(answer)[:2] == (422, "validation_error")
    await viban.data("PATCH", f"/api/v1/tasks/{task}", {"status": "todo"})
    await viban.data("PATCH", f"/api/v1/tasks/{task}", {"status": "inprogress"})
    executions = (await viban.data("GET", f"/api/v1/tasks/{task}/executions"))["data"]
    assert [e["status"] for e in executions] == ["pending", "cancelled"], "newest first"
    await viban.data("PATCH", f"/api/v1/tasks/{task}", {"status": "done"})
    [newest, _] = (await viban.data("GET", f"/api/v1/tasks/{task}/executions"))["data"]
    assert newest["status"] == "cancelled"
    await viban.data("DELETE", f"/api/v1/tasks/{task}", status=204)
    for path in (f"/api/v1/tasks/{task}", f"/api/v1/tasks/{task}/executions"):
        assert refusal(await viban.send("GET", path)) == (404, "not_found", {})


async def test_changes_are_all_or_nothing(viban: RestClient, inside: Inside) -> None:
    project = await new_project(viban)
    task = await new_task(viban, project)
    change = {"title": "Other", "status": "inprogress", "agent": "gemini_cli"}
    status, code, details = refusal(await viban.send("PATCH", f"/api/v1/tasks/{task}", change))
    assert (status, code, list(details)) == (422, "validation_error", ["agent"])
    assert (await viban.data("GET", f"/api/v1/tasks/{task}"))["data"]["title"] == "Do it"
    kept = await viban.data("PATCH", f"/api/v1/tasks/{task}", {})
    assert kept["data"]["title"] == "Do it"
    text = await viban.data("PATCH", f"/api/v1/tasks/{task}", {"description": "why"})
    assert text["data"]["description"] == "why"
    none = await viban.data("PATCH", f"/api/v1/tasks/{task}", {"description": None})
    assert none["data"]["description"] is None


async def test_pages_of_tasks(viban: RestClient) -> None:
    project = await new_project(viban)
    tasks = [await new_task(viban, project, title=f"t{n}") for n in range(5)]
    await viban.data("PATCH", f"/api/v1/tasks/{tasks[1]}", {"status": "done"})
    path = f"/api/v1/projects/{project}/tasks"
    first = await viban.data("GET", f"{path}?limit=2&offset=1&unknown=x")
    assert [t["id"] for t in first["data"]] == tasks[1:3]
    assert first["meta"] == {"total": 5, "limit": 2, "offset": 1}
    done = await viban.data("GET", f"{path}?status=done")
    assert [t["id"] for t in done["data"]] == [tasks[1]]
    assert done["meta"] == {"total": 1, "limit": 50, "offset": 0}
    beyond = await viban.data("GET", f"{path}?limit=999999999999999&offset=999999999999999")
    assert beyond["data"] == []
    assert beyond["meta"]["limit"] == 200
    for query, field in (
        ("limit=0", "limit"), ("limit=x", "limit"), ("offset=-1", "offset"), ("limit=1.5", "limit"),
        ("status=later", "status"), ("status=", "status"), ("limit=%00", "limit"),
    ):  # fmt: skip
        status, code, details = refusal(await viban.send("GET", f"{path}?{query}"))
        assert (status, code, list(details)) == (422, "validation_error", [field]), query


BAD_BODIES = [
    (b"", {"name": ["is required"], "repository_url": ["is required"]}),
    (b"[]", {"body": ["must be a JSON object"]}),
    (b"7", {"body": ["must be a JSON object"]}),
    (b'{"name": null, "repository_url": 1}', {
        "name": ["must be a string"], "repository_url": ["must be a string"],
    }),
    (b'{"name": "  ", "repository_url": ""}', {
        "name": ["must not be empty"], "repository_url": ["must not be empty"],
    }),
    (b'{"name": "%s", "repository_url": "https://h/p"}' % (b"n" * 256), {
        "name": ["must have at most 255 characters"],
    }),
    (b'{"name": "n", "repository_url": "ext::sh -c id"}', {"repository_url": None}),
    (b'{"name": "n\\u0000", "repository_url": "https://h/p"}', {"name": None}),
    (b'{"name": 1e999}', {"body": None}),
    (b'{"name": NaN}', {"body": None}),
    (b'{"name": "\\ud800"}', {"body": None}),
    (b'{"name": "\xff"}', {"body": None}),
    (b'{"name"', {"body": None}),
    (b"[" * 4000, {"body": None}),
]  # fmt: skip


@pytest.mark.parametrize(("content", "wanted"), BAD_BODIES)
async def test_bad_bodies(viban: RestClient, content: bytes, wanted: dict[str, Any]) -> None:
    answer = await viban.send("POST", "/api/v1/projects", content=content)
    status, code, details = refusal(answer)
    assert (status, code) == (422, "validation_error")
    assert list(details) == list(wanted)
    for field, reasons in wanted.items():
        assert reasons is None or details[field] == reasons


async def test_of_a_repeated_member_the_last_counts(viban: RestClient) -> None:
    content = b'{"name": "a", "name": "b", "repository_url": "https://h/p"}'
    made = await viban.send("POST", "/api/v1/projects", content=content)
    assert made.json()["data"]["name"] == "b"


async def test_refusals_come_in_their_order(viban: RestClient, inside: Inside) -> None:
    nobody = RestClient(viban.http, viban.document, at=viban.at, token=None)
    for path in ("/api/v1/tasks/task_000000000000", "/api/v1/nothing", "/api/v1/tasks/../x"):
        answer = await nobody.send("GET", path)
        assert refusal(answer)[:2] == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for header in ("Basic b3duZXI6eA==", "Bearer", "Bearer not-a-token", f"Bearer {'x' * 600}"):
        answer = await nobody.send("GET", "/api/v1/projects", headers={"authorization": header})
        assert refusal(answer)[:2] == (401, "unauthorized")
    for path, kind in (
        ("/api/v1/projects/proj_zzzzzzzzzzzz", "Project"), ("/api/v1/projects/1", "Project"),
        ("/api/v1/tasks/task_000000000000", "Task"), ("/api/v1/tasks/%00", "Task"),
        ("/api/v1/tasks/task_%F0%9F%98%80/executions", "Task"),
    ):  # fmt: skip
        answer = await viban.send("GET", path)
        assert refusal(answer) == (404, "not_found", {})
        assert answer.json()["error"]["message"] == f"{kind} not found"
    missing = await viban.send("PATCH", "/api/v1/tasks/task_000000000000", content=b"{")
    assert refusal(missing)[:2] == (404, "not_found"), "a missing task before a wrong body"
    answer = await viban.send("POST", "/api/v1/executions/exec_000000000000/cancel")
    assert answer.json()["error"]["message"] == "Execution not found"
    assert refusal(await viban.send("GET", "/api/v1/nothing"))[:2] == (404, "not_found")


async def test_a_token_with_read_changes_nothing(viban: RestClient, inside: Inside) -> None:
    project = await new_project(viban)
    task = await new_task(viban, project)
    made = await create_token(owner(inside), dialect=Dialect.VIBAN, scopes=["task:read"])
    reader = viban.like(token=made.secret)
    await reader.data("GET", f"/api/v1/tasks/{task}")
    for method, path in (
        ("POST", "/api/v1/projects"), ("POST", f"/api/v1/projects/{project}/tasks"),
        ("PATCH", f"/api/v1/tasks/{task}"), ("DELETE", f"/api/v1/tasks/{task}"),
    ):  # fmt: skip
        content = b"{" if method != "DELETE" else None
        answer = await reader.send(method, path, content=content)
        assert refusal(answer)[:2] == (403, "forbidden"), (method, path)


async def test_write_of_a_viban_token_starts_agents(viban: RestClient, inside: Inside) -> None:
    task = await new_task(viban, await new_project(viban))
    for dialect, status in ((None, 403), (Dialect.VIBAN, 200)):
        made = await create_token(owner(inside), dialect=dialect, scopes=["task:write"])
        client = viban.like(token=made.secret)
        answer = await client.send("PATCH", f"/api/v1/tasks/{task}", {"status": "inprogress"})
        assert answer.status_code == status, answer.text


async def test_what_belongs_to_others_does_not_exist(viban: RestClient, inside: Inside) -> None:
    project = await new_project(viban)
    task = await new_task(viban, project, status="inprogress")
    [execution] = (await viban.data("GET", f"/api/v1/tasks/{task}/executions"))["data"]
    stranger = await create_user(owner(inside), name="stranger")
    made = await create_token(owner(inside), user_id=stranger.id)
    other = viban.like(token=made.secret)
    assert await other.data("GET", "/api/v1/projects") == {"data": []}
    for method, path in (
        ("GET", f"/api/v1/projects/{project}"), ("GET", f"/api/v1/projects/{project}/tasks"),
        ("POST", f"/api/v1/projects/{project}/tasks"), ("GET", f"/api/v1/tasks/{task}"),
        ("PATCH", f"/api/v1/tasks/{task}"), ("DELETE", f"/api/v1/tasks/{task}"),
        ("GET", f"/api/v1/tasks/{task}/executions"),
        ("POST", f"/api/v1/executions/{execution['id']}/cancel"),
    ):  # fmt: skip
        assert refusal(await other.send(method, path)) == (404, "not_found", {}), (method, path)
