"""Events in the schema: what happened, with a snapshot of what it happened to."""

from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from models.enums import (
    AgentStatus,
    Executor,
    QueueClass,
    RunStatus,
    SprintStatus,
    StoryStatus,
    TaskPriority,
    TaskStatus,
    TaskType,
    WorkspaceStatus,
    priority_of,
)
from resolvers.events import SnapshotView
from subscriptions.cursor import encode_cursor

TRUNCATED = "Fields whose value was cut (texts, to 4,096 characters) or left out (JSON) here."


@strawberry.type(description="A task as it was after an event.")
class TaskSnapshot:
    """Scalar fields of a task, from the event log; nothing is read again."""

    id: strawberry.ID = strawberry.field(description="The task's id.")
    workspace_id: strawberry.ID = strawberry.field(description="Its workspace.")
    number: int = strawberry.field(description="Its number in the workspace.")
    title: str = strawberry.field(description="One line.")
    description: str | None = strawberry.field(description="At most 4,096 characters of it.")
    status: TaskStatus = strawberry.field(description="Where it stood.")
    status_reason: str | None = strawberry.field(description="Why it stood there.")
    priority_level: int = strawberry.field(description="Priority as a level, 0 to 10.")
    type: TaskType = strawberry.field(description="What kind of work it is.")
    position: float = strawberry.field(description="Its place in its column.")
    progress: int = strawberry.field(description="How far it was, in percent.")
    labels: list[str] | None = strawberry.field(description="Labels, in order.")
    assignee_id: strawberry.ID | None = strawberry.field(description="Its assigned user.")
    agent_id: strawberry.ID | None = strawberry.field(description="Its assigned agent.")
    story_id: strawberry.ID | None = strawberry.field(description="Its story.")
    sprint_number: int | None = strawberry.field(description="Its sprint.")
    branch: str | None = strawberry.field(description="The branch its runs work on.")
    commit_sha: str | None = strawberry.field(description="The newest commit a run made.")
    files_changed: int | None = strawberry.field(description="Files changed against the base.")
    additions: int | None = strawberry.field(description="Lines added against the base.")
    deletions: int | None = strawberry.field(description="Lines removed against the base.")
    error: str | None = strawberry.field(description="Why it failed.")
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When this change was made.")
    completed_at: datetime | None = strawberry.field(description="When it came to its end.")
    archived_at: datetime | None = strawberry.field(description="When it was archived.")
    deleted_at: datetime | None = strawberry.field(description="When it was deleted.")
    version: int = strawberry.field(description="Its version after this change.")
    truncated: list[str] = strawberry.field(description=TRUNCATED)

    @strawberry.field(description="Priority as a bucket of its level.")
    def priority(self) -> TaskPriority:
        return priority_of(self.priority_level)


@strawberry.type(description="A run as it was after an event.")
class RunSnapshot:
    """Scalar fields of a run, from the event log."""

    id: strawberry.ID = strawberry.field(description="The run's id.")
    workspace_id: strawberry.ID = strawberry.field(description="Its workspace.")
    task_id: strawberry.ID | None = strawberry.field(description="Its task.")
    executor: Executor = strawberry.field(description="The program that executes it.")
    status: RunStatus = strawberry.field(description="Where it stood.")
    reason: str | None = strawberry.field(description="Why it ended, in a word.")
    error: str | None = strawberry.field(description="Why it failed, for people.")
    attempt: int = strawberry.field(description="Counts the runs of its task.")
    queue_class: QueueClass = strawberry.field(description="The queue it waits or waited in.")
    activity: str | None = strawberry.field(description="What it was doing, in a line.")
    progress: int = strawberry.field(description="How far it was, in percent.")
    branch: str | None = strawberry.field(description="The branch it works on.")
    commit_sha: str | None = strawberry.field(description="The commit it ended with.")
    files_changed: int | None = strawberry.field(description="Files changed against the base.")
    additions: int | None = strawberry.field(description="Lines added against the base.")
    deletions: int | None = strawberry.field(description="Lines removed against the base.")
    exit_code: int | None = strawberry.field(description="Its exit code.")
    output_lines: int = strawberry.field(description="How many lines of output there were.")
    queued_at: datetime | None = strawberry.field(description="Since when it waited.")
    started_at: datetime | None = strawberry.field(description="When it started.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")
    version: int = strawberry.field(description="Its version after this change.")


@strawberry.type(description="A story as it was after an event.")
class StorySnapshot:
    """Scalar fields of a story, from the event log."""

    id: strawberry.ID = strawberry.field(description="The story's id.")
    number: int = strawberry.field(description="Its number in the workspace.")
    title: str = strawberry.field(description="One line.")
    status: StoryStatus = strawberry.field(description="Where it stood.")
    sprint_number: int | None = strawberry.field(description="Its sprint.")
    version: int = strawberry.field(description="Its version after this change.")


@strawberry.type(description="A sprint as it was after an event.")
class SprintSnapshot:
    """Scalar fields of a sprint, from the event log."""

    id: strawberry.ID = strawberry.field(description="The sprint's id.")
    number: int = strawberry.field(description="Its number.")
    status: SprintStatus = strawberry.field(description="Where it stood.")
    goal: str | None = strawberry.field(description="What it is for.")
    version: int = strawberry.field(description="Its version after this change.")


@strawberry.type(description="An agent as it was after an event.")
class AgentSnapshot:
    """Scalar fields of an agent, from the event log."""

    id: strawberry.ID = strawberry.field(description="The agent's id.")
    name: str = strawberry.field(description="Its name.")
    status: AgentStatus = strawberry.field(description="What it was doing.")
    status_word: str | None = strawberry.field(description="The word it reported.")
    activity: str | None = strawberry.field(description="What it was doing, in a line.")
    last_seen_at: datetime | None = strawberry.field(description="When it was last heard of.")
    version: int = strawberry.field(description="Its version after this change.")


@strawberry.type(description="A workspace as it was after an event.")
class WorkspaceSnapshot:
    """Scalar fields of a workspace, from the event log."""

    id: strawberry.ID = strawberry.field(description="The workspace's id.")
    slug: str = strawberry.field(description="Its short name.")
    name: str = strawberry.field(description="Its name.")
    status: WorkspaceStatus = strawberry.field(description="Whether it took changes.")
    deleted_at: datetime | None = strawberry.field(description="When it was deleted.")
    version: int = strawberry.field(description="Its version after this change.")


@strawberry.type(description="Who did something.")
class Actor:
    """A user, an agent, or the server itself."""

    type: str = strawberry.field(description="user, agent or system.")
    id: strawberry.ID | None = strawberry.field(description="Id of the user or agent.")
    name: str | None = strawberry.field(description="The name then.")


@strawberry.type(description="Something that happened: one row of a workspace's log.")
class Event:
    """See models.Event; also made from an entry of a stream, which has the same attributes."""

    seq: int = strawberry.field(description="Its number in the log: contiguous, in order.")
    type: str = strawberry.field(description="What happened, such as task.created.")
    entity_type: str = strawberry.field(description="What it happened to: task, run, agent …")
    entity_id: strawberry.ID = strawberry.field(description="Id of what it happened to.")
    at: datetime = strawberry.field(description="When.")

    @classmethod
    def is_type_of(cls, value: Any, _info: Any) -> bool:
        """Whether a value is an event: of the table or of a stream."""
        return hasattr(value, "entity_type")

    @strawberry.field(description="Its place in the log: subscribe or resume after it.")
    def cursor(self) -> str:
        row: Any = self
        return encode_cursor(row.stream_id, epoch=row.epoch, seq=row.seq)

    @strawberry.field(description="The workspace; null for events of the site.")
    def workspace_id(self) -> strawberry.ID | None:
        row: Any = self
        return None if row.stream_id == "site" else row.stream_id

    @strawberry.field(description="Who did it.")
    def actor(self) -> Actor:
        row: Any = self
        return Actor(type=row.actor_type, id=row.actor_id, name=row.actor_name)

    @strawberry.field(description="Snapshot and further facts as JSON, under snake_case names.")
    def payload(self) -> JSON:
        row: Any = self
        return JSON(row.payload)

    @strawberry.field(description="Where the task or run stood before, if that changed.")
    def from_status(self) -> str | None:
        row: Any = self
        found: str | None = row.payload.get("from_status")
        return found

    @strawberry.field(description="The task after the event, where it is about one.")
    def task(self) -> TaskSnapshot | None:
        return _view(self, "task")

    @strawberry.field(description="The run after the event, where it is about one.")
    def run(self) -> RunSnapshot | None:
        return _view(self, "run")

    @strawberry.field(description="The story after the event, where it is about one.")
    def story(self) -> StorySnapshot | None:
        return _view(self, "story")

    @strawberry.field(description="The sprint after the event, where it is about one.")
    def sprint(self) -> SprintSnapshot | None:
        return _view(self, "sprint")

    @strawberry.field(description="The agent after the event, where it is about one.")
    def agent(self) -> AgentSnapshot | None:
        return _view(self, "agent")

    @strawberry.field(description="The workspace after the event, where it is about one.")
    def workspace(self) -> WorkspaceSnapshot | None:
        return _view(self, "workspace")


def _view(event: Any, kind: str) -> Any:
    if event.entity_type != kind:
        return None
    values = event.payload.get(kind)
    return None if values is None else SnapshotView(values)
