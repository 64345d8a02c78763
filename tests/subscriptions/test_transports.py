"""The transports over real sockets: uvicorn in front, a real WebSocket and HTTP client behind."""

import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
import strawberry
import uvicorn
import websockets
from strawberry.scalars import JSON

from compiler import CompiledSchema, Options
from resolvers.errors import ForbiddenError, UnauthenticatedError
from subscriptions.cursor import EARLIEST, Cursor
from subscriptions.hub import Hub
from subscriptions.pages import EventItem
from subscriptions.ports import events_key, principal_key
from subscriptions.stream_items import StreamClosed, StreamItem
from subscriptions.streams import StreamLimits, event_stream
from subscriptions.transports import DragomanGraphQL, TransportLimits
from subscriptions.transports.uvicorn_protocols import (
    AbortableHttpProtocol,
    AbortableWebSocketProtocol,
)

BULK = base64.b64encode(os.urandom(64 * 1024)).decode()  # does not compress
Messages = list[dict[str, Any]]


class World:
    """What the resolvers of the test schema get at."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.refusal: Exception | None = None
        self.flooded = 0
        self.closed_floods = 0

    async def authorize(self) -> None:
        if self.refusal is not None:
            raise self.refusal


@strawberry.type
class Item:
    kind: str
    seq: int | None
    cursor: str | None
    reason: str | None


def as_item(item: StreamItem) -> Item:
    return Item(
        kind=type(item).__name__,
        seq=item.event.seq if isinstance(item, EventItem) else None,
        cursor=item.cursor,
        reason=item.reason if isinstance(item, StreamClosed) else None,
    )


@strawberry.type
class Query:
    @strawberry.field
    def hello(self) -> str:
        return "world"


@strawberry.type
class Mutation:
    @strawberry.mutation
    def shout(self, word: str) -> str:
        return word.upper()


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def events(
        self, info: strawberry.Info[Any, Any], stream: str, after: str | None = None
    ) -> AsyncGenerator[Item, None]:
        world: World = info.context["world"]
        items = event_stream(
            world.hub,
            stream_id=stream,
            after=after,
            authorize=world.authorize,
            principal="user:1",
            limits=StreamLimits(checkpoint_after=0.1),
            root=as_item,
        )
        async with contextlib.aclosing(items):
            async for item in items:
                yield as_item(item)

    @strawberry.subscription
    async def flood(self, info: strawberry.Info[Any, Any]) -> AsyncGenerator[str, None]:
        world: World = info.context["world"]
        try:
            while True:
                world.flooded += 1
                yield f"{world.flooded} {BULK}"
        finally:
            world.closed_floods += 1

    @strawberry.subscription
    async def silence(self) -> AsyncGenerator[str, None]:
        await asyncio.Event().wait()
        yield "never"

    @strawberry.subscription
    async def told(self, info: strawberry.Info[Any, Any]) -> AsyncGenerator[JSON, None]:
        yield JSON({key: info.context.get(key) for key in ("params", "operation")})

    @strawberry.subscription
    async def broken(self) -> AsyncGenerator[int, None]:
        yield 1
        raise RuntimeError("a bug")


class RememberExtensions(strawberry.extensions.SchemaExtension):
    def on_operation(self) -> Any:
        context = self.execution_context
        context.context["operation"] = context.operation_extensions
        yield


SCHEMA = CompiledSchema(Query, Mutation, Subscription, extensions=[RememberExtensions])
EAGER = Options(hooks_run_elsewhere=True, compile_at_sighting=1)
EVENTS = """subscription($s: String!, $a: String) {
  events(stream: $s, after: $a) { kind seq cursor reason }
}"""


async def on_connect(context: Any, params: Mapping[str, Any]) -> dict[str, object] | None:
    context["params"] = params
    match params.get("authorization"):
        case "Bearer wrong":
            raise UnauthenticatedError("unknown token")
        case "Bearer poor":
            raise ForbiddenError("not you")
        case "Bearer broken":
            raise RuntimeError("secret path")
        case "Bearer payload":
            return {"you": "are welcome"}
    return None


class Served:
    """A running server and what is behind it."""

    def __init__(self, world: World, app: DragomanGraphQL, port: int) -> None:
        self.world = world
        self.app = app
        self.http = f"http://127.0.0.1:{port}/graphql"
        self.ws = f"ws://127.0.0.1:{port}/graphql"
        self.port = port


Serve = Callable[..., contextlib.AbstractAsyncContextManager[Served]]


@pytest.fixture(params=["compiled", "plain"])
def serve(hub: Hub, request: pytest.FixtureRequest) -> Serve:
    """Serves the schema; each test runs with shared payloads and without."""
    SCHEMA.stop_compiling()
    if request.param == "compiled":
        assert SCHEMA.compile_documents(EAGER).obstacle is None

    @contextlib.asynccontextmanager
    async def serve(*, abortable: bool = True, **limits: Any) -> AsyncIterator[Served]:
        world = World(hub)

        async def context(_request: Any, _response: Any) -> dict[str, Any]:
            return {"world": world}

        async def operation_context(connection: Any) -> dict[str, Any]:
            return dict(connection)

        app = DragomanGraphQL(
            SCHEMA,
            context_getter=context,
            on_connect=on_connect,
            operation_context=operation_context,
            limits=TransportLimits(**limits),
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
            http=AbortableHttpProtocol if abortable else "httptools",
            ws=AbortableWebSocketProtocol if abortable else "websockets-sansio",
        )
        server = uvicorn.Server(config)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            running = asyncio.create_task(server.serve(sockets=[listener]))
            async with asyncio.timeout(5):
                while not server.started:
                    await asyncio.sleep(0.01)
            try:
                yield Served(world, app, listener.getsockname()[1])
            finally:
                server.should_exit = True
                await running

    return serve


@contextlib.asynccontextmanager
async def connected(served: Served, *, params: Any = None, **options: Any) -> AsyncIterator[Any]:
    async with websockets.connect(
        served.ws, subprotocols=[websockets.Subprotocol("graphql-transport-ws")], **options
    ) as ws:
        await ws.send(json.dumps({"type": "connection_init", "payload": params or {}}))
        assert await received(ws) == {"type": "connection_ack"}
        yield ws


async def received(ws: Any) -> dict[str, Any]:
    async with asyncio.timeout(10):
        text = await ws.recv()
    assert isinstance(text, str)
    message: dict[str, Any] = json.loads(text)
    return message


async def subscribe(ws: Any, query: str, id_: str = "1", **payload: Any) -> None:
    message = {"id": id_, "type": "subscribe", "payload": {"query": query, **payload}}
    await ws.send(json.dumps(message))


async def closed(ws: Any) -> tuple[int, str]:
    """Close code and reason, after reading all that is left."""
    async with asyncio.timeout(20):
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await ws.recv()
        await ws.wait_closed()
    return ws.close_code, ws.close_reason


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def seq_of(message: dict[str, Any]) -> Any:
    return message["payload"]["data"]["events"]["seq"]


async def test_a_websocket_client_gets_replay_and_live(serve: Serve, log: Any) -> None:
    sid = log.new(entries=5)
    async with serve() as served, connected(served) as ws:
        await subscribe(ws, EVENTS, variables={"s": sid, "a": Cursor(sid, 1, 2).encode()})
        assert [seq_of(await received(ws)) for _ in range(3)] == [3, 4, 5]
        log.append(sid)
        served.world.hub.wake([events_key(sid)])
        message = await received(ws)
        assert message["type"] == "next"
        assert message["payload"]["data"]["events"]["cursor"] == Cursor(sid, 1, 6).encode()
        await ws.send(json.dumps({"id": "1", "type": "complete"}))
        await eventually(lambda: served.world.hub.watchers == 0)
        assert served.app.connections == 1
    await eventually(lambda: served.app.connections == 0)


async def test_the_legacy_protocol_is_not_spoken(serve: Serve) -> None:
    async with serve() as served:
        for subprotocols in (["graphql-ws"], None):
            async with websockets.connect(served.ws, subprotocols=subprotocols) as ws:
                assert ws.subprotocol is None
                assert (await closed(ws))[0] == 4406


async def test_who_does_not_introduce_itself_is_let_go(serve: Serve) -> None:
    async with (
        serve(init_timeout=0.2) as served,
        websockets.connect(
            served.ws, subprotocols=[websockets.Subprotocol("graphql-transport-ws")]
        ) as ws,
    ):
        assert (await closed(ws))[0] == 4408
    assert TransportLimits().init_timeout == 10.0


@pytest.mark.parametrize(("token", "code"), [("wrong", 4401), ("poor", 4403), ("broken", 4500)])
async def test_a_connection_refused_has_its_code(token: str, code: int, serve: Serve) -> None:
    async with (
        serve() as served,
        websockets.connect(
            served.ws, subprotocols=[websockets.Subprotocol("graphql-transport-ws")]
        ) as ws,
    ):
        payload = {"authorization": f"Bearer {token}"}
        await ws.send(json.dumps({"type": "connection_init", "payload": payload}))
        got, reason = await closed(ws)
        assert got == code
        assert "secret" not in reason


async def test_parameters_and_extensions_reach_the_operation(serve: Serve) -> None:
    async with serve() as served, connected(served, params={"authorization": "x"}) as ws:
        await subscribe(ws, "subscription { told }", extensions={"idempotencyKey": "k"})
        message = await received(ws)
        assert message["payload"]["data"]["told"] == {
            "params": {"authorization": "x"},
            "operation": {"idempotencyKey": "k"},
        }
        assert (await received(ws))["type"] == "complete"
        await subscribe(ws, 'mutation { shout(word: "a") }', "1")
        assert (await received(ws))["payload"]["data"] == {"shout": "A"}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"x"',
        "5",
        "null",
        "{}",
        "not json",
        '{"type": 5}',
        '{"type": "unknown"}',
        '{"type": "connection_init", "payload": 7}',
        '{"type": "subscribe", "id": [1], "payload": {"query": "{hello}"}}',
        '{"type": "subscribe", "id": "", "payload": {"query": "{hello}"}}',
        '{"type": "subscribe", "id": "%s", "payload": {"query": "{hello}"}}' % ("x" * 101),
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": "1", "payload": "{hello}"}',
        '{"type": "subscribe", "id": "1", "payload": {"query": 5}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{hello}", "variables": []}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{hello}", "extensions": 1}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{hello}", "operationName": 1}}',
        '{"type": "complete", "id": {}}',
    ],
)
async def test_a_message_without_the_protocols_form_closes_cleanly(
    text: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as served, connected(served) as ws:
        await ws.send(text)
        code, reason = await closed(ws)
        assert code in {4400, 4429}
        assert reason
    assert "Exception in ASGI application" not in caplog.text


async def test_operations_on_one_connection_are_bounded(serve: Serve) -> None:
    async with serve(operations_per_connection=3) as served, connected(served) as ws:
        for n in range(4):
            await subscribe(ws, "subscription { silence }", str(n))
        message = await received(ws)
        assert (message["type"], message["id"]) == ("error", "3")
        await ws.send(json.dumps({"id": "0", "type": "complete"}))
        await subscribe(ws, "{ hello }", "4")
        assert (await received(ws))["payload"] == {"data": {"hello": "world"}}


async def test_connections_of_the_process_are_bounded(serve: Serve, log: Any) -> None:
    sid = log.new()
    async with serve(connections=2) as served, connected(served) as _:
        async with connected(served):
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with connected(served):
                    pass
            assert refused.value.response.status_code == 503
            async with httpx2.AsyncClient() as client:
                answer = await client.post(
                    served.http,
                    json={"query": EVENTS, "variables": {"s": sid}},
                    headers={"accept": "text/event-stream"},
                )
                assert answer.status_code == 503
        async with connected(served):
            pass


async def test_a_bug_in_one_operation_ends_that_one_only(serve: Serve) -> None:
    async with serve() as served, connected(served) as ws:
        await subscribe(ws, "subscription { broken }")
        kinds = [await received(ws) for _ in range(3)]
        assert [message["type"] for message in kinds] == ["next", "next", "complete"]
        await subscribe(ws, "subscription { nonsense }")
        assert (await received(ws))["type"] == "error"
        await subscribe(ws, "{ hello }")
        assert (await received(ws))["type"] == "next"


async def test_a_token_revoked_in_mid_stream_closes_the_connection(serve: Serve, log: Any) -> None:
    sid = log.new(entries=1)
    async with serve() as served, connected(served) as ws:
        await subscribe(ws, EVENTS, "1", variables={"s": sid, "a": EARLIEST})
        await subscribe(ws, "subscription { silence }", "2")
        assert seq_of(await received(ws)) == 1
        served.world.refusal = UnauthenticatedError("revoked")
        served.world.hub.wake([principal_key("user:1")])
        last = (await received(ws))["payload"]["data"]["events"]
        assert (last["kind"], last["reason"]) == ("StreamClosed", "UNAUTHENTICATED")
        assert last["cursor"] == Cursor(sid, 1, 1).encode()
        assert (await received(ws))["type"] == "complete"
        assert (await closed(ws))[0] == 4401


@pytest.mark.parametrize("others", [False, True])
async def test_a_right_lost_in_mid_stream_closes_what_it_concerns(
    *,
    others: bool,
    serve: Serve,
    log: Any,
) -> None:
    sid = log.new(entries=1)
    async with serve() as served, connected(served) as ws:
        await subscribe(ws, EVENTS, "1", variables={"s": sid, "a": EARLIEST})
        await received(ws)
        if others:
            await subscribe(ws, "subscription { silence }", "2")
            await subscribe(ws, "{ hello }", "3")
            assert [(await received(ws))["type"] for _ in range(2)] == ["next", "complete"]
        served.world.refusal = ForbiddenError("no longer")
        served.world.hub.wake([principal_key("user:1")])
        assert (await received(ws))["payload"]["data"]["events"]["reason"] == "FORBIDDEN"
        assert (await received(ws))["type"] == "complete"
        if others:
            await subscribe(ws, "{ hello }", "4")
            assert (await received(ws))["payload"] == {"data": {"hello": "world"}}
        else:
            assert (await closed(ws))[0] == 4403


async def test_shutdown_tells_the_cursor_and_closes(serve: Serve, log: Any) -> None:
    sid = log.new(entries=2)
    async with serve() as served, connected(served) as ws:
        await subscribe(ws, EVENTS, variables={"s": sid})
        assert (await received(ws))["payload"]["data"]["events"]["kind"] == "Checkpoint"
        served.world.hub.close()
        last = (await received(ws))["payload"]["data"]["events"]
        assert (last["reason"], last["cursor"]) == ("GOING_AWAY", Cursor(sid, 1, 2).encode())
        code, reason = await closed(ws)
        assert code == 1012
        assert "Resume" in reason


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


@contextlib.asynccontextmanager
async def raw_client(
    served: Served,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that reads only when told to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def flooded_by_websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "GET /graphql HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: graphql-transport-ws",
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await reader.readuntil(b"\r\n\r\n")
    for text in (
        json.dumps({"type": "connection_init"}),
        json.dumps({"id": "1", "type": "subscribe", "payload": {"query": FLOOD}}),
    ):
        assert len(text) < 126
        writer.write(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode())
    await writer.drain()


FLOOD = "subscription { flood }"


async def has_stopped(count: Callable[[], int]) -> int:
    """The count once it has not moved for a while."""
    async with asyncio.timeout(10):
        while True:
            before = count()
            await asyncio.sleep(0.3)
            if before == count() > 0:
                return before


async def test_a_client_that_stops_reading_costs_little_and_is_cut_off(serve: Serve) -> None:
    before = resident_bytes()
    async with (
        serve(send_timeout=1.0, close_timeout=0.5) as served,
        contextlib.AsyncExitStack() as clients,
    ):
        for _ in range(5):
            reader, writer = await clients.enter_async_context(raw_client(served))
            await flooded_by_websocket(reader, writer)
        stopped_at = await has_stopped(lambda: served.world.flooded)
        # What lies in the kernel's socket buffers (some MB each) is not the server's memory.
        assert stopped_at * len(BULK) < 5 * 16 * 1024 * 1024
        assert resident_bytes() - before < 40 * 1024 * 1024
        assert served.world.closed_floods == 0  # the generators are suspended, not ended

        await eventually(lambda: served.app.connections == 0)
        assert served.world.closed_floods == 5
        assert served.world.flooded == stopped_at


async def test_a_slow_reader_that_wakes_up_in_time_finds_the_reason(serve: Serve) -> None:
    async with serve(send_timeout=0.5, close_timeout=10.0) as served:
        # The client's own queue is kept small, so that it stops reading from its socket.
        async with connected(served, max_queue=1, max_size=None) as ws:
            await subscribe(ws, FLOOD)
            await has_stopped(lambda: served.world.flooded)
            await asyncio.sleep(0.5)
            code, reason = await closed(ws)
            assert code == 4503
            assert "Resume" in reason
        await eventually(lambda: served.world.closed_floods == 1)


def events_of(text: str) -> list[dict[str, str]]:
    """The events of an event stream, comments left out."""
    blocks = text.replace("\r\n", "\n").strip("\n").split("\n\n")
    return [
        dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines)
        for block in blocks
        if (lines := [line for line in block.split("\n") if line and not line.startswith(":")])
    ]


class EventSource:
    """As much of a browser's EventSource as the tests need."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.text = ""
        self._chunks = response.aiter_text()

    async def events(self, count: int) -> list[dict[str, str]]:
        async with asyncio.timeout(10):
            while len(events_of(self.text)) < count:
                self.text += await anext(self._chunks)
        return events_of(self.text)[:count]

    async def rest(self) -> str:
        async with asyncio.timeout(10):
            self.text += "".join([chunk async for chunk in self._chunks])
        return self.text


@contextlib.asynccontextmanager
async def event_source(
    served: Served, query: str, *, method: str = "POST", headers: Any = None, **variables: Any
) -> AsyncIterator[EventSource]:
    headers = {"accept": "text/event-stream", **(headers or {})}
    async with httpx2.AsyncClient(timeout=10) as client:
        if method == "GET":
            params = {"query": query, "variables": json.dumps(variables)}
            request = client.stream("GET", served.http, params=params, headers=headers)
        else:
            body = {"query": query, "variables": variables}
            request = client.stream("POST", served.http, json=body, headers=headers)
        async with request as response:
            assert response.status_code == 200, await response.aread()
            yield EventSource(response)


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_events_over_sse_carry_their_cursor_as_id(
    method: str, serve: Serve, log: Any
) -> None:
    sid = log.new(entries=2)
    async with serve() as served:
        async with event_source(served, EVENTS, method=method, s=sid, a=EARLIEST) as source:
            headers = source.response.headers
            assert headers["content-type"].startswith("text/event-stream")
            assert "no-cache" in headers["cache-control"]
            assert headers["x-accel-buffering"] == "no"
            one, two = await source.events(2)
            assert one["event"] == "next"
            assert one["id"] == Cursor(sid, 1, 1).encode()
            assert json.loads(two["data"])["data"]["events"]["cursor"] == two["id"]
        await eventually(lambda: served.app.connections == 0)
        await eventually(lambda: served.world.hub.watchers == 0)


@pytest.mark.parametrize("after", [None, 1])
async def test_last_event_id_is_where_a_reconnect_goes_on(
    after: int | None, serve: Serve, log: Any
) -> None:
    sid = log.new(entries=5)
    variables = {"s": sid} | ({"a": Cursor(sid, 1, after).encode()} if after else {})
    headers = {"last-event-id": Cursor(sid, 1, 3).encode()}
    async with (
        serve() as served,
        event_source(served, EVENTS, headers=headers, **variables) as source,
    ):
        events = await source.events(2)
        assert [event["id"] for event in events] == [
            Cursor(sid, 1, 4).encode(),
            Cursor(sid, 1, 5).encode(),
        ]


async def test_a_last_event_id_that_is_no_cursor_is_an_error(serve: Serve, log: Any) -> None:
    sid = log.new()
    async with (
        serve() as served,
        event_source(served, EVENTS, headers={"last-event-id": "77"}, s=sid) as source,
    ):
        (event, *_) = events_of(await source.rest())
        assert "cursor" in json.loads(event["data"])["errors"][0]["message"]


async def test_an_event_stream_is_never_silent_for_long(serve: Serve) -> None:
    async with (
        serve(heartbeat=0.1) as served,
        event_source(served, "subscription { silence }") as source,
        asyncio.timeout(5),
    ):
        while source.text.count(": ping") < 3:
            source.text += await anext(source._chunks)
    assert TransportLimits().heartbeat <= 15


async def test_an_event_stream_ends_with_its_reason_and_complete(serve: Serve, log: Any) -> None:
    sid = log.new(entries=1)
    async with serve() as served:
        async with event_source(served, EVENTS, s=sid, a=EARLIEST) as source:
            await source.events(1)
            served.world.refusal = UnauthenticatedError("revoked")
            served.world.hub.wake([principal_key("user:1")])
            *_, last, complete = events_of(await source.rest())
            assert json.loads(last["data"])["data"]["events"]["reason"] == "UNAUTHENTICATED"
            assert last["id"] == Cursor(sid, 1, 1).encode()
            assert complete == {"event": "complete", "data": ""}
        await eventually(lambda: served.app.connections == 0)


async def test_a_reader_of_events_that_stops_reading_is_cut_off(serve: Serve) -> None:
    async with serve(send_timeout=0.5) as served, raw_client(served) as (reader, writer):
        body = json.dumps({"query": FLOOD}).encode()
        lines = [
            "POST /graphql HTTP/1.1",
            "Host: localhost",
            "Accept: text/event-stream",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        stopped_at = await has_stopped(lambda: served.world.flooded)
        assert stopped_at * len(BULK) < 16 * 1024 * 1024
        await eventually(lambda: served.app.connections == 0)
        assert served.world.closed_floods == 1
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass  # what was in the kernel's buffers


async def test_a_subscription_by_plain_request_is_told_how(serve: Serve, log: Any) -> None:
    sid = log.new()
    async with serve() as served, httpx2.AsyncClient() as client:
        body = {"query": EVENTS, "variables": {"s": sid}}
        for answer in (
            await client.post(served.http, json=body),
            await client.post(served.http, json=body, headers={"accept": "application/json"}),
            await client.get(served.http, params={"query": "subscription { silence }"}),
        ):
            assert answer.status_code == 406
            assert "text/event-stream" in answer.text
        answer = await client.post(served.http, json={"query": "{ hello }"})
        assert answer.json() == {"data": {"hello": "world"}}
        answer = await client.get(served.http, params={"query": 'mutation { shout(word: "a") }'})
        assert answer.status_code == 400
        assert (await client.post(served.http, json={"query": None})).status_code == 400
        two = {"query": "query A { hello } query B { hello }", "operationName": "C"}
        assert (await client.post(served.http, json=two)).status_code == 400
    assert served.world.hub.watchers == 0
