"""Kept totals of runs and of what they used: what pages show of them is never counted."""

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from models.base import Id


class RunTotal(SQLModel, table=True):
    """How many managed runs a workspace has per queue and status; commands are left out."""

    __tablename__ = "run_total"

    workspace_id: str = Field(
        primary_key=True, sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE"
    )
    queue_class: str = Field(primary_key=True, max_length=6)
    status: str = Field(primary_key=True, max_length=14)
    total: int = 0


class QueueStatistic(SQLModel, table=True):
    """What happened in one queue of a workspace within a stretch of time.

    Stretches are ``seconds`` long and begin at ``starts_at``, seconds since 1970 in UTC. What
    happens is counted in a short and in a long stretch at once; the short ones are forgotten soon.
    """

    __tablename__ = "queue_statistic"

    workspace_id: str = Field(
        primary_key=True, sa_type=Id, foreign_key="workspace.id", ondelete="CASCADE"
    )
    queue_class: str = Field(primary_key=True, max_length=6)
    seconds: int = Field(primary_key=True)
    starts_at: int = Field(primary_key=True, sa_type=sa.BigInteger)
    enqueued: int = 0
    retried: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    ended: int = 0
    """Those of the last three that had started, over which ``run_seconds`` is a sum."""
    wait_seconds: float = 0.0
    run_seconds: float = 0.0
    most_waiting: int = 0


class UsageTotal(SQLModel, table=True):
    """Tokens and money that runs used, summed for one subject.

    ``subject`` is ``workspace``, ``task``, ``agent`` (with their ids) or ``day`` (with a UTC date);
    the rows of ``workspace_id`` ``site`` sum over all workspaces. Money is kept in whole
    billionths of a US dollar: what a run adds is always the difference of two rounded values, so a
    sum is exact however often, and in whichever order, it grew.
    """

    __tablename__ = "usage_total"

    workspace_id: str = Field(primary_key=True, sa_type=Id)
    subject: str = Field(primary_key=True, max_length=10)
    subject_id: str = Field(primary_key=True, max_length=36)
    input_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    output_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    cached_tokens: int = Field(default=0, sa_type=sa.BigInteger)
    cost_nano_usd: int = Field(default=0, sa_type=sa.BigInteger)
