"""The event log, and the record of idempotent requests."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id, Json

SITE_STREAM = "site"
"""The stream of events that belong to no workspace."""


class EventStream(SQLModel, table=True):
    """Head and floor of one log: a workspace's, or the site's.

    A row of its own, so that taking sequence numbers (last in a transaction) locks nothing else.
    ``floor`` is the seq after which the log is complete; ``epoch`` changes only by a restore.
    """

    __tablename__ = "event_stream"

    id: str = Field(primary_key=True, sa_type=Id)
    epoch: int = 1
    seq: int = Field(default=0, sa_type=sa.BigInteger)
    floor: int = Field(default=0, sa_type=sa.BigInteger)


class Event(SQLModel, table=True):
    """Something that happened, with a bounded snapshot of the entity after it."""

    __tablename__ = "event"
    __table_args__ = (sa.Index("ix_event_entity", "stream_id", "entity_id", "seq"),)

    stream_id: str = Field(primary_key=True, sa_type=Id)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    epoch: int
    type: str = Field(max_length=40)
    entity_type: str = Field(max_length=20)
    entity_id: str = Field(max_length=80)
    actor_type: str = Field(max_length=10)
    actor_id: str | None = Field(default=None, sa_type=Id)
    actor_name: str | None = Field(default=None, max_length=100)
    payload: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    at: datetime


class IdempotencyRecord(SQLModel, table=True):
    """A request that carried an idempotency key, and what its steps did.

    ``steps`` maps the index of a root mutation to its stamp; ``locked_until`` is set while a server
    (``locked_by``) works on it.
    """

    __tablename__ = "idempotency_record"
    __table_args__ = (sa.Index("ix_idempotency_record_expires", "expires_at"),)

    principal: str = Field(primary_key=True, max_length=80)
    key: str = Field(primary_key=True, max_length=200)
    request_hash: str = Field(max_length=64)
    steps: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    done: bool = False
    locked_by: str | None = Field(default=None, max_length=100)
    locked_until: datetime | None = None
    status: int | None = None
    body: bytes | None = None
    created_at: datetime
    expires_at: datetime
