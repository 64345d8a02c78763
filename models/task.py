"""Tasks: the union of what six languages say about a piece of work, under one set of names."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, Json, new_id, new_public_id
from models.enums import (
    PRIORITY_LEVELS,
    ContextPhase,
    DependencyKind,
    QueueClass,
    TaskPriority,
    TaskStatus,
    TaskType,
)

DEFAULT_PRIORITY_LEVEL = PRIORITY_LEVELS[TaskPriority.MEDIUM].start


class Task(SQLModel, table=True):
    """A piece of work on a board.

    ``metadata`` (attribute ``meta``) keeps what one dialect alone has; ``position`` orders cards
    within a status; ``priority_level`` 0..10 is shown as a bucket; durations are seconds.
    """

    __tablename__ = "task"
    __table_args__ = (
        sa.UniqueConstraint("workspace_id", "number"),
        # Of live tasks only: PostgreSQL does not see that rows are in order behind an IS NULL.
        sa.Index(
            "ix_task_board",
            "workspace_id",
            "position",
            "id",
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        ),
        sa.Index("ix_task_status", "workspace_id", "status", "position", "id"),
        sa.Index("ix_task_sprint", "workspace_id", "sprint_number"),
        sa.Index("ix_task_created", "workspace_id", "created_at", "id"),
        sa.Index("ix_task_updated", "workspace_id", "updated_at", "id"),
        sa.Index("ix_task_title", "workspace_id", "title", "id"),
        sa.Index(
            "ix_task_priority", "workspace_id", sa.text("priority_level DESC"), "position", "id"
        ),
    )

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    public_id: str = Field(default_factory=new_public_id, max_length=12, unique=True)
    workspace_id: str = Field(sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE")
    number: int
    slug: str | None = Field(default=None, max_length=200)
    title: str = Field(max_length=500)
    title_manually_set: bool = True
    description: str = Field(default="", sa_type=sa.Text)
    status: str = Field(default=TaskStatus.BACKLOG, max_length=12)
    status_before: str | None = Field(default=None, max_length=12)
    status_reason: str | None = Field(default=None, sa_type=sa.Text)
    priority_level: int = DEFAULT_PRIORITY_LEVEL
    type: str = Field(default=TaskType.TASK, max_length=10)
    category: str | None = Field(default=None, max_length=12)
    position: float = 0.0
    labels: list[str] = Field(default_factory=list, sa_type=Json)
    progress: int = 0

    owner: str | None = Field(default=None, max_length=64)
    assignee_id: str | None = Field(
        default=None, sa_type=Id, foreign_key="user_account.id", ondelete="SET NULL", index=True
    )
    agent_id: str | None = Field(
        default=None, sa_type=Id, foreign_key="agent.id", ondelete="SET NULL", index=True
    )
    story_id: str | None = Field(
        default=None, sa_type=Id, foreign_key="story.id", ondelete="SET NULL", index=True
    )
    parent_id: str | None = Field(
        default=None, sa_type=Id, foreign_key="task.id", ondelete="SET NULL", index=True
    )
    sprint_number: int | None = None
    story_points: float | None = None
    estimate_seconds: int | None = None

    executor: str | None = Field(default=None, max_length=20)
    agent_name: str | None = Field(default=None, max_length=100)
    model: str | None = Field(default=None, max_length=100)
    command: str | None = Field(default=None, sa_type=sa.Text)
    use_worktree: bool = True
    auto_start: bool = False
    phase: str | None = Field(default=None, max_length=20)
    current_phase: int = 0
    next_action: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    subtasks: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    queue_class: str = Field(default=QueueClass.NORMAL, max_length=6)
    session_id: str | None = Field(default=None, max_length=200)

    repository: str | None = Field(default=None, max_length=255)
    target_repository: str | None = Field(default=None, max_length=255)
    branch: str | None = Field(default=None, max_length=255)
    base_branch: str | None = Field(default=None, max_length=255)
    worktree_path: str | None = Field(default=None, max_length=4096)
    commit_sha: str | None = Field(default=None, max_length=64)
    commits: str | None = Field(default=None, sa_type=sa.Text)
    files_changed: int | None = None
    additions: int | None = None
    deletions: int | None = None
    pull_request_url: str | None = Field(default=None, max_length=2048)
    pull_request_at: datetime | None = None
    merge_commit: str | None = Field(default=None, max_length=64)
    merged_at: datetime | None = None

    spec: str | None = Field(default=None, sa_type=sa.Text)
    context_notes: str | None = Field(default=None, sa_type=sa.Text)
    notes: str = Field(default="", sa_type=sa.Text)
    steps: list[Any] | None = Field(default=None, sa_type=Json)
    acceptance_criteria: list[Any] | None = Field(default=None, sa_type=Json)
    files_hint: list[Any] | None = Field(default=None, sa_type=Json)
    constraints: list[Any] | None = Field(default=None, sa_type=Json)
    review_comment: str | None = Field(default=None, sa_type=sa.Text)
    review_verdict: str | None = Field(default=None, max_length=14)
    review_record: str | None = Field(default=None, sa_type=sa.Text)
    review_reason: str | None = Field(default=None, max_length=20)
    error: str | None = Field(default=None, sa_type=sa.Text)

    origin: str = Field(default="user_created", max_length=50)
    internal: bool = False
    ci_prompt: str | None = Field(default=None, sa_type=sa.Text)
    output_schema: dict[str, Any] | None = Field(default=None, sa_type=Json)
    meta: dict[str, Any] = Field(
        default_factory=dict, sa_type=Json, sa_column_kwargs={"name": "metadata", "key": "meta"}
    )

    due_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    archived_at: datetime | None = None
    deleted_at: datetime | None = None
    created_by: str | None = Field(default=None, sa_type=Id)
    created_at: datetime
    updated_at: datetime
    version: int = 1


class TaskDependency(SQLModel, table=True):
    """``task_id`` waits for ``depends_on_id``; both live in the same workspace, without cycles."""

    __tablename__ = "task_dependency"

    task_id: str = Field(primary_key=True, sa_type=Id, foreign_key="task.id", ondelete="CASCADE")
    depends_on_id: str = Field(
        primary_key=True, sa_type=Id, foreign_key="task.id", ondelete="CASCADE", index=True
    )
    kind: str = Field(default=DependencyKind.BLOCKS, max_length=10)
    created_at: datetime


class TaskContext(SQLModel, table=True):
    """A file an agent is told to read in one phase of a task, and why."""

    __tablename__ = "task_context"
    __table_args__ = (sa.UniqueConstraint("task_id", "phase", "path"),)

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    task_id: str = Field(sa_type=Id, foreign_key="task.id", ondelete="CASCADE")
    phase: str = Field(default=ContextPhase.IMPLEMENT, max_length=10)
    path: str = Field(max_length=1024)
    reason: str = Field(default="", max_length=2000)
    kind: str | None = Field(default=None, max_length=10)
    position: int = 0
    created_at: datetime
