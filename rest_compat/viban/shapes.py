"""Viban's wire models, and records as they show them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from models import Run, Task, Workspace
from models.base import PUBLIC_ID_LENGTH
from models.enums import Executor
from rest_compat.viban import words

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
OFFSET_MAX = 2**31 - 1
SECONDS_LENGTH = len("2026-01-31T12:00:00")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

TaskWord = Literal["todo", "inprogress", "inreview", "done"]
ExecutionWord = Literal["pending", "running", "completed", "failed", "cancelled"]
AgentWord = Literal[
    "claude_code", "gemini_cli", "codex", "opencode", "cursor_agent",
    "kiro", "kilo", "iflow", "antigravity", "custom",
]  # fmt: skip
EventWord = Literal["task.created", "task.started", "task.completed", "task.failed"]
ProjectId = Annotated[str, Field(pattern="^proj_[a-z0-9]{12}$")]
TaskId = Annotated[str, Field(pattern="^task_[a-z0-9]{12}$")]
ExecutionId = Annotated[str, Field(pattern="^exec_[a-z0-9]{12}$")]
Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewProject(_Request):
    """A project to be made."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
    repository_url: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2048)
    ] = Field(
        description="https, http or ssh address, or git@host:path; file:// and absolute paths "
        "where the server allows local repositories."
    )


class NewTask(_Request):
    """A task to be added."""

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
    description: Annotated[str, StringConstraints(max_length=50_000)] | None = None
    status: TaskWord = "todo"
    agent: AgentWord | None = None


class TaskChange(_Request):
    """Changes of a task; absent fields stay."""

    title: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)
    ] = ""
    description: Annotated[str, StringConstraints(max_length=50_000)] | None = None
    status: TaskWord = "todo"
    agent: AgentWord | None = None


class TaskQuery(BaseModel):
    """Which tasks of a project."""

    model_config = ConfigDict(extra="ignore")

    status: TaskWord | None = None
    limit: Annotated[int, Field(ge=1)] = LIMIT_DEFAULT
    offset: Annotated[int, Field(ge=0)] = 0


class Project(_Shown):
    """A repository with a board."""

    id: ProjectId
    name: str
    repository_url: str | None
    created_at: Moment
    updated_at: Moment


class TaskShown(_Shown):
    """A card."""

    id: TaskId
    project_id: ProjectId
    title: str
    description: str | None
    status: TaskWord
    created_at: Moment
    updated_at: Moment


class Execution(_Shown):
    """One run of an agent."""

    id: ExecutionId
    task_id: TaskId
    status: ExecutionWord
    agent: AgentWord
    started_at: Moment | None
    completed_at: Moment | None
    worktree_path: str | None
    exit_code: int | None
    error_message: str | None
    branch: str | None


class Meta(_Shown):
    """Where a page of tasks lies; ``limit`` is the one used."""

    total: int
    limit: int
    offset: int


class ProjectAnswer(_Shown):
    """One project."""

    data: Project


class ProjectsAnswer(_Shown):
    """All visible projects, oldest first."""

    data: list[Project]


class TaskAnswer(_Shown):
    """One task."""

    data: TaskShown


class TasksAnswer(_Shown):
    """A page of tasks, oldest first."""

    data: list[TaskShown]
    meta: Meta


class ExecutionAnswer(_Shown):
    """One execution."""

    data: Execution


class ExecutionsAnswer(_Shown):
    """Executions of a task, newest first."""

    data: list[Execution]


class Refinement(_Shown):
    """What an agent proposes, in Markdown."""

    refined_description: str


class RefinementAnswer(_Shown):
    """A proposal."""

    data: Refinement


class HealthAnswer(_Shown):
    """Whether the server works."""

    status: Literal["ok", "error"]
    database: Literal["connected", "disconnected"]


class ErrorShown(_Shown):
    """What went wrong; ``details`` names fields with their reasons."""

    code: Literal[
        "unauthorized", "forbidden", "not_found", "validation_error", "rate_limited", "conflict",
        "internal_error", "agent_unavailable",
    ]  # fmt: skip
    message: str
    details: dict[str, Any]


class ErrorAnswer(_Shown):
    """The body of every refusal."""

    error: ErrorShown


def project_id(number: int) -> str:
    """A workspace's number as a project id."""
    digits = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return "proj_" + digits.rjust(PUBLIC_ID_LENGTH, "0")


def number_of(project: str) -> int:
    """The number in a project id; 0, which no workspace has, where it is none."""
    tail = project.removeprefix("proj_")
    if len(tail) != PUBLIC_ID_LENGTH or tail == project or not set(tail) <= set(_DIGITS):
        return 0
    return int(tail, len(_DIGITS))


def moment(value: datetime | None) -> str | None:
    """A time, which is in UTC here as everywhere, in whole seconds."""
    return None if value is None else value.isoformat()[:SECONDS_LENGTH] + "Z"


PROJECT_COLUMNS = (
    "id", "number", "name", "repository_url", "local_path", "created_at", "updated_at",
)  # fmt: skip
"""What :func:`project` looks at, and the key."""


def project(workspace: Workspace) -> dict[str, Any]:
    """A workspace as a project."""
    return {
        "id": project_id(workspace.number),
        "name": workspace.name,
        "repository_url": workspace.repository_url or workspace.local_path,
        "created_at": moment(workspace.created_at),
        "updated_at": moment(workspace.updated_at),
    }


TASK_COLUMNS = ("public_id", "title", "description", "status", "created_at", "updated_at")
"""What :func:`task` looks at."""


def task(record: Task, project: str) -> dict[str, Any]:
    """A task of the project with this id."""
    return {
        "id": "task_" + record.public_id,
        "project_id": project,
        "title": record.title,
        "description": record.description or None,
        "status": words.TASK[record.status],
        "created_at": moment(record.created_at),
        "updated_at": moment(record.updated_at),
    }


EXECUTION_COLUMNS = (
    "public_id", "status", "stop_requested_at", "stop_reason", "finished_at", "executor",
    "started_at", "worktree_path", "exit_code", "error", "branch",
)  # fmt: skip
"""What :func:`execution` looks at."""


def execution(run: Run, task: str) -> dict[str, Any]:
    """A run of the task with this id; one that was told to stop counts as cancelled."""
    stopped = run.stop_requested_at if run.stop_reason != "paused" else None
    ended = run.finished_at or stopped
    status = words.EXECUTION[run.status]
    return {
        "id": "exec_" + run.public_id,
        "task_id": task,
        "status": "cancelled" if stopped is not None and run.finished_at is None else status,
        "agent": words.AGENT[Executor(run.executor)],
        "started_at": moment(run.started_at),
        "completed_at": moment(ended),
        "worktree_path": run.worktree_path,
        "exit_code": run.exit_code,
        "error_message": run.error,
        "branch": run.branch,
    }
