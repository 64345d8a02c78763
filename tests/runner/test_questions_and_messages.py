"""Runs that ask, are answered and are told more: over HTTP, with agents that are look-alikes."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_house import House
from tests.support.board import Board
from tests.support.clients import RefusedError
from tests.support.fake_agents import install_fakes
from tests.support.server import RunningServer, a_server

QUESTIONS = """query ($id: ID!) { run(id: $id) { status questions { id text kind askedAt expiresAt
  options { id name kind } } } }"""
ANSWER = """mutation ($id: ID!, $option: ID!, $questionId: ID) {
  answerRun(id: $id, option: $option, questionId: $questionId) {
    run { id status questions { id } } } }"""
SEND = """mutation ($id: ID!, $text: String!) {
  sendRunMessage(id: $id, text: $text) { run { id status attempt } } }"""
PAUSE_QUEUE = "mutation ($id: ID!) { pauseQueue(workspaceId: $id, queue: NORMAL) { cursor } }"
RESUME_QUEUE = "mutation ($id: ID!) { resumeQueue(workspaceId: $id, queue: NORMAL) { cursor } }"
STOP = "mutation ($id: ID!) { stopRun(id: $id) { run { id } } }"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    programs = install_fakes(tmp_path_factory.mktemp("fakes") / "bin")
    env = {"HOME": str(home)}
    executors = {
        "OPENCODE": {
            "program": str(programs / "opencode"),
            "protocol": "acp",
            "permissions": "ask",
            "env": env,
        },
        "CLAUDE_CODE": {"program": str(programs / "claude"), "env": env},
    }
    with a_server(
        tmp_path_factory.mktemp("server"),
        executors=json.dumps(executors),
        run_answer_limit="8",
        run_silence_limit="5",
        max_concurrent_runs="8",
    ) as running:
        yield running
        assert running.complaints() == []


@pytest.fixture
async def house(server: RunningServer, home: Path) -> AsyncIterator[House]:
    made = House(server, home)
    async with made.client:
        made.client.url = server.url
        yield made


async def asking(board: Board, *script: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run that asks for something, and its question."""
    run = await board.start_run(await board.create_task(*script), executor="OPENCODE")
    await board.until_run(run, "AWAITING_INPUT", "FAILED")
    found = (await board.ask(QUESTIONS, {"id": run["id"]}))["run"]
    [question] = found["questions"]
    return run, question


async def answer(board: Board, run: dict[str, Any], option: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = await board.ask(ANSWER, {"id": run["id"], "option": option, **more})
    answered: dict[str, Any] = found["answerRun"]["run"]
    return answered


async def asked_file(house: House, run: dict[str, Any]) -> str | None:
    path = Path((await house.look(run))["worktreePath"]) / "asked.txt"
    return path.read_text() if path.exists() else None


@pytest.mark.parametrize("option", ["once", "always", "reject"])
async def test_a_run_waits_for_an_answer_and_works_on_with_it(
    option: str, house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    run, question = await asking(board, "ask make install", "write a.txt A")
    assert (question["text"], question["kind"]) == ("make install", "execute")
    assert [o["kind"] for o in question["options"]] == ["allow_always", "allow_once", "reject_once"]
    assert question["askedAt"] < question["expiresAt"]
    with pytest.raises(RefusedError, match="no such option"):
        await answer(board, run, "maybe")
    with pytest.raises(RefusedError, match="no such question"):
        await answer(board, run, option, questionId="other")
    answered = await answer(board, run, option, questionId=question["id"])
    assert (answered["status"], answered["questions"]) == ("RUNNING", [])
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("COMPLETED", "done"), ended
    expected = None if option == "reject" else f"make install {option}\n"
    assert await asked_file(house, run) == expected
    events = await house.events(run)
    assert [e["option"] for e in events if e["type"] == "answer"] == [option]
    with pytest.raises(RefusedError, match="asks nothing"):
        await answer(board, run, option)


async def test_a_question_nobody_answers_is_refused_and_the_run_works_on(
    house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    run, _ = await asking(board, "ask make install", "write a.txt A")
    # It is silent for longer than a run that asks nothing may be.
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("COMPLETED", "done"), ended
    assert await asked_file(house, run) is None
    told = [e["option"] for e in await house.events(run) if e["type"] == "answer"]
    assert told == ["reject"]


@pytest.mark.parametrize("verb", ["stop", "pause"])
async def test_a_run_that_waits_can_be_stopped_and_paused(
    verb: str, house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    run, _ = await asking(board, "ask make install")
    if verb == "stop":
        await board.ask(STOP, {"id": run["id"]})
        ended = await board.until_run(run)
        assert (ended["status"], ended["reason"]) == ("CANCELLED", "stopped")
    else:
        task = (await board.ask("query ($id: ID!) { run(id: $id) { task { id } } }", run))["run"]
        await board.change("pauseTask", task["task"])
        await board.until_run(run, "PAUSED")
    found = (await board.ask(QUESTIONS, {"id": run["id"]}))["run"]
    assert found["questions"] == []
    assert house.server.run_processes() == {}


async def test_questions_and_answers_survive_the_servers_death(
    house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    run, question = await asking(board, "ask make install", "ask make clean")
    house.server.kill()
    house.server.start()
    house.client.url = house.server.url
    found = (await board.ask(QUESTIONS, {"id": run["id"]}))["run"]
    assert (found["status"], found["questions"]) == ("AWAITING_INPUT", [question])
    await answer(board, run, "once")
    # At once again: the answer is recorded, whether or not it was handed on.
    house.server.kill()
    house.server.start()
    house.client.url = house.server.url
    async with asyncio.timeout(20):
        while True:
            found = (await board.ask(QUESTIONS, {"id": run["id"]}))["run"]
            if [q["text"] for q in found["questions"]] == ["make clean"]:
                break
            await asyncio.sleep(0.05)
    await answer(board, run, "always")
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("COMPLETED", "done"), ended
    assert await asked_file(house, run) == "make clean always\n"


async def test_a_message_is_heard_after_the_present_turn(house: House, tmp_path: Path) -> None:
    board = await house.board(tmp_path / "p")
    gate = tmp_path / "gate"
    task = await board.create_task(f"await {gate}", "write a.txt A")
    run = await board.start_run(task, executor="OPENCODE")
    await board.until_output(run, '"acp": "session"')
    for text in ("do: write b.txt B", "do: remember"):
        sent = await board.ask(SEND, {"id": run["id"], "text": text})
        assert sent["sendRunMessage"]["run"]["id"] == run["id"]
    await board.until_output(run, '"acp": "heard", "number": 2')
    gate.touch()
    ended = await board.until_task(task, "REVIEW", "FAILED")
    assert (ended["status"], ended["filesChanged"]) == ("REVIEW", 2), ended
    events = [e for e in await house.events(run) if e["type"] == "message"]
    assert [e["text"] for e in events if e["role"] == "user"] == [
        "do: write b.txt B",
        "do: remember",
    ]
    said = "".join(e["text"] for e in events if e["role"] == "assistant")
    assert "write a.txt A" in said  # in the same session
    assert (await house.look(run))["usage"]["inputTokens"] == 300


@pytest.mark.parametrize("executor", ["OPENCODE", "CLAUDE_CODE"])
async def test_a_message_for_a_run_that_is_over_continues_its_session(
    executor: str, house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    task = await board.create_task("write a.txt A")
    run = await board.start_run(task, executor=executor)
    await board.until_task(task, "REVIEW", "FAILED")
    first = await house.look(run)
    sent = await board.ask(SEND, {"id": run["id"], "text": "do: write b.txt B"})
    again = sent["sendRunMessage"]["run"]
    assert (again["status"], again["attempt"]) == ("QUEUED", 2)
    ended = await board.until_run(again)
    assert ended["status"] == "COMPLETED", ended
    found = await house.look(again)
    assert found["sessionId"] == first["sessionId"]
    assert found["worktreePath"] == first["worktreePath"]
    assert (await board.task(task))["filesChanged"] == 2
    assert house.starts(found["worktreePath"])[-1]["stdin"].startswith("do: write b.txt B")


async def test_a_message_for_a_paused_run_takes_its_place(house: House, tmp_path: Path) -> None:
    board = await house.board(tmp_path / "p")
    task = await board.create_task("await nowhere")
    run = await board.start_run(task, executor="OPENCODE")
    await board.until_output(run, '"acp": "session"')
    await board.change("pauseTask", task)
    await board.until_run(run, "PAUSED")
    sent = await board.ask(SEND, {"id": run["id"], "text": "do: write b.txt B"})
    again = sent["sendRunMessage"]["run"]
    await board.until_task(task, "REVIEW")
    assert (await board.run(run))["status"] == "CANCELLED"
    assert (await house.look(again))["sessionId"] == (await house.look(run))["sessionId"]


async def test_who_cannot_be_told_more_says_so(house: House, tmp_path: Path) -> None:
    board = await house.board(tmp_path / "p")
    task = await board.create_task(f"await {tmp_path / 'gate'}")
    run = await board.start_run(task, executor="CLAUDE_CODE")
    await board.until_output(run, '"result"')
    with pytest.raises(RefusedError, match="cannot be told more while it works"):
        await board.ask(SEND, {"id": run["id"], "text": "Hello"})
    with pytest.raises(RefusedError, match="asks nothing"):
        await answer(board, run, "once")
    (tmp_path / "gate").touch()
    await board.until_run(run)


@pytest.mark.parametrize("is_recorded", [False, True])
async def test_a_run_of_which_nothing_ran_waits_again(
    *, is_recorded: bool, house: House, tmp_path: Path
) -> None:
    """As after a server's death between the claim and the start of the first process."""
    board = await house.board(tmp_path / "p")
    task = await board.create_task("write a.txt A")
    await board.ask(PAUSE_QUEUE, {"id": board.id})
    run = await board.start_run(task, executor="OPENCODE")
    folder = tmp_path / "run" / "1"
    folder.mkdir(parents=True)
    process = {"folder": str(folder)} if is_recorded else {}
    house.server.kill()
    [database] = (house.server.data_dir / "data").glob("*.db")
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        changed = connection.execute(
            "UPDATE run SET status = 'RUNNING', lease_owner = 'dead', lease_token = 1, "
            "started_at = queued_at, process = ? WHERE id = ?",
            (json.dumps(process), run["id"]),
        )
        assert changed.rowcount == 1
        connection.execute("UPDATE task SET status = 'IN_PROGRESS' WHERE id = ?", (task["id"],))
    house.server.start()
    house.client.url = house.server.url
    await board.until_run(run, "QUEUED")
    assert (await board.task(task))["status"] == "QUEUED"
    async with asyncio.timeout(10):
        while is_recorded and folder.exists():
            await asyncio.sleep(0.02)
    await board.ask(RESUME_QUEUE, {"id": board.id})
    ended = await board.until_run(run)
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 1), ended
