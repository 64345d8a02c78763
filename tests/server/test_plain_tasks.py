"""The short way of plain requests: what may happen while one goes on in a task."""

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.inside import Inside
from tests.support.wire import (
    NAMES,
    Connection,
    Gate,
    a_board,
    is_all_given_back,
    lines_of_requests,
    message,
    query,
)

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: testserver\r\n\r\n"


async def _number_of_tasks(server: Inside, title: str) -> int:
    return len((await server.rows_about([title]))["task"])


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
        assert is_all_given_back(server)


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
        assert is_all_given_back(server)
        rows = await server.rows_about(["Gone"])
        assert len(rows["task"]) == 1
        assert len(rows["event"]) == 1


async def test_what_comes_while_a_mutation_runs_is_answered_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, create):
        connection = Connection(server)
        first = message(server.token, query(create, title="First"))
        await connection.ask(first)
        behind = [
            message(server.token, query(NAMES, first=1)),
            message(server.token, query(create, title="Behind")),
            HEALTH,
        ]
        with monkeypatch.context() as patch:
            gate = Gate(patch)
            connection.protocol.data_received(first)
            await gate.reached.wait()
            before = connection.wire.written
            connection.protocol.data_received(behind[0])
            assert connection.wire.is_paused
            for packet in behind[1:]:  # were on their way already
                connection.protocol.data_received(packet)
            await asyncio.sleep(0.01)
            assert connection.wire.written == before
            assert await _number_of_tasks(server, "Behind") == 0
            gate.opened.set()
            await connection.settle()
        answers = connection.wire.written[len(before) :]
        found = re.findall(rb'"First"|"Behind"|"workspaces"|healthy|HTTP/1.1 \d+', answers)
        assert found[:6] == [
            *(b"HTTP/1.1 200", b'"First"'),
            *(b"HTTP/1.1 200", b'"workspaces"'),
            *(b"HTTP/1.1 200", b'"Behind"'),
        ]
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 4
        assert not connection.wire.is_paused
        assert b'"First"' in await connection.ask(first)
        assert connection.state.total_requests == 6
        assert is_all_given_back(server)


async def test_what_stands_behind_a_mutation_is_answered_before_the_server_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, create):
        connection = Connection(server)
        gate = Gate(monkeypatch)
        connection.protocol.data_received(message(server.token, query(create, title="First")))
        await gate.reached.wait()
        connection.protocol.data_received(HEALTH)
        connection.protocol.shutdown()
        gate.opened.set()
        await connection.settle()
        answers = connection.wire.written
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert answers.count(b"\r\nconnection: close\r\n") == 1
        assert connection.wire.is_closed


async def test_nothing_behind_a_mutation_is_begun_once_its_client_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, create):
        connection = Connection(server)
        first, behind = (
            message(server.token, query(create, title=title)) for title in ("First", "Behind")
        )
        with monkeypatch.context() as patch:
            gate = Gate(patch)
            connection.protocol.data_received(first)
            await gate.reached.wait()
            connection.protocol.data_received(behind)
            connection.lose()
            gate.opened.set()
            await connection.settle()
        assert connection.wire.written == b""
        assert await _number_of_tasks(server, "First") == 1
        assert await _number_of_tasks(server, "Behind") == 0
        assert is_all_given_back(server)


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_answer_waits_for_a_client_that_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took: list[str], *, leaves: bool
) -> None:
    async with a_board(tmp_path) as (server, create):
        connection = Connection(server)
        with monkeypatch.context() as patch:
            gate = Gate(patch)
            connection.protocol.data_received(message(server.token, query(create, title="Slow")))
            await gate.reached.wait()
            connection.protocol.pause_writing()
            gate.opened.set()
            while not is_all_given_back(server):
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert connection.wire.written == b""
            assert connection.state.tasks
            if leaves:
                connection.lose()
            else:
                connection.protocol.resume_writing()
            await connection.settle()
        assert (connection.wire.written == b"") == leaves
        assert await _number_of_tasks(server, "Slow") == 1
        assert is_all_given_back(server)


@pytest.mark.parametrize("what", ["a query", "a mutation"])
async def test_a_request_that_is_cancelled_is_told_so_and_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    took: list[str],
    what: str,
) -> None:
    async with a_board(tmp_path) as (server, create):
        text = query(NAMES, first=1) if what == "a query" else query(create, title="Late")
        connection = Connection(server)
        await connection.ask(message(server.token, text))
        before = connection.wire.written
        gate = Gate(monkeypatch)
        connection.protocol.data_received(message(server.token, text))
        await gate.reached.wait()
        await asyncio.sleep(0)  # its task has begun
        with caplog.at_level(logging.ERROR, "uvicorn.error"):
            for task in connection.state.tasks:
                task.cancel()
            await connection.settle()
        assert [record.getMessage() for record in caplog.records] == [
            "Exception in ASGI application\n"
        ]
        assert connection.wire.written[len(before) :].startswith(b"HTTP/1.1 500 ")
        assert connection.wire.is_closed
        assert is_all_given_back(server)


async def test_what_compiled_code_leaves_is_answered_whatever_its_length(
    tmp_path: Path, took: list[str]
) -> None:
    async with a_board(tmp_path) as (server, create):
        connection = Connection(server)
        await connection.ask(message(server.token, query(create, title="Plain")))
        took.clear()
        lengths: list[bytes] = []
        app = connection.protocol.app

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            lengths.append(dict(scope["headers"])[b"content-length"])
            assert (scope["method"], scope["path"]) == ("POST", "/graphql")
            await app(scope, receive, send)

        connection.protocol.app = watched
        bodies = [query(create, title=wrong) for wrong in (5, [5, 5])]
        for body in bodies:
            answer = await connection.ask(message(server.token, body))
            assert b'"errors":' in answer
        assert took == []
        assert lengths == [b"%d" % len(body) for body in bodies]
        assert not connection.wire.is_closed
        assert is_all_given_back(server)
