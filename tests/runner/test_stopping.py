"""A stop leaves no process, whatever the agent does to escape."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from runner import process_table
from runner.folder import Limits
from runner.launch import Exited, Lost, inspect
from runner.process_table import ProcessId, is_alive
from runner.processes import find_processes, find_supervisor, read_identity
from runner.stopping import StopLadder, StopStage, stop_tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

QUICK = StopLadder(cancel_seconds=0.5, interrupt_seconds=0.5, terminate_seconds=0.5)

STUBBORN = (
    "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
    "    signal.signal(number, signal.SIG_IGN)\n"
)
# A daemon by the book, which moreover forgets its environment, its output and its folder.
ESCAPE = (
    STUBBORN
    + """
here = os.getcwd()
daemon = (
    "import os, sys, time\\n"
    "name = sys.argv[1]\\n"
    "open(name + '.new', 'w').write(str(os.getpid()))\\n"
    "os.rename(name + '.new', name)\\n"
    "time.sleep(300)"
)
def escape(name, keep_output=False, keep_folder=False, keep_environment=False):
    if os.fork(): return
    os.setsid()
    if os.fork(): os._exit(0)
    if not keep_folder: os.chdir('/')
    for fd in (0,) if keep_output else (0, 1, 2):
        os.dup2(os.open('/dev/null', os.O_RDWR), fd)
    argv = [sys.executable, '-I', '-S', '-c', daemon, here + '/' + name]
    os.execve(argv[0], argv, dict(os.environ) if keep_environment else {})
"""
)


@pytest.fixture
def bystander() -> Any:
    """A process of ours that no stop may touch."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    yield process
    assert process.poll() is None, "a process of somebody else was ended"
    process.kill()
    process.wait()


async def kill_supervisor(run: Any) -> None:
    supervisor = run.identity.supervisor
    os.kill(supervisor.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while is_alive(supervisor):
            await asyncio.sleep(0.01)


async def recorded(run: Any, process: ProcessId) -> None:
    """Wait until the supervisor has seen the process: at most a few of its looks."""
    async with asyncio.timeout(10):
        while process not in read_identity(run.folder, run_id=run.run_id).known:
            await asyncio.sleep(0.02)


async def test_a_polite_agent_ends_at_the_interrupt(start_run: Any, bystander: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(300)")
    await run.told("up")
    report = await stop_tree(run.identity, ladder=QUICK)
    assert report.clean
    assert report.stage is StopStage.INTERRUPT
    end = await run.wait()
    assert (end.reason, end.signal) == ("exited", signal.SIGINT)
    assert run.is_silent()


async def test_the_ladder_goes_as_far_as_it_must(start_run: Any) -> None:
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    for source, stage, number in (
        (deaf, StopStage.TERMINATE, signal.SIGTERM),
        (STUBBORN, StopStage.KILL, signal.SIGKILL),
    ):
        run = await start_run(source + "tell('up')\ntime.sleep(300)")
        await run.told("up")
        report = await stop_tree(run.identity, ladder=QUICK)
        assert (report.clean, report.stage) == (True, stage)
        assert (await run.wait()).signal == number
        assert run.is_silent()


async def test_the_agents_own_protocol_is_asked_first(start_run: Any) -> None:
    run = await start_run(
        "tell('up')\nwhile not os.path.exists('cancel'): time.sleep(0.01)\nsys.exit(3)"
    )
    await run.told("up")

    async def cancel() -> None:
        (run.worktree / "cancel").touch()

    report = await stop_tree(run.identity, ladder=StopLadder(cancel=cancel))
    assert (report.clean, report.stage, report.cancel_error) == (True, StopStage.CANCEL, None)
    assert (await run.wait()).exit_code == 3


@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_a_broken_protocol_does_not_stop_the_stop(start_run: Any, how: str) -> None:
    run = await start_run("tell('up')\ntime.sleep(300)")
    await run.told("up")

    async def cancel() -> None:
        if how == "raises":
            raise ConnectionError("the agent does not answer")
        await asyncio.Event().wait()

    report = await stop_tree(
        run.identity, ladder=StopLadder(cancel=cancel, cancel_seconds=0.2, interrupt_seconds=2)
    )
    assert (report.clean, report.stage) == (True, StopStage.INTERRUPT)
    assert ("the agent does not answer" if how == "raises" else "TimeoutError") in (
        report.cancel_error or ""
    )


@pytest.mark.parametrize("means", ["cgroup", "ancestry"])
async def test_a_daemon_that_forgets_everything_is_found(
    start_run: Any, bystander: Any, means: str
) -> None:
    run = await start_run(
        (ESCAPE + "escape('daemon')\ntell('up')\ntime.sleep(300)"), cgroup=means == "cgroup"
    )
    await run.told("daemon")
    report = await stop_tree(run.identity, ladder=QUICK)
    assert report.clean, report
    assert run.is_silent()
    assert isinstance(await inspect(run.folder, run_id=run.run_id), Exited)


@pytest.mark.parametrize(
    "kept", ["recorded", "keep_output", "keep_folder", "keep_environment", "cgroup"]
)
async def test_a_daemon_whose_supervisor_was_killed_first_is_found_by_what_it_kept(
    start_run: Any, bystander: Any, kept: str
) -> None:
    options = f", {kept}=True" if kept.startswith("keep") else ""
    run = await start_run(
        (ESCAPE + f"escape('daemon'{options})\nescape('second'{options})\nos._exit(0)")
        if kept != "recorded"
        else (ESCAPE + "escape('daemon')\nescape('second')\ntime.sleep(300)"),
        cgroup=kept == "cgroup",
        limits=Limits(terminate_seconds=300),  # the supervisor must not end the daemons itself
    )
    if kept == "cgroup" and run.identity.cgroup is None:
        pytest.skip("no cgroup can be made here")
    daemon, second = await run.told("daemon"), await run.told("second")
    if kept == "recorded":
        await recorded(run, daemon)
        await recorded(run, second)
    await kill_supervisor(run)
    if kept != "recorded":
        # Only the one trace under test shall lead to them.
        run.folder.processes.unlink(missing_ok=True)
    assert is_alive(daemon)
    identity = read_identity(run.folder, run_id=run.run_id)
    assert find_supervisor(identity) is None
    found = {process.id for process in find_processes(identity)}
    assert {daemon, second} <= found
    report = await stop_tree(identity, ladder=QUICK)
    assert report.clean
    assert run.is_silent()
    assert isinstance(await inspect(run.folder, run_id=run.run_id), Lost)
    assert identity.cgroup is None or not identity.cgroup.exists()


async def test_a_person_at_work_in_the_worktree_is_left_alone(start_run: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(300)")
    await run.told("up")
    reader = subprocess.Popen(  # noqa: ASYNC220  # it starts at once
        ["tail", "-f", str(run.folder.stdout)], cwd=run.worktree, stdout=subprocess.DEVNULL
    )
    try:
        await kill_supervisor(run)
        assert (await stop_tree(run.identity, ladder=QUICK)).clean
        assert run.is_silent()
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.wait()


async def test_a_pid_used_again_is_not_signalled(start_run: Any, bystander: Any) -> None:
    run = await start_run("sys.exit(0)")
    await run.wait()
    # What the kernel would do with a small pid space: the recorded pids now name somebody else.
    now = process_table.find_process(bystander.pid)
    assert now is not None
    other = [bystander.pid, now.id.start_time - 1]
    for path in (run.folder.started, run.folder.processes):
        text = path.read_text()
        for process in (run.identity.agent, run.identity.supervisor):
            text = text.replace(f"[{process.pid}, {process.start_time}", f"[{other[0]}, {other[1]}")
        path.write_text(text)
    identity = read_identity(run.folder, run_id=run.run_id)
    assert identity.agent == ProcessId(*other)
    report = await stop_tree(identity, ladder=QUICK)
    assert (report.clean, report.signalled, report.stage) == (True, 0, StopStage.NONE)
    assert not process_table.send_signal(ProcessId(*other), signal.SIGKILL)


async def test_records_of_another_boot_name_nobody(start_run: Any, bystander: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(300)")
    await run.told("up")
    for path in (run.folder.started, run.folder.processes):
        path.write_text(path.read_text().replace(run.identity.boot_id, "an earlier boot"))
    identity = read_identity(run.folder, run_id=run.run_id)
    assert (identity.agent, identity.supervisor, identity.known) == (None, None, frozenset())
    # The tag in its environment still names the agent, the lock its supervisor.
    assert (await stop_tree(identity, ladder=QUICK)).clean
    assert run.is_silent()


def test_ps_tells_of_the_same_processes_where_there_is_no_proc(bystander: Any) -> None:
    by_ps, by_proc = process_table._read_ps_table(), process_table.read_table()
    found, expected = by_ps[bystander.pid], by_proc[bystander.pid]
    assert (found.parent, found.group) == (expected.parent, expected.group)
    assert abs(found.id.start_time - time.time()) < 60
    assert os.getpid() in by_ps


async def test_a_crowd_that_keeps_growing_is_ended(start_run: Any) -> None:
    run = await start_run(
        STUBBORN + "tell('up')\n"
        "end = time.monotonic() + 60\n"
        "while time.monotonic() < end:\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        time.sleep(0.3)\n"
        "        if os.fork() == 0 and os.fork() == 0: time.sleep(60)\n"
        "        os._exit(0)\n"
        "    time.sleep(0.03)\n"
    )
    await run.told("up")
    await asyncio.sleep(0.6)
    assert (await stop_tree(run.identity, ladder=QUICK)).clean
    assert run.is_silent()
    tag = f"DRAGOMAN_RUN_ID={run.run_id}".encode()
    table = process_table.read_table()
    assert not [pid for pid in table if process_table.has_environment_entry(pid, tag)]


async def test_stopping_twice_and_stopping_what_is_over_is_harmless(start_run: Any) -> None:
    run = await start_run("tell('up')\ntime.sleep(300)")
    await run.told("up")
    reports = await asyncio.gather(*(stop_tree(run.identity, ladder=QUICK) for _ in range(3)))
    assert all(report.clean for report in reports)
    again = await stop_tree(run.identity, ladder=QUICK)
    assert (again.clean, again.stage) == (True, StopStage.NONE)


AGENTS = (
    "tell('up')\ntime.sleep(300)",
    STUBBORN + "tell('up')\ntime.sleep(300)",
    "tell('up')\nsys.exit(0)",
    (ESCAPE + "escape('daemon')\ntell('up')\ntime.sleep(300)"),
    (ESCAPE + "tell('up')\nescape('daemon', keep_output=True)\nos._exit(1)"),
    "import threading\nthreading.Thread(target=time.sleep, args=(300,)).start()\ntell('up')",
    "tell('up')\nos.fork() or os.fork() or os.setsid()\ntime.sleep(300)",
)


async def stop_at_random(start_run: Any, rng: random.Random) -> None:
    run = await start_run(rng.choice(AGENTS), cgroup=rng.random() < 0.5)
    await asyncio.sleep(rng.random() * 0.4)
    daemon = run.worktree / "daemon"
    if rng.random() < 0.3 and not daemon.exists():
        with_supervisor = find_supervisor(run.identity)
        if with_supervisor and run.identity.cgroup:
            await kill_supervisor(run)
    report = await stop_tree(run.identity, ladder=QUICK)
    assert report.clean
    assert run.is_silent()
    if daemon.exists():
        assert process_table.find_process(int(daemon.read_text())) is None
    assert await inspect(run.folder, run_id=run.run_id) is not None
    left = {process.id for process in find_processes(read_identity(run.folder, run_id=run.run_id))}
    assert not left


async def random_stops(start_run: Any, *, count: int, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  # repeatable chance
    began = time.monotonic()
    for _ in range(0, count, 4):
        await asyncio.gather(*(stop_at_random(start_run, rng) for _ in range(4)))
    assert time.monotonic() - began < count * 3


async def test_random_stops_leave_no_process(start_run: Any) -> None:
    await random_stops(start_run, count=8, seed=1)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_two_hundred_random_stops_leave_no_process(start_run: Any) -> None:
    await random_stops(start_run, count=200, seed=2)
