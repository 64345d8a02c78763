"""Webhooks, and the deliveries of events to them."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, Json, new_id, new_public_id
from models.enums import DeliveryStatus


class Webhook(SQLModel, table=True):
    """Where events of a workspace are delivered to.

    ``read_seq`` is its place in the workspace's log: events up to it have become deliveries, or
    are none of its business. ``secrets_encrypted`` holds the newest secret first; an older one
    signs too until ``previous_secret_until``. ``failures`` counts deliveries given up in a row.
    """

    __tablename__ = "webhook"
    __table_args__ = (sa.Index("uq_webhook_public_id", "public_id", unique=True),)

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    public_id: str = Field(default_factory=new_public_id, max_length=12)
    workspace_id: str | None = Field(
        default=None, sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE", index=True
    )
    dialect: str | None = Field(default=None, max_length=20)
    url: str = Field(max_length=2048)
    description: str = Field(default="", max_length=500)
    event_types: list[str] = Field(default_factory=list, sa_type=Json)
    secrets_encrypted: list[str] = Field(default_factory=list, sa_type=Json)
    is_active: bool = True
    disabled_reason: str | None = Field(default=None, max_length=200)
    read_seq: int = Field(default=0, sa_type=sa.BigInteger)
    created_by: str | None = Field(default=None, sa_type=Id)
    created_at: datetime
    updated_at: datetime
    version: int = 1
    previous_secret_until: datetime | None = None
    failures: int = 0


class Delivery(SQLModel, table=True):
    """One event on its way to one webhook, with its last attempts.

    While a server sends it, the lease (owner, token, expiry) keeps the others off. A redelivery
    was asked for by somebody: it is tried once, and neither waits for others nor lets them wait.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        sa.UniqueConstraint("webhook_id", "stream_id", "seq"),
        sa.Index("ix_delivery_due", "status", "next_attempt_at"),
        sa.Index("ix_delivery_created", "created_at"),
        sa.Index("ix_delivery_order", "webhook_id", "status", "seq"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, sa_type=Id)
    webhook_id: str = Field(sa_type=Id, foreign_key="webhook.id", ondelete="CASCADE")
    stream_id: str = Field(sa_type=Id)
    seq: int = Field(sa_type=sa.BigInteger)
    status: str = Field(default=DeliveryStatus.PENDING, max_length=10)
    attempts: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    next_attempt_at: datetime | None = None
    delivered_at: datetime | None = None
    created_at: datetime
    event_type: str = Field(default="", max_length=40)
    entity_id: str = Field(default="", max_length=80)
    attempt_count: int = 0
    is_redelivery: bool = False
    lease_owner: str | None = Field(default=None, max_length=100)
    lease_token: int = 0
    lease_expires_at: datetime | None = None
