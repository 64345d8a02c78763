"""Agents of the Agent Client Protocol as real processes under a real server; look-alikes all."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_house import House
from tests.support.fake_agents import install_fakes
from tests.support.server import RunningServer, a_server

LONG = pytest.mark.long
PROGRAMS = {
    "GEMINI": "gemini",
    "OPENCODE": "opencode",
    "KILO": "kilo",
    "CURSOR": "cursor-agent",
    "KIRO": "kiro-cli",
}
STOP = "mutation ($id: ID!) { stopRun(id: $id) { run { id } } }"


def executors(bin_: Path, home: Path, **more: Any) -> dict[str, Any]:
    return {
        name: {
            "program": str(bin_ / program),
            "protocol": "acp",
            "model": "large",
            "env": {"HOME": str(home)},
            **more,
        }
        for name, program in PROGRAMS.items()
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    programs = install_fakes(tmp_path_factory.mktemp("fakes") / "bin")
    with a_server(
        tmp_path_factory.mktemp("server"),
        executors=json.dumps(executors(programs, home)),
        max_concurrent_runs="8",
    ) as running:
        yield running
        assert running.complaints() == []


@pytest.fixture
async def house(server: RunningServer, home: Path) -> AsyncIterator[House]:
    made = House(server, home)
    async with made.client:
        yield made


@pytest.mark.parametrize(
    "name",
    [
        name if name in {"GEMINI", "OPENCODE"} else pytest.param(name, marks=LONG)
        for name in PROGRAMS
    ],
)
async def test_a_task_is_completed_on_its_branch(name: str, house: House, tmp_path: Path) -> None:
    board = await house.board(tmp_path / "p")
    task = await board.create_task("write made.txt by an agent", "say hello", "junk")
    run = await board.start_run(task, executor=name)
    task = await board.until_task(task, "REVIEW", "FAILED")
    found = await house.look(run)
    assert (found["status"], found["reason"], found["exitCode"]) == ("COMPLETED", "done", 0), found
    assert (task["status"], task["filesChanged"]) == ("REVIEW", 1)
    events = await house.events(run)
    changed = [(e["path"], e["kind"]) for e in events if e["type"] == "file_change"]
    assert changed == [("made.txt", "add")]
    # Pieces of one text that follow each other quickly are one.
    said = "".join(e["text"] for e in events if e["type"] == "message")
    model = "small" if name == "CURSOR" else "large"  # which the others were told to use
    assert said in {f"hello ({model})All done", "hello (large)All done"}
    assert found["usage"]["inputTokens"] == 100
    assert found["usage"]["costUsd"] == (0.01 if name in {"OPENCODE", "KILO"} else 0)
    assert "This is no message" in str(await board.output(run))
    [start] = house.starts(found["worktreePath"])
    tags = {variable for variable in start["env"] if variable.startswith("DRAGOMAN_")}
    assert tags == {"DRAGOMAN_RUN_ID"}
    assert house.server.run_processes() == {}


@pytest.mark.parametrize("name", [pytest.param("GEMINI", marks=LONG), "OPENCODE"])
async def test_a_paused_run_goes_on_in_its_session_and_nothing_is_told_twice(
    name: str, house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    gate = tmp_path / "gate"
    task = await board.create_task(f"await {gate}", "remember")
    run = await board.start_run(task, executor=name)
    await board.until_output(run, '"acp": "session"')
    await board.change("pauseTask", task)
    await board.until_run(run, "PAUSED")
    first = await house.look(run)
    gate.touch()
    await board.change("resumeTask", task)
    await board.until_task(task, "REVIEW")
    found = await house.look(run)
    assert found["sessionId"] == first["sessionId"]
    [said] = ["".join(e["text"] for e in await house.events(run) if e["type"] == "message")]
    assert said.count("do: remember") == 2  # the prompt of both processes
    assert said.count("All done") == 1  # what the session was before is not told again


@pytest.mark.parametrize(
    ("order", "reason", "text"),
    [
        ("refuse as told", "agent_error", "Internal error: as told"),
        ("reason max_tokens", "agent_error", "used up its tokens"),
        ("die 3", "agent_error", "exit code 3 in the middle"),
        ("ask rm -r /", "done", None),
    ],
)
async def test_a_run_ends_as_the_agent_means_it(
    order: str, reason: str, text: str | None, house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    run = await board.start_run(await board.create_task(order), executor="OPENCODE")
    ended = await board.until_run(run)
    assert ended["reason"] == reason, ended
    if text is None:
        # Nobody is there to ask, so it was not permitted, and that is told.
        warnings = [e for e in await house.events(run) if e["type"] == "warning"]
        assert [w["code"] for w in warnings] == ["permission_denied"]
        assert "rm -r /" in warnings[0]["text"]
    else:
        assert text in ended["error"]
    assert house.server.run_processes() == {}


async def test_long_lines_and_many_pieces_arrive(house: House, tmp_path: Path) -> None:
    board = await house.board(tmp_path / "p")
    task = await board.create_task(f"big {2 << 20}", "pieces 2000")
    run = await board.start_run(task, executor="KIRO")
    await board.until_task(task, "REVIEW")
    events = await house.events(run)
    [thought] = [e for e in events if e["type"] == "thinking"]
    assert thought["truncated"] is True
    longest = max(len(text) for _, text in await board.output(run))
    assert longest > 2 << 20
    pieces = [e["text"] for e in events if e["type"] == "message"]
    assert "".join(pieces) == "".join(f"{number} " for number in range(2000)) + "All done"
    assert len(pieces) < 200


@pytest.mark.parametrize("name", ["OPENCODE", pytest.param("GEMINI", marks=LONG)])
async def test_a_stopped_agent_cancels_its_turn_and_its_tools_are_gone(
    name: str, house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    run = await board.start_run(await board.create_task("tool"), executor=name)
    await house.until_tool()
    await board.ask(STOP, {"id": run["id"]})
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("CANCELLED", "stopped")
    assert house.server.run_processes() == {}
    assert '"text": "The turn was cancelled"' in str(await board.output(run))


async def test_a_server_that_was_killed_takes_the_run_up(
    server: RunningServer, home: Path, tmp_path: Path
) -> None:
    house = House(server, home)
    async with house.client:
        board = await house.board(tmp_path / "p")
        gate = tmp_path / "gate"
        task = await board.create_task("say one", f"await {gate}", "say two", "write a.txt A")
        run = await board.start_run(task, executor="KIRO")
        await board.until_output(run, "one (")
        server.kill()
        server.start()
        house.client.url = server.url
        gate.touch()
        ended = await board.until_run(run)
        assert (ended["status"], ended["reason"]) == ("COMPLETED", "done"), ended
        said = "".join(e["text"] for e in await house.events(run) if e["type"] == "message")
        assert said.count("one (") == said.count("two (") == said.count("All done") == 1
