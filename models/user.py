"""People and programs, what they may do, and the keys they carry."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, Json, new_id
from models.enums import KeyKind, Role, UserKind, UserTier


class User(SQLModel, table=True):
    """A person or a service account. ``role`` is its role in all workspaces, if any."""

    __tablename__ = "user_account"
    __table_args__ = (
        sa.Index("uq_user_account_name_folded", sa.text("lower(name)"), unique=True),
        sa.UniqueConstraint("number"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    number: int
    name: str = Field(max_length=100)
    kind: str = Field(default=UserKind.PERSON, max_length=10)
    email: str | None = Field(default=None, max_length=320)
    full_name: str | None = Field(default=None, max_length=200)
    avatar_url: str | None = Field(default=None, max_length=2048)
    role: str | None = Field(default=None, max_length=10)
    is_site_owner: bool = False
    is_active: bool = True
    password_hash: str | None = Field(default=None, max_length=200)
    tier: str = Field(default=UserTier.STANDARD, max_length=10)
    github_id: int | None = None
    github_login: str | None = Field(default=None, max_length=100)
    preferences: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    last_login_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1


class Membership(SQLModel, table=True):
    """The role of a user in one workspace."""

    __tablename__ = "membership"

    workspace_id: str = Field(
        primary_key=True, sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE"
    )
    user_id: str = Field(
        primary_key=True, sa_type=Id, foreign_key="user_account.id", ondelete="CASCADE", index=True
    )
    role: str = Field(default=Role.DEVELOPER, max_length=10)
    created_at: datetime
    updated_at: datetime


class ApiKey(SQLModel, table=True):
    """A bearer credential: 256 random bits shown once, of which only the SHA-256 is kept."""

    __tablename__ = "api_key"

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    secret_hash: str = Field(max_length=64, unique=True)
    prefix: str = Field(max_length=12)
    name: str = Field(default="", max_length=200)
    kind: str = Field(default=KeyKind.PERSONAL, max_length=10)
    user_id: str | None = Field(
        default=None, sa_type=Id, foreign_key="user_account.id", ondelete="CASCADE", index=True
    )
    agent_id: str | None = Field(
        default=None, sa_type=Id, foreign_key="agent.id", ondelete="CASCADE", index=True
    )
    workspace_id: str | None = Field(
        default=None, sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE", index=True
    )
    dialect: str | None = Field(default=None, max_length=20)
    scopes: list[str] = Field(default_factory=list, sa_type=Json)
    expires_at: datetime | None = None
    sliding_seconds: int | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    created_by: str | None = Field(default=None, sa_type=Id)
    created_at: datetime


class LoginThrottle(SQLModel, table=True):
    """Failed log-ins per name and address in the current window."""

    __tablename__ = "login_throttle"

    key: str = Field(primary_key=True, max_length=200)
    window_started_at: datetime
    failures: int = 0
