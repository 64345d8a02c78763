"""What clients asked for, and what was acknowledged: the only truth that outlives the server."""

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["create", "pair", "update", "bulk", "refused", "start"]

CREATE = """mutation ($input: CreateTaskInput!) {
  createTask(input: $input) { task { id number title } cursor } }"""
PAIR = """mutation ($first: CreateTaskInput!, $second: CreateTaskInput!) {
  first: createTask(input: $first) { task { id number title } cursor }
  second: createTask(input: $second) { task { id number title } cursor } }"""
UPDATE = """mutation ($input: UpdateTaskInput!) {
  updateTask(input: $input) { task { id } cursor } }"""
BULK = """mutation ($input: BulkUpdateTasksInput!) {
  bulkUpdateTasks(input: $input) { results { taskId ok error { code } } } }"""
REFUSED = "mutation ($id: ID!) { approveTask(id: $id) { task { id } cursor } }"
START = """mutation ($input: StartRunInput!) { startRun(input: $input) { run { id } cursor } }"""


@dataclass(slots=True)
class Entry:
    """One request of one client, under one key, and its answers.

    ``answers`` holds what was acknowledged, in order: the first answer, then those of repetitions.
    ``titles`` are the tasks it creates, ``touched`` the ids of those it changes once each.
    """

    kind: Kind
    document: str
    variables: dict[str, Any]
    titles: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    answers: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = 0
    due: float = 0.0

    @property
    def is_acknowledged(self) -> bool:
        """Whether the server said what became of it."""
        return bool(self.answers)

    def payloads(self) -> list[dict[str, Any]]:
        """The payloads of its mutations as first acknowledged; none where they were refused."""
        data = self.answers[0].get("data") or {}
        return [payload for payload in data.values() if payload is not None]

    def created(self) -> list[tuple[dict[str, Any], str]]:
        """The tasks it created, each with the cursor that came with it."""
        return [(p["task"], p["cursor"]) for p in self.payloads() if self.titles]


def create_entry(workspace_id: str, **fields: Any) -> Entry:
    """A new task."""
    title = uuid.uuid4().hex
    variables = {"input": {"workspaceId": workspace_id, "title": title, **fields}}
    return Entry("create", CREATE, variables, titles=(title,))


def pair_entry(workspace_id: str) -> Entry:
    """Two new tasks by two mutations of one request: a kill may come between them."""
    titles = (uuid.uuid4().hex, uuid.uuid4().hex)
    first, second = ({"workspaceId": workspace_id, "title": title} for title in titles)
    return Entry("pair", PAIR, {"first": first, "second": second}, titles=titles)


def update_entry(task_id: str) -> Entry:
    """A change of one task that no other request makes."""
    variables = {"input": {"id": task_id, "description": uuid.uuid4().hex}}
    return Entry("update", UPDATE, variables, touched=(task_id,))


def bulk_entry(workspace_id: str, task_ids: list[str]) -> Entry:
    """The same new label for several tasks, each in a transaction of its own."""
    variables = {
        "input": {
            "workspaceId": workspace_id,
            "taskIds": task_ids,
            "action": "ADD_LABELS",
            "labels": [uuid.uuid4().hex],
        }
    }
    return Entry("bulk", BULK, variables, touched=tuple(task_ids))


def refused_entry(task_id: str) -> Entry:
    """Something the lifecycle does not allow: it changes nothing, however often it is sent."""
    return Entry("refused", REFUSED, {"id": task_id})


def start_entry(task_id: str) -> Entry:
    """A run of a task."""
    return Entry("start", START, {"input": {"taskId": task_id, "executor": "CUSTOM"}})
