"""Devices that can be notified, what they show just now, and notifications on their way."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, Json, new_id


class Device(SQLModel, table=True):
    """A push token of a user; found by its SHA-256, and kept encrypted for whoever pushes."""

    __tablename__ = "device"
    __table_args__ = (sa.UniqueConstraint("user_id", "token_hash"),)

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    user_id: str = Field(sa_type=Id, foreign_key="user_account.id", ondelete="CASCADE")
    platform: str = Field(max_length=10)
    token_hash: str = Field(max_length=64)
    token_encrypted: bytes
    created_at: datetime
    last_seen_at: datetime


class Presence(SQLModel, table=True):
    """A device that shows a task, until it says so no more or ``expires_at`` comes."""

    __tablename__ = "presence"
    __table_args__ = (sa.Index("ix_presence_expires", "expires_at"),)

    task_id: str = Field(primary_key=True, sa_type=Id, foreign_key="task.id", ondelete="CASCADE")
    device_id: str = Field(
        primary_key=True, sa_type=Id, foreign_key="device.id", ondelete="CASCADE", index=True
    )
    expires_at: datetime


class Notification(SQLModel, table=True):
    """Something a user is to be told of, until the operator's notifier has taken it.

    Rows are removed when they are delivered, or given up.
    """

    __tablename__ = "notification"
    __table_args__ = (sa.Index("ix_notification_due", "next_attempt_at"),)

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    workspace_id: str = Field(
        sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE", index=True
    )
    user_id: str = Field(sa_type=Id, foreign_key="user_account.id", ondelete="CASCADE", index=True)
    type: str = Field(max_length=40)
    payload: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    attempt_count: int = 0
    next_attempt_at: datetime
    lease_token: int = 0
    created_at: datetime
