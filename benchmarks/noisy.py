"""Part noisy: fifty runs that write ten thousand lines a second together, and a board in use.

Every line has to be in the log once; how late it is there, and how long GraphQL takes meanwhile,
is what is measured. Lateness is the time from the line's writing to the transaction that keeps it.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.report import Section
from benchmarks.startup import memory_of
from tests.support.board import Board, create_board, make_repository
from tests.support.clients import HttpClient
from tests.support.server import RunningServer, a_server

RUNS = 50
LINES_PER_SECOND = 200
BURSTS_PER_SECOND = 10
LOOK = """query ($id: ID!) { workspace(id: $id) { cursor
  runs(first: 50) { nodes { id status activity outputLines usage { costUsd } } }
  tasks(first: 50) { nodes { id number title status } } } }"""
NOISE = """
import os, sys, time
go, seconds = sys.argv[1], float(sys.argv[2])
print("ready", flush=True)
while not os.path.exists(go):
    time.sleep(0.05)
number, begin = 0, time.time()
for burst in range(int(seconds * {bursts})):
    time.sleep(max(0.0, begin + burst / {bursts} - time.time()))
    lines = []
    for _ in range({lines}):
        lines.append(f"{{time.time():.6f}} {{number}} some text as agents write it")
        number += 1
    sys.stdout.write("\\n".join(lines) + "\\n")
    sys.stdout.flush()
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What one measurement told; times in seconds."""

    lines: int
    lateness: list[float]
    answers: list[float]
    cpu_share: float
    idle_mib: float
    busy_mib: float


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(folder: Path, *, seconds: float, runs: int = RUNS) -> Found:
    """Run the noise and read what came of it. Raises AssertionError for a line lost or repeated."""
    go, program = folder / "go", folder / "noise.py"
    lines = LINES_PER_SECOND // BURSTS_PER_SECOND
    program.write_text(NOISE.format(bursts=BURSTS_PER_SECOND, lines=lines))
    expected = int(seconds * BURSTS_PER_SECOND) * lines
    settings = {
        "custom_command": json.dumps([sys.executable, "-S", str(program), str(go), str(seconds)]),
        "max_concurrent_runs": str(runs),
        "run_start_limit": "300",
    }
    with a_server(folder / "server", **settings) as server:
        answers, cpu_share, idle, busy = asyncio.run(
            _run(server, folder, seconds=seconds, runs=runs, lines=expected)
        )
        database = server.data_dir / "data" / "dragoman.db"
        lateness = _read(database, expected=expected, runs=runs)
    return Found(len(lateness), lateness, answers, cpu_share, idle, busy)


async def _run(
    server: RunningServer, folder: Path, *, seconds: float, runs: int, lines: int
) -> tuple[list[float], float, float, float]:
    assert server.process is not None
    repository = make_repository(folder / "project")
    idle = memory_of(server.process.pid).pss
    async with HttpClient(server.url, server.token) as client:
        board, _ = await create_board(client, repository, maxConcurrent=runs)
        for _ in range(runs):
            await board.start_run(await board.create_task(title="noise"))
        await _until_all(board, runs, lines=1)
        busy = memory_of(server.process.pid).pss
        cpu, began = _cpu_seconds(server.process.pid), time.monotonic()
        await asyncio.to_thread((folder / "go").touch)
        answers = []
        while time.monotonic() - began < seconds:
            asked = time.perf_counter()
            await client.ask(LOOK, {"id": board.id})
            answers.append(time.perf_counter() - asked)
            await asyncio.sleep(0.05)
        share = (_cpu_seconds(server.process.pid) - cpu) / (time.monotonic() - began)
        await _until_all(board, runs, lines=1 + lines)
    return answers, share, idle, busy


async def _until_all(board: Board, runs: int, *, lines: int) -> None:
    """Until so many lines of every run are kept."""
    async with asyncio.timeout(240):
        while True:
            found: Any = (await board.ask(LOOK, {"id": board.id}))["workspace"]["runs"]["nodes"]
            if sum(run["outputLines"] >= lines for run in found) == runs:
                return
            await asyncio.sleep(0.25)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _read(database: Path, *, expected: int, runs: int) -> list[float]:
    """How late each line was, after seeing that every one is there once."""
    lateness: list[float] = []
    seen: dict[str, list[int]] = {}
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT run_id, data, created_at FROM run_output ORDER BY run_id, first_line"
        )
        for run_id, data, created_at in rows:
            at = datetime.fromisoformat(created_at).replace(tzinfo=UTC).timestamp()
            for entry in json.loads(zlib.decompress(data)):
                if entry["s"] == "stdout" and entry["t"] != "ready":
                    written, number, _ = entry["t"].split(" ", 2)
                    lateness.append(at - float(written))
                    seen.setdefault(run_id, []).append(int(number))
    finally:
        connection.close()
    assert len(seen) == runs, len(seen)
    assert all(numbers == list(range(expected)) for numbers in seen.values())
    return lateness


def section(*, quick: bool) -> Section:
    """The figures of this machine as a part of the report."""
    seconds = 5.0 if quick else 20.0
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), seconds=seconds)
    each = (found.busy_mib - found.idle_mib) / RUNS
    return Section(
        "Fifty noisy runs",
        ["what", "p50", "p99", "most"],
        [
            ["a line is kept after, s", *_three(found.lateness, 1, 2)],
            ["GraphQL answers after, ms", *_three(found.answers, 1_000, 1)],
        ],
        [
            (
                f"{found.lines:,} lines of {RUNS} runs in {seconds:.0f} s, each of them kept once; "
                f"the server used {found.cpu_share:.0%} of a core, and {each:.2f} MiB for each run."
            ),
            "The runs themselves, their supervisors and the client shared the machine with it.",
        ],
    )


def _three(values: list[float], factor: float, digits: int) -> list[str]:
    shares = (0.5, 0.99, 1.0)
    return [f"{percentile(values, share) * factor:.{digits}f}" for share in shares]


if __name__ == "__main__":
    print(section(quick="--quick" in sys.argv).text())  # the module's voice
