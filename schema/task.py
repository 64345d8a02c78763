"""Tasks in the schema: type, filter and inputs."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry
from strawberry.scalars import JSON

from compiler import BATCH, constant_of
from models import Agent as AgentRow
from models import Event as EventRow
from models import Run as RunRow
from models import Story as StoryRow
from models import Task as TaskRow
from models import User as UserRow
from models import Workspace as WorkspaceRow
from models.enums import (
    ContextPhase,
    DependencyKind,
    Executor,
    QueueClass,
    ReviewVerdict,
    TaskCategory,
    TaskPriority,
    TaskStatus,
    TaskType,
    priority_of,
)
from models.prepared import Prepared
from resolvers import loading
from resolvers.event_queries import events_of_tasks
from resolvers.paging import PageArguments
from resolvers.run_lists import own_runs, runs_of_tasks
from resolvers.task_access import NewDependency
from resolvers.task_filters import TaskFilter as TaskConditions
from resolvers.usage import usage_of
from schema.common import (
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connections,
    page_arguments,
)
from schema.context import Info
from schema.node import Node
from schema.reading import (
    NODES,
    columns_of,
    follow,
    ids_of,
    level,
    link,
    one_of,
    reads,
    shows_cursors,
)
from schema.user import User

if TYPE_CHECKING:
    from schema.agent import Agent
    from schema.event import Event
    from schema.run import Run, Usage
    from schema.story import Sprint, Story
    from schema.workspace import Workspace


@strawberry.type(description="A file an agent is told to read in one phase of a task.")
class ContextEntry:
    """See models.TaskContext."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    phase: ContextPhase = strawberry.field(description="Which prompt it belongs to.")
    path: str = strawberry.field(description="Path inside the repository.")
    reason: str = strawberry.field(description="Why it is to be read.")
    kind: str | None = strawberry.field(description="file or directory, where known.")


@strawberry.type(description="A task waits for another one.")
class TaskDependency:
    """See models.TaskDependency."""

    kind: DependencyKind = strawberry.field(description="When it counts as met.")
    created_at: datetime = strawberry.field(description="Since when.")
    depends_on_id: strawberry.ID = strawberry.field(description="Id of the task waited for.")
    task_id: strawberry.ID = strawberry.field(description="Id of the task that waits.")

    @strawberry.field(description="The task waited for; null when it was deleted.")
    async def depends_on(self, info: Info) -> "Task | None":
        return await _live_task(info, self.depends_on_id)

    @strawberry.field(description="The task that waits; null when it was deleted.")
    async def task(self, info: Info) -> "Task | None":
        return await _live_task(info, self.task_id)


async def _latest_runs(tasks: list[Any], info: Info) -> list[Any]:
    columns = columns_of(info, RunRow)
    return await loading.newest_run_of_each(info.context, ids_of(tasks), columns)


def _own_runs(info: Info) -> Prepared[RunRow]:
    return own_runs(columns_of(info, RunRow, *NODES), with_cursors=shows_cursors(info))


async def _runs(tasks: list[Any], info: Info, **page: Any) -> list[Any]:
    read = constant_of(info, _own_runs)
    found = await runs_of_tasks(info.context, tasks, page=PageArguments(**page), read=read)
    return connections(found)


async def _histories(tasks: list[Any], info: Info, **page: Any) -> list[Any]:
    columns = columns_of(info, EventRow, *NODES)
    found = await events_of_tasks(info.context, tasks, page=PageArguments(**page), columns=columns)
    return connections(found)


@strawberry.type(description="A piece of work on a board.")
class Task(Node):
    """See models.Task."""

    public_id: str = strawberry.field(description="A short id of 12 characters.")
    workspace_id: strawberry.ID = strawberry.field(description="The board it stands on.")
    number: int = strawberry.field(description="Its number in the workspace, counted from 1.")
    title: str = strawberry.field(description="One line.")
    description: str = strawberry.field(description="What is to be done, in Markdown.")
    status: TaskStatus = strawberry.field(description="Where it stands.")
    status_before: TaskStatus | None = strawberry.field(
        description="Where it stood before it was paused or blocked."
    )
    status_reason: str | None = strawberry.field(description="Why it stands there.")
    priority_level: int = strawberry.field(description="Priority as a level, 0 to 10.")
    type: TaskType = strawberry.field(description="What kind of work it is.")
    category: TaskCategory | None = strawberry.field(description="What it may do to the world.")
    position: float = strawberry.field(description="Its place in its column.")
    labels: list[str] = strawberry.field(description="Labels, in order.")
    progress: int = strawberry.field(description="How far it is, in percent.")
    owner: str | None = strawberry.field(description="Who is to do it, in words: user or a role.")
    assignee_id: strawberry.ID | None = strawberry.field(description="The user who is to do it.")
    agent_id: strawberry.ID | None = strawberry.field(description="The agent who is to do it.")
    story_id: strawberry.ID | None = strawberry.field(description="The story it belongs to.")
    parent_id: strawberry.ID | None = strawberry.field(description="The task it is a part of.")
    sprint_number: int | None = strawberry.field(description="Its sprint; null is the backlog.")
    story_points: float | None = strawberry.field(description="Estimated effort, 0 to 100.")
    estimate_seconds: int | None = strawberry.field(description="Estimated time, in seconds.")
    executor: Executor | None = strawberry.field(description="What program is to run it.")
    model: str | None = strawberry.field(description="Which model that program is to use.")
    command: str | None = strawberry.field(description="What to run, for executors that need it.")
    queue_class: QueueClass = strawberry.field(description="The queue its runs wait in.")
    repository: str | None = strawberry.field(description="owner/name, where given.")
    target_repository: str | None = strawberry.field(description="Which repository it changes.")
    branch: str | None = strawberry.field(description="The branch its runs work on.")
    base_branch: str | None = strawberry.field(description="What that branch starts from.")
    worktree_path: str | None = strawberry.field(description="Where it is checked out.")
    commit_sha: str | None = strawberry.field(description="The newest commit a run made.")
    files_changed: int | None = strawberry.field(description="Files changed against the base.")
    additions: int | None = strawberry.field(description="Lines added against the base.")
    deletions: int | None = strawberry.field(description="Lines removed against the base.")
    pull_request_url: str | None = strawberry.field(description="Its pull request.")
    merge_commit: str | None = strawberry.field(description="The commit that merged it.")
    merged_at: datetime | None = strawberry.field(description="When it was merged.")
    spec: str | None = strawberry.field(description="Its specification, in Markdown.")
    context_notes: str | None = strawberry.field(description="What else is good to know.")
    notes: str = strawberry.field(description="Free notes.")
    steps: JSON | None = strawberry.field(description="Planned steps: a list.")
    acceptance_criteria: JSON | None = strawberry.field(description="When it is done: a list.")
    files_hint: JSON | None = strawberry.field(description="Files it is about: a list.")
    constraints: JSON | None = strawberry.field(description="What to keep to: a list.")
    subtasks: JSON = strawberry.field(description="Parts of it: a list.")
    review_comment: str | None = strawberry.field(description="What the review says.")
    review_verdict: ReviewVerdict | None = strawberry.field(description="What the reviewer said.")
    review_record: str | None = strawberry.field(description="The reviewer's full record.")
    review_reason: str | None = strawberry.field(
        description="Why it is or was in review: completed, stopped, approved, rejected …"
    )
    error: str | None = strawberry.field(description="Why it failed.")
    origin: str = strawberry.field(description="Where it came from.")
    internal: bool = strawberry.field(description="Whether it is hidden from default lists.")
    due_at: datetime | None = strawberry.field(description="When it is due.")
    queued_at: datetime | None = strawberry.field(description="Since when it is queued.")
    started_at: datetime | None = strawberry.field(description="When it was first started.")
    completed_at: datetime | None = strawberry.field(description="When it came to its end.")
    archived_at: datetime | None = strawberry.field(description="When it was archived.")
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    version: int = strawberry.field(description="Counts changes; see expectedVersion.")

    @strawberry.field(
        description="Priority as a bucket of its level.", metadata=reads("priority_level")
    )
    def priority(self) -> TaskPriority:
        return priority_of(self.priority_level)

    @strawberry.field(
        description="Facts that one client or dialect keeps with it.", metadata=reads("meta")
    )
    def metadata(self) -> JSON:
        row: Any = self
        return JSON(row.meta)

    @strawberry.field(
        description="The board it stands on.", metadata=link(WorkspaceRow, "workspace_id")
    )
    async def workspace(
        self, info: Info
    ) -> Annotated["Workspace", strawberry.lazy("schema.workspace")]:
        found: Any = await follow(info, WorkspaceRow, self.workspace_id)
        return found

    @strawberry.field(
        description="The user who is to do it.", metadata=link(UserRow, "assignee_id")
    )
    async def assignee(self, info: Info) -> User | None:
        found: Any = await follow(info, UserRow, self.assignee_id)
        return found

    @strawberry.field(description="The agent who is to do it.", metadata=link(AgentRow, "agent_id"))
    async def agent(self, info: Info) -> Annotated["Agent", strawberry.lazy("schema.agent")] | None:
        found: Any = await follow(info, AgentRow, self.agent_id)
        return found

    @strawberry.field(description="The story it belongs to.", metadata=link(StoryRow, "story_id"))
    async def story(self, info: Info) -> Annotated["Story", strawberry.lazy("schema.story")] | None:
        found: Any = await follow(info, StoryRow, self.story_id)
        return found

    @strawberry.field(
        description="Its sprint, where there is one of that number.",
        metadata=reads("workspace_id", "sprint_number"),
    )
    async def sprint(
        self, info: Info
    ) -> Annotated["Sprint", strawberry.lazy("schema.story")] | None:
        found: Any = await loading.sprint_of(info.context, self.workspace_id, self.sprint_number)
        return found

    @strawberry.field(
        description="The task it is a part of; null when that was deleted.",
        metadata=reads("parent_id"),
    )
    async def parent(self, info: Info) -> "Task | None":
        return await _live_task(info, self.parent_id)

    @strawberry.field(description="What it waits for.", metadata=reads("id", list_size=20))
    async def dependencies(self, info: Info) -> list[TaskDependency]:
        found: Any = await loading.dependencies_of(info.context, self.id)
        return found

    @strawberry.field(description="What waits for it.", metadata=reads("id", list_size=20))
    async def dependents(self, info: Info) -> list[TaskDependency]:
        found: Any = await loading.dependents_of(info.context, self.id)
        return found

    @strawberry.field(
        description="Files agents are told to read.", metadata=reads("id", list_size=50)
    )
    async def context_entries(self, info: Info) -> list[ContextEntry]:
        found: Any = await loading.context_entries_of(info.context, self.id)
        return found

    @strawberry.field(description="What its runs used together, from kept sums.")
    async def usage(self, info: Info) -> Annotated["Usage", strawberry.lazy("schema.run")]:
        found: Any = await usage_of(info.context, self.workspace_id, "task", self.id)
        return found

    @strawberry.field(description="Its newest run.", metadata=reads("id", **{BATCH: _latest_runs}))
    async def latest_run(
        self, info: Info
    ) -> Annotated["Run", strawberry.lazy("schema.run")] | None:
        columns = columns_of(info, RunRow)
        found: Any = await loading.newest_run(info.context, self.id, columns)
        return found

    @strawberry.field(
        description="Its runs, newest first.",
        metadata=reads("id", "workspace_id", **PAGED, **level(_runs)),
    )
    async def runs(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Annotated["Run", strawberry.lazy("schema.run")]]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _runs, self, **asdict(page))

    @strawberry.field(
        description="What happened to it, newest first.",
        metadata=reads("id", "workspace_id", **PAGED, **level(_histories)),
    )
    async def history(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Annotated["Event", strawberry.lazy("schema.event")]]:
        page = page_arguments(first, after, last, before)
        return await one_of(info, _histories, self, **asdict(page))


async def _live_task(info: Info, task_id: str | None) -> Task | None:
    found: Any = await follow(info, TaskRow, task_id, "deleted_at")
    return None if found is None or found.deleted_at is not None else found


@strawberry.input(description="Conditions on tasks; those given combine with AND.")
class TaskFilter:
    """See resolvers.task_queries.TaskFilter."""

    ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="One of these ids; at most 100, as in all lists here."
    )
    status: list[TaskStatus] | None = strawberry.field(
        default=None, description="One of these statuses."
    )
    priority_min: int | None = strawberry.field(
        default=None, description="Priority level at least this."
    )
    priority_max: int | None = strawberry.field(
        default=None, description="Priority level at most this."
    )
    types: list[TaskType] | None = strawberry.field(default=None, description="One of these types.")
    labels_all: list[str] | None = strawberry.field(
        default=None, description="Carries all of these labels."
    )
    labels_any: list[str] | None = strawberry.field(
        default=None, description="Carries one of these labels."
    )
    assignee_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Assigned to one of these users."
    )
    agent_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Assigned to one of these agents."
    )
    story_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="In one of these stories."
    )
    parent_ids: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Part of one of these tasks."
    )
    sprint_numbers: list[int] | None = strawberry.field(
        default=None, description="In one of these sprints."
    )
    created_by: list[strawberry.ID] | None = strawberry.field(
        default=None, description="Created by one of these users."
    )
    unassigned: bool | None = strawberry.field(
        default=None, description="Assigned to nobody (true) or to somebody (false)."
    )
    archived: bool | None = strawberry.field(
        default=False, description="false: not archived; true: only archived; null: all."
    )
    internal: bool | None = strawberry.field(
        default=None, description="Only internal ones (true) or only others (false)."
    )
    ready: bool | None = strawberry.field(
        default=None, description="Waits for no other task (true) or for some (false)."
    )
    search: str | None = strawberry.field(
        default=None,
        description="Part of title or description in any case, or a number; up to 500 characters.",
    )
    created_after: datetime | None = strawberry.field(
        default=None, description="Created then or later."
    )
    created_before: datetime | None = strawberry.field(
        default=None, description="Created then or earlier."
    )
    updated_after: datetime | None = strawberry.field(
        default=None, description="Changed then or later."
    )
    updated_before: datetime | None = strawberry.field(
        default=None, description="Changed then or earlier."
    )
    due_before: datetime | None = strawberry.field(default=None, description="Due then or earlier.")


_NO_CONDITIONS = TaskConditions()


def conditions(filter: TaskFilter | None) -> TaskConditions:
    """The conditions of a filter."""
    if filter is None:
        return _NO_CONDITIONS
    values = {**vars(filter)}
    values["labels_all"] = values["labels_all"] or ()
    values["labels_any"] = values["labels_any"] or ()
    return TaskConditions(**values)


@strawberry.input(description="A task to wait for.")
class DependencyInput:
    """See resolvers.task_access.NewDependency."""

    task_id: strawberry.ID = strawberry.field(description="A task of the same workspace.")
    kind: DependencyKind = strawberry.field(
        default=DependencyKind.BLOCKS, description="When it counts as met."
    )


def dependencies(given: list[DependencyInput]) -> list[NewDependency]:
    """The dependencies of an input."""
    return [NewDependency(str(item.task_id), item.kind) for item in given]
