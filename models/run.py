"""Runs, what they print, and the lease under which they execute."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, Json, Tokens, new_id, new_public_id
from models.enums import QueueClass, RunKind, RunStatus
from models.task import DEFAULT_PRIORITY_LEVEL


class Run(SQLModel, table=True):
    """One execution, for a task or for none.

    ``managed`` is false for runs that a client drives itself: those are never dispatched, adopted
    or timed out. The lease (owner, token, expiry) fences the server that executes the run: what an
    older token says is refused.
    """

    __tablename__ = "run"
    __table_args__ = (
        sa.Index("ix_run_task", "task_id", "created_at", "id"),
        sa.Index("ix_run_workspace", "workspace_id", "created_at", "id"),
        sa.Index("ix_run_queue", "status", "managed", "queue_rank", "queue_key", "queued_at", "id"),
        sa.Index("ix_run_command", "workspace_id", "kind", "created_by", "created_at", "id"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    public_id: str = Field(default_factory=new_public_id, max_length=12, unique=True)
    workspace_id: str = Field(sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE")
    task_id: str | None = Field(default=None, sa_type=Id, foreign_key="task.id", ondelete="CASCADE")
    agent_id: str | None = Field(
        default=None, sa_type=Id, foreign_key="agent.id", ondelete="SET NULL", index=True
    )
    resumed_from_id: str | None = Field(default=None, sa_type=Id)
    kind: str = Field(default=RunKind.TASK, max_length=10)
    phase: str | None = Field(default=None, max_length=20)
    stage: str | None = Field(default=None, max_length=100)
    environment: str = Field(default="cloud", max_length=10)
    executor: str = Field(max_length=20)
    model: str | None = Field(default=None, max_length=100)
    managed: bool = True
    status: str = Field(default=RunStatus.QUEUED, max_length=14)
    reason: str | None = Field(default=None, max_length=40)
    error: str | None = Field(default=None, sa_type=sa.Text)
    attempt: int = 1
    queue_class: str = Field(default=QueueClass.NORMAL, max_length=6)
    queue_rank: int = 1
    queue_key: float = 0.0
    priority_level: int = DEFAULT_PRIORITY_LEVEL
    prompt: str | None = Field(default=None, sa_type=sa.Text)
    command: str | None = Field(default=None, sa_type=sa.Text)
    working_directory: str | None = Field(default=None, max_length=4096)
    timeout_seconds: int | None = None
    token_budget: int | None = Field(default=None, sa_type=sa.BigInteger)
    cost_budget_usd: float | None = None

    branch: str | None = Field(default=None, max_length=255)
    base_branch: str | None = Field(default=None, max_length=255)
    base_commit: str | None = Field(default=None, max_length=64)
    commit_sha: str | None = Field(default=None, max_length=64)
    worktree_path: str | None = Field(default=None, max_length=4096)
    files_changed: int | None = None
    additions: int | None = None
    deletions: int | None = None
    session_id: str | None = Field(default=None, max_length=200)

    host: str | None = Field(default=None, max_length=255)
    process: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    lease_owner: str | None = Field(default=None, max_length=100)
    lease_token: int = 0
    lease_expires_at: datetime | None = None
    stop_requested_at: datetime | None = None
    stop_reason: str | None = Field(default=None, max_length=40)
    exit_code: int | None = None

    activity: str | None = Field(default=None, max_length=500)
    progress: int = 0
    input_tokens: int = Field(default=0, sa_type=Tokens)
    output_tokens: int = Field(default=0, sa_type=Tokens)
    cached_tokens: int = Field(default=0, sa_type=Tokens)
    cost_usd: float = 0.0
    output: dict[str, Any] | None = Field(default=None, sa_type=Json)
    state: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    questions: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    input_count: int = 0
    output_lines: int = 0
    output_bytes: int = Field(default=0, sa_type=sa.BigInteger)
    stdout_offset: int = Field(default=0, sa_type=sa.BigInteger)
    stderr_offset: int = Field(default=0, sa_type=sa.BigInteger)

    queued_at: datetime | None = None
    started_at: datetime | None = None
    last_output_at: datetime | None = None
    finished_at: datetime | None = None
    created_by: str | None = Field(default=None, sa_type=Id)
    created_at: datetime
    updated_at: datetime
    version: int = 1


class RunInput(SQLModel, table=True):
    """Something a run is told while it works: an answer or a message, for the process beside it.

    ``data`` is what ``runner.beside.orders`` says, without the number.
    """

    __tablename__ = "run_input"

    run_id: str = Field(primary_key=True, sa_type=Id, foreign_key="run.id", ondelete="CASCADE")
    number: int = Field(primary_key=True)
    data: dict[str, Any] = Field(sa_type=Json)
    created_by: str | None = Field(default=None, sa_type=Id)
    created_at: datetime


class RunOutput(SQLModel, table=True):
    """A chunk of a run's output log: consecutive lines, compressed.

    ``data`` is a zlib-compressed JSON list of entries; entry i is line ``first_line + i``. The
    chunk and the file offsets in ``run`` advance in one transaction, so each line is kept once.
    """

    __tablename__ = "run_output"

    run_id: str = Field(primary_key=True, sa_type=Id, foreign_key="run.id", ondelete="CASCADE")
    first_line: int = Field(primary_key=True)
    last_line: int
    data: bytes
    created_at: datetime
