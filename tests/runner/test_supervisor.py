"""One run and its supervisor: how it starts, what it records, when it ends the agent."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.folder import Limits, RunFolderError, SupervisorSpec, create_run_folder
from runner.launch import Alive, Exited, Lost, inspect, start
from runner.process_table import ProcessId, is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

IMPATIENT = Limits(interrupt_seconds=0.3, terminate_seconds=0.3, kill_seconds=5)


def memory_kib(process: ProcessId) -> dict[str, int]:
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}


async def test_an_agent_gets_exactly_its_argv_environment_folder_and_input(
    start_run: Any, tmp_path: Path
) -> None:
    question = tmp_path / "question.txt"
    question.write_text("what is it?")
    run = await start_run(
        "print(sys.stdin.read(), os.getcwd(), sorted(os.environ), os.getsid(0) == os.getpid())\n"
        "print(sorted(os.listdir('/proc/self/fd')), file=sys.stderr)\n"
        "default = signal.getsignal(signal.SIGHUP) == signal.SIG_DFL\n"
        "print(default, signal.pthread_sigmask(0, []), file=sys.stderr)\n"
        "sys.exit(7)",
        stdin=str(question),
    )
    end = await run.wait()
    assert (end.reason, end.exit_code, end.signal) == ("exited", 7, None)
    assert run.folder.stdout.read_text() == (
        f"what is it? {run.worktree} ['DRAGOMAN_RUN_ID', 'LC_CTYPE', 'PATH'] True\n"
    )
    errors = run.folder.stderr.read_text().splitlines()
    assert errors[0] == "['0', '1', '2', '3']"  # 3 is the listing itself
    assert errors[1] == "True set()"
    assert end.output_bytes == run.folder.stdout.stat().st_size + run.folder.stderr.stat().st_size
    assert end.ended_at >= end.started_at > time.time() - 60
    assert end.cpu_seconds > 0
    assert end.max_rss_kib > 1000


async def test_without_input_the_agent_reads_an_end_of_file(start_run: Any) -> None:
    run = await start_run("print(repr(sys.stdin.read()))")
    assert (await run.wait()).exit_code == 0
    assert run.folder.stdout.read_text() == "''\n"


async def test_credentials_do_not_stay_on_disk_and_files_are_private(start_run: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(60)")
    await run.told("up")
    assert not run.folder.spec.exists()
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.folder.path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert run.folder.path.stat().st_mode & 0o777 == 0o700
    assert run.folder.log.read_text() == ""


async def test_a_supervisor_is_small(start_run: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(60)")
    await run.told("up")
    await asyncio.sleep(0.6)  # two looks at its agent: the figure of a settled supervisor
    memory = memory_kib(run.identity.supervisor)
    assert memory["Rss"] <= 15 * 1024, memory
    assert memory["Pss"] <= 15 * 1024, memory


async def test_a_signal_from_elsewhere_is_recorded(start_run: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(60)")
    agent = await run.told("up")
    os.kill(agent.pid, signal.SIGKILL)
    end = await run.wait()
    assert (end.reason, end.exit_code, end.signal) == ("exited", None, signal.SIGKILL)


@pytest.mark.parametrize(
    ("program", "errno"),
    [("no-such-program-anywhere", "ENOENT"), ("./not-executable", "EACCES")],
)
async def test_a_program_that_cannot_run_is_an_answer_not_a_hang(
    start_run: Any, tmp_path: Path, program: str, errno: str
) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    run = await start_run(argv=(program, "x"), cwd=tmp_path)
    assert run.started.exit is not None
    assert (run.started.exit.reason, run.started.exit.errno) == ("spawn_error", errno)
    assert program in run.started.exit.error
    assert run.started.exit.exit_code is None
    assert not run.folder.spec.exists()


async def test_a_worktree_that_is_gone_is_an_answer(start_run: Any, tmp_path: Path) -> None:
    run = await start_run(cwd=tmp_path / "gone")
    assert (run.started.exit.reason, run.started.exit.errno) == ("spawn_error", "ENOENT")
    assert str(tmp_path / "gone") in run.started.exit.error


async def test_a_folder_is_started_once(start_run: Any, tmp_path: Path) -> None:
    run = await start_run("tell('up')\ntime.sleep(60)")
    await run.told("up")
    with pytest.raises(RunFolderError):
        create_run_folder(run.folder.path)
    spec = SupervisorSpec(run_id=run.run_id, argv=("true",), cwd="/", env={})
    with pytest.raises(FileExistsError):
        await start(run.folder, spec)
    assert isinstance(await inspect(run.folder, run_id=run.run_id), Alive)


async def test_an_agent_is_ended_when_the_servers_heartbeat_stops(
    start_run: Any, tmp_path: Path
) -> None:
    heartbeat = tmp_path / "heartbeat"
    heartbeat.touch()
    run = await start_run(
        "tell('up')\ntime.sleep(60)",
        heartbeat=heartbeat,
        limits=Limits(orphan_after=1, interrupt_seconds=5),
    )
    await run.told("up")
    for _ in range(8):  # twice as long as its patience, with a living server
        await asyncio.sleep(0.25)
        heartbeat.touch()
    assert isinstance(await inspect(run.folder, run_id=run.run_id), Alive)
    end = await run.wait()
    assert (end.reason, end.signal) == ("orphaned", signal.SIGINT)


async def test_a_clock_that_jumps_forward_orphans_nobody(start_run: Any, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    heartbeat.touch()
    run = await start_run("time.sleep(60)", heartbeat=heartbeat, limits=Limits(orphan_after=2))
    hour_ago = time.time() - 3600
    for beat in range(4):  # as if the clock ran an hour ahead, while the server goes on touching
        await asyncio.sleep(0.25)
        os.utime(heartbeat, (hour_ago + beat, hour_ago + beat))
    assert isinstance(await inspect(run.folder, run_id=run.run_id), Alive)


async def test_a_missing_or_future_heartbeat_still_ends_an_orphan(
    start_run: Any, tmp_path: Path
) -> None:
    future = tmp_path / "future"
    future.touch()
    os.utime(future, (time.time() + 86400, time.time() + 86400))
    limits = Limits(orphan_after=0.5, interrupt_seconds=5)
    runs = [
        await start_run("time.sleep(60)", heartbeat=path, limits=limits)
        for path in (tmp_path / "missing", future)
    ]
    assert [(await run.wait()).reason for run in runs] == ["orphaned", "orphaned"]


async def test_output_is_bounded_also_against_a_flood(start_run: Any) -> None:
    limit = 1 << 20
    run = await start_run(
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True: os.write(1, b'x' * 65536); time.sleep(0.001)",
        limits=Limits(max_output_bytes=limit, interrupt_seconds=30, terminate_seconds=30),
    )
    end = await run.wait()
    assert (end.reason, end.signal) == ("output_limit", signal.SIGKILL)
    assert run.folder.stdout.stat().st_size == limit


async def test_a_run_may_not_last_longer_than_its_limit(start_run: Any) -> None:
    limits = Limits(max_seconds=0.5, interrupt_seconds=0.2, terminate_seconds=5)
    run = await start_run(
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)", limits=limits
    )
    end = await run.wait()
    assert (end.reason, end.signal) == ("time_limit", signal.SIGTERM)


async def test_a_supervisor_asked_to_end_takes_its_agent_along(start_run: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(60)")
    await run.told("up")
    os.kill(run.identity.supervisor.pid, signal.SIGTERM)
    end = await run.wait()
    assert (end.reason, end.signal) == ("terminated", signal.SIGINT)
    assert run.is_silent()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_agent_hears_what_the_servers_starter_ignored(start_run: Any, number: int) -> None:
    usual = signal.signal(number, signal.SIG_IGN)  # as nohup and shells do for background jobs
    try:
        run = await start_run(argv=("sh", "-c", f"kill -{number:d} $$"))
    finally:
        signal.signal(number, usual)
    end = await run.wait()
    assert (end.reason, end.signal) == ("exited", number)


async def test_what_an_agent_leaves_behind_is_ended_with_it(start_run: Any) -> None:
    run = await start_run(
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    if os.fork(): os._exit(0)\n"
        "    tell('daemon')\n"
        "    time.sleep(60)\n"
        "while not os.path.exists('daemon'): time.sleep(0.01)\n"
        "time.sleep(0.5)"
    )
    await run.told("daemon")
    end = await run.wait()
    assert (end.reason, end.exit_code, end.leftovers) == ("exited", 0, 1)
    assert run.is_silent()


async def test_two_megabyte_lines_arrive_whole(start_run: Any) -> None:
    run = await start_run("print('x' * 2_000_000)\nprint('y' * 2_000_000)")
    assert (await run.wait()).exit_code == 0
    assert [len(line) for line in run.folder.stdout.read_text().splitlines()] == [2_000_000] * 2


async def test_a_fresh_process_finds_the_run_again(start_run: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(60)")
    agent = await run.told("up")
    source = (
        "import json, pathlib, sys\n"
        "from runner.folder import open_run_folder\n"
        "from runner.launch import inspect_now\n"
        "state = inspect_now(open_run_folder(pathlib.Path(sys.argv[1])), run_id=sys.argv[2])\n"
        "agent = getattr(getattr(state, 'identity', None), 'agent', None)\n"
        "print(json.dumps([type(state).__name__, agent and agent.pid]))"
    )

    async def ask_afresh() -> list[object]:
        fresh = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", source, str(run.folder.path), run.run_id),
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await fresh.communicate()
        return json.loads(out)

    assert await ask_afresh() == ["Alive", agent.pid]
    os.kill(run.identity.supervisor.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while is_alive(run.identity.supervisor):
            await asyncio.sleep(0.01)
    assert await ask_afresh() == ["Lost", agent.pid]


async def test_a_forged_end_is_not_believed_while_the_run_lives(start_run: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(60)")
    agent = await run.told("up")
    run.folder.exit.write_text('{"reason": "exited", "exit_code": 0}')
    assert isinstance(await inspect(run.folder, run_id=run.run_id), Alive)
    os.kill(agent.pid, signal.SIGKILL)
    assert (await run.wait()).signal == signal.SIGKILL


@pytest.mark.parametrize(
    "forged", ["[]", "{", '{"reason": 5, "exit_code": "no", "signal": true}', "[" * 99999]
)
async def test_a_forged_record_is_read_without_harm(tmp_path: Path, forged: str) -> None:
    folder = create_run_folder(tmp_path / "run")
    for path in (folder.exit, folder.started, folder.processes):
        path.write_text(forged)
    state = await inspect(folder, run_id="x")
    assert isinstance(state, Lost) or (
        isinstance(state, Exited) and state.exit.reason == "supervisor_error"
    )


async def test_a_planted_pipe_blocks_nobody(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path / "run")
    for path in (folder.exit, folder.started, folder.lock):
        os.mkfifo(path)
    assert isinstance(await inspect(folder, run_id="x"), Lost)
