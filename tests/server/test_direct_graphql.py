"""The short way of GraphQL requests: it answers what it should, as the long way would."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from models.transaction import Reader
from server.plain import PlainGraphQL
from tests.support.inside import Inside, _scope, open_inside
from tests.support.wire import CREATE, NAMES, NEW

ONE = 'query { workspace(id: "00000000-0000-4000-8000-000000000000") { name } }'
EVENTS = 'query { events(workspaceId: "00000000-0000-4000-8000-000000000000") { totalCount } }'
TWO = "query A { workspaces { totalCount } } query B { viewer { user { name } } }"


def _request(query: str, *, headers: Any = None, **more: Any) -> tuple[bytes, dict[str, str]]:
    return orjson.dumps({"query": query, **more}), headers or {}


REQUESTS = {
    "a query": _request(NAMES, variables={"first": 1}),
    "one of two operations": _request(TWO, operationName="B"),
    "no such operation": _request(TWO, operationName="C"),
    "a mutation": _request(CREATE, variables={"title": "Paint"}),
    "a mutation that is refused": _request(CREATE, variables={"title": ""}),
    "null": _request(ONE),
    "an error in a query": _request(EVENTS),
    "wrong variables": _request(NAMES, variables={"first": "x"}),
    "an idempotency key": _request(
        CREATE, variables={"title": "Once"}, headers={"idempotency-key": "once-and-only-once"}
    ),
    "a page of the same site": _request(NAMES, headers={"origin": "http://testserver"}),
    "a foreign page": _request(NAMES, headers={"origin": "http://elsewhere.example"}),
    "extensions": _request(NAMES, extensions={"a": 1}),
    "charset": _request(NAMES, headers={"content-type": "application/json; charset=UTF-8"}),
    "a form": _request(NAMES, headers={"content-type": "text/plain"}),
    "a request id": _request(
        NAMES, headers={"x-request-id": "8b0c2a34-7d0e-4c53-a5a5-33d4c1c9bb0f"}
    ),
}
SHORT = {
    "a query",
    "one of two operations",
    "a mutation",
    "a mutation that is refused",
    "null",
    "an error in a query",
    "wrong variables",
    "a page of the same site",
    "charset",
    "a request id",
}
"""What the short way takes up; queries with errors it gives back to graphql-core."""


async def _ask(
    server: Inside, body: bytes, headers: dict[str, str], *, pieces: int = 1
) -> tuple[int, dict[bytes, bytes], bytes]:
    start: dict[str, Any] = {}
    received = b""
    size = -(-len(body) // pieces)
    parts = [body[i : i + size] for i in range(0, len(body), size)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        nonlocal received
        if message["type"] == "http.response.start":
            start.update(message)
        received += message.get("body", b"")

    await server.app(_scope(server.token, headers), receive, send)
    shown = dict(start["headers"])
    if "x-request-id" not in headers:
        shown.pop(b"x-request-id")
    return start["status"], shown, received


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request that the short way took up, whether it answered."""
    seen: list[bool] = []
    run = PlainGraphQL.run

    async def watched(self: Any, *arguments: Any) -> Any:
        body = await run(self, *arguments)
        seen.append(body is not None)
        return body

    monkeypatch.setattr(PlainGraphQL, "run", watched)
    return seen


async def test_the_short_way_answers_as_the_long_one(tmp_path: Path, taken: list[bool]) -> None:
    answers: dict[bool, dict[str, Any]] = {}
    for compiles in (True, False):
        async with open_inside(tmp_path / str(compiles), compile=compiles) as server:
            answers[compiles] = {}
            made = (await server.post(NEW, token=server.token)).data
            board = made["createWorkspace"]["workspace"]["id"].encode()
            for name, (text, headers) in REQUESTS.items():
                taken.clear()
                body = text.replace(b"WORKSPACE", board)
                given = [await _ask(server, body, headers) for _ in range(3)]
                answers[compiles][name] = given
                assert bool(taken) == (compiles and name in SHORT), name
                given += [await _ask(server, body, headers, pieces=2)]
            assert server.internal_errors == []
    for name, given in answers[True].items():
        assert given == answers[False][name], name


@pytest.mark.parametrize("error", [ValueError("secret"), TimeoutError("secret")])
async def test_an_unexpected_error_is_masked_and_logged_on_the_short_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[bool], error: Exception
) -> None:
    found = []
    for compiles in (True, False):
        async with open_inside(tmp_path / str(compiles), compile=compiles) as server:
            body, headers = REQUESTS["null"]
            headers = {"x-request-id": "8b0c2a34-7d0e-4c53-a5a5-33d4c1c9bb0f"}
            for _ in range(2):
                await _ask(server, body, headers)

            async def fail(*_: Any, **__: Any) -> None:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(Reader, "fetch", fail)
                taken.clear()
                answer = await _ask(server, body, headers)
            assert len(taken) == compiles
            assert b"secret" not in answer[2]
            assert b"8b0c2a34-7d0e-4c53-a5a5-33d4c1c9bb0f" in answer[2]
            assert len(server.internal_errors) == 1
            found.append(answer)
    if not isinstance(error, TimeoutError):  # which ends a compiled query at once, without a path
        assert found[0] == found[1]
    assert orjson.loads(found[0][2])["errors"][0]["extensions"]["code"] == "INTERNAL"
