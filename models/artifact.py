"""Files that belong to tasks and runs; their bytes lie in the blob store."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, Json, new_id
from models.enums import ArtifactStatus


class Artifact(SQLModel, table=True):
    """A file under ``storage_path`` in the blob store.

    PENDING: its row was written so that its bytes may come. Without a run it is staged: kept for
    the next run of its task. ``expires_at``: when row and bytes are removed; None for never.
    """

    __tablename__ = "artifact"
    __table_args__ = (
        sa.Index("ix_artifact_run", "run_id", "created_at", "id"),
        sa.Index("ix_artifact_task", "task_id", "run_id"),
        sa.Index("ix_artifact_expires", "expires_at"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    workspace_id: str = Field(sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE")
    task_id: str = Field(sa_type=Id, foreign_key="task.id", ondelete="CASCADE")
    run_id: str | None = Field(default=None, sa_type=Id, foreign_key="run.id", ondelete="CASCADE")
    status: str = Field(default=ArtifactStatus.PENDING, max_length=10)
    name: str = Field(max_length=255)
    type: str = Field(max_length=30)
    source: str = Field(default="", max_length=64)
    content_type: str = Field(default="", max_length=255)
    size: int = Field(sa_type=sa.BigInteger)
    storage_path: str = Field(max_length=700, unique=True)
    meta: dict[str, Any] | None = Field(
        default=None, sa_type=Json, sa_column_kwargs={"name": "metadata", "key": "meta"}
    )
    created_by: str | None = Field(default=None, sa_type=Id)
    created_at: datetime
    uploaded_at: datetime | None = None
    expires_at: datetime | None = None
