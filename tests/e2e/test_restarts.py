"""Servers that stop, are killed and come back while people watch and runs go on."""

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeBoard
from tests.support.board import EVENTS, RUN_OUTPUT, Board
from tests.support.clients import HttpClient, SocketClosedError, open_socket
from tests.support.server import REDIS, RunningServer, ServerFailedError, a_server, fresh_postgres

LINES = 120
COUNTED = [f"line {number}" for number in range(1, LINES + 1)]


@pytest.fixture
def lone_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server on SQLite that the test may stop, kill and start again."""
    with a_server(tmp_path / "server") as running:
        yield running
        assert running.complaints() == []


@pytest.fixture
async def lone_client(lone_server: RunningServer) -> AsyncIterator[HttpClient]:
    """The site owner over HTTP; tests that start the server again set its ``url`` anew."""
    async with HttpClient(lone_server.url, lone_server.token) as opened:
        yield opened


async def texts(board: Board, run: dict[str, Any]) -> list[str]:
    return [text for stream, text in await board.output(run) if stream == "stdout"]


async def test_a_polite_stop_tells_streams_where_to_resume_and_leaves_runs_running(
    lone_server: RunningServer, lone_client: HttpClient, new_board: MakeBoard
) -> None:
    board = await new_board(lone_client)
    task, run = await board.run_script(f"count 1 {LINES} 40", "write done.txt done")
    await board.until_output(run, "line 5")
    last: dict[str, Any] = {}
    async with (
        open_socket(lone_server.websocket_url, lone_server.token) as socket,
        board.client.events(EVENTS, {"workspaceId": board.id, "after": "EARLIEST"}) as stream,
    ):
        operations = {
            "events": await socket.subscribe(EVENTS, {"workspaceId": board.id}),
            "runOutput": await socket.subscribe(RUN_OUTPUT, {"id": run["id"]}),
        }
        for operation in operations.values():
            await operation.next()
        stopping = asyncio.create_task(asyncio.to_thread(lone_server.stop))
        for name, operation in operations.items():
            async for item in operation.items(name):
                last[name] = item
        closed = await socket.until_closed()
        assert closed.code == 1012
        assert "Resume" in closed.reason
        ends = [event async for event in stream]
        assert ends[-1].event == "complete"
        assert ends[-2].data["data"]["events"]["reason"] == "GOING_AWAY"
    assert await stopping in {0, -signal.SIGTERM}
    assert {item["reason"] for item in last.values()} == {"GOING_AWAY"}
    assert len(lone_server.run_processes()) >= 2  # supervisor and agent go on

    await asyncio.to_thread(lone_server.start)
    board.client.url = lone_server.url
    async with open_socket(lone_server.websocket_url, lone_server.token) as socket:
        after = last["runOutput"]["cursor"]
        operation = await socket.subscribe(RUN_OUTPUT, {"id": run["id"], "after": after})
        rest = [item async for item in operation.items("runOutput")]
        after = last["events"]["cursor"]
        operation = await socket.subscribe(EVENTS, {"workspaceId": board.id, "after": after})
        async for item in operation.items("events"):
            if item.get("type") == "task.submitted":
                break
    assert rest[-1]["reason"] == "ENDED"
    assert rest[0]["line"] <= LINES, "nothing was left to resume"
    ended = await board.until_run(run, "COMPLETED")
    assert ended["reason"] == "done"
    assert await texts(board, run) == COUNTED
    task = await board.until_task(task, "REVIEW")
    assert task["filesChanged"] == 1
    lone_server.await_no_run_processes()


async def test_a_polite_stop_waits_until_all_streams_have_had_their_last_word(
    lone_server: RunningServer, lone_client: HttpClient, new_board: MakeBoard
) -> None:
    board = await new_board(lone_client)
    async with contextlib.AsyncExitStack() as stack:
        operations: list[Any] = []
        for _ in range(40):
            socket = await stack.enter_async_context(
                open_socket(lone_server.websocket_url, lone_server.token)
            )
            operations += [
                await socket.subscribe(EVENTS, {"workspaceId": board.id}) for _ in range(20)
            ]
        for operation in operations:
            await operation.next()
        stopping = asyncio.create_task(asyncio.to_thread(lone_server.stop))
        ends = [[item async for item in operation.items("events")] for operation in operations]
        assert {items[-1]["reason"] for items in ends} == {"GOING_AWAY"}
        assert await stopping in {0, -signal.SIGTERM}


async def test_a_killed_server_takes_its_runs_up_again(
    lone_server: RunningServer, lone_client: HttpClient, new_board: MakeBoard
) -> None:
    board = await new_board(lone_client)
    going, going_run = await board.run_script(f"count 1 {LINES} 30", "write a.txt A")
    _, failing_run = await board.run_script("print begins", "count 1 20 30", "exit 7")
    await board.until_output(going_run, "line 3")
    await board.until_output(failing_run, "line 1")
    for _ in range(2):
        await asyncio.to_thread(lone_server.kill)
        await asyncio.to_thread(lone_server.start)
        board.client.url = lone_server.url
    failed = await board.until_run(failing_run)
    assert (failed["status"], failed["exitCode"]) == ("FAILED", 7)
    assert await texts(board, failing_run) == ["begins", *COUNTED[:20]]
    assert (await board.until_run(going_run))["status"] == "COMPLETED"
    assert await texts(board, going_run) == COUNTED
    assert (await board.until_task(going, "REVIEW"))["filesChanged"] == 1


async def test_a_run_that_ended_while_no_server_was_there_is_judged_by_the_next(
    lone_server: RunningServer, lone_client: HttpClient, new_board: MakeBoard, tmp_path: Path
) -> None:
    board = await new_board(lone_client)
    go = tmp_path / "go"
    task, run = await board.run_script("print waiting", f"await {go}", "print on", "write a.txt A")
    await board.until_output(run, "waiting")
    await asyncio.to_thread(lone_server.kill)
    go.touch()
    await asyncio.to_thread(lone_server.await_no_run_processes)
    await asyncio.to_thread(lone_server.start)
    board.client.url = lone_server.url
    assert (await board.until_run(run))["status"] == "COMPLETED"
    assert await texts(board, run) == ["waiting", "on"]
    assert (await board.until_task(task, "REVIEW"))["filesChanged"] == 1


@pytest.mark.long
async def test_a_stop_that_was_asked_for_just_before_a_kill_is_carried_out(
    lone_server: RunningServer, lone_client: HttpClient, new_board: MakeBoard, tmp_path: Path
) -> None:
    board = await new_board(lone_client)
    _, run = await board.run_script("deaf", "print here", f"await {tmp_path / 'never'}")
    await board.until_output(run, "here")
    await board.ask("mutation ($id: ID!) { stopRun(id: $id) { run { id } } }", {"id": run["id"]})
    await asyncio.to_thread(lone_server.kill)
    await asyncio.to_thread(lone_server.start)
    board.client.url = lone_server.url
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("CANCELLED", "stopped")
    assert lone_server.run_processes() == {}


@pytest.mark.long
@pytest.mark.postgres
async def test_a_polite_restart_on_postgresql_takes_runs_up_at_once(
    tmp_path: Path, new_board: MakeBoard
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(a_server(tmp_path / "server", database="postgresql"))
        client = await stack.enter_async_context(HttpClient(server.url, server.token))
        board = await new_board(client)
        _, run = await board.run_script(f"count 1 {LINES} 40")
        await board.until_output(run, "line 3")
        await asyncio.to_thread(server.restart)
        board.client.url = server.url
        # Well before the lease of the former server would have ended.
        assert (await board.until_run(run, within=30))["status"] == "COMPLETED"
        assert await texts(board, run) == COUNTED


def test_a_second_server_on_the_same_folder_is_refused_in_clear_words(
    lone_server: RunningServer,
) -> None:
    second = RunningServer(lone_server.data_dir, token="unused")
    second.data_dir = lone_server.data_dir
    done = subprocess.run(
        ["dragoman", "serve", "--port", "0"],
        executable=str(Path(lone_server.process.args[0])),
        env=lone_server.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    [line] = [text for text in done.stderr.splitlines() if not text.startswith("{")]
    assert line.startswith("dragoman: ")
    assert "in use by another server" in line
    assert str(lone_server.data_dir) in line
    # The command line works beside it all the same.
    assert lone_server.make_token().startswith("dgm_")


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.redis
async def test_two_servers_on_one_postgresql_see_each_others_changes(
    tmp_path: Path, new_board: MakeBoard
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        url = stack.enter_context(fresh_postgres())
        first, second = (
            stack.enter_context(
                a_server(tmp_path / name, started=False, database_url=url, broadcast_url=REDIS)
            )
            for name in ("a", "b")
        )
        first.launch()
        second.launch()  # both migrate an empty database at the same time
        await asyncio.to_thread(first.await_ready)
        await asyncio.to_thread(second.await_ready)
        client = await stack.enter_async_context(HttpClient(first.url, first.token))
        board = await new_board(client)
        async with open_socket(second.websocket_url, first.token) as socket:
            operation = await socket.subscribe(
                EVENTS, {"workspaceId": board.id, "after": await board.cursor()}
            )
            for number in range(20):
                await board.create_task(title=f"Task {number}")
                found = (await operation.next())["events"]
                assert found["task"]["title"] == f"Task {number}"
        # A run executes once, whichever server takes it; a stop reaches it from either.
        _, run = await board.run_script("print here", f"await {tmp_path / 'never'}")
        await board.until_output(run, "here")
        async with HttpClient(second.url, first.token) as other:
            document = "mutation ($id: ID!) { stopRun(id: $id) { run { id } } }"
            await other.ask(document, {"id": run["id"]})
        assert (await board.until_run(run))["status"] == "CANCELLED"
        assert first.run_processes() == second.run_processes() == {}


@pytest.mark.long
def test_a_server_on_a_newer_database_says_so(tmp_path: Path) -> None:
    import sqlite3

    with a_server(tmp_path / "server") as server:
        server.stop()
        with sqlite3.connect(server.data_dir / "data" / "dragoman.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(ServerFailedError, match="newer version of Dragoman"):
            server.start()


@pytest.mark.long
async def test_a_socket_to_a_killed_server_breaks_and_is_resumed_without_a_gap(
    lone_server: RunningServer, lone_client: HttpClient, new_board: MakeBoard
) -> None:
    board = await new_board(lone_client)
    cursor, seen = await board.cursor(), []
    for round_ in range(2):
        async with open_socket(lone_server.websocket_url, lone_server.token) as socket:
            variables = {"workspaceId": board.id, "after": cursor}
            operation = await socket.subscribe(EVENTS, variables)
            for number in range(3):
                await board.create_task(title=f"Task {round_}.{number}")
            found = (await operation.next())["events"]
            seen.append(found["task"]["title"])
            cursor = found["cursor"]
            await asyncio.to_thread(lone_server.kill)
            with pytest.raises(SocketClosedError):
                while True:
                    await operation.next()
        await asyncio.to_thread(lone_server.start)
        board.client.url = lone_server.url
    async with open_socket(lone_server.websocket_url, lone_server.token) as socket:
        operation = await socket.subscribe(EVENTS, {"workspaceId": board.id, "after": cursor})
        rest = [(await operation.next())["events"] for _ in range(4)]
    seen.extend(found["task"]["title"] for found in rest)
    assert seen == [f"Task {round_}.{number}" for round_ in range(2) for number in range(3)]
