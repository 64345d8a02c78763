"""Idempotency keys: a request that is sent again has the effect of one.

A record is claimed before the request runs. Each root mutation stamps what it did (or how it was
refused) in its own transaction, so a server that dies in between leaves no doubt: the retry skips
the stamped steps and renders them again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import IdempotencyRecord, table_of
from models.base import Record
from models.transaction import Transaction, upsert
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidError, OperationError
from resolvers.events import Position
from resolvers.operation import step

KEY_LENGTH = 200
LIFETIME = timedelta(hours=24)
LOCK = timedelta(seconds=60)

RECORD = table_of(IdempotencyRecord).c


@dataclass(slots=True)
class IdempotentRequest:
    """A claimed request: which of its steps are done, and where the next stamp goes.

    ``step`` is the index of the root mutation that runs now; ``steps_expected`` how many there are.
    """

    principal: str
    key: str
    steps_expected: int
    steps: dict[str, Any] = field(default_factory=dict)
    step: int = 0

    def stamped(self) -> dict[str, Any] | None:
        """The stamp of the current step, if an earlier request left one."""
        return self.steps.get(str(self.step))

    async def stamp(
        self, transaction: Transaction, result: Any, heads: Mapping[str, Position]
    ) -> None:
        """Record what the current step did, in its own transaction."""
        positions = [[p.stream_id, p.epoch, p.seq] for p in heads.values()]
        await self._store(transaction, {"result": stamp_of(result), "positions": positions})

    async def _store(self, transaction: Transaction, stamp: dict[str, Any]) -> None:
        self.steps = {**self.steps, str(self.step): stamp}
        done = len(self.steps) >= self.steps_expected
        await transaction.execute(
            sa.update(table_of(IdempotencyRecord))
            .where(RECORD.principal == self.principal, RECORD.key == self.key)
            .values(
                steps=self.steps,
                done=done,
                **({"locked_by": None, "locked_until": None} if done else {}),
            )
        )


def stamp_of(result: Any) -> Any:
    """What is kept of a result: an entity's kind and id, or its own ``to_stamp()``."""
    if isinstance(result, Record):
        return {"entity": type(result).__name__, "id": result.id}  # type: ignore[attr-defined]  # a record's slot
    if result is None:
        return None
    return result.to_stamp()


@step
async def claim_request(
    ctx: Context, *, key: str, request_hash: str, steps_expected: int
) -> IdempotentRequest:
    """Claim an idempotency key for the running request.

    Args:
        ctx: the request's context, with a principal.
        key: the client's key, 1 to 200 visible ASCII characters.
        request_hash: SHA-256 of the request, hexadecimal.
        steps_expected: how many root mutations the request has.

    Raises:
        InvalidError: the key is malformed.
        ConflictError: the key was used for another request, or this one is still in progress.
    """
    if not 1 <= len(key) <= KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise InvalidError(
            f"An idempotency key has 1 to {KEY_LENGTH} visible ASCII characters",
            field="idempotencyKey",
        )
    principal, now = ctx.authenticated().key, ctx.now
    instance = ctx.services.instance
    await ctx.transaction.execute(
        upsert(ctx.transaction, IdempotencyRecord)
        .values(
            principal=principal,
            key=key,
            request_hash=request_hash,
            steps={},
            done=False,
            created_at=now,
            expires_at=now + LIFETIME,
        )
        .on_conflict_do_nothing()
    )
    statement = sa.select(*table_of(IdempotencyRecord).c).where(
        RECORD.principal == principal, RECORD.key == key
    )
    if ctx.transaction.dialect == "postgresql":
        statement = statement.with_for_update()
    (record,) = await ctx.transaction.records(IdempotencyRecord, statement)
    if record.expires_at <= now:
        record.steps, record.done, record.locked_until = {}, False, None
        record.request_hash = request_hash
    if record.request_hash != request_hash:
        raise ConflictError("This idempotency key was used for another request")
    if not record.done and record.locked_until is not None and record.locked_until > now:
        raise ConflictError(
            "A request with this idempotency key is in progress",
            retry_after=max(1, int((record.locked_until - now).total_seconds())),
        )
    await ctx.transaction.update(
        IdempotencyRecord,
        RECORD.principal == principal,
        RECORD.key == key,
        request_hash=request_hash,
        steps=record.steps,
        done=record.done,
        locked_by=None if record.done else instance,
        locked_until=None if record.done else now + LOCK,
        expires_at=max(record.expires_at, now + LIFETIME) if not record.done else record.expires_at,
    )
    return IdempotentRequest(principal, key, steps_expected, dict(record.steps))


@step
async def stamp_refusal(ctx: Context, *, error: OperationError) -> None:
    """Record that the current step was refused, so that a retry is refused alike."""
    assert ctx.idempotency is not None  # noqa: S101  # only called for idempotent requests
    await ctx.idempotency._store(  # noqa: SLF001  # the other half of this module
        ctx.transaction,
        {"error": {"code": error.code, "message": error.message, "details": error.details}},
    )


@step
async def release_request(ctx: Context, *, request: IdempotentRequest) -> None:
    """Unlock a claimed request that ended without all its steps, so that it can be retried."""
    await ctx.transaction.execute(
        sa.update(table_of(IdempotencyRecord))
        .where(
            RECORD.principal == request.principal,
            RECORD.key == request.key,
            RECORD.done.is_(False),
        )
        .values(locked_by=None, locked_until=None)
    )


@step
async def release_dead_instance(ctx: Context, *, instance: str | None) -> int:
    """Unlock what a dead server left locked (all of it when ``instance`` is None); how many."""
    condition: list[sa.ColumnElement[bool]] = [RECORD.locked_by.is_not(None)]
    if instance is not None:
        condition.append(RECORD.locked_by == instance)
    return await ctx.transaction.execute(
        sa.update(table_of(IdempotencyRecord))
        .where(*condition)
        .values(locked_by=None, locked_until=None)
    )


@step
async def drop_expired_requests(ctx: Context) -> int:
    """Forget idempotency records past their 24 hours; how many."""
    return await ctx.transaction.execute(
        sa.delete(table_of(IdempotencyRecord)).where(RECORD.expires_at <= ctx.now)
    )
