"""Processes under measurement: where they run, what CPU they took, and how they end."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

START_SECONDS = 30.0
PROC = Path("/proc")


def cores() -> tuple[set[int], set[int]]:
    """The core of the servers, and those of the load; the same where there is only one."""
    all_cores = sorted(os.sched_getaffinity(0))
    return {all_cores[0]}, set(all_cores[1:]) or {all_cores[0]}


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time of processes with all their threads and descendants, by the scheduler's count."""
    nanoseconds = 0
    for pid in _with_descendants(pids):
        for thread in _listed(PROC / str(pid) / "task"):
            try:
                nanoseconds += int((thread / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
    return nanoseconds / 1e9


def _with_descendants(pids: Sequence[int]) -> Iterator[int]:
    for pid in pids:
        yield pid
        for thread in _listed(PROC / str(pid) / "task"):
            try:
                children = (thread / "children").read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield from _with_descendants([int(child) for child in children])


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


class Process:
    """A server of a peer, pinned to the servers' core; its output goes to a file."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, folder: Path, log: Path
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        os.sched_setaffinity(self._process.pid, cores()[0])

    @property
    def pid(self) -> int:
        return self._process.pid

    def require_alive(self) -> None:
        """Raise with the end of the log if it has ended."""
        if self._process.poll() is not None:
            raise SystemExit(f"{self._process.args} ended:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """TERM, after five seconds KILL."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def await_listening(process: Process, port: int) -> None:
    """Wait until a port of this machine takes connections."""
    import socket

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        process.require_alive()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on {port} after {START_SECONDS} s")


def free_port() -> int:
    """A port nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
