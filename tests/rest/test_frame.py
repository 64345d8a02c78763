import ast
import asyncio
import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.enums import Dialect
from resolvers.context import Context
from resolvers.principal import Principal
from resolvers.tokens import create_token
from rest_compat.catalog import CATALOG
from tests.support.inside import Inside
from tests.support.rest import RestClient, rest_client

ROOT = Path(__file__).parents[2]
NEW = {"name": "Site", "repository_url": "https://git.example.org/site.git"}


def contract(name: str) -> dict[tuple[str, str], dict[str, str]]:
    """The HTTP routes of a language by method and path with nameless parameters."""
    with (Path(__file__).parent / "routes.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["dialect"] == name]
    return {
        (row["method"], re.sub(r"\{\w+\}", "{}", row["path"]).rstrip("/")): row
        for row in rows
        if row["kind"] in {"http", "sse"}
    }


@pytest.fixture(params=[entry.name for entry in CATALOG])
async def language(request: pytest.FixtureRequest, inside: Inside) -> Any:
    """The owner's client of each served language."""
    async with rest_client(inside, request.param) as client:
        yield request.param, client


async def test_every_route_of_the_contract_is_served(language: tuple[str, RestClient]) -> None:
    name, client = language
    wanted = {key for key, row in contract(name).items() if row["success"] != "-"}
    assert client.document.operations >= wanted


async def test_every_address_of_every_route(
    language: tuple[str, RestClient], inside: Inside
) -> None:
    name, client = language
    owner = Principal(kind="user", id=inside.owner_id, name="owner", is_site_owner=True)
    made = await create_token(Context(inside.services, owner), dialect=Dialect[name.upper()])
    own = client.like(token=made.secret)
    for method, path in contract(name):
        concrete = path.replace("{}", "1")
        answers = []
        for speaker, at in ((client, client.at), (client, ""), (own, ""), (own, own.at)):
            for slash in ("", "/"):
                answer = await speaker.like(at=at).send(method, concrete + slash)
                answers.append((answer.status_code, answer.headers.get("location")))
        assert len(set(answers)) == 1, (method, path, answers)
        assert answers[0][0] < 500
        assert answers[0][1] is None
        assert answers[0][0] not in {301, 302, 307, 308, 405, 409}


async def test_nobody_gets_past_a_route_that_needs_a_credential(
    language: tuple[str, RestClient],
) -> None:
    name, client = language
    for (method, path), row in contract(name).items():
        if (method, path) not in client.document.operations:
            continue
        client.token = None
        answer = await client.send(method, path.replace("{}", "1"))
        assert (answer.status_code == 401) == (row["auth"] != "none"), (method, path)


async def test_a_repeated_request_is_answered_from_memory(viban: RestClient) -> None:
    key = {"idempotency-key": "k1"}
    first = await viban.send("POST", "/api/v1/projects", NEW, headers=key)
    second = await viban.send("POST", "/api/v1/projects", NEW, headers=key)
    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len((await viban.data("GET", "/api/v1/projects"))["data"]) == 1
    other = await viban.send("POST", "/api/v1/projects", {**NEW, "name": "b"}, headers=key)
    assert other.status_code == 409
    project = first.json()["data"]["id"]
    elsewhere = await viban.send("POST", f"/api/v1/projects/{project}/tasks", NEW, headers=key)
    assert elsewhere.status_code == 409
    for bad in ("x" * 201, "\t"):
        answer = await viban.send("POST", "/api/v1/projects", NEW, headers={"idempotency-key": bad})
        assert answer.status_code == 422


async def test_a_key_that_may_less_gets_no_stored_answer(viban: RestClient, inside: Inside) -> None:
    key = {"idempotency-key": "k1"}
    assert (await viban.send("POST", "/api/v1/projects", NEW, headers=key)).status_code == 201
    made = await inside.post(
        'mutation { createWorkspace(input: {name: "Other"}) { workspace { id } } }',
        token=inside.token,
    )
    other = made.data["createWorkspace"]["workspace"]["id"]
    owner = Principal(kind="user", id=inside.owner_id, name="owner", is_site_owner=True)
    for less in ({"scopes": ["task:read"]}, {"workspace_id": other}):
        shown = await create_token(Context(inside.services, owner), **less)
        again = viban.like(token=shown.secret)
        answer = await again.send("POST", "/api/v1/projects", NEW, headers=key)
        assert answer.status_code in {403, 409}, answer.text
        assert "idempotency-replayed" not in answer.headers


async def test_refusals_are_remembered_and_deletions_too(viban: RestClient) -> None:
    project = (await viban.data("POST", "/api/v1/projects", NEW, status=201))["data"]["id"]
    path = f"/api/v1/projects/{project}/tasks"
    for _ in range(2):
        wrong = await viban.send("POST", path, {}, headers={"idempotency-key": "wrong"})
        assert wrong.status_code == 422
    task = (await viban.data("POST", path, {"title": "t"}, status=201))["data"]["id"]
    for _ in range(2):
        gone = await viban.send(
            "DELETE", f"/api/v1/tasks/{task}", headers={"idempotency-key": "gone"}
        )
        assert (gone.status_code, gone.content) == (204, b"")


async def test_an_answer_that_was_not_stored_is_made_again(
    viban: RestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that dies between the change and its answer: the retry does not change again."""
    key = {"idempotency-key": "k1"}

    async def die(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr("rest_compat.context.store_answer", die)
        with pytest.raises(asyncio.CancelledError):
            await viban.send("POST", "/api/v1/projects", NEW, headers=key)
    locked = await viban.send("POST", "/api/v1/projects", NEW, headers=key)
    assert locked.status_code == 409
    assert int(locked.headers["retry-after"]) > 0


async def test_a_lock_of_a_dead_server_ends_in_the_same_change(
    viban: RestClient, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resolvers.idempotency import release_dead_instance

    key = {"idempotency-key": "k1"}

    async def die(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr("rest_compat.context.store_answer", die)
        with pytest.raises(asyncio.CancelledError):
            await viban.send("POST", "/api/v1/projects", NEW, headers=key)
    await release_dead_instance(inside.system(), instance=None)
    again = await viban.send("POST", "/api/v1/projects", NEW, headers=key)
    assert again.status_code == 201
    projects = (await viban.data("GET", "/api/v1/projects"))["data"]
    assert projects == [again.json()["data"]]


async def test_large_bodies_are_refused(viban: RestClient) -> None:
    content = b'{"name": "%s"}' % (b"x" * 9000)
    answer = await viban.send("POST", "/api/v1/projects", content=content)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("declared", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_media_types_are_refused(viban: RestClient, declared: str) -> None:
    answer = await viban.send(
        "POST", "/api/v1/projects", content=b"{}", headers={"content-type": declared}
    )
    assert answer.status_code == 422
    assert list(answer.json()["error"]["details"]) == ["body"]


async def test_methods(viban: RestClient) -> None:
    path = "/api/v1/projects"
    head = await viban.send("HEAD", path)
    got = await viban.send("GET", path)
    assert head.content == b""
    assert head.headers["content-length"] == str(len(got.content))
    options = await viban.http.options(viban.at + path)
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "BREW"):
        answer = await viban.send(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_request_ids(viban: RestClient) -> None:
    given = "6a1d6f0e-55a8-4e7a-9d5e-0a3b8f6f5a11"
    answer = await viban.send("GET", "/api/v1/nothing", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == given


async def test_an_unexpected_failure_is_masked_and_logged(
    viban: RestClient, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise ValueError("secret words")

    monkeypatch.setattr("rest_compat.viban.routes.list_workspaces", fail)
    answer = await viban.http.get(
        viban.at + "/api/v1/projects", headers={"authorization": f"Bearer {viban.token}"}
    )
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == ("internal_error", "Internal error")
    assert error["details"] == {"id": answer.headers["x-request-id"]}
    assert "secret words" in inside.internal_errors.pop()


async def test_documentation_of_every_language(inside: Inside) -> None:
    transport = httpx2.ASGITransport(app=inside.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://board.test") as http:
        home = (await http.get("/")).text
        for entry in CATALOG:
            assert f"/compat/{entry.name}/docs" in home
            page = await http.get(f"/compat/{entry.name}/docs")
            assert page.status_code == 200
            assert "unsafe" not in page.headers["content-security-policy"]
            document = (await http.get(f"/compat/{entry.name}/openapi.json")).json()
            assert document["openapi"].startswith("3.1")
            assert f"/compat/{entry.name}/openapi.json" in page.text
            assert "HTTPValidationError" not in document["components"]["schemas"]
        assert (await http.get("/compat/nobody/docs")).status_code == 404


def test_answer_models_are_closed() -> None:
    """Checked against every answer by the clients of these tests, so they have to be."""
    from rest_compat.viban.routes import router

    for route in router.routes:
        model = getattr(route, "response_model", None)
        assert model is None or model.model_config["extra"] == "forbid", route


FORBIDDEN = re.compile(r"sqlalchemy|sqlmodel|models\.(transaction|database|base)")


@pytest.mark.parametrize("file", sorted((ROOT / "rest_compat").rglob("*.py")), ids=str)
def test_no_language_touches_tables(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            assert node.module != "models.base" or names <= {"PUBLIC_ID_LENGTH"}
            assert node.module == "models.base" or not FORBIDDEN.match(node.module or ""), file
            assert "table_of" not in names
        elif isinstance(node, ast.Import):
            assert not any(FORBIDDEN.match(alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute):
            assert node.attr not in {"transaction", "reader"}, file


def test_a_server_starts_without_fastapi() -> None:
    program = (
        "import sys; from server.app import create_app; import rest_compat.dispatcher; "
        "print([m for m in ('fastapi', 'rest_compat.viban') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_pages_of_listed_sites_may_call(tmp_path: Path) -> None:
    from tests.support.inside import open_inside

    site = "https://app.example.org"
    async with (
        open_inside(tmp_path / "data", allowed_origins=[site]) as inside,
        rest_client(inside, "viban") as viban,
    ):
        asked = {
            "origin": site,
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "authorization, content-type",
        }
        for at in (viban.at, ""):
            answer = await viban.http.options(f"{at}/api/v1/tasks/task_x", headers=asked)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == site
            assert "PATCH" in answer.headers["access-control-allow-methods"]
        answer = await viban.send("GET", "/api/v1/projects", headers={"origin": site})
        assert answer.headers["access-control-allow-origin"] == site
        assert "X-RateLimit-Limit" in answer.headers["access-control-expose-headers"]
        other = {**asked, "origin": "https://evil.example.org"}
        answer = await viban.http.options("/api/v1/tasks/task_x", headers=other)
        assert "access-control-allow-origin" not in answer.headers


async def test_an_alias_is_the_same_address(viban: RestClient) -> None:
    headers = {"authorization": f"Bearer {viban.token}"}
    for path in ("projects", "projects/", "projects/proj_zzzzzzzzzzzz", "nothing"):
        for at in ("", viban.at):
            long = await viban.http.get(f"{at}/api/v1/{path}", headers=headers)
            short = await viban.http.get(f"{at}/v1/{path}", headers=headers)
            assert (short.status_code, short.content) == (long.status_code, long.content)


async def test_sockets_reach_their_route_or_are_closed(inside: Inside) -> None:
    """No language that is served has sockets yet: one of our own, over the real server's house."""
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    from rest_compat.dispatcher import Dispatcher

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.path_params["name"])
        await socket.close()

    dispatcher: Any = next(
        route.endpoint.app for route in inside.app.routes if route.path == "/compat/{path:path}"
    )
    assert isinstance(dispatcher, Dispatcher)
    language: Any = await dispatcher.language(CATALOG[0])
    language.table = type(language.table)([WebSocketRoute("/ws/{name}", echo)])

    async def connect(path: str, **headers: str) -> list[str]:
        sent: list[str] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(str(message.get("text") or message["type"]))

        scope = {
            "type": "websocket", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": b"", "subprotocols": [], "state": {}, "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        await inside.app(scope, receive, send)
        return sent

    reached = ["websocket.accept", "a/b", "websocket.close"]
    assert await connect("/compat/viban/ws/a%2Fb/", host="board.test") == reached
    assert await connect("/compat/viban/ws", host="board.test") == ["websocket.close"]
    foreign = {"host": "board.test", "origin": "https://evil.example.org"}
    assert await connect("/compat/viban/ws/a", **foreign) == ["websocket.close"]
