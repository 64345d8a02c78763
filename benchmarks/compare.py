"""Candidates side by side: equal content first, then load in short alternating slices."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.candidates import Candidate
from benchmarks.load import CONNECTIONS, Slice, load
from benchmarks.workloads import CYCLE, Check, bodies, expected_task, moved, read_checks

SIGHTS = 3
"""How often each check is made: compiled plans often begin at a document's second sight."""


class DifferentContentError(Exception):
    """A candidate does not answer what the data set says."""


class FailedRequestsError(Exception):
    """Requests failed under load, or moves wrote nothing: a fast error looks like a fast server."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long the load lasts; seconds."""

    rounds: int = 3
    warm_up: float = 5.0
    slice: float = 5.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One slice of one candidate."""

    slice: Slice
    cpu: float

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per request."""
        return self.cpu / max(1, self.slice.requests) * 1000


@dataclass(slots=True)
class Result:
    """A workload's slices: one list per candidate, one entry per round."""

    workload: str
    measured: dict[str, list[Measured]] = field(default_factory=dict)


def ask(candidate: Candidate, request: dict[str, Any]) -> dict[str, Any]:
    """The data of an answer; raises ``DifferentContentError`` for errors."""
    body = json.dumps(request).encode()
    asked = urllib.request.Request(candidate.url, body, candidate.headers)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            parsed = json.load(answer)
    except urllib.error.HTTPError as error:
        raise DifferentContentError(f"{candidate.name}: {error} {error.read()[:300]!r}") from None
    if parsed.get("errors") or not isinstance(parsed.get("data"), dict):
        raise DifferentContentError(f"{candidate.name}: {str(parsed)[:500]}")
    data: dict[str, Any] = parsed["data"]
    return data


def check_content(candidate: Candidate) -> int:
    """Compare a candidate's answers with the data set; how many were compared.

    Raises:
        DifferentContentError: naming the first difference.
    """
    compared = 0
    for check in read_checks(candidate.spelling):
        for _ in range(SIGHTS):
            _compare(candidate, check)
            compared += 1
    if "w3" in candidate.workloads:
        compared += _check_moves(candidate)
    return compared


def _compare(candidate: Candidate, check: Check, *, but: Sequence[str] = ()) -> None:
    found = candidate.spelling.normal(ask(candidate, check.request))
    for left_out in but:
        if found["task"][left_out] is None:
            raise DifferentContentError(f"{candidate.name}: {left_out} is missing")
        found["task"][left_out] = check.expected["task"][left_out]
    if found != check.expected:
        difference = _first_difference(found, check.expected)
        raise DifferentContentError(f"{candidate.name}: {check.request['variables']} {difference}")


def _check_moves(candidate: Candidate) -> int:
    """Eight moves, each read back; each writes one event."""
    indexes = range(0, 40, 5)
    for index in indexes:
        task, status = moved(index)
        before = candidate.events()
        answered = candidate.spelling.normal(ask(candidate, candidate.spelling.move(task, status)))
        if answered["moved"] != [task, status] or answered["at"] is None:
            raise DifferentContentError(f"{candidate.name}: {answered}")
        check = Check(candidate.spelling.one(task), expected_task(task, status=status))
        _compare(candidate, check, but=["updatedAt"])
        if candidate.events() != before + 1:
            raise DifferentContentError(f"{candidate.name}: a move wrote no event, or several")
    return len(indexes)


def _first_difference(found: Any, expected: Any, path: str = "") -> str:
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        pairs = [(f"{path}.{key}", found[key], expected[key]) for key in found]
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = [
            (f"{path}[{i}]", *both) for i, both in enumerate(zip(found, expected, strict=True))
        ]
    else:
        return f"{path}: {found!r} instead of {expected!r}"
    return next(_first_difference(f, e, p) for p, f, e in pairs if f != e)


class Load:
    """Asks one workload of one candidate, going on where it stopped."""

    def __init__(self, candidate: Candidate, workload: str, folder: Path) -> None:
        self.candidate = candidate
        self.workload = workload
        self.bodies = folder / f"{candidate.name}-{workload}.txt"
        self.bodies.write_text("\n".join(bodies(candidate.spelling, workload)) + "\n")
        # The checks have made some of the first moves already: begin with the next turn.
        self.offset = CYCLE

    def run(self, seconds: float) -> Measured:
        """One slice.

        Raises:
            FailedRequestsError: an answer was an error, or a move wrote no event.
        """
        candidate = self.candidate
        events = candidate.events() if self.workload == "w3" else 0
        cpu = candidate.cpu()
        seen = load(
            candidate.url, candidate.headers, self.bodies, seconds=seconds, offset=self.offset
        )
        cpu = candidate.cpu() - cpu
        # Those in flight at the end may have been served: their moves are not repeated.
        self.offset += seen.requests + 2 * CONNECTIONS
        if seen.failed or not seen.requests:
            raise FailedRequestsError(
                f"{candidate.name}, {self.workload}: {seen.failed} of {seen.requests} requests "
                f"failed; {seen.example}"
            )
        if self.workload == "w3" and (wrote := candidate.events() - events) < seen.requests:
            raise FailedRequestsError(
                f"{candidate.name}: {seen.requests} moves wrote only {wrote} events"
            )
        return Measured(seen, cpu)


def compare(
    candidates: Sequence[Candidate],
    workloads: Sequence[str],
    times: Times,
    *,
    folder: Path,
    tell: Callable[[str], None] = print,
) -> list[Result]:
    """Start the candidates, check their content, and load them in turn.

    In each round another candidate goes first; each slice follows a warm-up of its own.
    """
    with ExitStack() as running:
        for candidate in candidates:
            running.callback(candidate.stop)
            candidate.start()
            tell(f"{candidate.name}: {check_content(candidate)} answers are equal")
        return [
            _measure([c for c in candidates if workload in c.workloads], workload, times, folder)
            for workload in workloads
        ]


def _measure(candidates: Sequence[Candidate], workload: str, times: Times, folder: Path) -> Result:
    result = Result(workload, {candidate.name: [] for candidate in candidates})
    loads = [Load(candidate, workload, folder) for candidate in candidates]
    for turn in range(times.rounds):
        for one in loads[turn % len(loads) :] + loads[: turn % len(loads)]:
            if times.warm_up:
                one.run(times.warm_up)
            result.measured[one.candidate.name].append(one.run(times.slice))
    return result
