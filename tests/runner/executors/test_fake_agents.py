"""Every built-in executor as a real process under a real server; the programs are look-alikes."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_house import House
from tests.support.fake_agents import VERSION, install_fakes
from tests.support.server import RunningServer, a_server

PROGRAMS = {
    "CLAUDE_CODE": "claude",
    "CODEX": "codex",
    "GEMINI": "gemini",
    "OPENCODE": "opencode",
    "KILO": "kilo",
    "CURSOR": "cursor-agent",
}
LONG = pytest.mark.long
EXECUTORS = """{ executors { executor isAvailable reason version credentialConfigured } }"""


def executors(bin_: Path, home: Path) -> dict[str, Any]:
    common = {"env": {"HOME": str(home), "ANTHROPIC_API_KEY": "key"}}
    found = {name: {"program": str(bin_ / program), **common} for name, program in PROGRAMS.items()}
    return found | {"IFLOW": {}}


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_fakes(tmp_path_factory.mktemp("fakes") / "bin")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(
    fakes: Path, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    os.environ["DATABASE_URL_OF_OTHERS"] = "secret"
    try:
        with a_server(
            tmp_path_factory.mktemp("server"),
            executors=json.dumps(executors(fakes, home)),
            max_concurrent_runs="8",
        ) as running:
            yield running
            assert running.complaints() == []
    finally:
        del os.environ["DATABASE_URL_OF_OTHERS"]


@pytest.fixture
async def house(server: RunningServer, home: Path) -> AsyncIterator[House]:
    made = House(server, home)
    async with made.client:
        yield made


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_task_is_completed_on_its_branch(name: str, house: House, tmp_path: Path) -> None:
    board = await house.board(tmp_path / "p")
    task = await board.create_task("write made.txt by an agent")
    run = await board.start_run(task, executor=name)
    task = await board.until_task(task, "REVIEW", "FAILED")
    found = await house.look(run)
    assert (found["status"], found["reason"], found["exitCode"]) == ("COMPLETED", "done", 0), found
    assert (task["status"], task["filesChanged"]) == ("REVIEW", 1)

    events = [e["event"] for e in found["output"]["entries"] if e["event"]]
    assert "message" in {event["type"] for event in events}
    if name != "GEMINI":
        changed = [event["path"] for event in events if event["type"] == "file_change"]
        assert changed[0] in {"src/a.txt", "a.txt"}
    if name != "CURSOR":
        assert found["usage"]["inputTokens"] > 0
    assert found["sessionId"]

    [start] = house.starts(found["worktreePath"])
    assert "do: write made.txt by an agent" in start["stdin"]
    assert "secret" not in start["env"].values()
    assert not [variable for variable in start["env"] if "DATABASE" in variable]
    tags = {variable for variable in start["env"] if variable.startswith("DRAGOMAN_")}
    assert tags == {"DRAGOMAN_RUN_ID"}
    async with asyncio.timeout(10):  # it was the run's own, and is removed after its end
        while Path(start["env"]["TMPDIR"]).exists():
            await asyncio.sleep(0.02)
    assert house.server.run_processes() == {}


@pytest.mark.parametrize(
    ("name", "stream", "reason", "text"),
    [
        ("CLAUDE_CODE", "model_error", "agent_error", "401"),
        ("CLAUDE_CODE", "interrupted", "agent_error", "aborted"),
        ("CODEX", "model_error", "agent_error", "500"),
        ("CODEX", "cut", "exit_code", "1"),
        ("GEMINI", "model_error", "agent_error", "not valid"),
        ("GEMINI", "cut", "no_result", "without saying"),
        ("OPENCODE", "cut", "no_result", "without saying"),
        ("OPENCODE", "error", "agent_error", "not found"),
        ("CURSOR", "failed", "agent_error", "credits"),
    ],
)
async def test_a_run_fails_as_the_agent_means_it_whatever_its_exit_code(
    name: str, stream: str, reason: str, text: str, house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    task = await board.create_task(f"stream {stream}")
    run = await board.start_run(task, executor=name)
    task = await board.until_task(task, "REVIEW", "FAILED")
    found = await house.look(run)
    assert (found["status"], found["reason"]) == ("FAILED", reason)
    assert text in found["error"]
    assert task["status"] == "FAILED"


async def test_an_empty_answer_is_a_warning_on_a_completed_run(
    house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    task = await board.create_task("stream stream_cut")
    run = await board.start_run(task, executor="CLAUDE_CODE")
    await board.until_task(task, "REVIEW")
    entries = (await house.look(run))["output"]["entries"]
    warnings = [e for e in entries if e["event"] and e["event"]["type"] == "warning"]
    assert [w["event"]["code"] for w in warnings] == ["empty_result"]
    assert warnings[0]["stream"] == "server"


@pytest.mark.parametrize(
    ("name", "resumed", "used"),
    [
        # 3,000 tokens in each process; money is told for the whole session.
        ("CLAUDE_CODE", "--resume=", {"inputTokens": 6000, "costUsd": 0.025}),
        # 1,200 tokens told by the first process, 2,000 by the second for both together.
        ("CODEX", "resume", {"inputTokens": 2000, "outputTokens": 80, "cachedTokens": 1500}),
        pytest.param("GEMINI", "--resume=", {"inputTokens": 1200}, marks=LONG),
        pytest.param("OPENCODE", "--session=", {"inputTokens": 460}, marks=LONG),
    ],
)
async def test_a_paused_run_goes_on_in_its_session_and_nothing_is_counted_twice(
    name: str, resumed: str, used: dict[str, float], house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    gate = tmp_path / "gate"
    task = await board.create_task(f"await {gate}")
    run = await board.start_run(task, executor=name)
    last = "turn.completed" if name == "CODEX" else '"stop"' if name == "OPENCODE" else '"result"'
    await board.until_output(run, last)
    await board.change("pauseTask", task)
    await board.until_run(run, "PAUSED")
    first = await house.look(run)
    gate.touch()
    await board.change("resumeTask", task)
    await board.until_task(task, "REVIEW")
    found = await house.look(run)
    assert found["sessionId"] == first["sessionId"]
    began, went_on = house.starts(found["worktreePath"])
    words = " ".join(went_on["argv"])
    assert f"{resumed}{'' if resumed.endswith('=') else ' '}{found['sessionId']}" in words
    assert resumed not in " ".join(began["argv"]).split("-c ")[0]
    assert {key: found["usage"][key] for key in used} == pytest.approx(used)


async def test_a_session_that_is_gone_fails_the_run_with_the_agents_words(
    house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    gate = tmp_path / "gate"
    task = await board.create_task(f"await {gate}")
    run = await board.start_run(task, executor="CLAUDE_CODE")
    await board.until_output(run, '"result"')
    await board.change("pauseTask", task)
    await board.until_run(run, "PAUSED")
    (house.home / f"session-claude-{(await house.look(run))['sessionId']}").unlink()
    await board.change("resumeTask", task)
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("FAILED", "agent_error")
    assert "No conversation found" in ended["error"]


@pytest.mark.parametrize(
    "name",
    [
        "CLAUDE_CODE",
        "GEMINI",
        *(pytest.param(name, marks=LONG) for name in PROGRAMS if name[:2] not in {"CL", "GE"}),
    ],
)
async def test_a_stopped_agent_is_cancelled_and_its_tools_are_gone(
    name: str, house: House, tmp_path: Path
) -> None:
    board = await house.board(tmp_path / "p")
    run = await board.start_run(await board.create_task("tool"), executor=name)
    await house.until_tool()
    stop = "mutation ($id: ID!) { stopRun(id: $id) { run { id } } }"
    await board.ask(stop, {"id": run["id"]})
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("CANCELLED", "stopped")
    assert house.server.run_processes() == {}


async def test_executors_tell_what_they_are(house: House) -> None:
    found = (await house.client.ask(EXECUTORS))["executors"]
    told = {entry.pop("executor"): entry for entry in found}
    for name, program in PROGRAMS.items():
        assert told[name]["isAvailable"], told[name]
        assert told[name]["version"] == f"{VERSION} ({program})"
    assert told["CLAUDE_CODE"]["credentialConfigured"] is True
    assert told["CODEX"]["credentialConfigured"] is False
    assert told["IFLOW"]["isAvailable"] is False
    assert "closed" in told["IFLOW"]["reason"]
    assert told["CUSTOM"]["isAvailable"]
    assert told["CUSTOM"]["version"] is None


async def test_what_cannot_start_fails_before_anything_is_made(
    fakes: Path, home: Path, tmp_path: Path
) -> None:
    given = executors(fakes, home)
    given["CLAUDE_CODE"]["permissions"] = "full"
    given["CODEX"] = {"program": "no-such-codex"}
    with a_server(tmp_path / "s", executors=json.dumps(given)) as running:
        house = House(running, home)
        async with house.client:
            board = await house.board(tmp_path / "p")
            refused = {"CODEX": "no-such-codex is not on the PATH", "IFLOW": "not available"}
            if os.geteuid() == 0:
                refused["CLAUDE_CODE"] = "IS_SANDBOX"
            for name, text in refused.items():
                run = await board.start_run(await board.create_task(), executor=name)
                ended = await board.until_run(run)
                assert (ended["status"], ended["reason"]) == ("FAILED", "not_started")
                assert text in ended["error"]
                if name != "CLAUDE_CODE":
                    assert (await house.look(run))["worktreePath"] is None


@pytest.mark.parametrize("name", [pytest.param("CLAUDE_CODE", marks=LONG), "CODEX"])
async def test_a_last_word_read_before_the_server_died_is_not_forgotten(
    name: str, fakes: Path, home: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    given = json.dumps(executors(fakes, home))
    with a_server(tmp_path / "s", executors=given) as running:
        house = House(running, home)
        async with house.client:
            board = await house.board(tmp_path / "p")
            task = await board.create_task(f"await {gate}", "write a.txt A")
            run = await board.start_run(task, executor=name)
            await board.until_output(run, '"result"' if name == "CLAUDE_CODE" else "turn.completed")
            used = (await house.look(run))["usage"]
            await asyncio.to_thread(running.kill)
            await asyncio.to_thread(running.start)
            house.client.url = running.url
            gate.touch()
            ended = await board.until_run(run)
            assert (ended["status"], ended["reason"]) == ("COMPLETED", "done"), ended
            assert (await house.look(run))["usage"] == used
