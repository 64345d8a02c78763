"""Parts w1, w2, w3 and postgresql: requests over HTTP beside the peers, as tables."""

import shutil
import statistics
from collections.abc import Callable, Sequence

from benchmarks import candidates as servers
from benchmarks.compare import Measured, Result, Times, compare
from benchmarks.load import CONNECTIONS, generator
from benchmarks.report import Section, at_least

TITLES = {
    "w1": "W1: a board page of 100 tasks with story, agent and newest run",
    "w2": "W2: one task with its five newest runs",
    "w3": "W3: moving a task",
}
FULL = Times(rounds=3, warm_up=5.0, slice=5.0)
QUICK = Times(rounds=1, warm_up=1.0, slice=2.0)
OURS = "dragoman"
AIMS: dict[str, dict[str, float]] = {
    "w1": {"mercurius-dl": 1.25, "mercurius-equal": 1.5, "strawberry-naive": 25},
    "w2": {"mercurius-dl": 0.8, "mercurius-equal": 1},
    "w3": {"mercurius-dl": 0.5, "mercurius-equal": 0.8},
    "w1-postgresql": {"asyncpg-floor": 0.6},
}
"""By part: how many times less CPU than a peer it shall take."""
HEAD = [
    "server",
    "CPU ms per request",
    "ours is better by",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "bytes",
]
FIGURES = (
    "CPU of the whole process tree by the scheduler's count. “Better”: how many times less CPU "
    "Dragoman takes, the median of the ratios within each round. Every server has answered the "
    "same checks with equal content; no request failed."
)
DURABILITY = (
    "A move is on the disk when it is answered only with synchronous=FULL, the default; the "
    "peers' NORMAL may lose the last moves in a power cut, so the ratio is NORMAL against NORMAL."
)


def measure(
    workloads: Sequence[str],
    *,
    database: str = "sqlite",
    peers: Sequence[str] | None = None,
    times: Times = FULL,
    tell: Callable[[str], None] = print,
) -> dict[str, Section]:
    """Compare our server with the peers; one section per workload.

    Args:
        workloads: of ``w1``, ``w2``, ``w3``.
        database: ``sqlite`` or ``postgresql``.
        peers: by name; all by default.
        times: rounds and slices.
        tell: takes lines of progress.
    """
    kinds = servers.SQLITE if database == "sqlite" else servers.POSTGRESQL
    variants = [name for name in kinds if name.startswith(OURS)]
    chosen = [
        name
        for name, kind in kinds.items()
        if (name in variants or peers is None or name in peers)
        and set(kind.workloads) & set(workloads)
    ]
    running = servers.make(kinds, chosen)
    folder = running[0].folder.parent
    try:
        results = compare(running, workloads, times, folder=folder, tell=tell)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    about = {candidate.name: candidate.about for candidate in running}
    return {result.workload: _section(result, about, times, database) for result in results}


def _section(result: Result, about: dict[str, str], times: Times, database: str) -> Section:
    ours = result.measured[OURS]
    rows = [_row(about[name], found, ours) for name, found in result.measured.items() if found]
    how = (
        f"{times.rounds} rounds of {times.slice:g} s after {times.warm_up:g} s of warm-up each, "
        f"{CONNECTIONS} connections, load by {generator()}."
    )
    notes = [FIGURES, how]
    if result.workload == "w3" and database == "sqlite":
        notes.insert(1, DURABILITY)
    title = TITLES[result.workload]
    if database == "postgresql":
        title += ", PostgreSQL"
        notes.insert(1, "The CPU of the database server's processes is added.")
    part = result.workload if database == "sqlite" else f"{result.workload}-{database}"
    targets = [
        at_least(f"times less CPU than {peer}", _ratio(result.measured[peer], ours), aim)
        for peer, aim in AIMS.get(part, {}).items()
        if result.measured.get(peer)
    ]
    return Section(title, HEAD, rows, notes, targets)


def _ratio(found: Sequence[Measured], ours: Sequence[Measured]) -> float:
    return statistics.median(f.cpu_ms / o.cpu_ms for f, o in zip(found, ours, strict=True))


def _row(about: str, found: Sequence[Measured], ours: Sequence[Measured]) -> list[str]:
    def median(read: Callable[[Measured], float]) -> float:
        return statistics.median(read(one) for one in found)

    return [
        about,
        f"{median(lambda m: m.cpu_ms):.3f}",
        "1" if found is ours else f"{_ratio(found, ours):.2f} x",
        f"{median(lambda m: m.slice.requests / m.slice.seconds):.0f}",
        f"{median(lambda m: m.slice.p50) * 1000:.1f}",
        f"{median(lambda m: m.slice.p99) * 1000:.1f}",
        f"{median(lambda m: m.slice.size):.0f}",
    ]
