"""Small changes of a task, its context entries, and one change for many tasks."""

from typing import Annotated, Any

import strawberry

from models import Task as TaskRow
from models.enums import ContextPhase, TaskPriority, TaskStatus
from resolvers import loading, task_bulk, task_context
from resolvers.event_queries import log_head
from resolvers.task_bulk import BulkAction, BulkArguments
from resolvers.task_context import NewContextEntry
from schema.common import INPUT, cursor_of, fields_of, given, log_cursor, mutate
from schema.context import Info
from schema.task import Task
from schema.task_mutations import TaskPayload

strawberry.enum(
    BulkAction,
    description="What is done to each task: MOVE needs a status, ASSIGN assigneeId or agentId, "
    "ADD_LABELS and REMOVE_LABELS labels, SET_PRIORITY a priority.",
)


@strawberry.input(description="Who is to do a task; absent ones stay, null is nobody.")
class AssignTaskInput:
    """See resolvers.task_bulk.assign_task."""

    id: strawberry.ID = strawberry.field(description="The task's id.")
    assignee_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="A user of the workspace."
    )
    agent_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="An agent of the workspace."
    )


@strawberry.input(description="Labels to add and to remove; one in both is added.")
class LabelTaskInput:
    """See resolvers.task_bulk.label_task."""

    id: strawberry.ID = strawberry.field(description="The task's id.")
    add: list[str] = strawberry.field(
        default_factory=list, description="Up to 50 of up to 50 characters."
    )
    remove: list[str] = strawberry.field(
        default_factory=list, description="Up to 50; those it does not have are no error."
    )


@strawberry.input(description="A file an agent is told to read.")
class ContextEntryInput:
    """See resolvers.task_context.NewContextEntry."""

    path: str = strawberry.field(
        description="Relative to the repository, without .., up to 1,024 characters."
    )
    phase: ContextPhase = strawberry.field(
        default=ContextPhase.IMPLEMENT, description="Which prompt it belongs to."
    )
    reason: str = strawberry.field(
        default="", description="Why it is to be read, up to 2,000 characters."
    )
    kind: str | None = strawberry.field(default=None, description="file or directory, where known.")


@strawberry.input(description="Context entries to add.")
class AddContextEntriesInput:
    """See resolvers.task_context.add_context_entries."""

    task_id: strawberry.ID = strawberry.field(description="The task's id.")
    entries: list[ContextEntryInput] = strawberry.field(
        description="1 to 100; a path that its phase has already is left as it is. A task has up "
        "to 500."
    )


@strawberry.input(description="Context entries to remove.")
class RemoveContextEntriesInput:
    """See resolvers.task_context.remove_context_entries."""

    task_id: strawberry.ID = strawberry.field(description="The task's id.")
    paths: list[str] = strawberry.field(description="1 to 100 paths, as they were added.")
    phases: list[ContextPhase] | None = strawberry.field(
        default=None, description="Only from these phases; absent: from all."
    )


@strawberry.type(description="A task after its context entries changed.")
class ContextEntriesPayload:
    """What mutations of context entries return."""

    task: Task = strawberry.field(description="The task as it is now.")
    changed: int = strawberry.field(description="How many entries were added or removed.")
    unchanged: int = strawberry.field(
        description="How many were there already, or were not there to be removed."
    )

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.task.workspace_id)


@strawberry.input(description="One change for many tasks of a workspace.")
class BulkUpdateTasksInput:
    """See resolvers.task_bulk.bulk_update_tasks."""

    workspace_id: strawberry.ID = strawberry.field(description="Where the tasks are.")
    task_ids: list[strawberry.ID] = strawberry.field(
        description="1 to 100; one that is named twice counts once."
    )
    action: BulkAction = strawberry.field(description="What is done to each.")
    status: TaskStatus | None = strawberry.field(default=None, description="MOVE: the column.")
    assignee_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="ASSIGN: a user of the workspace; null is nobody."
    )
    agent_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="ASSIGN: an agent of the workspace; null is nobody."
    )
    labels: list[str] = strawberry.field(
        default_factory=list, description="ADD_LABELS, REMOVE_LABELS: up to 50."
    )
    priority: TaskPriority | None = strawberry.field(
        default=None, description="SET_PRIORITY: as a bucket."
    )
    reason: str | None = strawberry.field(
        default=None, description="MOVE, CANCEL: why, up to 2,000 characters."
    )


@strawberry.type(description="Why one task was left as it is.")
class BulkError:
    """See resolvers.task_bulk.BulkError."""

    code: str = strawberry.field(
        description="As extensions.code of an error; after UNAVAILABLE the same request, sent "
        "again with its idempotency key, does what is left."
    )
    message: str = strawberry.field(description="Why, for people.")


@strawberry.type(description="What became of one task.")
class BulkItem:
    """See resolvers.task_bulk.BulkItem."""

    task_id: strawberry.ID = strawberry.field(description="The task's id, as it was given.")
    ok: bool = strawberry.field(description="Whether it was done.")
    error: BulkError | None = strawberry.field(description="Why it was not done.")

    @strawberry.field(description="The task as it is now; null without ok, or once deleted.")
    async def task(self, info: Info) -> Task | None:
        if not self.ok:
            return None
        found: Any = await loading.load_by_id(info.context, TaskRow, self.task_id)
        return None if found is None or found.deleted_at is not None else found


@strawberry.type(description="What became of each task, in the order they were given.")
class BulkPayload:
    """What bulkUpdateTasks returns."""

    results: list[BulkItem] = strawberry.field(description="One result for each task.")
    cursor: str = strawberry.field(
        description="Subscribe after this cursor to miss nothing that follows."
    )


@strawberry.type
class BulkMutation:
    """Root mutations that go with those of tasks."""

    @strawberry.mutation(description="Give a task to a user, an agent, or nobody.")
    async def assign_task(
        self, info: Info, input: Annotated[AssignTaskInput, INPUT]
    ) -> TaskPayload:
        task: Any = await mutate(
            info,
            lambda ctx: task_bulk.assign_task(
                ctx,
                task_id=input.id,
                assignee_id=given(input.assignee_id),
                agent_id=given(input.agent_id),
            ),
        )
        return TaskPayload(task=task)

    @strawberry.mutation(description="Add labels to a task and remove others.")
    async def label_task(self, info: Info, input: Annotated[LabelTaskInput, INPUT]) -> TaskPayload:
        task: Any = await mutate(
            info,
            lambda ctx: task_bulk.label_task(
                ctx, task_id=input.id, add=input.add, remove=input.remove
            ),
        )
        return TaskPayload(task=task)

    @strawberry.mutation(description="Tell agents to read more files for a task.")
    async def add_context_entries(
        self, info: Info, input: Annotated[AddContextEntriesInput, INPUT]
    ) -> ContextEntriesPayload:
        entries = [NewContextEntry(**fields_of(entry)) for entry in input.entries]
        return await _context(
            info,
            lambda ctx: task_context.add_context_entries(
                ctx, task_id=input.task_id, entries=entries
            ),
        )

    @strawberry.mutation(description="Have agents read fewer files for a task.")
    async def remove_context_entries(
        self, info: Info, input: Annotated[RemoveContextEntriesInput, INPUT]
    ) -> ContextEntriesPayload:
        return await _context(
            info,
            lambda ctx: task_context.remove_context_entries(
                ctx, task_id=input.task_id, paths=input.paths, phases=input.phases
            ),
        )

    @strawberry.mutation(
        description="Do the same to up to 100 tasks, each in a transaction of its own: some may "
        "fail and others succeed.",
        metadata={"cost": 100},
    )
    async def bulk_update_tasks(
        self, info: Info, input: Annotated[BulkUpdateTasksInput, INPUT]
    ) -> BulkPayload:
        arguments = BulkArguments(
            status=input.status,
            assignee_id=given(input.assignee_id),
            agent_id=given(input.agent_id),
            labels=input.labels,
            priority=input.priority,
            reason=input.reason,
        )
        done = await mutate(
            info,
            lambda ctx: task_bulk.bulk_update_tasks(
                ctx,
                workspace_id=input.workspace_id,
                task_ids=input.task_ids,
                action=input.action,
                arguments=arguments,
            ),
        )
        # Tasks are read again after the last commit, so the cursor comes from the same snapshot:
        # the position after that commit could be newer than what the first task looked like.
        head = await log_head(info.context, workspace_id=done.workspace_id)
        results: Any = done.items
        return BulkPayload(results=results, cursor=cursor_of(head))


async def _context(info: Info, run: Any) -> ContextEntriesPayload:
    change = await mutate(info, run)
    task: Any = change.task
    return ContextEntriesPayload(task=task, changed=change.changed, unchanged=change.unchanged)
