import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL

from server.limits.concurrency import ConcurrencyLimits
from server.limits.http import (
    MAX_JSON_VALUES,
    OriginGuard,
    OriginPolicy,
    RequestRefusedError,
    parse_json,
)

HELLO = b'{"query": "{ hello }"}'
WITH_SSE = {"subscription_protocols": [GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL]}
JSON = {"content-type": "application/json"}


async def send(board: Any, body: Any, **headers: str) -> Any:
    async with board.client() as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.post("/graphql", content=body, headers={**JSON, **named})


def refusal(response: Any, status: int, code: str) -> str:
    """The message of a refusal, after checking that it has GraphQL's shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json()["errors"]
    assert error["extensions"]["code"] == code
    return error["message"]


# -- the body -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xef\xbb\xbf" + HELLO, "byte order mark"),
        (b'{"query": "\xff"}', "not valid UTF-8 (byte 11)"),
        (HELLO.decode().encode("utf-16"), "not valid UTF-8"),
        (b'{"query": "\\ud800"}', "surrogate"),
        (b'{"query": "{hello}", "variables": {"n": NaN}}', "column 41"),
        (b'{"query": "{hello}", "variables": {"n": Infinity}}', "not valid JSON"),
        (b'{"query": "{hello}", "variables": {"n": 1e999}}', "infinity"),
        (b"[" * 10_000 + b"]" * 10_000, "depth"),
        (b"[" * 500 + b"]" * 500, "nests too many"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "nests too many"),
        (b"9" * 5_000, "not valid JSON"),
        (b"null", "JSON object"),
        (b'"{ hello }"', "JSON object"),
        (b"[]", "Batches"),
        (b"[" + HELLO + b"]", "Batches"),
        (b"{}", "`query`"),
        (b'{"query": ""}', "`query`"),
        (b'{"query": null}', "`query`"),
        (b'{"query": ["{ hello }"]}', "`query`"),
        (b'{"query": "{hello}", "variables": []}', "`variables`"),
        (b'{"query": "{hello}", "variables": "{}"}', "`variables`"),
        (b'{"query": "{hello}", "extensions": 1}', "`extensions`"),
        (b'{"query": "{hello}", "operationName": 1}', "`operationName`"),
    ],
)
async def test_a_bad_body_is_a_400_that_says_why(body: bytes, words: str, board: Any) -> None:
    assert words in refusal(await send(board, body), 400, "INVALID")


async def test_a_good_body_with_everything_passes(board: Any) -> None:
    body = {
        "query": "query A($n: String) { hello(name: $n) } query B { task { id } }",
        "variables": {"n": "ü\u2028 [[[[{{{{,,,,"},
        "operationName": "A",
        "extensions": {"trace": [[[[1]]]]},
        "more": None,
    }
    response = await send(board, json.dumps(body).encode())
    assert response.json()["data"] == {"hello": "Hello ü\u2028 [[[[{{{{,,,,"}


async def test_unknown_operation_names_are_a_400(board: Any) -> None:
    response = await send(board, b'{"query": "query A { hello }", "operationName": "B"}')
    assert 'named "B"' in refusal(response, 400, "INVALID")


async def test_the_body_may_have_its_maximum_and_no_byte_more(make_board: Any) -> None:
    board = make_board(max_body_bytes=200)
    assert (await send(board, HELLO.ljust(200))).json()["data"] == {"hello": "Hello you"}
    response = await send(board, HELLO.ljust(201))
    assert "200 bytes" in refusal(response, 413, "LIMIT_EXCEEDED")
    (error,) = response.json()["errors"]
    assert error["extensions"]["limit"] == {"name": "bodyBytes", "value": 201, "max": 200}


async def test_a_body_of_unannounced_length_is_counted_as_it_comes(make_board: Any) -> None:
    board = make_board(max_body_bytes=200)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b" " * 50

    receive = endless()

    async def next_chunk() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(receive), "more_body": True}

    taken_at_answer: list[int] = []

    async def send(message: Any) -> None:
        taken_at_answer.append(taken)

    status, _, _ = await drive(
        board, next_chunk, headers=[(b"transfer-encoding", b"chunked")], also_send=send
    )
    assert status == 413
    assert taken_at_answer[:2] == [5, 5]
    assert taken < 200_000  # what a client goes on sending is thrown away, not without end


@pytest.mark.parametrize("announced", [b"1048577", b"9" * 5_000])
async def test_an_announced_flood_is_refused_before_it_comes(announced: bytes, board: Any) -> None:
    order: list[str] = []

    async def receive() -> dict[str, Any]:
        order.append("read")
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        order.append("answered")

    status, headers, _ = await drive(
        board, receive, headers=[(b"content-length", announced)], also_send=send
    )
    assert status == 413
    assert order == ["answered", "answered", "read", "answered"]
    assert headers[b"connection"] == b"close"


@pytest.mark.parametrize("announced", [b"-5", b"abc", b"", "²".encode("latin-1"), b"5"])
async def test_a_wrong_announcement_is_no_way_around_the_count(
    announced: bytes, make_board: Any
) -> None:
    board = make_board(max_body_bytes=20)
    status, _, _ = await drive(board, once(HELLO), headers=[(b"content-length", announced)])
    assert status == 413


async def test_a_body_that_does_not_come_is_given_up(make_board: Any) -> None:
    board = make_board(body_seconds=0.01)

    async def silence() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    status, _, body = await drive(board, silence)
    assert status == 408
    assert "0.01 s" in json.loads(body)["errors"][0]["message"]


async def test_nobody_is_answered_who_left(board: Any) -> None:
    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    status, _, _ = await drive(board, leave)
    assert status is None


async def test_too_many_values_are_refused(board: Any) -> None:
    values = b",".join([b"1"] * (MAX_JSON_VALUES + 10))
    body = b'{"query": "{ hello }", "variables": {"v": [' + values + b"]}}"
    refusal(await send(board, body), 400, "LIMIT_EXCEEDED")
    text = json.dumps({"query": "{ hello }", "variables": {"v": "," * 100_000}}).encode()
    assert (await send(board, text)).status_code == 200


def test_hostile_json_is_refused_cheaply(measure: Callable[..., float]) -> None:
    def parse(body: bytes) -> Callable[[], None]:
        def work() -> None:
            try:
                parse_json(body)
            except RequestRefusedError:
                return

        return work

    size = 1_048_576
    benign = measure(
        parse(json.dumps({"query": "{ hello }", "variables": {"t": "x" * size}}).encode())
    )
    for body in (
        b'"' + b'\\"' * (size // 2),
        b"[" * size,
        b"[" + b"[]," * (size // 3),
        b"[" + b",".join([b"1"] * (size // 2)) + b"]",
        b"[" + b",".join([b'""'] * (size // 3)) + b"]",
        b"[" + b",".join([b'"[,{"'] * (size // 6)) + b"]",
        b"{" + b",".join([b'"":0'] * (size // 5)) + b"}",
        b'"a' * (size // 2),
        b'{"a":' * (size // 5),
        b"9" * size,
        b'"' + b"\\u00e9" * (size // 6) + b'"',
    ):
        # A megabyte of anything: some ten milliseconds, never seconds.
        assert measure(parse(body)) < 0.1 + 150 * benign


# -- media type, method ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/graphql-response+json",
    ],
)
async def test_json_is_taken(media_type: str, board: Any) -> None:
    response = await send(board, HELLO, content_type=media_type)
    assert response.json()["data"] == {"hello": "Hello you"}


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "application/jsonp",
        "application/json; charset=latin-1",
        "application/json, text/plain",
    ],
)
async def test_anything_else_is_a_415(media_type: str, board: Any) -> None:
    refusal(await send(board, HELLO, content_type=media_type), 415, "INVALID")


async def test_compressed_bodies_are_a_415(board: Any) -> None:
    refusal(await send(board, HELLO, content_encoding="gzip"), 415, "INVALID")
    assert (await send(board, HELLO, content_encoding="identity")).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_a_405(method: str, board: Any) -> None:
    async with board.client() as client:
        response = await client.request(method, "/graphql")
    refusal(response, 405, "INVALID")
    assert response.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("allow_queries", [True, False])
async def test_a_mutation_by_get_is_refused(*, allow_queries: bool, make_board: Any) -> None:
    board = make_board(view_options={"allow_queries_via_get": allow_queries})
    async with board.client() as client:
        query = {"query": "mutation { touch(id: 1) { id } }"}
        response = await client.get("/graphql", params=query)
    refusal(response, 405, "INVALID")
    assert response.headers["allow"] == "POST"
    assert board.touched == 0


async def test_queries_by_get_are_a_choice(make_board: Any) -> None:
    params = {"query": "query($n: String) { hello(name: $n) }", "variables": '{"n": "me"}'}
    async with make_board().client() as client:
        refusal(await client.get("/graphql", params=params), 405, "INVALID")
    async with make_board(view_options={"allow_queries_via_get": True}).client() as client:
        answer = await client.get("/graphql", params=params)
        assert answer.json()["data"] == {"hello": "Hello me"}
        for variables in ("{", "NaN", "[" * 2_000):
            bad = await client.get("/graphql", params={**params, "variables": variables})
            refusal(bad, 400, "INVALID")


async def test_get_without_a_query_is_the_ide_or_nothing(make_board: Any) -> None:
    async with make_board().client() as client:
        page = await client.get("/graphql", headers={"accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
    async with make_board(view_options={"graphql_ide": None}).client() as client:
        refusal(await client.get("/graphql", headers={"accept": "text/html"}), 404, "INVALID")


async def test_a_subscription_needs_a_stream(make_board: Any) -> None:
    body = b'{"query": "subscription { count(to: 2) }"}'
    board = make_board(view_options=WITH_SSE)
    assert "stream" in refusal(await send(board, body), 406, "INVALID")
    streamed = await send(board, body, accept="text/event-stream")
    assert streamed.text.count("event: next") == 2
    assert (board.limiter.known_keys, board.streams.known_keys) == (0, 0)


async def test_a_stream_is_no_way_around_the_turns_of_queries(make_board: Any) -> None:
    board = make_board(view_options=WITH_SSE)
    for query in ("{ hello }", "mutation { touch(id: 1) { id } }"):
        body = json.dumps({"query": query}).encode()
        answer = await send(board, body, accept="text/event-stream")
        assert "are not allowed" in answer.text
        assert '"INVALID"' in answer.text
    assert board.touched == 0


async def test_streams_are_counted_until_they_end(make_board: Any) -> None:
    board = make_board(view_options=WITH_SSE)
    body = b'{"query": "subscription { held }"}'
    first = asyncio.create_task(send(board, body, accept="text/event-stream", x_user="ann"))
    await until(lambda: board.entered == 1)
    second = await send(board, body, accept="text/event-stream", x_user="ann")
    refusal(second, 429, "RATE_LIMITED")
    assert (await send(board, HELLO, x_user="ann")).status_code == 200
    board.gate.set()
    assert (await first).text.count("event: next") == 1
    assert board.streams.known_keys == 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # the condition is another task's progress
            await asyncio.sleep(0)


# -- failures outside of operations ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"),
    [("UNAUTHENTICATED", 401), ("FORBIDDEN", 403), ("UNAVAILABLE", 503), ("INVALID", 400)],
)
async def test_a_refused_caller_gets_the_status_of_the_code(
    code: str, status: int, board: Any
) -> None:
    board.failure = type("Refusal", (Exception,), {"code": code, "details": {"retry_after": 7}})(
        "no"
    )
    response = await send(board, HELLO)
    assert refusal(response, status, code) == "no"
    assert response.headers["retry-after"] == "7"


async def test_an_unexpected_failure_is_a_masked_500(board: Any) -> None:
    board.failure = RuntimeError("secret")
    response = await send(board, HELLO)
    assert refusal(response, 500, "INTERNAL") == "Internal error"
    assert response.json()["errors"][0]["extensions"]["id"] == board.log.entries[0][1]


# -- origins --------------------------------------------------------------------------------------

ORIGINS = [
    (None, True),
    ("http://board.test", True),
    ("http://board.test:80", True),
    ("https://app.example", True),
    ("https://APP.example:443", True),
    ("http://app.example", False),
    ("https://app.example.evil.test", False),
    ("https://evil.test", False),
    ("http://board.test:8080", False),
    ("http://board.test@evil.test", False),
    ("null", False),
    ("", False),
    ("https://[", False),
]


@pytest.mark.parametrize(("origin", "allowed"), ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_http_is_for_known_origins(
    method: str, origin: str | None, *, allowed: bool, make_board: Any
) -> None:
    board = make_board(
        allowed_origins=["https://app.example"], view_options={"allow_queries_via_get": True}
    )
    headers = {} if origin is None else {"origin": origin}
    async with board.client(headers=headers) as client:
        if method == "GET":
            response = await client.get("/graphql", params={"query": "{ hello }"})
        else:
            response = await client.post("/graphql", json={"query": "{ hello }"})
    if allowed:
        assert response.json()["data"] == {"hello": "Hello you"}
    else:
        refusal(response, 403, "FORBIDDEN")


@pytest.mark.parametrize(("origin", "allowed"), ORIGINS)
def test_websockets_are_for_known_origins(
    origin: str | None, *, allowed: bool, make_board: Any
) -> None:
    board = make_board(allowed_origins=["https://app.example"])
    headers = {"host": "board.test"} | ({} if origin is None else {"origin": origin})
    client = TestClient(board.app)
    protocols = [GRAPHQL_TRANSPORT_WS_PROTOCOL]
    if allowed:
        with client.websocket_connect("/graphql", protocols, headers=headers) as socket:
            socket.send_json({"type": "connection_init"})
            assert socket.receive_json() == {"type": "connection_ack"}
    else:
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("/graphql", protocols, headers=headers),
        ):
            pass
        assert refused.value.code == 1008


def test_the_policy_decides_on_headers_alone() -> None:
    policy = OriginPolicy(["https://app.example"])

    def allows(*headers: tuple[bytes, bytes]) -> bool:
        return policy.allows({"type": "http", "headers": list(headers), "path": "//evil.test"})

    origin, host = (b"origin", b"https://a.test"), (b"host", b"a.test")
    assert allows(origin, host)
    assert not allows(origin)
    assert not allows(origin, host, (b"host", b"b.test"))
    assert not allows(origin, (b"origin", b"https://b.test"), host)
    assert allows(origin, origin, host)
    assert OriginPolicy(["*"]).allows({"type": "http", "headers": [origin]})
    assert not OriginPolicy(["*"]).allows({"type": "http", "headers": [(b"origin", b"null")]})
    with pytest.raises(ValueError, match="Invalid origin"):
        OriginPolicy(["https://app.example/path"])


async def test_elsewhere_only_methods_that_change_are_checked() -> None:
    async def app(_scope: Any, _receive: Any, send_: Any) -> None:
        await send_({"type": "http.response.start", "status": 204, "headers": []})
        await send_({"type": "http.response.body"})

    guard = OriginGuard(app, policy=OriginPolicy())
    statuses = {}
    for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
        scope = {"type": "http", "method": method, "headers": [(b"origin", b"https://evil.test")]}
        statuses[method], _, _ = await drive_app(guard, scope, once(b""))
    assert statuses == {"GET": 204, "HEAD": 204, "POST": 403, "DELETE": 403, "OPTIONS": 403}


# -- concurrency ----------------------------------------------------------------------------------


async def test_a_caller_with_too_much_at_once_gets_a_429(make_board: Any) -> None:
    board = make_board(concurrency=ConcurrencyLimits(running=2, waiting=1, wait_seconds=60))
    body = json.dumps({"query": "{ gate }"}).encode()
    ann = [asyncio.create_task(send(board, body, x_user="ann")) for _ in range(3)]
    await until(lambda: (board.entered, board.limiter.waiting) == (2, 1))
    refused = await send(board, body, x_user="ann")
    refusal(refused, 429, "RATE_LIMITED")
    assert refused.json()["errors"][0]["extensions"]["retryAfter"] == 60
    assert refused.headers["retry-after"] == "60"
    assert (await send(board, HELLO, x_user="bob")).status_code == 200
    board.gate.set()
    answers = await asyncio.gather(*ann)
    assert [answer.json()["data"] for answer in answers] == [{"gate": "open"}] * 3
    assert board.most <= 2
    assert board.limiter.known_keys == 0


# -- WebSocket messages ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        "[]",
        "7",
        "{",
        '{"type": 3}',
        '{"id": "1", "type": "subscribe", "payload": "x"}',
        '{"id": "1", "type": "subscribe", "payload": {"query": ["x"]}}',
        '{"id": 1, "type": "subscribe", "payload": {"query": "{ hello }"}}',
        '{"id": "1", "type": "subscribe", "payload": {"query": "{hello}", "variables": [1]}}',
        '{"id": "1", "type": "subscribe", "payload": {"query": "{hello}", "operationName": 1}}',
        '{"id": "1", "type": "subscribe", "payload": {"query": "{a}", "variables": {"a": NaN}}}',
        "[" * 100_000,
    ],
)
def test_a_malformed_message_closes_the_socket_properly(message: str, board: Any) -> None:
    with TestClient(board.app).websocket_connect(
        "/graphql", [GRAPHQL_TRANSPORT_WS_PROTOCOL]
    ) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json() == {"type": "connection_ack"}
        socket.send_text(message)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 4400


def test_one_bad_document_does_not_close_the_socket(make_board: Any) -> None:
    board = make_board(view_options={"connection_init_wait_timeout": timedelta(seconds=5)})
    with TestClient(board.app).websocket_connect(
        "/graphql", [GRAPHQL_TRANSPORT_WS_PROTOCOL]
    ) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json() == {"type": "connection_ack"}
        for query, code in (
            ("{ hello " + "x" * 5_000, "INVALID"),
            ("{" + "hello " * 3_000 + "}", "LIMIT_EXCEEDED"),
            ("fragment F on Query { hello }", "INVALID"),
            ("{ secret }", "INTERNAL"),
        ):
            payload = {"query": query}
            socket.send_json({"id": "1", "type": "subscribe", "payload": payload})
            answer = socket.receive_json()
            if answer["type"] == "next":
                assert answer["payload"]["errors"][0]["extensions"]["code"] == code
                assert socket.receive_json()["type"] == "complete"
            else:
                assert answer["type"] == "error"
                assert answer["payload"][0]["extensions"]["code"] == code
        socket.send_json(
            {"id": "2", "type": "subscribe", "payload": {"query": "subscription { count(to: 1) }"}}
        )
        assert socket.receive_json()["payload"]["data"] == {"count": 0}


# -- driving the application without a client -----------------------------------------------------


def once(body: bytes) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def drive(
    board: Any,
    receive: Any,
    *,
    headers: list[tuple[bytes, bytes]] | None = None,
    also_send: Any = None,
) -> tuple[int | None, dict[bytes, bytes], bytes]:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/graphql",
        "raw_path": b"/graphql",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *(headers or [])],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    return await drive_app(board.app, scope, receive, also_send)


async def drive_app(
    app: Any, scope: dict[str, Any], receive: Any, also_send: Any = None
) -> tuple[int | None, dict[bytes, bytes], bytes]:
    sent: list[dict[str, Any]] = []

    async def send_(message: Any) -> None:
        sent.append(message)
        if also_send is not None:
            await also_send(message)

    await app(scope, receive, send_)
    if not sent:
        return None, {}, b""
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), body
