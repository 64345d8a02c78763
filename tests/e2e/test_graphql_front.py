"""The front of a running server: keys that make retries safe, tokens that end, hostile requests."""

import asyncio
import contextlib
import json
import uuid
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.conftest import MakeBoard
from tests.support.board import CREATE_TASK, EVENTS, Board
from tests.support.clients import HttpClient, RefusedError, Socket, SocketClosedError, open_socket
from tests.support.server import RunningServer

TITLES = (
    """query ($id: ID!) { tasks(workspaceId: $id, first: 100) { totalCount nodes { title } } }"""
)
VIEWER = "{ viewer { name } }"


def new_task(board: Board, title: str) -> dict[str, Any]:
    return {"input": {"workspaceId": board.id, "title": title}}


async def titles(board: Board) -> list[str]:
    found = await board.ask(TITLES, {"id": board.id})
    return sorted(task["title"] for task in found["tasks"]["nodes"])


async def test_the_same_key_twice_has_one_effect_and_one_answer_over_http(board: Board) -> None:
    key, body = uuid.uuid4().hex, new_task(board, "Once")
    first = await board.client.post(CREATE_TASK, body, key=key)
    again = await board.client.post(CREATE_TASK, body, key=key)
    assert first.status_code == again.status_code == 200
    assert first.json()["data"] == again.json()["data"]
    assert await titles(board) == ["Once"]
    with pytest.raises(RefusedError) as refusal:
        await board.client.ask(CREATE_TASK, new_task(board, "Other"), key=key)
    assert refusal.value.code == "CONFLICT"
    assert await titles(board) == ["Once"]


async def test_the_same_key_twice_has_one_effect_and_one_answer_over_a_websocket(
    board: Board, socket: Socket
) -> None:
    key, body = uuid.uuid4().hex, new_task(board, "Once")
    first = await socket.ask(CREATE_TASK, body, key=key)
    assert await socket.ask(CREATE_TASK, body, key=key) == first
    # One key, one request: the way it comes does not matter.
    assert await board.client.ask(CREATE_TASK, body, key=key) == first
    with pytest.raises(RefusedError) as refusal:
        await socket.ask(CREATE_TASK, new_task(board, "Other"), key=key)
    assert refusal.value.code == "CONFLICT"
    assert await titles(board) == ["Once"]


async def test_a_key_sent_many_times_at_once_has_one_effect(board: Board) -> None:
    key, body = uuid.uuid4().hex, new_task(board, "Once")
    answers = await asyncio.gather(
        *[board.client.post(CREATE_TASK, body, key=key) for _ in range(8)]
    )
    done = [answer.json() for answer in answers]
    succeeded = [answer["data"] for answer in done if not answer.get("errors")]
    refused = [answer["errors"][0] for answer in done if answer.get("errors")]
    assert succeeded
    assert all(data == succeeded[0] for data in succeeded)
    for error in refused:
        assert error["extensions"]["code"] == "CONFLICT"
        assert error["extensions"]["retryAfter"] >= 1
    assert await board.client.ask(CREATE_TASK, body, key=key) == succeeded[0]
    assert await titles(board) == ["Once"]


async def test_a_refused_step_is_refused_alike_and_what_came_before_it_stays(board: Board) -> None:
    document = """mutation ($input: CreateTaskInput!, $bad: ID!) {
      createTask(input: $input) { task { id } cursor }
      approveTask(id: $bad) { task { id } } }"""
    variables = {**new_task(board, "Half"), "bad": str(uuid.uuid4())}
    key = uuid.uuid4().hex
    first = (await board.client.post(document, variables, key=key)).json()
    again = (await board.client.post(document, variables, key=key)).json()
    assert first["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert again["data"] == first["data"]
    assert [error["message"] for error in again["errors"]] == [
        error["message"] for error in first["errors"]
    ]
    assert await titles(board) == ["Half"]


async def test_keys_of_two_users_do_not_meet(
    board: Board, client: HttpClient, server: RunningServer
) -> None:
    name = f"someone-{uuid.uuid4().hex[:8]}"
    created = await client.ask(
        "mutation ($input: CreateUserInput!) { createUser(input: $input) { user { id } } }",
        {"input": {"name": name, "role": "DEVELOPER"}},
    )
    user_id = created["createUser"]["user"]["id"]
    made = await client.ask(CREATE_TOKEN, {"input": {"userId": user_id}})
    key = uuid.uuid4().hex
    await client.ask(CREATE_TASK, new_task(board, "Mine"), key=key)
    async with HttpClient(server.url, made["createToken"]["secret"]) as other:
        await other.ask(CREATE_TASK, new_task(board, "Theirs"), key=key)
    assert await titles(board) == ["Mine", "Theirs"]


CREATE_TOKEN = """mutation ($input: CreateTokenInput!) {
  createToken(input: $input) { token { id } secret } }"""
REVOKE_TOKEN = "mutation ($id: ID!) { revokeToken(id: $id) { token { revokedAt } } }"


async def test_a_secret_is_shown_once(client: HttpClient) -> None:
    key = uuid.uuid4().hex
    first = (await client.ask(CREATE_TOKEN, {"input": {"name": "x"}}, key=key))["createToken"]
    again = (await client.ask(CREATE_TOKEN, {"input": {"name": "x"}}, key=key))["createToken"]
    assert first["secret"].startswith("dgm_")
    assert again == {"token": first["token"], "secret": None}


async def test_a_token_revoked_in_mid_stream_ends_it(
    board: Board, client: HttpClient, server: RunningServer
) -> None:
    made = (await client.ask(CREATE_TOKEN, {"input": {"name": "short"}}))["createToken"]
    variables = {"workspaceId": board.id, "after": "EARLIEST"}
    async with (
        open_socket(server.websocket_url, made["secret"]) as socket,
        HttpClient(server.url, made["secret"]) as reader,
        reader.events(EVENTS, variables) as stream,
    ):
        streams = [await socket.subscribe(EVENTS, variables) for _ in range(3)]
        for operation in streams:
            assert (await operation.next())["events"]["__typename"] == "Event"
        assert (await anext(stream)).data["data"]["events"]["__typename"] == "Event"
        await client.ask(REVOKE_TOKEN, {"id": made["token"]["id"]})
        await board.create_task(title="Not for them")
        closed = await socket.until_closed(within=10)
        assert closed.code == 4401
        seen = [event async for event in stream if event.event == "next"]
        last = seen[-1].data["data"]["events"]
        assert last["reason"] == "UNAUTHENTICATED"
        assert all("Not for them" not in json.dumps(event.data) for event in seen)
        with pytest.raises(RefusedError) as refusal:
            await reader.ask(VIEWER)
        assert refusal.value.code == "UNAUTHENTICATED"
    with pytest.raises(SocketClosedError) as refused:
        async with open_socket(server.websocket_url, made["secret"]):
            pass
    assert refused.value.code == 4401


async def test_an_event_stream_is_resumed_by_its_last_event_id(
    board: Board, client: HttpClient
) -> None:
    for number in range(6):
        await board.create_task(title=f"Task {number}")
    variables = {"workspaceId": board.id, "after": "EARLIEST"}
    seen: list[tuple[str | None, str]] = []
    # Four connections, each cut after two events: the browser's way of reconnecting.
    for _ in range(4):
        last = seen[-1][0] if seen else None
        async with client.events(EVENTS, variables, last_event_id=last) as stream:
            async with asyncio.timeout(15):
                for _ in range(2):
                    event = await anext(stream)
                    found = event.data["data"]["events"]
                    assert event.id == found["cursor"]
                    title = (found["task"] or {}).get("title", found["type"])
                    seen.append((event.id, title))
            if len(seen) == 4:
                await board.create_task(title="Task 6")
    assert [title for _, title in seen] == [
        "workspace.created",
        *[f"Task {number}" for number in range(7)],
    ]


async def test_one_socket_carries_streams_queries_and_mutations(
    client: HttpClient, socket: Socket, new_board: MakeBoard
) -> None:
    boards = [await new_board(client) for _ in range(3)]
    streams = [
        await socket.subscribe(EVENTS, {"workspaceId": board.id, "after": await board.cursor()})
        for board in boards
    ]
    for number, board in enumerate(boards):
        await socket.ask(CREATE_TASK, new_task(board, f"On board {number}"))
    for number, operation in enumerate(streams):
        found = (await operation.next())["events"]
        assert found["task"]["title"] == f"On board {number}"
    await streams[0].stop()
    await socket.ask(CREATE_TASK, new_task(boards[0], "Nobody listens"))
    await socket.ask(CREATE_TASK, new_task(boards[1], "Second"))
    assert (await streams[1].next())["events"]["task"]["title"] == "Second"
    assert (await socket.ask(VIEWER))["viewer"]["name"] == "owner"


LOG_IN = """mutation ($input: LogInInput!) {
  logIn(input: $input) { secret user { name } token { kind } } }"""


async def test_log_in_and_log_out(client: HttpClient, server: RunningServer) -> None:
    name, password = f"user-{uuid.uuid4().hex[:8]}", "correct horse battery"
    document = "mutation ($input: CreateUserInput!) { createUser(input: $input) { user { id } } }"
    await client.ask(document, {"input": {"name": name, "password": password, "role": "VIEWER"}})
    async with HttpClient(server.url, None) as anonymous:
        with pytest.raises(RefusedError) as refusal:
            await anonymous.ask(LOG_IN, {"input": {"name": name, "password": "wrong"}})
        assert refusal.value.code == "UNAUTHENTICATED"
        found = await anonymous.ask(LOG_IN, {"input": {"name": name, "password": password}})
    assert found["logIn"]["user"]["name"] == name
    async with HttpClient(server.url, found["logIn"]["secret"]) as session:
        assert (await session.ask(VIEWER))["viewer"]["name"] == name
        with pytest.raises(RefusedError) as refusal:
            await session.ask(document, {"input": {"name": "another"}})
        assert refusal.value.code == "FORBIDDEN"
        await session.ask("mutation { logOut { token { id } } }")
        with pytest.raises(RefusedError) as refusal:
            await session.ask(VIEWER)
        assert refusal.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("scopes", "read", "write", "execute"),
    [
        (["task:read"], True, False, False),
        (["task:write"], True, True, False),
        (["run:execute"], True, False, True),
        (["task:write", "run:execute"], True, True, True),
        (["*"], True, True, True),
    ],
)
async def test_a_key_can_do_what_its_scopes_say(
    board: Board,
    client: HttpClient,
    server: RunningServer,
    *,
    scopes: list[str],
    read: bool,
    write: bool,
    execute: bool,
) -> None:
    made = await client.ask(CREATE_TOKEN, {"input": {"scopes": scopes, "workspaceId": board.id}})
    task = await board.create_task()

    async def may(holder: HttpClient, document: str, variables: dict[str, Any]) -> bool:
        answer = (await holder.post(document, variables)).json()
        assert {error["extensions"]["code"] for error in answer.get("errors", [])} <= {"FORBIDDEN"}
        return not answer.get("errors")

    async with HttpClient(server.url, made["createToken"]["secret"]) as holder:
        assert await may(holder, TITLES, {"id": board.id}) == read
        assert await may(holder, CREATE_TASK, new_task(board, "By key")) == write
        run = """mutation ($id: ID!) { startRun(input: {taskId: $id, executor: CUSTOM}) {
          run { id } } }"""
        assert await may(holder, run, {"id": task["id"]}) == execute
        assert not await may(
            holder,
            "mutation ($input: CreateUserInput!) { createUser(input: $input) { user { id } } }",
            {"input": {"name": f"u-{uuid.uuid4().hex[:8]}"}},
        )


BAD_BODIES = {
    "invalid UTF-8": b'{"query": "{ viewer { name } } \xff\xfe"}',
    "a lone surrogate": rb'{"query": "{ viewer { name } }", "variables": {"x": "\ud800"}}',
    "not JSON": b"{",
    "no object": b'["{ viewer { name } }"]',
    "nothing": b"",
    "a number": b"1e999",
    "no query": b"{}",
    "a query of a wrong type": b'{"query": 1}',
    "variables of a wrong type": b'{"query": "{ viewer { name } }", "variables": [1]}',
    "deep JSON": b'{"query": "{ viewer { name } }", "variables": {"x": ' + b"[" * 50_000,
    "NaN": b'{"query": "{ viewer { name } }", "variables": {"x": NaN}}',
    "a syntax error": b'{"query": "{ viewer { "}',
    "a NUL": rb'{"query": "{ viewer { name } }\u0000"}',
    "a deep document": json.dumps({"query": "{ viewer " * 3_000}).encode(),
    "many tokens": json.dumps({"query": "{ " + "viewer { name } " * 3_000 + "}"}).encode(),
    "two megabytes": b'{"query": "' + b"x" * (2 << 20) + b'"}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_hostile_body_is_the_clients_fault(client: HttpClient, body: bytes) -> None:
    answer = await client.send(body)
    if answer.status_code == 200:  # well formed JSON, refused by GraphQL itself
        codes = {error["extensions"]["code"] for error in answer.json().get("errors", [])}
        assert "INTERNAL" not in codes
    else:
        assert 400 <= answer.status_code < 500, answer.text
    assert (await client.ask(VIEWER))["viewer"]["name"] == "owner"


@pytest.mark.parametrize(
    "value",
    ["\x00", "a\x00b", "\ud800", "x" * 600, "", "  ", "line\nbreak", "\u202e" * 3],
    ids=["NUL", "NUL within", "surrogate", "long", "empty", "blank", "line", "direction"],
)
async def test_a_hostile_title_is_refused_or_kept_as_it_is(board: Board, value: str) -> None:
    body = json.dumps({"query": CREATE_TASK, "variables": new_task(board, value)})
    answer = await board.client.send(body.encode())
    assert answer.status_code < 500, answer.text
    found = answer.json()
    if found.get("errors"):
        assert found["errors"][0]["extensions"]["code"] == "INVALID"
    else:
        assert found["data"]["createTask"]["task"]["title"] == value


@pytest.mark.parametrize(
    "path",
    [
        "relative/path",
        "/nowhere/at/all",
        "/etc",
        "/etc/passwd",
        "../..",
        "/etc\x00",
        "file:///tmp",
    ],
)
async def test_a_path_that_is_no_repository_is_refused_precisely(
    client: HttpClient, path: str
) -> None:
    document = """mutation ($input: CreateWorkspaceInput!) {
      createWorkspace(input: $input) { workspace { id } } }"""
    with pytest.raises(RefusedError) as refusal:
        await client.ask(document, {"input": {"name": "x", "localPath": path}})
    assert refusal.value.code == "INVALID"
    assert refusal.value.extensions["field"] == "localPath"


async def test_an_idempotency_key_of_a_wrong_form_is_refused(board: Board) -> None:
    for key in ("x" * 300, "tab\there"):
        with pytest.raises(RefusedError) as refusal:
            await board.client.ask(CREATE_TASK, new_task(board, "No"), key=key)
        assert refusal.value.code == "INVALID"
    assert await titles(board) == []


@pytest.mark.parametrize(
    "header", ["Basic abc", "Bearer", "Bearer x y", "bearer dgm_wrong", "\xff"]
)
async def test_a_wrong_credential_is_401_never_500(server: RunningServer, header: str) -> None:
    async with httpx2.AsyncClient(base_url=server.url) as http:
        answer = await http.post(
            "/graphql",
            json={"query": VIEWER},
            headers=[(b"authorization", header.encode("latin-1"))],
        )
    assert answer.status_code in {200, 401}
    assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_messages_that_are_not_of_the_protocol_close_the_socket(
    server: RunningServer,
) -> None:
    for message in ("{", "[]", "1", '{"type": "subscribe"}', '{"id": 1, "type": "subscribe"}'):
        async with open_socket(server.websocket_url, server.token) as socket:
            await socket.connection.send(message)
            assert (await socket.until_closed(within=10)).code == 4400


async def test_a_message_of_two_megabytes_closes_the_socket(server: RunningServer) -> None:
    async with open_socket(server.websocket_url, server.token) as socket:
        with contextlib.suppress(ConnectionClosed):  # before the message was sent whole
            await socket.connection.send("x" * (2 << 20))
        assert (await socket.until_closed(within=10)).code == 1009


async def test_who_goes_on_sending_still_learns_why_the_socket_closes(
    server: RunningServer,
) -> None:
    address = httpx2.URL(server.websocket_url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(
            b"GET /graphql HTTP/1.1\r\nHost: board.test\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        )
        async with asyncio.timeout(10):
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\x81\xff" + (2 << 20).to_bytes(8, "big") + bytes(4))
            opcode, length = await reader.readexactly(2)  # the server has closed its side
            for _ in range(32):
                writer.write(bytes(1 << 16))
                await writer.drain()
            reason = await reader.read()  # to the end, and no reset
    finally:
        writer.close()
    assert (opcode, len(reason)) == (0x88, length)
    assert int.from_bytes(reason[:2], "big") == 1009


async def test_clients_that_leave_at_any_moment_are_no_error(
    board: Board, server: RunningServer
) -> None:
    before = server.complaints()
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {server.token}"}}
    variables = {"workspaceId": board.id, "after": "EARLIEST"}
    subscribe = {
        "id": "1",
        "type": "subscribe",
        "payload": {"query": EVENTS, "variables": variables},
    }
    for messages in ([], [init], [init, subscribe], [init, subscribe, {"type": "ping"}]) * 10:
        async with connect(server.websocket_url, subprotocols=["graphql-transport-ws"]) as left:
            for message in messages:
                await left.send(json.dumps(message))
            left.transport.abort()
    await board.create_task()
    assert server.complaints() == before
