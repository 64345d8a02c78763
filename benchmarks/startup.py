"""Time to ready and idle memory of a real server, and what a supervisor of a run costs.

PSS is a process' own memory and its share of what it has in common with others.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from benchmarks.report import Section
from tests.support.board import create_board, make_repository
from tests.support.clients import HttpClient
from tests.support.server import RunningServer, a_server

SETTLE_SECONDS = 3.0
BASELINE = ("-c", "import strawberry, sqlmodel, starlette, uvicorn")


@dataclass(frozen=True, slots=True)
class Memory:
    """In MiB."""

    pss: float
    rss: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Times in seconds, from the start of the process to the first 200 on /readyz."""

    first_start: float
    later_starts: list[float]
    imports: float
    """How long Python takes only to import the libraries the server stands on."""
    server: Memory
    supervisor: Memory


def memory_of(pid: int) -> Memory:
    """Memory of one process as Linux counts it."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) / 1024
    return Memory(round(sizes["Pss"], 1), round(sizes["Rss"], 1))


def _seconds_to_ready(server: RunningServer) -> float:
    began = time.perf_counter()
    server.start()
    while True:
        try:
            with urllib.request.urlopen(f"{server.url}/readyz", timeout=5) as answer:
                if answer.status == HTTPStatus.OK:
                    return time.perf_counter() - began
        except urllib.error.HTTPError:
            time.sleep(0.001)


def _seconds_of_imports() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *BASELINE], check=True)
    return time.perf_counter() - began


async def _supervisor_memory(server: RunningServer, folder: Path) -> Memory:
    async with HttpClient(server.url, server.token) as client:
        board, _ = await create_board(client, make_repository(folder / "project"))
        _, run = await board.run_script("print here", f"await {folder / 'never'}")
        await board.until_output(run, "here")
        await asyncio.sleep(1)
        [pid] = [pid for pid, words in server.run_processes().items() if "supervisor.py" in words]
        return memory_of(pid)


def measure(folder: Path, *, starts: int = 3) -> Figures:
    """Start a server on an empty folder and again on its data; look at its memory when idle."""
    with a_server(folder / "server", started=False) as server:
        first = _seconds_to_ready(server)
        later = []
        for _ in range(starts):
            server.stop()
            later.append(_seconds_to_ready(server))
        time.sleep(SETTLE_SECONDS)
        assert server.process is not None
        idle = memory_of(server.process.pid)
        supervisor = asyncio.run(_supervisor_memory(server, folder))
        imports = statistics.median(_seconds_of_imports() for _ in range(starts))
        return Figures(first, later, imports, idle, supervisor)


def section(*, quick: bool) -> Section:
    """The figures of this machine as a part of the report."""
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), starts=2 if quick else 5)
    later = figures.later_starts
    rows = [
        ["first start (migrates, makes owner), s", f"{figures.first_start:.2f}"],
        ["later starts, median, s", f"{statistics.median(later):.2f}"],
        ["later starts, worst, s", f"{max(later):.2f}"],
        ["imports of the libraries alone, s", f"{figures.imports:.2f}"],
        ["idle server, PSS / RSS, MiB", f"{figures.server.pss:.1f} / {figures.server.rss:.1f}"],
        [
            "supervisor of a run, PSS / RSS, MiB",
            f"{figures.supervisor.pss:.1f} / {figures.supervisor.rss:.1f}",
        ],
    ]
    return Section("Time to ready and memory", ["what", "found"], rows)
