"""The parts of the benchmarks work: data, equality check, CPU meter, load generator, report."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import candidates, compare, load, queries, report, workloads
from benchmarks.candidates import Candidate
from benchmarks.compare import DifferentContentError, FailedRequestsError, Load, check_content
from benchmarks.processes import cpu_seconds
from benchmarks.workloads import DRAGOMAN, PEERS

PREPARED = candidates.place()
"""Where ``python -m benchmarks --prepare`` puts the Node peers' packages: tests fetch none."""


@pytest.fixture(scope="module")
def bench_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    before = os.environ.get("BENCH_HOME")
    folder = tmp_path_factory.mktemp("bench")
    if (PREPARED / "node_modules").is_dir():
        (folder / "node_modules").symlink_to(PREPARED / "node_modules")
        shutil.copyfile(PREPARED / "package.json", folder / "package.json")
    os.environ["BENCH_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["BENCH_HOME"]
    else:
        os.environ["BENCH_HOME"] = before


@pytest.fixture
def started(bench_home: Path, request: pytest.FixtureRequest) -> Iterator[Candidate]:
    name, kinds = request.param
    (candidate,) = candidates.make(kinds, [name])
    candidate.start()
    yield candidate
    candidate.stop()
    shutil.rmtree(candidate.folder.parent)


NODE = pytest.mark.skipif(
    not (PREPARED / "node_modules").is_dir(), reason="needs: python -m benchmarks --prepare"
)
ALL = [
    pytest.param((name, kinds), id=f"{name}-{database}", marks=marks)
    for database, kinds in (("sqlite", candidates.SQLITE), ("postgresql", candidates.POSTGRESQL))
    for name in kinds
    for marks in [[NODE] if name.startswith("mercurius") else []]
]


@pytest.mark.long
@pytest.mark.parametrize("started", ALL, indirect=True)
def test_a_candidate_answers_what_the_data_set_says(started: Candidate) -> None:
    assert check_content(started) > 80


@pytest.mark.long
@pytest.mark.parametrize(
    "started", [pytest.param(("dragoman", candidates.SQLITE), id="dragoman")], indirect=True
)
def test_load_counts_what_was_served(
    started: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Load(started, "w3", tmp_path)
    for generator in sorted({load.generator(), "benchmarks.load"}):
        monkeypatch.setattr(load, "generator", lambda chosen=generator: chosen)
        found = one.run(1.0)
        assert found.slice.requests > 0
        assert 0 < found.slice.p50 <= found.slice.p99
        assert 0 < found.cpu < found.slice.seconds * (os.cpu_count() or 1)
    started.token = "dgm_wrong"
    with pytest.raises(FailedRequestsError, match="UNAUTHENTICATED"):
        one.run(1.0)
    with pytest.raises(DifferentContentError, match="401"):
        check_content(started)


def test_a_difference_is_named() -> None:
    expected = workloads.expected_board(1, 2)
    other = workloads.expected_board(1, 2)
    other["workspace"]["tasks"][1]["title"] = "another"
    difference = compare._first_difference(other, expected)
    assert difference.startswith(".workspace.tasks[1].title: 'another' instead of ")


def test_every_move_of_a_load_changes_something() -> None:
    now = {task.id: task.status for task in workloads.dataset().tasks}
    for index in range(3 * workloads.CYCLE * 4):
        task, status = workloads.moved(index)
        assert now[task] != status
        now[task] = status


@pytest.mark.parametrize("spelling", [PEERS, DRAGOMAN])
def test_a_cycle_of_moves_closes(spelling: workloads.Spelling) -> None:
    lines = list(workloads.bodies(spelling, "w3"))
    assert json.loads(lines[0]) == spelling.move(*workloads.moved(len(lines)))


def test_cpu_of_descendants_counts() -> None:
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    child = f"subprocess.Popen([sys.executable, '-S', '-c', '''{burn}'''])"
    program = f"import subprocess, sys, time\n{child}\nprint(flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + 20
        while cpu_seconds([process.pid]) < 0.25 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert cpu_seconds([process.pid]) >= 0.25
        process.kill()


def test_the_page_is_what_the_results_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.PAGE.read_text() == report._page(json.loads(report.RESULTS.read_text()))
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(report, "PAGE", tmp_path / "performance.md")
    section = report.Section("Some part", ["what", "found"], [["a", "1"]], ["A note."])
    report.keep("w2", section, order=["w1", "w2"])
    targets = [report.at_least("speed", 1.2, 1.25), report.at_most("memory", 90, 120, " MiB")]
    first = report.Section("First part", ["what"], [["b"]], targets=targets)
    report.keep("w1", first, order=["w1", "w2"])
    page = (tmp_path / "performance.md").read_text()
    assert page.index("## First part") < page.index("## Some part")
    assert "| a | 1 |" in page
    assert "Python 3" in page
    assert "| w1 | speed | ≥ 1.25 | 1.20 | **missed** |" in page
    assert "| w1 | memory | ≤ 120 MiB | 90.00 MiB | met |" in page


def test_ratios_are_medians_within_rounds() -> None:
    def measured(cpu_ms: float) -> compare.Measured:
        return compare.Measured(load.Slice(1000, 0, 5.0, 100.0, 0.001, 0.002), cpu_ms)

    ours, theirs = ([measured(ms) for ms in row] for row in ((1.0, 2.0, 4.0), (2.0, 5.0, 4.0)))
    row = queries._row("theirs", theirs, ours)
    assert row[1:3] == ["4.000", "2.00 x"]
