"""Idempotency keys: a request that is sent again has the effect of one.

A record is claimed before the request runs. Each root mutation stamps what it did (or how it was
refused) in its own transaction, so a server that dies in between leaves no doubt: the retry skips
the stamped steps and renders them again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from models import IdempotencyRecord, table_of
from models.base import Record
from models.commands import NEW, Command, DialectName
from models.transaction import Transaction, select_all, upserting
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

    ``step`` is the index of the root mutation that runs now; ``steps_expected`` how many there
    are, where that is known beforehand: then the last stamp settles the record, in its transaction.
    A mutation of many independent parts stamps each as it is done (``3.0``, ``3.1`` …); its own
    stamp, made last, replaces theirs. ``answer`` is the status and body of a REST request that was
    answered before.
    """

    principal: str
    key: str
    steps_expected: int | None = None
    steps: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    is_settled: bool = False
    answer: tuple[int, bytes] | None = None
    _part: int | None = None

    @property
    def current(self) -> str:
        """Name of the stamp that is made next: of the current step, or of a part of it."""
        return str(self.step) if self._part is None else f"{self.step}.{self._part}"

    @property
    def steps_done(self) -> int:
        """How many steps are stamped."""
        return _whole(self.steps)

    def stamped(self) -> dict[str, Any] | None:
        """The stamp of the current step or part, if an earlier request left one."""
        return self.steps.get(self.current)

    @contextmanager
    def part(self, index: int) -> Iterator[None]:
        """Stamps made inside belong to one part of the current step."""
        self._part = index
        try:
            yield
        finally:
            self._part = None

    async def stamp(
        self, transaction: Transaction, result: Any, heads: Mapping[str, Position]
    ) -> None:
        """Record what the current step did, in its own transaction."""
        positions = [[p.stream_id, p.epoch, p.seq] for p in heads.values()]
        await self._store(transaction, {"result": stamp_of(result), "positions": positions})

    async def _store(self, transaction: Transaction, stamp: dict[str, Any]) -> None:
        parts = f"{self.current}."
        steps = {name: old for name, old in self.steps.items() if not name.startswith(parts)}
        steps[self.current] = stamp
        done = self.steps_expected is not None and _whole(steps) >= self.steps_expected
        changes: dict[str, Any] = {"steps": steps, "done": done}
        if done:
            changes.update(locked_by=None, locked_until=None)
        await _change(transaction, self.principal, self.key, changes)
        transaction.after_commit.append(lambda: self._stored(steps, done=done))

    def _stored(self, steps: dict[str, Any], *, done: bool) -> None:
        """Believe in a stamp only now: a commit that fails has undone what it stands for."""
        self.steps = steps
        self.is_settled = done


def _whole(steps: Mapping[str, Any]) -> int:
    return sum("." not in name for name in steps)


def stamp_of(result: Any) -> Any:
    """What is kept of a result: an entity's kind and id, or its own ``to_stamp()``."""
    if isinstance(result, Record):
        return {"entity": type(result).__name__, "id": result.id}  # type: ignore[attr-defined]  # a record's slot
    if result is None:
        return None
    return result.to_stamp()


@step
async def claim_request(
    ctx: Context, *, key: str, request_hash: str, steps_expected: int | None = None
) -> IdempotentRequest:
    """Claim an idempotency key for the running request.

    Args:
        ctx: the request's context, with a principal.
        key: the client's key, 1 to 200 visible ASCII characters.
        request_hash: SHA-256 of the request, hexadecimal.
        steps_expected: how many root mutations the request has, where known.

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
    names = {"principal": principal, "key": key}
    await ctx.transaction.touch(
        ADD_UNLESS_THERE,
        {
            **names,
            "request_hash": request_hash,
            "steps": {},
            "done": False,
            "created_at": now,
            "expires_at": now + LIFETIME,
        },
    )
    (record,) = await ctx.transaction.run_records(IdempotencyRecord, LOCKED_RECORD, names)
    if record.expires_at <= now:
        record.steps, record.done, record.locked_until = {}, False, None
        record.request_hash, record.status, record.body = request_hash, None, None
    if record.request_hash != request_hash:
        raise ConflictError("This idempotency key was used for another request")
    if not record.done and record.locked_until is not None and record.locked_until > now:
        raise ConflictError(
            "A request with this idempotency key is in progress",
            retry_after=max(1, int((record.locked_until - now).total_seconds())),
        )
    changes = {
        "request_hash": request_hash,
        "steps": record.steps,
        "done": record.done,
        "status": record.status,
        "body": record.body,
        "locked_by": None if record.done else instance,
        "locked_until": None if record.done else now + LOCK,
        "expires_at": record.expires_at if record.done else max(record.expires_at, now + LIFETIME),
    }
    await _change(ctx.transaction, principal, key, changes)
    answer = (record.status, record.body or b"") if record.status is not None else None
    return IdempotentRequest(
        principal, key, steps_expected, dict(record.steps), is_settled=record.done, answer=answer
    )


def _adding(dialect: DialectName) -> sa.Executable:
    names = ("principal", "key", "request_hash", "steps", "done", "created_at", "expires_at")
    insert = upserting(dialect, table_of(IdempotencyRecord)).values(
        {name: sa.bindparam(name, type_=RECORD[name].type) for name in names}
    )
    statement: sa.Executable = insert.on_conflict_do_nothing()
    return statement


ADD_UNLESS_THERE = Command(_adding)
LOCKED_RECORD = Command(
    lambda _dialect: (
        select_all(IdempotencyRecord)
        .where(RECORD.principal == sa.bindparam("principal"), RECORD.key == sa.bindparam("key"))
        .with_for_update()
    ),
    model=IdempotencyRecord,
)


async def _change(
    transaction: Transaction, principal: str, key: str, changes: Mapping[str, Any]
) -> None:
    values = {NEW + name: value for name, value in changes.items()}
    command = _changing(tuple(changes))
    await transaction.touch(command, {"of_principal": principal, "of_key": key, **values})


@lru_cache(maxsize=16)
def _changing(names: tuple[str, ...]) -> Command:
    """UPDATE of columns of a record; parameters ``new_…`` and what the record is found by."""
    return Command(
        lambda _dialect: (
            sa.update(table_of(IdempotencyRecord))
            .where(
                RECORD.principal == sa.bindparam("of_principal"),
                RECORD.key == sa.bindparam("of_key"),
            )
            .values({name: sa.bindparam(NEW + name) for name in names})
        )
    )


@step
async def stamp_refusal(ctx: Context, *, error: OperationError) -> None:
    """Record that the current step was refused, so that a retry is refused alike."""
    assert ctx.idempotency is not None  # noqa: S101  # only called for idempotent requests
    await ctx.idempotency._store(  # noqa: SLF001  # the other half of this module
        ctx.transaction,
        {"error": {"code": error.code, "message": error.message, "details": error.details}},
    )


@step
async def store_answer(
    ctx: Context, *, request: IdempotentRequest, status: int, body: bytes
) -> None:
    """The end of a REST request: repeated under its key, it gets this status and body again."""
    await _end(ctx, request, done=True, status=status, body=body)


@step
async def unlock_request(ctx: Context, *, request: IdempotentRequest) -> None:
    """The end of a REST request whose answer is not kept: the key is free for another try."""
    await _end(ctx, request, done=False)


@step
async def settle_request(ctx: Context, *, request: IdempotentRequest) -> None:
    """The end of a claimed request: done when every step is stamped, else free to be retried."""
    if request.is_settled:
        return
    await _end(ctx, request, done=request.steps_done >= request.step > 0)


async def _end(ctx: Context, request: IdempotentRequest, *, done: bool, **values: Any) -> None:
    await ctx.transaction.execute(
        sa.update(table_of(IdempotencyRecord))
        .where(
            RECORD.principal == request.principal,
            RECORD.key == request.key,
            RECORD.done.is_(False),
        )
        .values(done=done, locked_by=None, locked_until=None, **values)
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
