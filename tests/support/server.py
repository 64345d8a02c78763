"""A real server as its operator starts it: its own process, folder, database and environment.

Methods of ``RunningServer`` block: use ``asyncio.to_thread`` where a loop has other work.
"""

import asyncio
import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.databases import new_name

POSTGRES = "postgresql://root@127.0.0.1:5432"
REDIS = "redis://127.0.0.1:6379"
PROGRAM = Path(sys.executable).with_name("dragoman")
AGENT = Path(__file__).with_name("agent.py")
READY = re.compile(r"^Dragoman is ready: (http://\S+)$", re.MULTILINE)
TOKEN = re.compile(r"^\s+(dgm_\S+)\s*$", re.MULTILINE)
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class ServerFailedError(AssertionError):
    """The server did not start, or did not end, as it should; the text has its log."""


@dataclass(slots=True)
class RunningServer:
    """One data folder and the server process that uses it now, if any.

    ``token`` is the site owner's, from the first start (or made anew where that start was killed
    before it could tell). ``settings`` are DRAGOMAN_ variables without their prefix; nothing else
    of that kind reaches the process.
    """

    data_dir: Path
    database_url: str | None = None
    broadcast_url: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    token: str = ""
    url: str = ""
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        """Everything all starts wrote to stderr."""
        return self.data_dir / "server.log"

    @property
    def log(self) -> str:
        """What ``log_path`` holds now."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def websocket_url(self) -> str:
        """Where graphql-transport-ws is spoken."""
        return f"ws{self.url.removeprefix('http')}/graphql"

    @property
    def temporary(self) -> Path:
        """Where the server and its runs put temporary files."""
        return self.data_dir / "tmp"

    def complaints(self) -> list[dict[str, Any]]:
        """What was logged as an error by now."""
        lines = [line for line in self.log.splitlines() if line.startswith("{")]
        logged = [json.loads(line) for line in lines]
        return [line for line in logged if line.get("level") in {"error", "critical"}]

    def environment(self) -> dict[str, str]:
        """The server's environment: the machine's own without any DRAGOMAN_ variable."""
        clean = {name: v for name, v in os.environ.items() if not name.startswith("DRAGOMAN_")}
        wanted = {
            "DATA_DIR": str(self.data_dir / "data"),
            "CUSTOM_COMMAND": f'["{sys.executable}", "-S", "{AGENT}", "{{prompt_file}}"]',
            "RUN_STOP_GRACE": "1",
            "SHUTDOWN_GRACE": "3",
            "LOG_FORMAT": "json",
            **({"DATABASE_URL": self.database_url} if self.database_url else {}),
            **({"BROADCAST_URL": self.broadcast_url} if self.broadcast_url else {}),
            **self.settings,
        }
        own = {f"DRAGOMAN_{name}": value for name, value in wanted.items()}
        return {**clean, **own, "TMPDIR": str(self.temporary)}

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another command of ``dragoman`` on the same folder and database."""
        return subprocess.run(
            [PROGRAM, *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=check,
            timeout=START_SECONDS,
        )

    def launch(self, *prefix: str) -> None:
        """Start the process without waiting for anything.

        Args:
            prefix: a program that runs the rest of its arguments, such as ``strace``.
        """
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, PROGRAM, "serve", "--port", "0"],
                env=self.environment(),
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def await_ready(self, within: float = START_SECONDS) -> None:
        """Wait for the ready line on stdout; raises ServerFailedError with the log."""
        assert self.process is not None
        assert self.process.stdout is not None
        deadline = time.monotonic() + within
        text = ""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while (match := READY.search(text)) is None:
                if not selector.select(deadline - time.monotonic()):
                    raise ServerFailedError(f"not ready in {within} s\n{self.log[-4000:]}")
                data = os.read(self.process.stdout.fileno(), 4096)
                if not data:
                    code = self.process.wait(STOP_SECONDS)
                    raise ServerFailedError(f"ended with {code}\n{self.log[-4000:]}")
                text += data.decode()
        self.url = match[1]
        if not self.token:
            shown = TOKEN.search(self.log)
            self.token = shown[1] if shown else self.make_token()

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.launch()
        self.await_ready()

    def make_token(self, user: str = "owner", *arguments: str) -> str:
        """A fresh token from the command line, beside the running server."""
        return self.command("token", "create", "--user", user, *arguments).stdout.strip()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server process alone."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, within: float = STOP_SECONDS) -> int:
        """Wait for the end of the process; its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise ServerFailedError(f"does not end\n{self.log[-4000:]}") from None
        finally:
            if self.process.poll() is not None and self.process.stdout is not None:
                self.process.stdout.close()

    def stop(self) -> int:
        """SIGTERM, and the exit code it leads to."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL: the process ends where it stands."""
        self.signal(signal.SIGKILL)
        self.wait()

    def restart(self) -> None:
        """Stop politely and start again; the address changes."""
        self.stop()
        self.start()

    def end(self) -> None:
        """Whatever state it is in: no server and no process of a run afterwards."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.wait()
        deadline = time.monotonic() + STOP_SECONDS
        while (left := self.run_processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def await_no_run_processes(self, within: float = STOP_SECONDS) -> None:
        """Wait until every run's processes have ended by themselves."""
        deadline = time.monotonic() + within
        while left := self.run_processes():
            if time.monotonic() > deadline:
                raise ServerFailedError(f"still there: {left}")
            time.sleep(0.05)

    def run_processes(self) -> dict[int, str]:
        """Processes of runs (supervisors, agents and what those started) by pid, with their argv.

        Told by what only they have: an argument, a current folder or a variable in our folder.
        """
        found = {}
        own = {os.getpid(), *([self.process.pid] if self.process else [])}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in own:
                continue
            with contextlib.suppress(OSError):
                if self._is_of_a_run(entry):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = words.decode(errors="replace").strip()
        return found

    def _is_of_a_run(self, entry: Path) -> bool:
        state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        if state in {"Z", "X"}:
            return False
        for folder in ("runs", "worktrees"):
            place = str(self.data_dir / "data" / folder)
            if place.encode() in (entry / "cmdline").read_bytes():
                return True
            if (entry / "cwd").readlink().is_relative_to(place):
                return True
        return False


async def _postgres(statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(f"{POSTGRES}/test")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@contextlib.contextmanager
def fresh_postgres(template: str = "template1") -> Iterator[str]:
    """The address of a database that lives as long as the block: a copy of an empty one.

    Args:
        template: the name of another one to copy, which nobody uses meanwhile.
    """
    name = new_name("e2e")
    _apart(_postgres(f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield f"{POSTGRES}/{name}"
    finally:
        _apart(_postgres(f"DROP DATABASE {name} WITH (FORCE)"))


def _apart(work: Any) -> None:
    """Run to the end in a loop of its own; fixtures may be set up inside a test's loop."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()


@contextlib.contextmanager
def a_server(
    data_dir: Path,
    *,
    database: str = "sqlite",
    redis: bool = False,
    started: bool = True,
    **settings: str,
) -> Iterator[RunningServer]:
    """A server in a folder of its own, ended with all its runs when the block ends.

    Args:
        data_dir: an empty folder.
        database: ``sqlite`` or ``postgresql`` (a fresh database, dropped afterwards).
        redis: whether wake-ups travel over Redis.
        started: whether to start it at once.
        settings: DRAGOMAN_ variables in small letters.
    """
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fresh_postgres()) if database == "postgresql" else None
        server = RunningServer(
            data_dir.resolve(),
            database_url=url,
            broadcast_url=REDIS if redis else None,
            settings={name.upper(): value for name, value in settings.items()},
        )
        stack.callback(server.end)
        if started:
            server.start()
        yield server
