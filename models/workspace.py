"""Workspaces (a dialect's project), the repositories in them, and their counters."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, Json, new_id
from models.enums import Workflow, WorkspaceStatus


class Workspace(SQLModel, table=True):
    """One board: tasks, stories, sprints, agents and runs, and the repository they work on."""

    __tablename__ = "workspace"
    __table_args__ = (
        sa.Index(
            "uq_workspace_slug_live",
            "slug",
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        ),
        sa.UniqueConstraint("number"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    number: int
    slug: str = Field(max_length=100)
    name: str = Field(max_length=255)
    description: str = Field(default="", sa_type=sa.Text)
    repository_url: str | None = Field(default=None, max_length=2048)
    local_path: str | None = Field(default=None, max_length=4096)
    default_branch: str | None = Field(default=None, max_length=255)
    status: str = Field(default=WorkspaceStatus.ACTIVE, max_length=10)
    settings: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    limits: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    spec: str | None = Field(default=None, sa_type=sa.Text)
    language: str = Field(default="en", max_length=35)
    workflow: str = Field(default=Workflow.KANBAN, max_length=10)
    agent_type: str | None = Field(default=None, max_length=100)
    github_organization: str | None = Field(default=None, max_length=100)
    github_login: str | None = Field(default=None, max_length=100)
    max_concurrent: int = 4
    pull_mode: bool = False
    queue_paused: list[str] = Field(default_factory=list, sa_type=Json)
    worktree_setup: dict[str, Any] | None = Field(default=None, sa_type=Json)
    run_token_budget: int | None = Field(default=None, sa_type=sa.BigInteger)
    run_cost_budget_usd: float | None = None
    day_token_budget: int | None = Field(default=None, sa_type=sa.BigInteger)
    day_cost_budget_usd: float | None = None
    created_by: str | None = Field(default=None, sa_type=Id)
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None
    deleted_at: datetime | None = None
    version: int = 1


class GitCredential(SQLModel, table=True):
    """What opens the repositories of a workspace on one host; the secret is encrypted."""

    __tablename__ = "git_credential"

    workspace_id: str = Field(
        primary_key=True, sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE"
    )
    host: str = Field(primary_key=True, max_length=255)
    username: str = Field(max_length=255)
    secret_encrypted: bytes
    updated_by: str | None = Field(default=None, sa_type=Id)
    updated_at: datetime


class Counter(SQLModel, table=True):
    """The last number given out in a scope (a workspace id or ``site``) for one kind of thing."""

    __tablename__ = "counter"

    scope: str = Field(primary_key=True, sa_type=Id)
    name: str = Field(primary_key=True, max_length=20)
    value: int = 0


class TaskTotal(SQLModel, table=True):
    """How many live tasks a workspace has per status, archived ones apart: kept, never counted."""

    __tablename__ = "task_total"

    workspace_id: str = Field(
        primary_key=True, sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE"
    )
    status: str = Field(primary_key=True, max_length=12)
    archived: bool = Field(primary_key=True)
    total: int = 0


class Repository(SQLModel, table=True):
    """One of the repositories a workspace's agents may use."""

    __tablename__ = "repository"
    __table_args__ = (sa.UniqueConstraint("workspace_id", "name"),)

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    workspace_id: str = Field(sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE")
    name: str = Field(max_length=100)
    path: str = Field(default="", max_length=2048)
    url: str = Field(default="", max_length=2048)
    description: str = Field(default="", sa_type=sa.Text)
    access_agents: list[str] = Field(default_factory=list, sa_type=Json)
    created_at: datetime
    updated_at: datetime
