"""What holds over many runs: stops at any moment leave nothing, and a run costs little memory."""

import asyncio
import contextlib
import json
import os
import random
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.configuration import ExecutorSettings
from runner.executors.base import RunSpec
from runner.folder import SupervisorSpec, create_run_folder, write_launch_files
from runner.launch import Exited, inspect, start
from runner.process_table import ProcessId, has_environment_entry, read_command, read_table
from runner.processes import RUN_TAG, find_processes
from runner.stopping import StopLadder, stop_tree
from tests.support.agent_house import House
from tests.support.board import FINAL_RUN, Board, create_board, make_repository, watch
from tests.support.clients import open_socket
from tests.support.fake_agents import install_fakes
from tests.support.server import RunningServer, a_server

AGENT = Path(__file__).parents[1] / "support" / "agent.py"
STOPS = int(os.environ.get("DRAGOMAN_TEST_STOPS") or 1000)
STOPS_OF_A_SERVER = STOPS // 20
AT_ONCE = 8
IDLE_RUNS = 20
SERVER_KIB_PER_RUN = 2 << 10
STOP = "mutation ($id: ID!) { stopRun(id: $id) { run { id } } }"
PROGRAMS = {
    "CLAUDE_CODE": "claude",
    "CODEX": "codex",
    "GEMINI": "gemini",
    "OPENCODE": "opencode",
    "KILO": "kilo",
    "CURSOR": "cursor-agent",
    "KIRO": "kiro-cli",
}
ORDERS = {
    "CUSTOM": [["deaf", "child", "await nowhere"], ["child", "count 1 1000 5"], ["print x"]],
    "ACP": [["tool"], ["say x", "await nowhere"], ["pieces 500"]],
    "NATIVE": [["tool"], ["await nowhere"], []],
}
NAMES = [*PROGRAMS, "CUSTOM"]
OVER_ACP = {"OPENCODE", "KILO", "KIRO"}
WEIGHTS = [1 if name in OVER_ACP else 4 for name in NAMES]
"""Each run over ACP costs half a second of a processor to start."""


def executors(folder: Path) -> dict[str, Any]:
    programs, home = install_fakes(folder / "bin"), folder / "home"
    home.mkdir()
    env = {"HOME": str(home)}
    made: dict[str, Any] = {
        name: {"program": str(programs / program), "env": env} for name, program in PROGRAMS.items()
    }
    for name in OVER_ACP:
        made[name]["protocol"] = "acp"
    return made | {"CUSTOM": {"argv": [sys.executable, "-IS", str(AGENT), "{prompt_file}"]}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("many")
    with a_server(
        folder / "server",
        executors=json.dumps(executors(folder)),
        max_concurrent_runs=str(IDLE_RUNS),
        run_stop_grace="500ms",
    ) as running:
        yield running
        assert running.complaints() == []


async def board_of_many(house: House, folder: Path) -> Board:
    board, _ = await create_board(house.client, make_repository(folder), maxConcurrent=IDLE_RUNS)
    return board


class Ends:
    """Tells when runs have ended, out of the board's stream of events."""

    def __init__(self) -> None:
        self.of: dict[str, asyncio.Future[str]] = {}

    def future(self, run_id: str) -> asyncio.Future[str]:
        return self.of.setdefault(run_id, asyncio.get_running_loop().create_future())

    async def follow(self, events: Any) -> None:
        async for event in events:
            run = event.get("run")
            if run and run["status"] in FINAL_RUN and not self.future(run["id"]).done():
                self.future(run["id"]).set_result(run["status"])


def orders_of(name: str, chance: random.Random) -> list[str]:
    kind = "ACP" if name in OVER_ACP else "NATIVE"
    return chance.choice(ORDERS.get(name) or ORDERS[kind])


async def stop_at_random(board: Board, ends: Ends, chance: random.Random, names: Any) -> None:
    """Run one task again and again, each time stopped at another moment."""
    task = await board.create_task()
    for name in names:
        orders = orders_of(name, chance)
        prompt = "\n".join(f"do: {order}" for order in orders)
        run = await board.start_run(task, executor=name, prompt=prompt)
        await asyncio.sleep(chance.choice([0, 0.05, 0.3, 0.6, 1.0]) * chance.random())
        await board.ask(STOP, {"id": run["id"]})
        async with asyncio.timeout(60):
            status = await ends.future(run["id"])
        if status != "CANCELLED" or (await board.task(task))["status"] != "BACKLOG":
            task = await board.create_task()  # it had ended before; the next needs another task


def seeded() -> int:
    """Of the random choices; ``DRAGOMAN_TEST_SEED`` repeats those of a failed run."""
    return int(os.environ.get("DRAGOMAN_TEST_SEED") or random.SystemRandom().randrange(1 << 32))


@pytest.mark.long
async def test_random_stops_of_a_servers_runs_leave_no_process(
    server: RunningServer, tmp_path: Path
) -> None:
    seed = seeded()
    chance = random.Random(seed)  # noqa: S311  # repeatable, not secret
    names = chance.choices(NAMES, WEIGHTS, k=STOPS_OF_A_SERVER)
    house = House(server, tmp_path)
    async with house.client, open_socket(server.websocket_url, server.token) as socket:
        board = await board_of_many(house, tmp_path / "p")
        ends = Ends()
        _, events = await watch(socket, board, None)
        following = asyncio.create_task(ends.follow(events))
        await asyncio.gather(
            *(stop_at_random(board, ends, chance, names[n::AT_ONCE]) for n in range(AT_ONCE))
        )
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
    assert len(ends.of) == len(names), seed
    assert server.run_processes() == {}, seed


class Stopper:
    """Starts agents as the server does, without board and git, and stops each at some moment."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self.chance = chance
        self.made = {
            name: ExecutorSettings(
                argv=tuple(given.get("argv", ())),
                program=given.get("program"),
                protocol=given.get("protocol"),
                env=given.get("env", {}),
            )
            for name, given in executors(root).items()
        }
        self.left: list[ProcessId] = []

    async def run(self, names: list[str]) -> None:
        for name in names:
            await self.stop_one(name)

    async def stop_one(self, name: str) -> None:
        run_id = str(uuid.uuid4())
        folder = create_run_folder(self.root / "runs" / run_id)
        worktree = self.root / "worktrees" / run_id
        worktree.mkdir(parents=True)
        prompt = "\n".join(f"do: {order}" for order in orders_of(name, self.chance))
        launch = (
            self.made[name]
            .make(name)
            .build(
                RunSpec(
                    run_id=run_id,
                    prompt=prompt,
                    worktree=worktree,
                    branch="b",
                    files=folder.files,
                    new_session=run_id,
                )
            )
        )
        spec = SupervisorSpec(
            run_id=run_id,
            argv=launch.argv,
            cwd=str(worktree),
            env={"PATH": os.environ["PATH"], RUN_TAG: run_id, "HOME": run_id, **launch.env},
            stdin=write_launch_files(folder, stdin=launch.stdin_text, files=launch.files),
            cgroup=False,
        )
        started = await start(folder, spec)
        await asyncio.sleep(self.chance.choice([0, 0.05, 0.3, 0.6]) * self.chance.random())
        ladder = StopLadder(interrupt_seconds=0.3, terminate_seconds=0.3)
        report = await stop_tree(started.identity, ladder=ladder)
        assert report.clean, (name, report)
        assert isinstance(await inspect(folder, run_id=run_id), Exited), name
        self.left += [process.id for process in find_processes(started.identity)]


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_thousand_random_stops_leave_no_process(tmp_path: Path) -> None:
    seed = seeded()
    stopper = Stopper(tmp_path, random.Random(seed))  # noqa: S311  # repeatable, not secret
    names = stopper.chance.choices(NAMES, WEIGHTS, k=STOPS)
    await asyncio.gather(*(stopper.run(names[n::AT_ONCE]) for n in range(AT_ONCE)))
    assert stopper.left == [], seed
    table = await asyncio.to_thread(read_table)
    tags = [
        pid
        for pid in table
        if str(tmp_path).encode() in b" ".join(read_command(pid))
        or has_environment_entry(pid, f"HOME={tmp_path / 'home'}".encode())
    ]
    assert tags == [], seed


def server_kib(server: RunningServer) -> int:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_a_supervised_run_costs_the_server_little(
    server: RunningServer, tmp_path: Path
) -> None:
    house = House(server, tmp_path)
    async with house.client:
        board = await board_of_many(house, tmp_path / "p")
        task, _ = await board.run_script("print warm")
        await board.until_task(task, "REVIEW", "BACKLOG", "FAILED")
        before = server_kib(server)
        gate = tmp_path / "gate"
        made = [await board.run_script("print x", f"await {gate}") for _ in range(IDLE_RUNS)]
        for _, run in made:
            await board.until_run(run, "RUNNING", within=90)
        for _, run in made:
            await board.until_output(run, "x", within=90)
        per_run = (server_kib(server) - before) / IDLE_RUNS
        gate.touch()
        for task, _ in made:
            await board.until_task(task, "REVIEW", "FAILED", within=90)
    assert per_run < SERVER_KIB_PER_RUN, f"{per_run} KiB"
