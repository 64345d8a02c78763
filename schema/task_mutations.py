"""Tasks and runs: root queries and mutations."""

from typing import Annotated, Any

import strawberry

from compiler import CARRIES, constant_of
from models import Run as RunRow
from models import Task as TaskRow
from models.enums import Executor, QueueClass, RunStatus
from models.prepared import Prepared
from resolvers import (
    pull_requests,
    run_inputs,
    run_lists,
    run_queries,
    runs,
    task_access,
    task_board,
    task_lifecycle,
    task_queries,
    tasks,
    worktrees,
)
from resolvers.dependencies import set_dependencies
from resolvers.task_queries import TaskOrder
from schema.common import (
    INPUT,
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connection,
    fields_of,
    log_cursor,
    mutate,
    or_none,
    page_arguments,
)
from schema.context import Info
from schema.reading import NODES, columns_of, links_of
from schema.run import Diff, Run
from schema.task import DependencyInput, Task, TaskFilter, conditions, dependencies
from schema.task_inputs import (
    CreatePullRequestInput,
    CreateTaskInput,
    MoveTaskInput,
    StartRunInput,
    TaskFieldsInput,
    UpdateTaskInput,
)

TaskId = Annotated[strawberry.ID, strawberry.argument(description="The task's id.")]
RunId = Annotated[strawberry.ID, strawberry.argument(description="The run's id.")]
WorkspaceId = Annotated[
    strawberry.ID | None,
    strawberry.argument(description="Only of this workspace; absent: of all you may see."),
]
Reason = Annotated[
    str | None, strawberry.argument(description="Why; kept with the task as its status reason.")
]
ExpectedVersion = Annotated[
    int | None,
    strawberry.argument(description="Refuse with CONFLICT unless it is at this version."),
]


@strawberry.type(description="A task after a mutation.")
class TaskPayload:
    """What mutations of a task return."""

    task: Task = strawberry.field(description="The task as it is now.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.task.workspace_id)


@strawberry.type(description="A run after a mutation.")
class RunPayload:
    """What mutations of a run return."""

    run: Run = strawberry.field(description="The run as it is now.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.run.workspace_id)


def _task_values(input: TaskFieldsInput, *, leave_out: frozenset[str]) -> dict[str, Any]:
    values = fields_of(input, leave_out=leave_out | {"depends_on"})
    if input.depends_on is not strawberry.UNSET:
        values["depends_on"] = dependencies(input.depends_on or [])
    return values


def _reading(info: Info) -> Prepared[TaskRow]:
    return task_access.reading_of_task(columns_of(info, TaskRow), links_of(info))


@strawberry.type
class TaskQuery:
    """Root fields about tasks and runs."""

    @strawberry.field(
        description="A task by its id; null when there is none you may see.",
        metadata={CARRIES: True},
    )
    async def task(self, info: Info, id: TaskId) -> Task | None:
        read = constant_of(info, _reading)
        found: Any = await or_none(task_access.get_task(info.context, task_id=id, read=read))
        return found

    @strawberry.field(description="Tasks of one workspace, or of all.", metadata=PAGED)
    async def tasks(
        self,
        info: Info,
        workspace_id: WorkspaceId = None,
        filter: Annotated[
            TaskFilter | None, strawberry.argument(description="Which tasks.")
        ] = None,
        order_by: Annotated[
            TaskOrder, strawberry.argument(description="In which order.")
        ] = TaskOrder.CREATED_AT_DESC,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Task]:
        page = await task_queries.list_tasks(
            info.context,
            workspace_id=workspace_id,
            filter_=conditions(filter),
            order=order_by,
            page=page_arguments(first, after, last, before),
            columns=columns_of(info, TaskRow, *NODES),
        )
        return connection(page)

    @strawberry.field(description="A run by its id; null when there is none you may see.")
    async def run(self, info: Info, id: RunId) -> Run | None:
        found: Any = await or_none(run_queries.get_run(info.context, run_id=id))
        return found

    @strawberry.field(description="Runs, newest first.", metadata=PAGED)
    async def runs(
        self,
        info: Info,
        workspace_id: WorkspaceId = None,
        status: Annotated[
            list[RunStatus] | None, strawberry.argument(description="One of these statuses.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Run]:
        page = await run_lists.list_runs(
            info.context,
            workspace_id=workspace_id,
            status=status,
            page=page_arguments(first, after, last, before),
            columns=columns_of(info, RunRow, *NODES),
        )
        return connection(page)

    @strawberry.field(
        description="What a task's branch changes against its base; null without a branch.",
        metadata={"cost": 50},
    )
    async def task_diff(self, info: Info, id: TaskId) -> Diff | None:
        diff: Any = await run_queries.task_diff(info.context, task_id=id)
        return diff


@strawberry.type
class TaskMutation:
    """Root mutations of tasks and runs."""

    @strawberry.mutation(description="Put a task on a board.")
    async def create_task(
        self, info: Info, input: Annotated[CreateTaskInput, INPUT]
    ) -> TaskPayload:
        values = _task_values(input, leave_out=frozenset())
        return await _task(info, lambda ctx: tasks.create_task(ctx, **values))

    @strawberry.mutation(description="Change fields of a task.")
    async def update_task(
        self, info: Info, input: Annotated[UpdateTaskInput, INPUT]
    ) -> TaskPayload:
        values = _task_values(input, leave_out=frozenset({"id"}))
        return await _task(info, lambda ctx: tasks.update_task(ctx, task_id=input.id, **values))

    @strawberry.mutation(description="Drop a card in a column, at a place: a free move.")
    async def move_task(self, info: Info, input: Annotated[MoveTaskInput, INPUT]) -> TaskPayload:
        values = fields_of(input, leave_out=frozenset({"id"}))
        return await _task(info, lambda ctx: task_board.move_task(ctx, task_id=input.id, **values))

    @strawberry.mutation(description="BACKLOG → QUEUED: one run waits for its turn.")
    async def enqueue_task(
        self,
        info: Info,
        id: TaskId,
        executor: Annotated[
            Executor | None, strawberry.argument(description="Kept with the task.")
        ] = None,
        model: Annotated[str | None, strawberry.argument(description="Kept with the task.")] = None,
        queue: Annotated[
            QueueClass | None, strawberry.argument(description="Kept with the task.")
        ] = None,
    ) -> TaskPayload:
        return await _task(
            info,
            lambda ctx: task_lifecycle.enqueue_task(
                ctx, task_id=id, executor=executor, model=model, queue=queue
            ),
        )

    @strawberry.mutation(description="QUEUED → BACKLOG: its waiting run is cancelled.")
    async def dequeue_task(self, info: Info, id: TaskId) -> TaskPayload:
        return await _task(info, lambda ctx: task_lifecycle.dequeue_task(ctx, task_id=id))

    @strawberry.mutation(description="QUEUED or IN_PROGRESS → PAUSED.")
    async def pause_task(self, info: Info, id: TaskId) -> TaskPayload:
        return await _task(info, lambda ctx: task_lifecycle.pause_task(ctx, task_id=id))

    @strawberry.mutation(description="PAUSED → where it was paused.")
    async def resume_task(self, info: Info, id: TaskId) -> TaskPayload:
        return await _task(info, lambda ctx: task_lifecycle.resume_task(ctx, task_id=id))

    @strawberry.mutation(description="REVIEW → COMPLETED; what waits for it is released.")
    async def approve_task(
        self,
        info: Info,
        id: TaskId,
        comment: Annotated[
            str | None, strawberry.argument(description="Kept as the review's comment.")
        ] = None,
        merge: Annotated[
            bool,
            strawberry.argument(
                description="First merge its pull request, or without one its branch into its base "
                "branch."
            ),
        ] = False,
    ) -> TaskPayload:
        return await _task(
            info,
            lambda ctx: task_lifecycle.approve_task(ctx, task_id=id, comment=comment, merge=merge),
        )

    @strawberry.mutation(
        description="Push a task's branch and open a pull request for it; an open one is used "
        "again. The task has its address."
    )
    async def create_pull_request(
        self, info: Info, input: Annotated[CreatePullRequestInput, INPUT]
    ) -> TaskPayload:
        values = fields_of(input)
        return await _task(info, lambda ctx: pull_requests.create_pull_request(ctx, **values))

    @strawberry.mutation(description="REVIEW → BACKLOG; the reason is kept for the next run.")
    async def reject_task(self, info: Info, id: TaskId, reason: Reason = None) -> TaskPayload:
        return await _task(
            info, lambda ctx: task_lifecycle.reject_task(ctx, task_id=id, reason=reason)
        )

    @strawberry.mutation(description="FAILED → QUEUED: one more run.")
    async def retry_task(self, info: Info, id: TaskId) -> TaskPayload:
        return await _task(info, lambda ctx: task_lifecycle.retry_task(ctx, task_id=id))

    @strawberry.mutation(description="Any unfinished status → CANCELLED; what runs is stopped.")
    async def cancel_task(self, info: Info, id: TaskId, reason: Reason = None) -> TaskPayload:
        return await _task(
            info, lambda ctx: task_lifecycle.cancel_task(ctx, task_id=id, reason=reason)
        )

    @strawberry.mutation(description="Declare it completed, from any status that is not final.")
    async def finish_task(self, info: Info, id: TaskId) -> TaskPayload:
        return await _task(info, lambda ctx: task_lifecycle.finish_task(ctx, task_id=id))

    @strawberry.mutation(description="→ BLOCKED, until everything it waits for is done.")
    async def block_task(
        self,
        info: Info,
        id: TaskId,
        reason: Reason = None,
        waits_for: Annotated[
            list[DependencyInput] | None,
            strawberry.argument(description="Replaces what it waits for."),
        ] = None,
    ) -> TaskPayload:
        wanted = None if waits_for is None else dependencies(waits_for)
        return await _task(
            info,
            lambda ctx: task_lifecycle.block_task(ctx, task_id=id, reason=reason, waits_for=wanted),
        )

    @strawberry.mutation(description="BLOCKED → BACKLOG.")
    async def unblock_task(self, info: Info, id: TaskId) -> TaskPayload:
        return await _task(info, lambda ctx: task_lifecycle.unblock_task(ctx, task_id=id))

    @strawberry.mutation(description="Replace what a task waits for.")
    async def set_task_dependencies(
        self,
        info: Info,
        id: TaskId,
        depends_on: Annotated[
            list[DependencyInput], strawberry.argument(description="Up to 100 tasks.")
        ],
    ) -> TaskPayload:
        wanted = dependencies(depends_on)
        return await _task(info, lambda ctx: set_dependencies(ctx, task_id=id, depends_on=wanted))

    @strawberry.mutation(description="Take a task off the board without losing it, or put it back.")
    async def archive_task(
        self,
        info: Info,
        id: TaskId,
        archived: Annotated[
            bool, strawberry.argument(description="false puts it back on the board.")
        ] = True,
    ) -> TaskPayload:
        return await _task(info, lambda ctx: tasks.archive_task(ctx, task_id=id, archived=archived))

    @strawberry.mutation(description="Delete a task; it is gone from every list and look-up.")
    async def delete_task(
        self,
        info: Info,
        id: TaskId,
        force: Annotated[
            bool, strawberry.argument(description="Also while a run executes, which is stopped.")
        ] = False,
        discard: Annotated[
            bool,
            strawberry.argument(
                description="Also remove its worktree and its branch, with all that is in them."
            ),
        ] = False,
    ) -> TaskPayload:
        if discard:
            return await _task(info, lambda ctx: worktrees.discard_task(ctx, task_id=id))
        return await _task(info, lambda ctx: tasks.delete_task(ctx, task_id=id, force=force))

    @strawberry.mutation(description="Queue a run of a task; it starts when its turn comes.")
    async def start_run(self, info: Info, input: Annotated[StartRunInput, INPUT]) -> RunPayload:
        values = fields_of(input)
        return await _run(info, lambda ctx: runs.start_run(ctx, **values))

    @strawberry.mutation(description="Cancel a waiting run, or stop an executing one.")
    async def stop_run(
        self,
        info: Info,
        id: RunId,
        reason: Annotated[
            str | None, strawberry.argument(description="Why, up to 2,000 characters.")
        ] = None,
    ) -> RunPayload:
        return await _run(info, lambda ctx: runs.stop_run(ctx, run_id=id, reason=reason))

    @strawberry.mutation(description="One more run like a finished one.")
    async def retry_run(self, info: Info, id: RunId) -> RunPayload:
        return await _run(info, lambda ctx: runs.retry_run(ctx, run_id=id))

    @strawberry.mutation(
        description="Answer a question of a run that waits for it (AWAITING_INPUT)."
    )
    async def answer_run(
        self,
        info: Info,
        id: RunId,
        option: Annotated[
            strawberry.ID, strawberry.argument(description="Id of one of the question's options.")
        ],
        question_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(description="Which question; needed where there are several."),
        ] = None,
    ) -> RunPayload:
        return await _run(
            info,
            lambda ctx: run_inputs.answer_run(
                ctx, run_id=id, option=option, question_id=question_id
            ),
        )

    @strawberry.mutation(
        description="Say something more in the session of a run. One that works hears it after its "
        "present turn, where its executor can be told more; one that is over or paused is followed "
        "by another run in the same session and worktree, which is returned."
    )
    async def send_run_message(
        self,
        info: Info,
        id: RunId,
        text: Annotated[str, strawberry.argument(description="1 to 100,000 characters.")],
    ) -> RunPayload:
        return await _run(info, lambda ctx: run_inputs.send_run_message(ctx, run_id=id, text=text))


async def _task(info: Info, run: Any) -> TaskPayload:
    task: Any = await mutate(info, run)
    return TaskPayload(task=task)


async def _run(info: Info, run: Any) -> RunPayload:
    found: Any = await mutate(info, run)
    return RunPayload(run=found)
