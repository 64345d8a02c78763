"""Kept totals of runs: how many stand where, what queues did when, what was used by whom.

Changes are gathered during a transaction and written once at its end, in one order, so that two
transactions never wait for each other in a circle.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

from models import QueueStatistic, Run, RunTotal, UsageTotal, table_of
from models.commands import Command, DialectName
from models.enums import RunKind, RunStatus
from models.event import SITE_STREAM
from models.lifecycle import RUN_FINAL
from models.transaction import Transaction, upserting

SHORT, LONG = 300, 3_600
"""Lengths of the stretches of time that statistics are kept for, in seconds."""
GREATEST = frozenset({"most_waiting"})
"""Columns that keep the greatest number instead of the sum."""
NANO = 1_000_000_000

_QueueKey = tuple[str, str]


def nano_dollars(usd: float) -> int:
    """An amount of US dollars in whole billionths."""
    return round(usd * NANO)


def day_of(moment: datetime) -> str:
    """The UTC date a use counts for, as ``2026-01-31``."""
    return moment.astimezone(UTC).date().isoformat()


class RunTotals:
    """What one transaction adds to the totals."""

    def __init__(self) -> None:
        self._totals: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._queues: dict[_QueueKey, Counter[str]] = defaultdict(Counter)
        self._usage: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        self._at: datetime | None = None

    def record(self, before: Run | None, after: Run, *, at: datetime) -> None:
        """Note how one run changed; ``before`` is None for a new one."""
        if not _counts(after):
            return
        before = before if before is not None and _counts(before) else None
        self._at = at
        for run, delta in ((before, -1), (after, 1)):
            if run is not None:
                self._totals[run.workspace_id, run.queue_class, run.status] += delta
        for name, number in _happened(before, after, at).items():
            self._queues[after.workspace_id, after.queue_class][name] += number  # type: ignore[assignment]  # sums of seconds are floats

    def record_usage(self, before: Run, after: Run, *, at: datetime) -> None:
        """Note what one run used between two states of its row."""
        used = {
            "input_tokens": after.input_tokens - before.input_tokens,
            "output_tokens": after.output_tokens - before.output_tokens,
            "cached_tokens": after.cached_tokens - before.cached_tokens,
            "cost_nano_usd": nano_dollars(after.cost_usd) - nano_dollars(before.cost_usd),
        }
        if not any(used.values()):
            return
        workspace_id, day = after.workspace_id, day_of(at)
        subjects = [
            (workspace_id, "workspace", workspace_id),
            (workspace_id, "day", day),
            (SITE_STREAM, "day", day),
        ]
        if after.task_id is not None:
            subjects.append((workspace_id, "task", after.task_id))
        if after.agent_id is not None:
            subjects.append((workspace_id, "agent", after.agent_id))
        for subject in subjects:
            self._usage[subject].update(used)

    async def write(self, transaction: Transaction) -> None:
        """Write what was noted."""
        if self._at is None and not self._usage:
            return
        waiting = await self._write_totals(transaction)
        await self._write_statistics(transaction, waiting)
        await _add(transaction, UsageTotal, self._usage)

    async def _write_totals(self, transaction: Transaction) -> dict[_QueueKey, int]:
        """Write the totals; how many wait now in the queues whose number changed."""
        changes = {key: {"total": delta} for key, delta in self._totals.items() if delta}
        return {
            (workspace_id, queue_class): total
            for workspace_id, queue_class, status, total in await _add(
                transaction, RunTotal, changes
            )
            if status == RunStatus.QUEUED
        }

    async def _write_statistics(
        self, transaction: Transaction, waiting: Mapping[_QueueKey, int]
    ) -> None:
        if self._at is None:
            return
        now = int(self._at.timestamp())
        changes: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        for key in self._queues.keys() | waiting.keys():
            happened = self._queues.get(key, Counter())
            most = waiting.get(key, 0)
            if happened or most:
                for seconds in (SHORT, LONG):
                    stretch = (*key, seconds, now - now % seconds)
                    changes[stretch] = {**happened, "most_waiting": most}
        await _add(transaction, QueueStatistic, changes)


def _counts(run: Run) -> bool:
    return run.managed and run.kind != RunKind.COMMAND


def _happened(before: Run | None, after: Run, at: datetime) -> dict[str, float]:
    """What a change means to its queue's statistics."""
    if before is None:
        if after.status != RunStatus.QUEUED:
            return {}
        return {"enqueued": 1, "retried": 1} if after.attempt > 1 else {"enqueued": 1}
    if before.status == after.status:
        return {}
    if after.status == RunStatus.RUNNING and before.status == RunStatus.QUEUED:
        waited = max(0.0, (at - (before.queued_at or at)).total_seconds())
        return {"started": 1, "wait_seconds": waited}
    if after.status == RunStatus.QUEUED and before.status in RUN_FINAL:
        return {"enqueued": 1, "retried": 1}
    if after.status not in RUN_FINAL:
        return {}
    happened: dict[str, float] = {after.status.lower(): 1}
    if after.started_at is not None:
        ended = after.finished_at or at
        happened["ended"] = 1
        happened["run_seconds"] = max(0.0, (ended - after.started_at).total_seconds())
    return happened


async def _add(
    transaction: Transaction,
    model: type[SQLModel],
    changes: Mapping[Any, Mapping[str, Any]],
) -> Sequence[Sequence[Any]]:
    """Add numbers to kept rows, which are made where they are missing; the rows as they are now.

    Args:
        transaction: the one that ends.
        model: of which table.
        changes: numbers by column, by key.
    """
    if not changes:
        return []
    command, counted, names = _adding(model, len(changes))
    values: list[Any] = []
    for key, numbers in sorted(changes.items()):
        values += key
        values += [numbers.get(name, 0) for name in counted]
    return await transaction.run(command, dict(zip(names, values, strict=True)))


@lru_cache(maxsize=64)
def _adding(model: type[SQLModel], count: int) -> tuple[Command, list[str], list[str]]:
    """What adds to so many rows, which columns it adds to, and its parameters in order."""
    columns = table_of(model).c
    key = [column.key for column in columns if column.primary_key]
    counted = [column.key for column in columns if not column.primary_key]

    def build(dialect: DialectName) -> sa.Executable:
        insert = upserting(dialect, table_of(model)).values(
            [
                {
                    name: sa.bindparam(f"{name}_{number}", type_=columns[name].type)
                    for name in (*key, *counted)
                }
                for number in range(count)
            ]
        )
        highest: Callable[..., Any] = sa.func.greatest if dialect == "postgresql" else sa.func.max
        statement: sa.Executable = insert.on_conflict_do_update(
            index_elements=key,
            set_={
                name: highest(columns[name], insert.excluded[name])
                if name in GREATEST
                else columns[name] + insert.excluded[name]
                for name in counted
            },
        ).returning(*columns)
        return statement

    names = [f"{name}_{number}" for number in range(count) for name in (*key, *counted)]
    return Command(build), counted, names
