"""The short way of plain requests: it answers as the long way would, in every respect."""

import asyncio
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema.context import GraphQLContext
from tests.server.test_direct_graphql import REQUESTS
from tests.support.wire import (
    CREATE,
    ID,
    NAMES,
    PEER,
    Connection,
    a_board,
    is_all_given_back,
    lines_of_requests,
    masked,
    message,
    query,
)

# --- the same as the long way ---


async def test_the_short_way_tells_and_answers_as_the_long_one(
    tmp_path: Path, took: list[str]
) -> None:
    short_ones: set[str] = set()
    async with a_board(tmp_path) as (server, create):
        short, long = Connection(server), Connection(server)
        long.protocol._plain = None
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
        assert is_all_given_back(server)
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


async def test_both_ways_count_the_same(tmp_path: Path, took: list[str]) -> None:
    async with a_board(tmp_path, metrics_port=_free_port()) as (server, create):
        registry = server.app.state.plain._metrics.registry
        found = []
        took.clear()
        for plain in (server.app.state.plain, None):
            connection = Connection(server)
            connection.protocol._plain = plain
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
            connection.protocol._plain = plain
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
        assert is_all_given_back(server)

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
