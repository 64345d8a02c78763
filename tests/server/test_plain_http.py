"""The short way of plain requests over a connection: as the long way would, in every respect."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st

from resolvers.context import Context
from schema.context import GraphQLContext
from server.plain import PlainGraphQL
from server.plain_http import PlainHttpProtocol
from server.serving import _uvicorn_config
from tests.server.test_direct_graphql import CREATE, NAMES, NEW, REQUESTS
from tests.support.inside import Inside, open_inside

PAINT = CREATE.replace("number ", "")
ID = "8b0c2a34-7d0e-4c53-a5a5-33d4c1c9bb0f"
HIGH_WATER = 64 * 1024
PEER = ("192.0.2.7", 40_000)


class Wire(asyncio.Transport):
    """A connection's other side: what was written, and what the protocol has been told."""

    def __init__(self, *, reads: bool = True) -> None:
        super().__init__()
        self.written = b""
        self.reads = reads
        self.is_paused = self.is_closed = False
        self.protocol: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": PEER, "sockname": ("192.0.2.1", 80)}.get(name, default)

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.written += data
        if not self.reads and len(self.written) > HIGH_WATER:
            self.protocol.pause_writing()

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


class Connection:
    """A connection to a server; ``took`` tells of each request that took the short way."""

    def __init__(self, server: Inside, **wire: Any) -> None:
        config = _uvicorn_config(server.app.state.server.settings, server.app)
        config.load()
        self.state = uvicorn.server.ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.wire = Wire(**wire)
        made: Any = config.http_protocol_class
        self.protocol = made(config=config, server_state=self.state, app_state={})
        self.wire.protocol = self.protocol
        self.protocol.connection_made(self.wire)

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(20):
            while self.state.tasks:
                await asyncio.wait(self.state.tasks)

    async def ask(self, *packets: bytes) -> bytes:
        """The answers to packets, each sent when the one before has been dealt with."""
        before = len(self.wire.written)
        for packet in packets:
            self.protocol.data_received(packet)
            await asyncio.sleep(0)
        await self.settle()
        return self.wire.written[before:]

    def lose(self) -> None:
        """The client leaves."""
        self.wire.is_closed = True
        self.protocol.connection_lost(ConnectionResetError())


def message(token: str, body: bytes, *, method: str = "POST", **headers: str) -> bytes:
    given = {
        "host": "testserver",
        "content-type": "application/json",
        "authorization": f"Bearer {token}",
        "content-length": str(len(body)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} /graphql HTTP/1.1\r\n{lines}\r\n".encode() + body


def query(text: str, **variables: Any) -> bytes:
    return orjson.dumps({"query": text, "variables": variables})


def masked(answer: bytes) -> bytes:
    """Without what differs from one request to the next: an id that was made, a moment, a time."""
    answer = re.sub(rb"(x-request-id|request_id.:)[: ]*[^\r,]*", rb"\1", answer)
    return re.sub(rb"\d{4}-\d\d-\d\dT[\d:.]+Z", b"MOMENT", answer)


@pytest.fixture
def took(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that were answered on the short way; who was looked up stays known."""
    monkeypatch.setattr("server.authentication.CACHE_SECONDS", 1_000)
    seen: list[str] = []
    write = PlainHttpProtocol._write

    def watched(self: Any, request: Any, *arguments: Any, **more: Any) -> None:
        seen.append(request.operation.known.label)
        write(self, request, *arguments, **more)

    monkeypatch.setattr(PlainHttpProtocol, "_write", watched)
    return seen


@asynccontextmanager
async def a_board(folder: Path, **changes: Any) -> AsyncIterator[tuple[Inside, str]]:
    """A server whose usual documents are compiled, and a workspace's id."""
    async with open_inside(folder, **changes) as server:
        made = (await server.post(NEW, token=server.token)).data
        board = made["createWorkspace"]["workspace"]["id"]
        connection = Connection(server)
        create = PAINT.replace("WORKSPACE", board)
        for _ in range(3):
            await connection.ask(message(server.token, query(NAMES, first=1)))
            await connection.ask(message(server.token, query(create, title="Paint")))
        yield server, create


@contextmanager
def lines_of_requests() -> Iterator[list[dict[str, Any]]]:
    """The lines of requests that are written meanwhile, without moments and durations."""
    found: list[dict[str, Any]] = []

    class Listener(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            if isinstance(record.msg, dict):
                shown = {
                    k: v for k, v in record.msg.items() if k not in {"timestamp", "duration_ms"}
                }
                found.append(shown)
            return True

    listener, root = Listener(), logging.getLogger()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.INFO)
    try:
        yield found
    finally:
        root.removeHandler(listener)
        root.setLevel(level)


# --- the same as the long way ---


async def test_the_short_way_tells_and_answers_as_the_long_one(
    tmp_path: Path, took: list[str]
) -> None:
    short_ones: set[str] = set()
    async with a_board(tmp_path) as (server, create):
        short, long = Connection(server), Connection(server)
        long.protocol._plain = lambda: None
        for name, (body, headers) in REQUESTS.items():
            whole = body.replace(orjson.dumps(CREATE)[1:-1], orjson.dumps(create)[1:-1])
            given = {"x-request-id": ID, **headers}
            for _ in range(3):
                results = []
                for connection in (long, short):
                    took.clear()
                    with lines_of_requests() as lines:
                        answer = await connection.ask(message(server.token, whole, **given))
                    assert connection is short or not took
                    results.append((masked(answer), lines))
                    if took:
                        short_ones.add(name)
                assert results[0] == results[1], name
                assert results[0][1][0]["request_id"] == ID
        assert short.state.total_requests == long.state.total_requests == 3 * len(REQUESTS)
        assert _is_all_given_back(server)
        assert server.internal_errors == []
    assert short_ones == {
        "a query",
        "one of two operations",
        "a mutation",
        "a mutation that is refused",
        "null",
        "charset",
        "a request id",
    }


def _is_all_given_back(server: Inside) -> bool:
    plain: PlainGraphQL = server.app.state.plain
    return plain.limiter.running == 0


async def test_both_ways_count_the_same(tmp_path: Path, took: list[str]) -> None:
    async with a_board(tmp_path, metrics_port=_free_port()) as (server, create):
        registry = server.app.state.plain._metrics.registry
        found = []
        took.clear()
        for plain in (server.app.state.plain, None):
            connection = Connection(server)
            connection.protocol._plain = lambda plain=plain: plain
            before = _counts(registry)
            await connection.ask(message(server.token, query(NAMES, first=1)))
            await connection.ask(message(server.token, query(create, title="Paint")))
            await connection.ask(message(server.token, query(create, title="")))
            found.append({name: n - before.get(name, 0) for name, n in _counts(registry).items()})
    assert len(took) == 3
    assert found[0] == found[1]
    assert any("graphql_operation" in name and n == 1 for name, n in found[0].items())


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _counts(registry: Any) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.startswith("dragoman_") and sample.name.endswith(("_count", "_total"))
    }


async def test_no_context_reaches_the_next_request(tmp_path: Path, took: list[str]) -> None:
    async with a_board(tmp_path) as (server, _):
        connection = Connection(server)
        with lines_of_requests() as lines:
            await connection.ask(message(server.token, query(NAMES, first=1)) * 3)
            await connection.ask(b"GET /none HTTP/1.1\r\nhost: testserver\r\n\r\n")
        assert took[-1:] == ["N"]
        assert [line.get("operation") for line in lines] == ["N", "N", "N", None]
        assert len({line["request_id"] for line in lines}) == 4
        assert "principal" not in lines[-1]


@pytest.mark.parametrize(
    "forwarded", [None, "198.51.100.3", "198.51.100.3, 203.0.113.9", "203.0.113.9:80", "", "x"]
)
@pytest.mark.parametrize("trusted", [[], ["192.0.2.0/24"], ["192.0.2.7", "203.0.113.9"], ["*"]])
async def test_a_client_behind_a_proxy_has_the_same_address_on_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: list[str], forwarded: str | None
) -> None:
    addresses: list[str] = []
    close = GraphQLContext.close

    async def watched(self: GraphQLContext) -> None:
        addresses.append(self.client_address)
        await close(self)

    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    async with a_board(tmp_path, trusted_proxies=trusted) as (server, _):
        monkeypatch.setattr(GraphQLContext, "close", watched)
        for plain in (server.app.state.plain, None):
            connection = Connection(server)
            connection.protocol._plain = lambda plain=plain: plain
            await connection.ask(message(server.token, query(NAMES, first=1), **headers))
    assert addresses[0] == addresses[1]
    assert (addresses[0] == PEER[0]) == (not trusted or not forwarded)


# --- any packets, any order ---

KINDS = ["query", "mutation", "get", "head", "invalid", "close to plain", "a foreign page"]


def _messages(token: str, create: str, kinds: list[str]) -> list[bytes]:
    made: dict[str, bytes] = {
        "query": message(token, query(NAMES, first=1)),
        "mutation": message(token, query(create, title="Sing")),
        "get": b"GET /healthz HTTP/1.1\r\nhost: testserver\r\n\r\n",
        "head": b"HEAD /healthz HTTP/1.1\r\nhost: testserver\r\n\r\n",
        "invalid": message(token, b"{"),
        "close to plain": message(token, query(NAMES, first="x")),
        "a foreign page": message(token, query(NAMES, first=1), origin="http://else.example"),
    }
    return [made[kind] for kind in kinds]


async def test_however_requests_are_cut_into_packets_they_are_answered_in_order(
    tmp_path: Path, took: list[str]
) -> None:
    async def compare(
        kinds: list[str], cuts: list[int], turns: list[int], *, as_requests: bool
    ) -> None:
        messages = _messages(server.token, create, kinds)
        stream = b"".join(messages)
        ends = accumulate(map(len, messages)) if as_requests else (len(stream),)
        places = sorted({0, *(cut % len(stream) for cut in cuts), *ends})
        connection = Connection(server)
        for number, (start, end) in enumerate(pairwise(places)):
            while connection.wire.is_paused:
                await asyncio.wait(connection.state.tasks)
            connection.protocol.data_received(stream[start:end])
            for _ in range(turns[number]):
                await asyncio.sleep(0)
        await connection.settle()
        one_by_one = [masked(await Connection(server).ask(one)) for one in messages]
        assert masked(connection.wire.written) == b"".join(one_by_one)
        assert _is_all_given_back(server)

    async with a_board(tmp_path) as (server, create):
        loop = asyncio.get_running_loop()

        @settings(max_examples=100, deadline=None)
        @given(
            kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
            cuts=st.lists(st.integers(0, 3_000), max_size=3),
            turns=st.lists(st.integers(0, 30), min_size=9, max_size=9),
            as_requests=st.booleans(),
        )
        def law(kinds: list[str], cuts: list[int], turns: list[int], *, as_requests: bool) -> None:
            done = compare(kinds, cuts, turns, as_requests=as_requests)
            asyncio.run_coroutine_threadsafe(done, loop).result(60)

        await asyncio.to_thread(law)
        assert len(took) > 20


async def test_a_client_that_does_not_read_is_waited_for(tmp_path: Path, took: list[str]) -> None:
    async with a_board(tmp_path) as (server, _):
        connection = Connection(server, reads=False)
        one = message(server.token, query(NAMES, first=1))
        sent = answered = 0
        while not connection.wire.is_paused:
            connection.protocol.data_received(one)
            sent += 1
            await asyncio.sleep(0)
        size = len(await Connection(server).ask(one))
        assert len(connection.wire.written) <= HIGH_WATER + size
        connection.wire.reads = True
        connection.protocol.resume_writing()
        await connection.settle()
        answered = connection.wire.written.count(b"HTTP/1.1 200 OK")
        assert answered == sent
        assert not connection.wire.is_paused


async def test_only_the_first_request_of_a_packet_is_answered_in_its_turn(
    tmp_path: Path, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, _):
        connection = Connection(server)
        took.clear()
        answers = await connection.ask(message(server.token, query(NAMES, first=1)) * 20)
        assert took == ["N"]
        assert answers.count(b"HTTP/1.1 200 OK") == 20


async def test_a_head_that_comes_again_is_not_parsed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, _):
        parsed = 0
        begin = PlainHttpProtocol.on_message_begin

        def watched(self: Any) -> None:
            nonlocal parsed
            parsed += 1
            begin(self)

        monkeypatch.setattr(PlainHttpProtocol, "on_message_begin", watched)
        connection = Connection(server)
        bodies = [query(NAMES, first=number) for number in range(1, 5)]
        answers = [await connection.ask(message(server.token, body)) for body in bodies]
        assert parsed == 1
        assert took[-4:] == ["N"] * 4
        assert b'"first"' not in b"".join(answers)
        for body in (bodies[0][:-1] + b"?", b"[" + bodies[0][1:-1] + b"]"):
            assert b" 400 " in await connection.ask(message(server.token, body))
        assert parsed == 3
        with lines_of_requests() as lines:
            again = await connection.ask(message(server.token, bodies[0]))
        assert masked(again) == masked(answers[0])
        assert again not in answers  # it has an id of its own
        assert lines[0]["request_id"].encode() in again
        assert parsed == 3


# --- the life of a connection ---


async def test_a_connection_is_kept_and_closed_when_nothing_comes(
    tmp_path: Path, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, create):
        connection = Connection(server)
        connection.protocol.timeout_keep_alive = 0.2
        for text in (query(NAMES, first=1), query(create, title="Sing")):
            await connection.ask(message(server.token, text))
            assert connection.protocol.timeout_keep_alive_task is not None
            connection.protocol.data_received(b"POST /graphql HTTP/1.1\r\n")
            assert connection.protocol.timeout_keep_alive_task is None
            await connection.ask(message(server.token, text).partition(b"\r\n")[2])
            for _ in range(2):
                await connection.ask(message(server.token, text))
        assert not connection.wire.is_closed
        async with asyncio.timeout(10):
            while not connection.wire.is_closed:
                await asyncio.sleep(0.01)


async def test_a_connection_is_closed_where_the_client_wishes(
    tmp_path: Path, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, create):
        for text in (query(NAMES, first=1), query(create, title="Sing")):
            connection = Connection(server)
            answer = await connection.ask(message(server.token, text, connection="close"))
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nconnection: close\r\n" in answer
            assert connection.wire.is_closed


async def test_garbage_behind_a_request_ends_the_connection(
    tmp_path: Path, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, _):
        connection = Connection(server)
        good, bad = message(server.token, query(NAMES, first=1)), b"\x00\x01garbage\r\n\r\n"
        answers = await connection.ask(good + bad)
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"400"]
        assert connection.wire.is_closed


def _before_reading_or_writing(patch: pytest.MonkeyPatch, first: Any) -> None:
    """Call an asynchronous function whenever a request begins to read or to write."""
    reader, transact = Context.reader, Context._transact_once

    async def reads(ctx: Context) -> Any:
        await first()
        return await reader(ctx)

    async def writes(ctx: Context, *arguments: Any, **more: Any) -> Any:
        await first()
        return await transact(ctx, *arguments, **more)

    patch.setattr(Context, "reader", reads)
    patch.setattr(Context, "_transact_once", writes)


class Gate:
    """Holds everybody who begins to read or to write while it is closed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()
        _before_reading_or_writing(patch, self._pass)

    async def _pass(self) -> None:
        self.reached.set()
        await self.opened.wait()


@pytest.mark.parametrize("what", ["a query", "a mutation"])
async def test_a_request_under_way_is_finished_when_the_server_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str], what: str
) -> None:
    async with a_board(tmp_path) as (server, create):
        text = query(NAMES, first=1) if what == "a query" else query(create, title="Last")
        idle, busy = Connection(server), Connection(server)
        await idle.ask(message(server.token, text))
        gate = Gate(monkeypatch)
        busy.protocol.data_received(message(server.token, text))
        await gate.reached.wait()
        for connection in (idle, busy):
            connection.protocol.shutdown()
        assert idle.wire.is_closed
        assert not busy.wire.is_closed
        assert busy.state.tasks
        gate.opened.set()
        await busy.settle()
        assert busy.wire.written.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in busy.wire.written
        assert busy.wire.is_closed
        assert _is_all_given_back(server)


async def test_a_mutation_is_whole_though_its_client_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, create):
        with monkeypatch.context() as patch, lines_of_requests() as lines:
            gate = Gate(patch)
            connection = Connection(server)
            connection.protocol.data_received(message(server.token, query(create, title="Gone")))
            await gate.reached.wait()
            connection.lose()
            gate.opened.set()
            await connection.settle()
        assert connection.wire.written == b""
        assert [line["operation"] for line in lines] == ["C"]
        assert _is_all_given_back(server)
        rows = await server.rows_about(["Gone"])
        assert len(rows["task"]) == 1
        assert len(rows["event"]) == 1


async def test_a_query_that_has_to_wait_goes_on_in_a_task_and_begins_there_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, _):
        one = message(server.token, query(NAMES, first=1))
        connection = Connection(server)
        at_once = await connection.ask(one)
        begun_without_task: list[bool] = []
        run = PlainGraphQL.run

        async def watched(self: Any, *arguments: Any) -> Any:
            begun_without_task.append(asyncio.current_task() is None)
            return await run(self, *arguments)

        monkeypatch.setattr(PlainGraphQL, "run", watched)
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            gate = Gate(patch)
            loop.call_soon(connection.protocol.data_received, one)
            await gate.reached.wait()
            loop.call_soon(connection.protocol.data_received, one)  # it has to wait for its turn
            await asyncio.sleep(0)
            gate.opened.set()
            await connection.settle()
        for _ in range(3):
            loop.call_soon(connection.protocol.data_received, one)
            await asyncio.sleep(0.01)
            await connection.settle()
        assert masked(connection.wire.written) == masked(at_once) * 6
        assert begun_without_task == [True, False, False, True, True]
        assert _is_all_given_back(server)


async def test_who_needs_a_task_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, _):
        one = message(server.token, query(NAMES, first=1))
        expected = await Connection(server).ask(one)

        async def at_once() -> None:
            pass

        async def in_time() -> None:
            async with asyncio.timeout(10):
                await at_once()

        _before_reading_or_writing(monkeypatch, in_time)
        took.clear()
        connection = Connection(server)
        asyncio.get_running_loop().call_soon(connection.protocol.data_received, one)
        await asyncio.sleep(0.01)
        await connection.settle()
        assert masked(connection.wire.written) == masked(expected)
        assert took == []
        assert server.internal_errors == []


@pytest.mark.parametrize("error", [ValueError("secret"), TimeoutError("secret")])
async def test_an_unexpected_error_is_masked_and_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str], error: Exception
) -> None:
    async with a_board(tmp_path) as (server, create):
        for text in (query(NAMES, first=1), query(create, title="Sing")):
            connection = Connection(server)
            await connection.ask(message(server.token, text))

            async def fail() -> None:
                raise error

            with monkeypatch.context() as patch:
                _before_reading_or_writing(patch, fail)
                answer = await connection.ask(message(server.token, text, x_request_id=ID))
            assert b"secret" not in answer
            assert b'"code":"INTERNAL"' in answer
            assert ID.encode() in answer.partition(b"\r\n\r\n")[2]
            assert len(server.internal_errors) == 1
            server.internal_errors.clear()
            assert _is_all_given_back(server)


async def test_a_fault_of_the_short_way_itself_is_no_bad_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, _):
        one = message(server.token, query(NAMES, first=1))
        connection = Connection(server)
        expected = await connection.ask(one)

        def fail(*_: Any) -> None:
            raise ValueError("a fault")

        server.app.state.plain.context = fail
        for asked in (connection, Connection(server)):
            took.clear()
            answer = await asked.ask(one)
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert took == []
        assert _is_all_given_back(server)
        assert expected.startswith(b"HTTP/1.1 200 ")


# --- who may ---


async def test_a_token_counts_no_longer_than_elsewhere(tmp_path: Path, took: list[str]) -> None:
    async with a_board(tmp_path) as (server, _):
        create = 'mutation { createToken(input: {name: "x"}) { token { id } secret } }'
        made = (await server.post(create, token=server.token)).data["createToken"]
        connection = Connection(server)
        one = message(made["secret"], query(NAMES, first=1))
        await connection.ask(one)
        took.clear()
        assert b'"workspaces":' in await connection.ask(one)
        assert took == ["N"]
        revoke = 'mutation { revokeToken(id: "%s") { token { revokedAt } } }'
        revoked = await server.post(revoke % made["token"]["id"], token=server.token)
        assert revoked.errors == []
        assert b'"UNAUTHENTICATED"' in await connection.ask(one)
        assert took == ["N"]


async def test_without_compiled_documents_nothing_is_plain(tmp_path: Path, took: list[str]) -> None:
    async with a_board(tmp_path, compile=False) as (server, _):
        assert server.app.state.plain is None
        answer = await Connection(server).ask(message(server.token, query(NAMES, first=1)))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert took == []


async def test_who_has_no_turn_left_waits_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str]
) -> None:
    async with a_board(tmp_path, max_concurrent_operations=1) as (server, _):
        one = message(server.token, query(NAMES, first=1))
        first, second = Connection(server), Connection(server)
        gate = Gate(monkeypatch)
        first.protocol.data_received(one)
        await gate.reached.wait()
        second.protocol.data_received(one)
        await asyncio.sleep(0)
        assert server.app.state.plain.limiter.running == 1
        gate.opened.set()
        await first.settle()
        await second.settle()
        assert masked(first.wire.written) == masked(second.wire.written) != b""
        assert _is_all_given_back(server)
