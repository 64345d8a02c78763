"""Part w4: one event, two hundred subscribers, two hundred events a second.

Published by moving tasks at fixed due times. Every subscriber has to get every event once, in
order; anything else ends the measurement.
"""

import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.candidates import SQLITE, Candidate, make
from benchmarks.dataset import dataset
from benchmarks.processes import cores
from benchmarks.report import Section, at_least, at_most
from benchmarks.subscribers import Job, Seen
from benchmarks.workloads import DRAGOMAN, OUR_STATUS, our_id

ROOT = Path(__file__).parents[1]
OURS = "dragoman"
CANDIDATES = (OURS, "mercurius-dl")
WORKSPACE = 1
ROUNDS = 3
SECONDS = 10.0
TITLE = "200 moves a second to 200 subscribers over WebSockets"
HEAD = [
    "server",
    "messages/s",
    "delivered",
    "CPU µs per message",
    "ours is better by",
    "without the moves",
    "ours is better by",
    "p50 ms",
    "p99 ms",
]
FIGURES = (
    "CPU of the server's process tree, moves included, per delivered message; beside it without "
    "what as many moves cost with nobody listening. 40,000 messages/s are due; latency counts from "
    "the due time of the move. Delivered: also what came in the ten seconds after."
)

OUR_EVENTS = """subscription E($ws: ID!) { events(workspaceId: $ws) { __typename
  ... on Event { seq type at task { id title status priority updatedAt } } } }"""
THEIR_EVENTS = """subscription E($ws: ID!) { taskEvents(workspaceId: $ws) {
  id kind at task { id title status priority updatedAt } } }"""


@dataclass(frozen=True, slots=True)
class Fanout:
    """One slice: with subscribers, and the moves alone."""

    seen: Seen
    alone: Seen

    @property
    def micros(self) -> float:
        """CPU microseconds per delivered message, moves included."""
        return self.seen.cpu / max(1, self.seen.delivered) * 1e6

    @property
    def micros_of_delivery(self) -> float:
        """The same without what the moves cost when nobody listens."""
        moves = self.alone.cpu / max(1, self.alone.published) * self.seen.published
        return (self.seen.cpu - moves) / max(1, self.seen.delivered) * 1e6


def job_of(candidate: Candidate, **changes: Any) -> Job:
    """The load of W4 for a candidate."""
    ours = candidate.spelling is DRAGOMAN
    workspace = our_id("workspace", WORKSPACE) if ours else str(WORKSPACE)
    return Job(
        url=candidate.url,
        pids=candidate.pids(),
        subscription={
            "query": OUR_EVENTS if ours else THEIR_EVENTS,
            "variables": {"ws": workspace},
        },
        marker='"seq":' if ours else '"taskEvents":{"id":"',
        moves=[json.dumps(candidate.spelling.move(*one)) for one in _moves()],
        tokens=[candidate.token] if candidate.token else [],
        **changes,
    )


def _moves() -> list[tuple[int, str]]:
    """A circle of moves in one workspace; each changes something."""
    tasks = [task for task in dataset().tasks if task.workspace == WORKSPACE]
    words = list(OUR_STATUS)
    turns = range(1, len(words) + 1)
    return [
        (t.id, words[(words.index(t.status) + turn) % len(words)]) for turn in turns for t in tasks
    ]


def measure(job: Job) -> Seen:
    """Run the load in a process of its own, on the load's cores."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.subscribers"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.sched_setaffinity(process.pid, cores()[1])
    output, _ = process.communicate(json.dumps(dataclasses.asdict(job)))
    if process.returncode != 0 or not output:
        raise SystemExit("the load failed")
    seen = Seen(**json.loads(output))
    if seen.problems:
        raise SystemExit(f"{job.url}: {seen.problems}")
    return seen


def compare(
    names: list[str], *, rounds: int = ROUNDS, seconds: float = 10.0
) -> dict[str, list[Fanout]]:
    """Slices of each candidate in turn, another first in each round."""
    results: dict[str, list[Fanout]] = {name: [] for name in names}
    with ExitStack() as running:
        candidates = make(SQLITE, names)
        running.callback(shutil.rmtree, candidates[0].folder.parent, ignore_errors=True)
        for candidate in candidates:
            running.callback(candidate.stop)
            candidate.start()
        for turn in range(rounds):
            for one in candidates[turn % len(names) :] + candidates[: turn % len(names)]:
                begin = results[one.name][-1].seen.offset if results[one.name] else 0
                alone = measure(job_of(one, subscribers=0, seconds=seconds / 2, offset=begin))
                seen = measure(job_of(one, seconds=seconds, offset=alone.offset))
                results[one.name].append(Fanout(seen, alone))
    return results


def section(*, quick: bool) -> Section:
    """The comparison as a part of the report."""
    rounds, seconds = (1, 4.0) if quick else (ROUNDS, SECONDS)
    results = compare(CANDIDATES, rounds=rounds, seconds=seconds)
    ours = results[OURS]
    rows = [_row(name, slices, ours) for name, slices in results.items()]
    how = f"{rounds} rounds of {seconds:g} s after 3 s of warm-up each; one token for all of ours."
    targets = [
        at_least(
            "of 40,000 messages/s in time, %", 100 * statistics.median(map(_in_time, ours)), 99
        ),
        at_least("times less CPU than mercurius-dl", _better(results["mercurius-dl"], ours), 3.5),
        at_most("p99", statistics.median(one.seen.p99 for one in ours) * 1000, 100, " ms"),
    ]
    return Section(f"W4: {TITLE}", HEAD, rows, [FIGURES, how], targets)


def _in_time(one: Fanout) -> float:
    return one.seen.delivered_in_time / max(1, one.seen.expected)


def _better(slices: list[Fanout], ours: list[Fanout]) -> float:
    return statistics.median(s.micros / o.micros for s, o in zip(slices, ours, strict=True))


def _row(name: str, slices: list[Fanout], ours: list[Fanout]) -> list[str]:
    def middle(figure: Callable[[Fanout], float]) -> float:
        return statistics.median(map(figure, slices))

    delivery = statistics.median(
        s.micros_of_delivery / o.micros_of_delivery for s, o in zip(slices, ours, strict=True)
    )
    is_ours = slices is ours
    return [
        SQLITE[name].about,
        f"{middle(lambda s: s.seen.delivered_in_time / s.seen.seconds):,.0f}",
        f"{middle(lambda s: s.seen.delivered / max(1, s.seen.expected)):.1%}",
        f"{middle(lambda s: s.micros):.1f}",
        "" if is_ours else f"{_better(slices, ours):.2f}",
        f"{middle(lambda s: s.micros_of_delivery):.1f}",
        "" if is_ours else f"{delivery:.2f}",
        f"{middle(lambda s: s.seen.p50 * 1000):,.0f}",
        f"{middle(lambda s: s.seen.p99 * 1000):,.0f}",
    ]
