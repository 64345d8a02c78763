"""Real runs for the tests: a folder, an agent that is a few lines of Python, and a broom."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.folder import Limits, RunFolder, SupervisorSpec, create_run_folder
from runner.launch import Exited, ExitInfo, Started, inspect, start
from runner.process_table import ProcessId, is_alive, read_table, remove_cgroup
from runner.processes import RUN_TAG, RunIdentity

IMPATIENT = Limits(interrupt_seconds=0.3, terminate_seconds=0.3, kill_seconds=5)


async def eventually(check: Callable[[], object], *, seconds: float = 10) -> object:
    """The first true value of ``check``; fails the test when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (value := await asyncio.to_thread(check)):
        assert time.monotonic() < deadline, "this did not happen in time"
        await asyncio.sleep(0.02)
    return value


@dataclass
class Run:
    """One run of a test."""

    run_id: str
    folder: RunFolder
    worktree: Path
    started: Started | None = None
    processes: list[ProcessId] = field(default_factory=list)

    @property
    def identity(self) -> RunIdentity:
        assert self.started is not None
        return self.started.identity

    async def wait(self, *, seconds: float = 10) -> ExitInfo:
        """The recorded end of the run."""
        deadline = time.monotonic() + seconds
        while True:
            state = await inspect(self.folder, run_id=self.run_id)
            if isinstance(state, Exited):
                return state.exit
            assert time.monotonic() < deadline, f"still {state}"
            await asyncio.sleep(0.02)

    async def told(self, name: str) -> ProcessId:
        """The process that wrote its pid into ``<worktree>/<name>``, checked to be alive."""
        path = self.worktree / name
        text = await eventually(lambda: path.exists() and path.read_text())
        process = read_table()[int(str(text))].id
        self.processes.append(process)
        return process

    def is_silent(self) -> bool:
        """Whether every process the run told of has ended."""
        return not any(is_alive(process) for process in self.processes)


StartRun = Callable[..., Awaitable[Run]]


@pytest.fixture
async def start_run(tmp_path: Path) -> AsyncIterator[StartRun]:
    """Start ``source`` (Python, `tell(name)` writes its pid) or ``argv`` as the agent of a run."""
    runs: list[Run] = []

    async def begin(
        source: str = "",
        *,
        argv: tuple[str, ...] = (),
        limits: Limits = IMPATIENT,
        cgroup: bool = False,
        heartbeat: Path | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
    ) -> Run:
        run_id = str(uuid.uuid4())
        worktree = tmp_path / f"worktree-{len(runs)}"
        worktree.mkdir()
        run = Run(run_id, create_run_folder(tmp_path / "runs" / run_id), worktree)
        runs.append(run)
        head = (
            "import os, signal, sys, time\n"
            f"def tell(name):\n"
            f"    path = {str(worktree)!r} + '/' + name\n"
            "    open(path + '.new', 'w').write(str(os.getpid()))\n"
            "    os.rename(path + '.new', path)\n"
        )
        spec = SupervisorSpec(
            run_id=run_id,
            argv=argv or (sys.executable, "-I", "-S", "-c", head + source),
            cwd=str(cwd or worktree),
            env={"PATH": os.defpath, RUN_TAG: run_id},
            stdin=stdin,
            heartbeat=str(heartbeat) if heartbeat else None,
            cgroup=cgroup,
            limits=limits,
        )
        run.started = await start(run.folder, spec)
        if run.started.agent:
            run.processes.append(run.started.agent)
        if run.started.identity.supervisor:
            run.processes.append(run.started.identity.supervisor)
        return run

    yield begin
    for process in (process for run in runs for process in run.processes):
        if is_alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    for run in runs:
        if run.started and run.started.identity.cgroup:
            remove_cgroup(run.started.identity.cgroup)


_IDENTITY = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")


class GitRepository:
    """A real repository, driven by the real program as its owner would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str, cwd: Path | None = None, check: bool = True) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "protocol.file.allow",
            "GIT_CONFIG_VALUE_0": "always",
            **{
                f"GIT_{role}_{what}": "owner@example.org"
                for role in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        result = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.returncode == 0 or not check, result.stderr
        return result.stdout.strip()

    def write(self, files: dict[str, str], *, cwd: Path | None = None) -> None:
        for name, content in files.items():
            path = (cwd or self.path) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def commit(self, files: dict[str, str], message: str = "change") -> str:
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def owner(tmp_path: Path) -> GitRepository:
    """A repository with one commit on ``main``, which is checked out."""
    path = tmp_path / "project"
    path.mkdir()
    repository = GitRepository(path)
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.commit({"README.md": "one\ntwo\nthree\n", "src/app.py": "print(1)\n"}, "begin")
    return repository
