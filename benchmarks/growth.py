"""Part growth: what a page costs where a workspace has ten thousand tasks, and a million.

Tasks and events are written by SQL, everything else by the server. SQLite.
"""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.processes import cpu_seconds
from benchmarks.report import Section
from tests.support.board import create_board, make_repository
from tests.support.clients import HttpClient
from tests.support.server import a_server

SIZES = (10_000, 1_000_000)
QUICK = (2_000, 100_000)
TIMES = 20
SIGHTS = 2  # until a document is compiled
WORD, NEEDLE, NOTHING = "common", "needle", "nowhere at all"

TASK = """id title status priority position labels updatedAt story { id title }
  agent { id name status } latestRun { id status progress }"""
PAGE = "totalCount pageInfo { hasNextPage endCursor } nodes { %s }"
LIST = """query ($id: ID!, $filter: TaskFilter, $order: TaskOrder, $last: Int, $first: Int) {
  tasks(workspaceId: $id, filter: $filter, orderBy: $order, first: $first, last: $last) {
    PAGE } }""".replace("PAGE", PAGE % TASK)
SEARCH = """query ($id: ID!, $words: String!) {
  search(workspaceId: $id, query: $words) { tasks { id title } stories { id } } }"""
EVENTS = """query ($id: ID!, $entity: ID) { events(workspaceId: $id, entityId: $entity, first: 50) {
  pageInfo { endCursor } nodes { seq type at task { title } } } }"""
MOVE = """mutation ($task: ID!, $status: TaskStatus!) {
  moveTask(input: {id: $task, status: $status}) { task { id status position } cursor } }"""
CREATE = """mutation ($id: ID!) {
  createTask(input: {workspaceId: $id, title: "new"}) { task { id number } } }"""

Case = tuple[str, str, Mapping[str, Any]]


def _id(number: int) -> str:
    return f"00000007-0000-4000-8000-{number:012x}"


def fill(path: Path, workspace: str, size: int) -> None:
    """Make copies of a workspace's one task and of its last event until there are `size`."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    first = "2026-01-01 00:00:00.000000"
    moment = f"strftime('%Y-%m-%d %H:%M:%f', '{first}', '+' || i || ' seconds') || '000'"
    own = {
        "id": "printf('00000007-0000-4000-8000-%012x', i)",
        "public_id": "printf('%012d', i)",
        "number": "i",
        "position": "i",
        "title": f"'task ' || i || ' {WORD}' || iif(i % 4999 = 7, ' {NEEDLE}', '')",
        "description": "'what is to be done in step ' || i || ' of the work, and why it matters'",
        "status": "CASE i % 4 WHEN 0 THEN 'BACKLOG' WHEN 1 THEN 'REVIEW' "
        "WHEN 2 THEN 'COMPLETED' ELSE 'PAUSED' END",
        "priority_level": "i % 10",
        "created_at": moment,
        "updated_at": moment,
    }
    series = f"SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {size}"
    numbers = f"(WITH RECURSIVE n(i) AS ({series}) SELECT i FROM n)"
    with connection:
        _copy(connection, "task", "workspace_id", workspace, own, numbers)
        head = connection.execute(
            "SELECT seq FROM event_stream WHERE id = ?", [workspace]
        ).fetchone()[0]
        last = f"(SELECT * FROM event WHERE seq = {head}) t"
        own = {"seq": f"{head} + i - 1", "at": moment, "entity_id": own["id"]}
        _copy(connection, "event", "stream_id", workspace, own, numbers, source=last)
        connection.execute(
            "UPDATE event_stream SET seq = ? WHERE id = ?", [head + size - 1, workspace]
        )
        connection.execute("DELETE FROM task_total WHERE workspace_id = ?", [workspace])
        connection.execute(
            "INSERT INTO task_total (workspace_id, status, archived, total) "
            "SELECT workspace_id, status, 0, count(*) FROM task WHERE workspace_id = ? GROUP BY 2",
            [workspace],
        )
        connection.execute("UPDATE counter SET value = ? WHERE name = 'task'", [size])
    connection.execute("ANALYZE")
    connection.close()


def _copy(
    connection: sqlite3.Connection,
    table: str,
    key: str,
    value: str,
    own: Mapping[str, str],
    numbers: str,
    source: str = "",
) -> None:
    names = [row["name"] for row in connection.execute(f"PRAGMA table_info({table})")]
    chosen = ", ".join(own.get(name, f't."{name}"') for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    source = source or f"{table} t"
    connection.execute(
        f"INSERT INTO {table} ({listed}) SELECT {chosen} FROM {source}, {numbers} "
        f"WHERE t.{key} = ?",
        [value],
    )


def cases(workspace: str, size: int) -> list[Case]:
    """What is asked."""
    where = {"id": workspace, "first": 100}
    middle = _id(size // 2)
    return [
        ("board page, first 100", LIST, where),
        ("last page", LIST, {"id": workspace, "last": 100}),
        (
            "100 of a status and a priority",
            LIST,
            {**where, "filter": {"status": ["REVIEW"], "priorityMin": 8}},
        ),
        ("100 changed last", LIST, {**where, "order": "UPDATED_AT_DESC"}),
        ("100 with the highest priority", LIST, {**where, "order": "PRIORITY_DESC"}),
        ("search: a word of one in 5,000", SEARCH, {"id": workspace, "words": NEEDLE}),
        ("search: a word of all", SEARCH, {"id": workspace, "words": WORD}),
        ("search: a word of none", SEARCH, {"id": workspace, "words": NOTHING}),
        ("events, newest 50", EVENTS, {"id": workspace}),
        ("events of one task", EVENTS, {"id": workspace, "entity": middle}),
        ("moveTask", MOVE, {"task": middle, "status": ""}),
        ("createTask", CREATE, {"id": workspace}),
    ]


async def _ask(client: HttpClient, pid: int, case: Case) -> tuple[float, float]:
    """CPU and elapsed milliseconds of a request: medians, after it has been asked twice."""
    _, query, given = case
    cpus, times = [], []
    for turn in range(TIMES + SIGHTS):
        variables = dict(given)
        if "status" in variables:
            variables["status"] = ("REVIEW", "BACKLOG")[turn % 2]
        cpu, began = cpu_seconds([pid]), time.perf_counter()
        await client.ask(query, variables)
        if turn >= SIGHTS:
            times.append((time.perf_counter() - began) * 1000)
            cpus.append((cpu_seconds([pid]) - cpu) * 1000)
    return statistics.median(cpus), statistics.median(times)


async def _measure(folder: Path, size: int) -> dict[str, tuple[float, float]]:
    with a_server(folder / f"server-{size}") as server:
        async with HttpClient(server.url, server.token) as client:
            board, _ = await create_board(client, make_repository(folder / f"project-{size}"))
            await board.create_task(title="template")
            await asyncio.to_thread(server.stop)
            path = server.data_dir / "data" / "dragoman.db"
            await asyncio.to_thread(fill, path, board.id, size)
            await asyncio.to_thread(server.start)
            client.url = server.url
            assert server.process is not None
            asked = cases(board.id, size)
            return {case[0]: await _ask(client, server.process.pid, case) for case in asked}


def section(*, quick: bool) -> Section:
    """The comparison as a part of the report."""
    small, large = QUICK if quick else SIZES
    with tempfile.TemporaryDirectory() as folder:
        found = [asyncio.run(_measure(Path(folder), size)) for size in (small, large)]
    rows = [
        [
            name,
            *(f"{few:.1f}" for few in found[0][name]),
            *(f"{many:.1f}" for many in found[1][name]),
            f"{found[1][name][0] / found[0][name][0]:.1f}",
        ]
        for name in found[0]
    ]
    return Section(
        f"Growth: one workspace with {small:,} tasks and with {large:,}",
        ["request", "CPU ms, few", "ms, few", "CPU ms, many", "ms, many", "times the CPU"],
        rows,
        [f"SQLite, as it is by default; medians of {TIMES} requests, one after the other."],
    )
