"""The data set in databases: in our own tables on SQLite or PostgreSQL, and in the peers' tables.

Ours are the tables the server migrates, with everything an operation would have written beside the
rows: numbers of counters, kept totals, a log per workspace with one event per task.
"""

import asyncio
import hashlib
import json
import sqlite3
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import models
from benchmarks import dataset as data
from benchmarks import workloads as words
from benchmarks.dataset import EPOCH, Dataset, dataset
from benchmarks.workloads import our_id
from models.base import Record
from models.enums import TaskPriority, level_of
from models.transaction import Transaction
from resolvers.events import snapshot
from server.services import migrated_command_line_context
from server.settings import Settings

ROOT = Path(__file__).parents[1]
SITE_FOUNDED = EPOCH


def fingerprint() -> str:
    """Changes whenever the data set, its storing or the shape of our database does."""
    digest = hashlib.sha256()
    sources = [Path(__file__), Path(data.__file__), Path(words.__file__)]
    for path in (*sources, *sorted((ROOT / "migrations").rglob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


# --- our tables ---


async def store_in_ours(folder: Path, database_url: str | None = None) -> str:
    """Fill a fresh database of ours (a file in ``folder`` by default); the site owner's token."""
    from resolvers.users import create_first_user

    settings = Settings(data_dir=folder, database_url=database_url, sqlite_synchronous="NORMAL")
    async with migrated_command_line_context(settings) as ctx:
        _user, key = await create_first_user(ctx)
        async with ctx.services.database.write() as transaction:
            for model, rows in _our_rows(dataset()):
                await transaction.insert_many(model, rows)
            await _store_log(transaction)
    return key.secret


def _our_rows(rows: Dataset) -> Iterator[tuple[type[Any], Iterable[dict[str, Any]]]]:
    yield models.Workspace, (_workspace(row) for row in rows.workspaces)
    yield models.Counter, _counters(rows)
    yield models.EventStream, ({"id": our_id("workspace", w.id)} for w in rows.workspaces)
    yield models.Story, (_story(row) for row in rows.stories)
    yield models.Agent, (_agent(row) for row in rows.agents)
    yield models.Task, (_task(row) for row in rows.tasks)
    yield models.TaskTotal, _totals(rows)
    yield models.Run, (_run(row, rows) for row in rows.runs)


def _times(moment: datetime = SITE_FOUNDED) -> dict[str, datetime]:
    return {"created_at": moment, "updated_at": moment}


def _workspace(row: data.Workspace) -> dict[str, Any]:
    slug = f"workspace-{row.id}"
    identity = {"id": our_id("workspace", row.id), "number": row.id, "slug": slug}
    return {**identity, "name": row.name, **_times()}


def _counters(rows: Dataset) -> Iterator[dict[str, Any]]:
    yield {"scope": models.SITE_STREAM, "name": "workspace", "value": len(rows.workspaces)}
    for name, kept in (("story", rows.stories), ("task", rows.tasks)):
        for number, count in Tally(row.workspace for row in kept).items():
            yield {"scope": our_id("workspace", number), "name": name, "value": count}


def _story(row: data.Story) -> dict[str, Any]:
    identity = {"id": our_id("story", row.id), "workspace_id": our_id("workspace", row.workspace)}
    number = (row.id - 1) % data.STORIES_EACH + 1
    return {**identity, "number": number, "title": row.title, **_times()}


def _agent(row: data.Agent) -> dict[str, Any]:
    identity = {"id": our_id("agent", row.id), "workspace_id": our_id("workspace", row.workspace)}
    status = words.OUR_AGENT_STATUS[row.status]
    return {**identity, "name": row.name, "status": status, **_times()}


def _task(row: data.Task) -> dict[str, Any]:
    return {
        "id": our_id("task", row.id),
        "public_id": f"t{row.id:011d}",
        "workspace_id": our_id("workspace", row.workspace),
        "number": row.position + 1,
        "story_id": row.story and our_id("story", row.story),
        "agent_id": row.agent and our_id("agent", row.agent),
        "title": row.title,
        "description": row.description,
        "status": words.OUR_STATUS[row.status],
        "priority_level": level_of(TaskPriority(words.OUR_PRIORITY[row.priority])),
        "position": float(row.position),
        "labels": list(row.labels),
        "story_points": row.estimate,
        "branch": row.branch,
        "due_at": row.due_at,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _totals(rows: Dataset) -> Iterator[dict[str, Any]]:
    for (workspace, status), total in Tally((t.workspace, t.status) for t in rows.tasks).items():
        key = {"workspace_id": our_id("workspace", workspace), "archived": False}
        yield {**key, "status": words.OUR_STATUS[status], "total": total}


def _run(row: data.Run, rows: Dataset) -> dict[str, Any]:
    task = rows.tasks[row.task - 1]
    return {
        "id": our_id("run", row.id),
        "public_id": f"r{row.id:011d}",
        "workspace_id": our_id("workspace", task.workspace),
        "task_id": our_id("task", row.task),
        "executor": "CUSTOM",
        # Driven by their client: the server neither dispatches nor adopts them.
        "managed": False,
        "status": words.OUR_RUN_STATUS[row.status],
        "progress": round(row.progress * 1000),
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        **_times(EPOCH + timedelta(seconds=row.id)),
    }


async def _store_log(transaction: Transaction) -> None:
    """One ``task.created`` for each task, as createTask writes it."""
    from models.transaction import select_all

    tasks: Sequence[Any] = await transaction.records(models.Task, select_all(models.Task))
    events: list[dict[str, Any]] = []
    for task in sorted(tasks, key=lambda task: (task.workspace_id, task.number)):
        assert isinstance(task, Record)
        events.append(
            {
                "stream_id": task.workspace_id,
                "seq": task.number,
                "epoch": 1,
                "type": "task.created",
                "entity_type": "task",
                "entity_id": task.id,
                "actor_type": "system",
                "actor_name": "system",
                "payload": {"task": snapshot(task)},
                "at": task.created_at,
            }
        )
    await transaction.insert_many(models.Event, events)
    per_workspace = data.TASKS // data.WORKSPACES
    for workspace in dataset().workspaces:
        await transaction.update_by_id(
            models.EventStream, our_id("workspace", workspace.id), seq=per_workspace
        )


# --- the peers' tables ---

PEER_TABLES = """
CREATE TABLE workspace (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE story (id INTEGER PRIMARY KEY, workspace_id INTEGER NOT NULL, title TEXT NOT NULL);
CREATE TABLE agent (id INTEGER PRIMARY KEY, workspace_id INTEGER NOT NULL, name TEXT NOT NULL,
  status TEXT NOT NULL);
CREATE TABLE task (id INTEGER PRIMARY KEY, workspace_id INTEGER NOT NULL, story_id INTEGER,
  agent_id INTEGER, title TEXT NOT NULL, description TEXT NOT NULL, status TEXT NOT NULL,
  priority TEXT NOT NULL, position INTEGER NOT NULL, labels TEXT NOT NULL, estimate REAL,
  branch TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, due_at TEXT);
CREATE TABLE run (id INTEGER PRIMARY KEY, task_id INTEGER NOT NULL, status TEXT NOT NULL,
  progress REAL NOT NULL, started_at TEXT NOT NULL, finished_at TEXT);
CREATE TABLE event (id INTEGER PRIMARY KEY, task_id INTEGER NOT NULL,
  workspace_id INTEGER NOT NULL, kind TEXT NOT NULL, payload TEXT NOT NULL,
  created_at TEXT NOT NULL);
CREATE INDEX ix_story_workspace ON story (workspace_id);
CREATE INDEX ix_agent_workspace ON agent (workspace_id);
CREATE INDEX ix_task_board ON task (workspace_id, position, id);
CREATE INDEX ix_run_task ON run (task_id, id);
"""


def store_in_peers(path: Path) -> None:
    """The leanest tables the workloads can be served from: integer keys, only what is asked for."""
    rows = dataset()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(PEER_TABLES)

    def insert(table: str, values: Iterable[tuple[Any, ...]], count: int) -> None:
        places = ", ".join("?" * count)
        connection.executemany(f"INSERT INTO {table} VALUES ({places})", values)

    insert("workspace", ((w.id, w.name) for w in rows.workspaces), 2)
    insert("story", ((s.id, s.workspace, s.title) for s in rows.stories), 3)
    insert("agent", ((a.id, a.workspace, a.name, a.status) for a in rows.agents), 4)
    insert("task", (_peer_task(task) for task in rows.tasks), 15)
    insert(
        "run",
        (
            (r.id, r.task, r.status, r.progress, _text(r.started_at), _text(r.finished_at))
            for r in rows.runs
        ),
        6,
    )
    connection.commit()
    connection.execute("ANALYZE")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _peer_task(task: data.Task) -> tuple[Any, ...]:
    identity = (task.id, task.workspace, task.story, task.agent, task.title, task.description)
    place = (task.status, task.priority, task.position, json.dumps(task.labels), task.estimate)
    times = (_text(task.created_at), _text(task.updated_at), _text(task.due_at))
    return (*identity, *place, task.branch, *times)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S.%f}"


if __name__ == "__main__":
    import sys

    print(asyncio.run(store_in_ours(Path(sys.argv[1]))))
