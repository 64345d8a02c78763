"""Part growth: what a page costs where a workspace has ten thousand tasks, and a million."""

import asyncio
import functools
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.growing import COMMON, NEEDLE, Grown, grown
from benchmarks.processes import cpu_seconds
from benchmarks.report import Section, at_most
from subscriptions.cursor import encode_cursor
from tests.support.clients import HttpClient

SIZES = (10_000, 100_000, 1_000_000)
QUICK = (2_000, 100_000)
TIMES = 20
SIGHTS = 2  # until a document is compiled
NOTHING = "nowhere at all"
RESUMED = 100
AIM = 2.0
"""How many times the CPU a request may take in a hundred times as large a workspace: noise."""
FLAT = (
    "board page, first 100",
    "last page",
    "count of all",
    "search: a word of one in 5,000",
    "moveTask",
    "createTask",
    "100 events after one in the middle",
)

TASK = """id title status priority position labels updatedAt story { id title }
  agent { id name status } latestRun { id status progress }"""
PAGE = "totalCount pageInfo { hasNextPage endCursor } nodes { %s }"
LIST = """query ($id: ID!, $filter: TaskFilter, $order: TaskOrder, $last: Int,
  $first: Int, $after: String) {
  workspace(id: $id) {
    tasks(filter: $filter, orderBy: $order, first: $first, last: $last, after: $after) {
      PAGE } } }""".replace("PAGE", PAGE % TASK)
SEARCH = """query ($id: ID!, $words: String!) {
  search(workspaceId: $id, query: $words) { tasks { id title } stories { id } } }"""
COUNT = """query ($id: ID!, $filter: TaskFilter) {
  tasks(workspaceId: $id, filter: $filter, first: 1) { totalCount } }"""
EVENTS = """query ($id: ID!, $entity: ID) { events(workspaceId: $id, entityId: $entity, first: 50) {
  pageInfo { endCursor } nodes { seq type at task { title } } } }"""
MOVE = """mutation ($task: ID!, $status: TaskStatus!) {
  moveTask(input: {id: $task, status: $status}) { task { id status position } cursor } }"""
RESUME = """subscription ($id: ID!, $after: String) {
  events(workspaceId: $id, after: $after) { __typename ... on Event { seq task { title } } } }"""
CREATE = """mutation ($id: ID!) {
  createTask(input: {workspaceId: $id, title: "new"}) { task { id number } } }"""

Ask = Callable[[HttpClient, int], Awaitable[object]]
"""Asks once; is told how often it was asked before."""
Found = dict[str, tuple[float, float]]
"""CPU and elapsed milliseconds by request."""


def _document(query: str, **variables: Any) -> Ask:
    return lambda client, _: client.ask(query, variables)


def _move(task: str) -> Ask:
    statuses = ("REVIEW", "BACKLOG")
    return lambda client, turn: client.ask(MOVE, {"task": task, "status": statuses[turn % 2]})


async def _resume(workspace: str, seq: int, client: HttpClient, turn: int) -> None:
    """Read events after a place in the log, another one each time: pages are shared."""
    after = encode_cursor(workspace, epoch=1, seq=seq - 7 * turn)
    async with client.events(RESUME, {"id": workspace, "after": after}) as events:
        read = 0
        async for event in events:
            read += event.event == "next"
            if read == RESUMED:
                return


async def _middle_of(client: HttpClient, board: Grown) -> str:
    """The cursor of a task in the middle of the board."""
    query = """query ($id: ID!, $search: String!) { workspace(id: $id) {
      tasks(first: 1, filter: {search: $search}) { pageInfo { endCursor } } } }"""
    given = {"id": board.workspace, "search": f"task {board.size // 2} {COMMON}"}
    page: Mapping[str, Any] = (await client.ask(query, given))["workspace"]["tasks"]
    return str(page["pageInfo"]["endCursor"])


def cases(board: Grown, middle: str) -> dict[str, Ask]:
    """What is asked."""
    here = board.workspace
    task = board.task(board.size // 2)
    urgent = {"status": ["REVIEW"], "priorityMin": 8}
    resume = functools.partial(_resume, here)
    return {
        "board page, first 100": _document(LIST, id=here, first=100),
        "100 in the middle": _document(LIST, id=here, first=100, after=middle),
        "last page": _document(LIST, id=here, last=100),
        "100 of a status and a priority": _document(LIST, id=here, first=100, filter=urgent),
        "100 changed last": _document(LIST, id=here, first=100, order="UPDATED_AT_DESC"),
        "100 with the highest priority": _document(LIST, id=here, first=100, order="PRIORITY_DESC"),
        "count of all": _document(COUNT, id=here),
        "count of a status and a priority": _document(COUNT, id=here, filter=urgent),
        "search: a word of one in 5,000": _document(SEARCH, id=here, words=NEEDLE),
        "search: a word of all": _document(SEARCH, id=here, words=COMMON),
        "search: a word of none": _document(SEARCH, id=here, words=NOTHING),
        "events, newest 50": _document(EVENTS, id=here),
        "events of one task": _document(EVENTS, id=here, entity=task),
        "100 events after one in the middle": functools.partial(resume, board.size // 2),
        "100 events up to the newest": functools.partial(resume, board.size - RESUMED),
        "moveTask": _move(task),
        "createTask": _document(CREATE, id=here),
    }


async def _ask(client: HttpClient, board: Grown, ask: Ask) -> tuple[float, float]:
    """CPU and elapsed milliseconds of a request: medians, after it has been asked twice."""
    pids = await asyncio.to_thread(board.pids)
    cpus, times = [], []
    for turn in range(TIMES + SIGHTS):
        cpu, began = cpu_seconds(pids), time.perf_counter()
        await ask(client, turn)
        if turn >= SIGHTS:
            times.append((time.perf_counter() - began) * 1000)
            cpus.append((cpu_seconds(pids) - cpu) * 1000)
    return statistics.median(cpus), statistics.median(times)


async def _measure(board: Grown) -> Found:
    async with HttpClient(board.server.url, board.server.token) as client:
        asked = cases(board, await _middle_of(client, board))
        return {name: await _ask(client, board, ask) for name, ask in asked.items()}


def section(*, quick: bool, database: str = "sqlite") -> Section:
    """The comparison as a part of the report."""
    sizes = QUICK if quick else SIZES
    found: list[Found] = []
    for size in sizes:
        with (
            tempfile.TemporaryDirectory() as folder,
            grown(Path(folder), size, database=database) as board,
        ):
            found.append(asyncio.run(_measure(board)))
    times = {name: found[-1][name][0] / found[0][name][0] for name in found[0]}
    rows = [
        [
            name,
            *(f"{one[name][0]:.1f}" for one in found),
            f"{times[name]:.1f}",
            *(f"{one[name][1]:.1f}" for one in found),
        ]
        for name in found[0]
    ]
    columns = [f"{size:,}" for size in sizes]
    return Section(
        f"Growth: one workspace with {columns[0]} tasks and with {columns[-1]}"
        + (", PostgreSQL" if database == "postgresql" else ""),
        [
            "request",
            *(f"CPU ms at {column}" for column in columns),
            "times",
            *(f"ms at {column}" for column in columns),
        ],
        rows,
        [f"Medians of {TIMES} requests, one after the other. Filtered counts stop at 10,000."],
        [at_most(f"{name}: times the CPU", times[name], AIM) for name in FLAT],
    )
