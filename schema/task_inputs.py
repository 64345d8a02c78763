"""Inputs of mutations of tasks and runs."""

from datetime import datetime

import strawberry
from strawberry.scalars import JSON

from models.enums import (
    Executor,
    QueueClass,
    ReviewVerdict,
    TaskCategory,
    TaskPriority,
    TaskStatus,
    TaskType,
)
from schema.task import DependencyInput


@strawberry.input(description="Fields of a task; absent ones stay, null clears.")
class TaskFieldsInput:
    """See resolvers.task_fields."""

    description: str | None = strawberry.field(
        default=strawberry.UNSET, description="In Markdown, up to 100,000 characters."
    )
    priority: TaskPriority | None = strawberry.field(
        default=strawberry.UNSET, description="As a bucket; keeps the level within its bucket."
    )
    priority_level: int | None = strawberry.field(
        default=strawberry.UNSET, description="As a level, 0 to 10."
    )
    type: TaskType | None = strawberry.field(
        default=strawberry.UNSET, description="What kind of work it is."
    )
    category: TaskCategory | None = strawberry.field(
        default=strawberry.UNSET, description="What it may do to the world."
    )
    labels: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Up to 50 labels of up to 50 characters."
    )
    progress: int | None = strawberry.field(
        default=strawberry.UNSET, description="In percent, 0 to 100."
    )
    owner: str | None = strawberry.field(
        default=strawberry.UNSET, description="In words: user or a role, up to 64 characters."
    )
    assignee_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="A user of the workspace."
    )
    agent_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="An agent of the workspace."
    )
    story_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="A story of the workspace."
    )
    parent_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="The task it is a part of."
    )
    sprint_number: int | None = strawberry.field(
        default=strawberry.UNSET, description="Its sprint; null is the backlog."
    )
    story_points: float | None = strawberry.field(
        default=strawberry.UNSET, description="Estimated effort, 0 to 100."
    )
    estimate_seconds: int | None = strawberry.field(
        default=strawberry.UNSET, description="Estimated time, in seconds."
    )
    executor: Executor | None = strawberry.field(
        default=strawberry.UNSET, description="What program is to run it."
    )
    model: str | None = strawberry.field(
        default=strawberry.UNSET, description="Which model it is to use, up to 100 characters."
    )
    command: str | None = strawberry.field(
        default=strawberry.UNSET, description="What to run, for executors that need it."
    )
    repository: str | None = strawberry.field(
        default=strawberry.UNSET, description="owner/name, up to 255 characters."
    )
    target_repository: str | None = strawberry.field(
        default=strawberry.UNSET, description="Which repository it changes."
    )
    branch: str | None = strawberry.field(
        default=strawberry.UNSET, description="The branch runs work on; by default a new one."
    )
    base_branch: str | None = strawberry.field(
        default=strawberry.UNSET, description="What it starts from; by default the default branch."
    )
    spec: str | None = strawberry.field(
        default=strawberry.UNSET, description="Specification, in Markdown."
    )
    context_notes: str | None = strawberry.field(
        default=strawberry.UNSET, description="What else is good to know."
    )
    notes: str | None = strawberry.field(default=strawberry.UNSET, description="Free notes.")
    steps: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="A list of up to 100 items, 64 KiB."
    )
    acceptance_criteria: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="A list of up to 100 items, 64 KiB."
    )
    files_hint: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="A list of up to 100 items, 64 KiB."
    )
    constraints: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="A list of up to 100 items, 64 KiB."
    )
    subtasks: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="A list of up to 100 items, 64 KiB."
    )
    review_comment: str | None = strawberry.field(
        default=strawberry.UNSET, description="What the review says."
    )
    review_verdict: ReviewVerdict | None = strawberry.field(
        default=strawberry.UNSET, description="What the reviewer said."
    )
    review_record: str | None = strawberry.field(
        default=strawberry.UNSET, description="The reviewer's full record."
    )
    internal: bool | None = strawberry.field(
        default=strawberry.UNSET, description="Hides it from default lists."
    )
    due_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="When it is due, with a time zone."
    )
    metadata: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="An object of up to 64 KiB."
    )
    depends_on: list[DependencyInput] | None = strawberry.field(
        default=strawberry.UNSET, description="Replaces what it waits for; up to 100 tasks."
    )


@strawberry.input(description="A new task.")
class CreateTaskInput(TaskFieldsInput):
    """See resolvers.tasks.create_task."""

    workspace_id: strawberry.ID = strawberry.field(description="The board.")
    title: str = strawberry.field(description="One line, 1 to 500 characters.")
    status: TaskStatus = strawberry.field(
        default=TaskStatus.BACKLOG, description="Where it starts; QUEUED enqueues it at once."
    )


@strawberry.input(description="Changes of a task; absent fields stay, null clears.")
class UpdateTaskInput(TaskFieldsInput):
    """See resolvers.tasks.update_task."""

    id: strawberry.ID = strawberry.field(description="The task's id.")
    title: str | None = strawberry.field(
        default=strawberry.UNSET, description="One line, 1 to 500 characters."
    )
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with CONFLICT unless it is at this version."
    )


@strawberry.input(description="Where to drop a card.")
class MoveTaskInput:
    """See resolvers.task_board.move_task."""

    id: strawberry.ID = strawberry.field(description="The task's id.")
    status: TaskStatus | None = strawberry.field(
        default=None, description="The column; absent: the present one."
    )
    before_id: strawberry.ID | None = strawberry.field(
        default=None, description="The card it is put in front of."
    )
    after_id: strawberry.ID | None = strawberry.field(
        default=None, description="The card it is put behind."
    )
    reason: str | None = strawberry.field(default=None, description="Why, up to 2,000 characters.")
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with CONFLICT unless it is at this version."
    )


@strawberry.input(description="A pull request to open.")
class CreatePullRequestInput:
    """See resolvers.pull_requests.create_pull_request."""

    task_id: strawberry.ID = strawberry.field(
        description="A task with changes on its branch, which no run is working on."
    )
    title: str | None = strawberry.field(
        default=None, description="Up to 256 characters; by default the task's."
    )
    body: str | None = strawberry.field(
        default=None, description="Markdown, up to 60,000 characters; by default from the task."
    )
    draft: bool = strawberry.field(default=False, description="Whether a new one is a draft.")


@strawberry.input(description="A run to start.")
class StartRunInput:
    """See resolvers.runs.start_run."""

    task_id: strawberry.ID = strawberry.field(description="A task in BACKLOG or QUEUED.")
    executor: Executor | None = strawberry.field(
        default=None, description="By default the task's, its agent's, the server's."
    )
    model: str | None = strawberry.field(default=None, description="By default the task's.")
    prompt: str | None = strawberry.field(
        default=None, description="Instead of the one made from the task."
    )
    phase: str | None = strawberry.field(
        default=None, description="What the run is for, up to 20 characters."
    )
    agent_id: strawberry.ID | None = strawberry.field(
        default=None, description="The agent it runs as; by default the task's."
    )
    queue: QueueClass | None = strawberry.field(default=None, description="By default the task's.")
    timeout_seconds: int | None = strawberry.field(
        default=None, description="Ends it after so long: 1 to 604,800."
    )
    token_budget: float | None = strawberry.field(
        default=None,
        description="Stops it once it has used so many tokens, sent and answered together.",
    )
    cost_budget_usd: float | None = strawberry.field(
        default=None, description="Stops it once it has used so many US dollars."
    )
