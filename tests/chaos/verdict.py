"""What must hold after a storm, by the clients' journals and the database's rows."""

import json
from collections import Counter
from typing import Any

from subscriptions.cursor import decode_cursor
from tests.chaos.journal import Entry
from tests.chaos.people import MadeRun, Seen
from tests.chaos.records import Records
from tests.chaos.storm import Storm
from tests.support.board import Board
from tests.support.clients import HttpClient

TASKS = "SELECT id, title, number, version, labels FROM task"
EVENT = "SELECT seq, type, entity_id, stream_id FROM event WHERE stream_id = '{}' ORDER BY seq"


async def judge(storm: Storm) -> dict[str, int]:
    """Raise AssertionError for whatever went wrong; else figures of what was survived."""
    records = Records(storm.server)
    journal = [entry for writer in _everybody(storm) for entry in writer.journal]
    log = [
        Seen(row["seq"], row["type"], row["entity_id"])
        for row in await records.rows(EVENT.format(storm.workspace_id))
    ]
    await _judge_logs(records)
    _judge_watchers(storm, log)
    _judge_answers(journal)
    await _judge_effects(records, storm, journal, log)
    await _judge_runs(records, storm)
    storm.server.await_no_run_processes()
    assert storm.server.complaints() == []
    repeated = sum(entry.attempts > len(entry.answers) for entry in journal)
    return {
        "kills": storm.kills,
        "starts": storm.server.starts,
        "requests": len(journal),
        "of them repeated": repeated,
        "events": len(log),
        "connections of watchers": sum(w.connections for w in storm.watchers),
        "runs": sum(len(maker.runs) for maker in storm.makers),
    }


def _everybody(storm: Storm) -> list[Any]:
    return [*storm.writers, *(maker.writer for maker in storm.makers)]


async def _judge_logs(records: Records) -> None:
    """Numbers of every log are contiguous from 1 to its head; no number was given twice."""
    for stream in await records.rows("SELECT id, seq, floor FROM event_stream"):
        numbers = [row["seq"] for row in await records.rows(EVENT.format(stream["id"]))]
        assert numbers == list(range(1, stream["seq"] + 1)), stream


def _judge_watchers(storm: Storm, log: list[Seen]) -> None:
    """What each subscriber got over all its connections is the log after its first cursor."""
    begin = decode_cursor(storm.start).seq
    for number, watcher in enumerate(storm.watchers):
        assert watcher.seen == log[begin:], f"watcher {number} over {watcher.over}"


def _judge_answers(journal: list[Entry]) -> None:
    """Everything was acknowledged, and every repetition was answered like the first time."""
    for entry in journal:
        assert entry.is_acknowledged, entry
        first = entry.answers[0]
        for answer in entry.answers[1:]:
            assert answer.get("data") == first.get("data"), entry
            assert _codes(answer) == _codes(first), entry
        expected = ["ILLEGAL_TRANSITION"] if entry.kind == "refused" else []
        assert _codes(first) == expected, entry


def _codes(answer: dict[str, Any]) -> list[str]:
    return [error["extensions"]["code"] for error in answer.get("errors") or []]


async def _judge_effects(
    records: Records, storm: Storm, journal: list[Entry], log: list[Seen]
) -> None:
    """One effect for each key: rows, their versions, their events and the cursors agree."""
    tasks = await records.rows(f"{TASKS} WHERE workspace_id = '{storm.workspace_id}'")
    wanted = Counter(title for entry in journal for title in entry.titles)
    assert Counter(task["title"] for task in tasks) == wanted
    assert sorted(task["number"] for task in tasks) == list(range(1, len(tasks) + 1))
    by_id = {task["id"]: task for task in tasks}
    by_seq = {event.seq: event for event in log}
    changes: Counter[str] = Counter()
    for entry in journal:
        changes.update(entry.touched)
        for task, cursor in entry.created():
            position = decode_cursor(cursor)
            assert position.stream == storm.workspace_id
            assert by_seq[position.seq][1:] == ("task.created", task["id"]), entry
            stored = by_id[task["id"]]
            assert (stored["title"], stored["number"]) == (task["title"], task["number"])
        if entry.kind == "bulk":
            [label] = entry.variables["input"]["labels"]
            for task_id in entry.touched:
                assert json.loads(by_id[task_id]["labels"]).count(label) == 1
    of_runs = {run.task_id for maker in storm.makers for run in maker.runs}
    for task in tasks:
        if task["id"] not in of_runs:
            assert task["version"] == 1 + changes[task["id"]], task
    created = Counter(event.entity_id for event in log if event.type == "task.created")
    assert created == Counter(list(by_id))
    updated = Counter(event.entity_id for event in log if event.type == "task.updated")
    for task_id, count in changes.items():
        assert updated[task_id] == count
    unsettled = await records.rows("SELECT key FROM idempotency_record WHERE NOT done")
    assert unsettled == []


async def _judge_runs(records: Records, storm: Storm) -> None:
    """No run is stuck; what a run printed is in its log, line for line, once.

    A run that was claimed when the server was killed, and not started, waits again; only after many
    such kills it ends as interrupted.
    """
    made = [run for maker in storm.makers for run in maker.runs]
    rows = {
        row["id"]: row for row in await records.rows("SELECT id, status, reason, task_id FROM run")
    }
    assert set(rows) == {run.run_id for run in made}
    begun = Counter(row["task_id"] for row in rows.values())
    assert set(begun.values()) <= {1}
    async with HttpClient(storm.server.url, storm.server.token) as client:
        board = Board(client, storm.workspace_id, storm.server.data_dir)
        completed = [await _judge_run(board, run, rows[run.run_id]) for run in made]
    assert any(completed) or not completed


async def _judge_run(board: Board, run: MadeRun, row: dict[str, Any]) -> bool:
    output = await board.output({"id": run.run_id})
    printed = [text for stream, text in output if stream == "stdout"]
    assert run.streamed == printed, run.run_id
    task = await board.task({"id": run.task_id})
    if row["reason"] == "interrupted":
        assert (row["status"], printed, task["status"]) == ("FAILED", [], "FAILED"), row
        return False
    assert (row["status"], task["status"]) == ("COMPLETED", "REVIEW"), row
    assert printed == run.expected, run.run_id
    assert task["filesChanged"] == 1
    return True
