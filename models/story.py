"""Stories and the sprints they are planned into."""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, new_id
from models.enums import SprintStatus, StoryStatus
from models.task import DEFAULT_PRIORITY_LEVEL


class Sprint(SQLModel, table=True):
    """A stretch of work with a number of its own per workspace, counted from 0."""

    __tablename__ = "sprint"
    __table_args__ = (sa.UniqueConstraint("workspace_id", "number"),)

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    workspace_id: str = Field(sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE")
    number: int
    status: str = Field(default=SprintStatus.PLANNING, max_length=14)
    goal: str | None = Field(default=None, sa_type=sa.Text)
    deadline: str | None = Field(default=None, max_length=40)
    retro_summary: str | None = Field(default=None, sa_type=sa.Text)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1


class Story(SQLModel, table=True):
    """What a user wants, told before it is cut into tasks. No sprint number means backlog."""

    __tablename__ = "story"
    __table_args__ = (
        sa.UniqueConstraint("workspace_id", "number"),
        sa.Index("ix_story_created", "workspace_id", "created_at", "id"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    workspace_id: str = Field(sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE")
    number: int
    title: str = Field(max_length=500)
    description: str = Field(default="", sa_type=sa.Text)
    status: str = Field(default=StoryStatus.OPEN, max_length=12)
    priority_level: int = DEFAULT_PRIORITY_LEVEL
    sprint_number: int | None = None
    feedback: str | None = Field(default=None, sa_type=sa.Text)
    created_by: str | None = Field(default=None, sa_type=Id)
    created_at: datetime
    updated_at: datetime
    version: int = 1
