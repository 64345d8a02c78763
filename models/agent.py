"""Agents of a workspace and what they report."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, Json, new_id
from models.enums import AgentStatus, ExecutionMode


class Agent(SQLModel, table=True):
    """A coding agent under a name of its own; ``engine`` is free text, ``executor`` one of ours."""

    __tablename__ = "agent"
    __table_args__ = (sa.UniqueConstraint("workspace_id", "name"),)

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    workspace_id: str = Field(sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE")
    name: str = Field(max_length=100)
    role: str | None = Field(default=None, max_length=64)
    executor: str | None = Field(default=None, max_length=20)
    engine: str | None = Field(default=None, max_length=100)
    execution_mode: str = Field(default=ExecutionMode.LOCAL, max_length=5)
    model: str | None = Field(default=None, max_length=100)
    system_prompt: str | None = Field(default=None, sa_type=sa.Text)
    command: list[str] | None = Field(default=None, sa_type=Json)
    api_key_encrypted: bytes | None = None
    status: str = Field(default=AgentStatus.IDLE, max_length=10)
    status_word: str | None = Field(default=None, max_length=50)
    activity: str | None = Field(default=None, max_length=500)
    parent_name: str | None = Field(default=None, max_length=100)
    port: int | None = None
    was_active: bool = False
    last_seen_at: datetime | None = None
    meta: dict[str, Any] = Field(
        default_factory=dict, sa_type=Json, sa_column_kwargs={"name": "metadata", "key": "meta"}
    )
    created_at: datetime
    updated_at: datetime
    version: int = 1


class AgentProgress(SQLModel, table=True):
    """One line of what an agent says it is doing."""

    __tablename__ = "agent_progress"
    __table_args__ = (
        sa.Index("ix_agent_progress_latest", "workspace_id", "agent_name", "created_at", "id"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    workspace_id: str = Field(sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE")
    agent_name: str = Field(max_length=100)
    task_name: str | None = Field(default=None, max_length=500)
    step: str | None = Field(default=None, max_length=500)
    file: str | None = Field(default=None, max_length=1024)
    detail: str | None = Field(default=None, sa_type=sa.Text)
    created_at: datetime
