"""The short way of plain requests: what becomes of connections, and of turns."""

import asyncio
import re
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from server.plain import PlainGraphQL
from server.plain_http import PlainHttpProtocol
from tests.support.wire import (
    HIGH_WATER,
    ID,
    NAMES,
    Connection,
    Gate,
    a_board,
    before_reading_or_writing,
    is_all_given_back,
    lines_of_requests,
    masked,
    message,
    query,
)


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
        bodies = [query(NAMES, first=number) for number in (1, 2, 9, 30)]
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


class Clock:
    """The running loop for a protocol; its time passes where the test says so."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = 1_000.0
        self.timers: list[tuple[float, asyncio.Handle]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Any) -> asyncio.Handle:
        handle = asyncio.Handle(callback, (), self._loop)
        self.timers.append((self._now + delay, handle))
        return handle

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        end = self._now + seconds
        while due := [timer for timer in self.timers if timer[0] <= end]:
            self._now, handle = min(due, key=itemgetter(0))
            self.timers.remove((self._now, handle))
            if not handle.cancelled():
                handle._run()
        self._now = end


@pytest.mark.parametrize(
    "kinds", [*product(["query", "get", "mutation"], repeat=2), ("query", "query", "get", "query")]
)
async def test_a_connection_is_kept_and_closed_when_nothing_comes(
    tmp_path: Path, took: list[str], kinds: tuple[str, ...]
) -> None:
    async with a_board(tmp_path) as (server, create):
        made = {
            "query": message(server.token, query(NAMES, first=1)),
            "mutation": message(server.token, query(create, title="Sing")),
            "get": b"GET /healthz HTTP/1.1\r\nhost: testserver\r\n\r\n",
        }
        connection = Connection(server)
        connection.protocol.timeout_keep_alive = 10
        clock = connection.protocol.loop = Clock()
        for kind in kinds:
            for seconds in (6, 0.5, 9.9):
                clock.tick(seconds)
                await connection.ask(made[kind])
        clock.tick(8)
        connection.protocol.data_received(made["query"][:10])
        clock.tick(8)
        await connection.ask(made["query"][10:])
        clock.tick(9.9)
        assert not connection.wire.is_closed
        clock.tick(0.2)
        assert connection.wire.is_closed
        assert took[-1:] == ["N"]
        assert clock.timers == []


async def test_short_answers_share_a_timer(tmp_path: Path, took: list[str]) -> None:
    async with a_board(tmp_path) as (server, _):
        connection = Connection(server)
        clock = connection.protocol.loop = Clock()
        for _ in range(20):
            await connection.ask(message(server.token, query(NAMES, first=1)))
            assert len(clock.timers) == 1
            clock.tick(0.1)


async def test_a_connection_is_not_closed_while_a_request_is_under_way(
    tmp_path: Path, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, create):
        connection = Connection(server)
        connection.protocol.timeout_keep_alive = 10
        clock = connection.protocol.loop = Clock()
        quick = message(server.token, query(NAMES, first=1))
        took.clear()
        slow = message(server.token, query(create, title="Slow"))
        connection.protocol.data_received(quick + slow)
        assert took == ["N"]
        assert not connection.protocol.cycle.response_complete
        clock.tick(100)
        assert not connection.wire.is_closed
        await connection.settle()
        assert connection.wire.written.count(b"HTTP/1.1 200 OK") == 2
        clock.tick(9)
        assert not connection.wire.is_closed
        clock.tick(2)
        assert connection.wire.is_closed


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
        assert is_all_given_back(server)


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

        before_reading_or_writing(monkeypatch, in_time)
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
                before_reading_or_writing(patch, fail)
                answer = await connection.ask(message(server.token, text, x_request_id=ID))
            assert b"secret" not in answer
            assert b'"code":"INTERNAL"' in answer
            assert ID.encode() in answer.partition(b"\r\n\r\n")[2]
            assert len(server.internal_errors) == 1
            server.internal_errors.clear()
            assert is_all_given_back(server)


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
        assert is_all_given_back(server)
        assert expected.startswith(b"HTTP/1.1 200 ")


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
        assert is_all_given_back(server)
