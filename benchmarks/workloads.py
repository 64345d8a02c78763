"""What is asked of every candidate, in the two spellings there are, and what must be answered.

W1 is a board page of 100 tasks with story, agent and newest run; W2 one task with its five newest
runs; W3 moves a task to another status. ``Spelling`` writes a request for a schema and brings an
answer into one form; ``expected_…`` computes that form from the data set alone.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from benchmarks import dataset as data
from benchmarks.dataset import dataset

WORKLOADS = ("w1", "w2", "w3")
CYCLE = 500
PAGE = 100
UNKNOWN = 999_999
LATEST, NEWEST = 1, 5
"""How many runs a task shows in a list, and on its own page."""

Json = dict[str, Any]


class Spelling(ABC):
    """How a schema says what the workloads ask."""

    path = "/graphql"

    @abstractmethod
    def board(self, workspace: int, first: int) -> Json:
        """A request for the first tasks of a workspace."""

    @abstractmethod
    def one(self, task: int) -> Json:
        """A request for a task."""

    @abstractmethod
    def move(self, task: int, status: str) -> Json:
        """A request that moves a task; ``status`` is a word of the data set."""

    @abstractmethod
    def normal(self, answered: Json) -> Json:
        """An answer's data in the form of ``expected_…``; raises where something is missing."""


class PeerSpelling(Spelling):
    """The schema of the peers that were built for the comparison."""

    _TASK = (
        "fragment T on Task { id title description status priority position labels estimate branch "
        "createdAt updatedAt dueAt story { id title } agent { id name status } }"
    )
    _BOARD = (
        "query Board($ws: ID!, $first: Int!) { workspace(id: $ws) { id name tasks(first: $first) {"
        " totalCount pageInfo { hasNextPage endCursor } nodes { ...T latestRun { id status progress"
        " } } } } } " + _TASK
    )
    _ONE = (
        "query One($id: ID!) { task(id: $id) { ...T runs(last: 5) { id status progress startedAt "
        "finishedAt } } } " + _TASK
    )
    _MOVE = (
        "mutation Move($id: ID!, $status: TaskStatus!) { updateTaskStatus(id: $id, status: $status)"
        " { id status updatedAt } }"
    )

    def board(self, workspace: int, first: int) -> Json:
        return _request(self._BOARD, "Board", ws=str(workspace), first=first)

    def one(self, task: int) -> Json:
        return _request(self._ONE, "One", id=str(task))

    def move(self, task: int, status: str) -> Json:
        return _request(self._MOVE, "Move", id=str(task), status=status)

    def normal(self, answered: Json) -> Json:
        if "updateTaskStatus" in answered:
            moved = answered["updateTaskStatus"]
            return {"moved": [int(moved["id"]), moved["status"]], "at": _time(moved["updatedAt"])}
        if "task" in answered:
            found = answered["task"]
            return {"task": found and {**self._task(found), "runs": _all(self._run, found["runs"])}}
        found = answered["workspace"]
        return {"workspace": found and self._workspace(found)}

    def _workspace(self, found: Json) -> Json:
        page = found["tasks"]
        return {
            "id": int(found["id"]),
            "name": found["name"],
            "total": page["totalCount"],
            "more": page["pageInfo"]["hasNextPage"],
            "cursor": page["pageInfo"]["endCursor"] is not None,
            "tasks": [
                {**self._task(node), "runs": _all(self._run, [node["latestRun"]])}
                for node in page["nodes"]
            ],
        }

    def _task(self, node: Json) -> Json:
        return {
            **{key: node[key] for key in ("title", "description", "status", "priority", "labels")},
            **{key: node[key] for key in ("position", "estimate", "branch")},
            **{key: _time(node[key]) for key in ("createdAt", "updatedAt", "dueAt")},
            "id": int(node["id"]),
            "story": node["story"] and [int(node["story"]["id"]), node["story"]["title"]],
            "agent": node["agent"]
            and [int(node["agent"]["id"]), node["agent"]["name"], node["agent"]["status"]],
        }

    def _run(self, run: Json) -> Json:
        times = {key: _time(run[key]) for key in ("startedAt", "finishedAt") if key in run}
        return {
            "id": int(run["id"]),
            "status": run["status"],
            "progress": run["progress"],
            **times,
        }


class DragomanSpelling(Spelling):
    """Our own schema: the same facts under its own names, ids and vocabularies.

    An estimate is kept as story points, a run's progress (a whole number with us) in thousandths.
    """

    _TASK = (
        "fragment T on Task { id title description status priority position labels storyPoints "
        "branch createdAt updatedAt dueAt story { id title } agent { id name status } }"
    )
    _BOARD = (
        "query Board($ws: ID!, $first: Int!) { workspace(id: $ws) { id name tasks(first: $first) {"
        " totalCount pageInfo { hasNextPage endCursor } nodes { ...T latestRun { id status progress"
        " } } } } } " + _TASK
    )
    _ONE = (
        "query One($id: ID!) { task(id: $id) { ...T runs(first: 5) { nodes { id status progress "
        "startedAt finishedAt } } } } " + _TASK
    )
    _MOVE = (
        "mutation Move($id: ID!, $status: TaskStatus!) { moveTask(input: {id: $id, status: $status}"
        ") { task { id status updatedAt } } }"
    )

    def board(self, workspace: int, first: int) -> Json:
        return _request(self._BOARD, "Board", ws=our_id("workspace", workspace), first=first)

    def one(self, task: int) -> Json:
        return _request(self._ONE, "One", id=our_id("task", task))

    def move(self, task: int, status: str) -> Json:
        return _request(self._MOVE, "Move", id=our_id("task", task), status=OUR_STATUS[status])

    def normal(self, answered: Json) -> Json:
        return PeerSpelling().normal(self._in_peers_words(answered))

    def _in_peers_words(self, answered: Json) -> Json:
        if "moveTask" in answered:
            task = answered["moveTask"]["task"]
            return {"updateTaskStatus": _renamed(task, status=_THEIR_STATUS)}
        if "task" in answered:
            found = answered["task"]
            runs = found and [self._run(run) for run in found["runs"]["nodes"]]
            return {"task": found and {**self._task(found), "runs": runs}}
        found = answered["workspace"]
        if found is None:
            return {"workspace": None}
        nodes = [
            {**self._task(node), "latestRun": self._run(node["latestRun"])}
            for node in found["tasks"]["nodes"]
        ]
        return {"workspace": {**_renamed(found), "tasks": {**found["tasks"], "nodes": nodes}}}

    def _task(self, node: Json) -> Json:
        return {
            **_renamed(node, status=_THEIR_STATUS, priority=_THEIR_PRIORITY),
            "estimate": node["storyPoints"],
            "story": node["story"] and _renamed(node["story"]),
            "agent": node["agent"] and _renamed(node["agent"], status=_THEIR_AGENT_STATUS),
        }

    def _run(self, run: Json | None) -> Json | None:
        if run is None:
            return None
        return {**_renamed(run, status=_THEIR_RUN_STATUS), "progress": run["progress"] / 1000}


PEERS = PeerSpelling()
DRAGOMAN = DragomanSpelling()

OUR_STATUS = {
    "TODO": "BACKLOG",
    "IN_PROGRESS": "IN_PROGRESS",
    "REVIEW": "REVIEW",
    "DONE": "COMPLETED",
}
OUR_PRIORITY = {"LOW": "LOW", "NORMAL": "MEDIUM", "HIGH": "HIGH", "URGENT": "URGENT"}
# Not WORKING: the server finds agents that claim to work and say nothing, and marks them.
OUR_AGENT_STATUS = {"IDLE": "IDLE", "BUSY": "COMPLETED", "OFFLINE": "STOPPED"}
OUR_RUN_STATUS = {
    "QUEUED": "QUEUED",
    "RUNNING": "RUNNING",
    "SUCCEEDED": "COMPLETED",
    "FAILED": "FAILED",
}
_THEIR_STATUS, _THEIR_PRIORITY, _THEIR_AGENT_STATUS, _THEIR_RUN_STATUS = (
    {ours: theirs for theirs, ours in table.items()}
    for table in (OUR_STATUS, OUR_PRIORITY, OUR_AGENT_STATUS, OUR_RUN_STATUS)
)
_KINDS = ("workspace", "story", "agent", "task", "run")


def our_id(kind: str, number: int) -> str:
    """The UUID under which a row of the data set stands in our tables."""
    return f"{_KINDS.index(kind) + 1:08x}-0000-4000-8000-{number:012x}"


def _renamed(found: Json, **tables: dict[str, str]) -> Json:
    words = {key: table[found[key]] for key, table in tables.items()}
    return {**found, **words, "id": int(found["id"][-12:], 16)}


def _request(query: str, operation: str, **variables: Any) -> Json:
    return {"query": query, "operationName": operation, "variables": variables}


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def _all(read: Any, runs: list[Json | None]) -> list[Json]:
    return [read(run) for run in runs if run is not None]


# --- the bodies of a load ---


def moved(index: int) -> tuple[int, str]:
    """Task and status of the ``index``-th move: every one changes something.

    A task's first move leads to the status behind its own, and so on in a circle.
    """
    task = index % CYCLE * 37 % data.TASKS + 1
    first = data.TASK_STATUS.index(dataset().tasks[task - 1].status)
    turn = index // CYCLE % len(data.TASK_STATUS)
    return task, data.TASK_STATUS[(first + 1 + turn) % len(data.TASK_STATUS)]


def bodies(spelling: Spelling, workload: str) -> Iterator[str]:
    """One cycle of a workload's request bodies; the load repeats it in this order."""
    if workload == "w1":
        requests = (spelling.board(i % data.WORKSPACES + 1, PAGE) for i in range(data.WORKSPACES))
    elif workload == "w2":
        requests = (spelling.one(i * 37 % data.TASKS + 1) for i in range(CYCLE))
    else:
        requests = (spelling.move(*moved(i)) for i in range(CYCLE * len(data.TASK_STATUS)))
    return (json.dumps(request) for request in requests)


# --- what must be answered ---


@dataclass(frozen=True, slots=True)
class Check:
    """A request and the answer that is equal in content."""

    request: Json
    expected: Json


def read_checks(spelling: Spelling) -> Iterator[Check]:
    """W1: all workspaces, a short page, an unknown one. W2: five tasks and an unknown one."""
    for workspace, first in (*((i + 1, PAGE) for i in range(data.WORKSPACES)), (4, 7)):
        yield Check(spelling.board(workspace, first), expected_board(workspace, first))
    yield Check(spelling.board(99, 10), {"workspace": None})
    for task in (1, 33, 500, 777, 9_999):
        yield Check(spelling.one(task), expected_task(task))
    yield Check(spelling.one(UNKNOWN), {"task": None})


def expected_board(workspace: int, first: int) -> Json:
    """The normal form of a board page."""
    tasks = [task for task in dataset().tasks if task.workspace == workspace]
    tasks.sort(key=lambda task: (task.position, task.id))
    return {
        "workspace": {
            "id": workspace,
            "name": dataset().workspaces[workspace - 1].name,
            "total": len(tasks),
            "more": len(tasks) > first,
            "cursor": True,
            "tasks": [_expected(task, LATEST) for task in tasks[:first]],
        }
    }


def expected_task(number: int, *, status: str | None = None) -> Json:
    """The normal form of a task, as it was or with another status."""
    found = _expected(dataset().tasks[number - 1], NEWEST)
    return {"task": {**found, "status": status or found["status"]}}


def _expected(task: data.Task, runs: int) -> Json:
    story = dataset().stories[task.story - 1] if task.story else None
    agent = dataset().agents[task.agent - 1] if task.agent else None
    full = runs == NEWEST
    return {
        "id": task.id,
        "title": task.title,
        "description": task.description,
        "status": task.status,
        "priority": task.priority,
        "labels": list(task.labels),
        "position": task.position,
        "estimate": task.estimate,
        "branch": task.branch,
        "createdAt": task.created_at,
        "updatedAt": task.updated_at,
        "dueAt": task.due_at,
        "story": story and [story.id, story.title],
        "agent": agent and [agent.id, agent.name, agent.status],
        "runs": [_expected_run(run, full=full) for run in _runs_of().get(task.id, [])[:runs]],
    }


def _expected_run(run: data.Run, *, full: bool) -> Json:
    times = {"startedAt": run.started_at, "finishedAt": run.finished_at} if full else {}
    return {"id": run.id, "status": run.status, "progress": run.progress, **times}


@cache
def _runs_of() -> dict[int, list[data.Run]]:
    """Runs by task, newest first."""
    found: dict[int, list[data.Run]] = {}
    for run in reversed(dataset().runs):
        found.setdefault(run.task, []).append(run)
    return found
