"""Kept totals of runs: how many stand where, what queues did when, what was used by whom.

Changes are gathered during a transaction and written once at its end, in one order, so that two
transactions never wait for each other in a circle.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from models import QueueStatistic, Run, RunTotal, UsageTotal, table_of
from models.enums import RunKind, RunStatus
from models.event import SITE_STREAM
from models.lifecycle import RUN_FINAL
from models.transaction import Transaction, upsert

TOTAL = table_of(RunTotal).c
STATISTIC = table_of(QueueStatistic).c
USAGE = table_of(UsageTotal).c

SHORT, LONG = 300, 3_600
"""Lengths of the stretches of time that statistics are kept for, in seconds."""
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
        await _add(
            transaction,
            UsageTotal,
            ("workspace_id", "subject", "subject_id"),
            self._usage,
        )

    async def _write_totals(self, transaction: Transaction) -> dict[_QueueKey, int]:
        """Write the totals; how many wait now in the queues whose number changed."""
        changes = {key: {"total": delta} for key, delta in self._totals.items() if delta}
        rows = await _add(
            transaction,
            RunTotal,
            ("workspace_id", "queue_class", "status"),
            changes,
        )
        return {
            (row.workspace_id, row.queue_class): row.total
            for row in rows
            if row.status == RunStatus.QUEUED
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
        await _add(
            transaction,
            QueueStatistic,
            ("workspace_id", "queue_class", "seconds", "starts_at"),
            changes,
            greatest=frozenset({"most_waiting"}),
        )


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
    model: Any,
    names: tuple[str, ...],
    changes: Mapping[Any, Mapping[str, Any]],
    *,
    greatest: frozenset[str] = frozenset(),
) -> list[sa.Row[Any]]:
    """Add numbers to kept rows, which are made where they are missing; the rows as they are now.

    Args:
        transaction: the one that ends.
        model: of which table.
        names: its key's columns.
        changes: numbers by column, by key.
        greatest: columns that keep the greatest number instead of the sum.
    """
    if not changes:
        return []
    columns = table_of(model).c
    counted = [column.key for column in columns if column.key not in names]
    rows = [
        dict(zip(names, key, strict=True)) | {name: numbers.get(name, 0) for name in counted}
        for key, numbers in sorted(changes.items())
    ]
    insert = upsert(transaction, model).values(rows)
    highest: Callable[..., Any] = (
        sa.func.greatest if transaction.dialect == "postgresql" else sa.func.max
    )
    statement = insert.on_conflict_do_update(
        index_elements=list(names),
        set_={
            name: highest(columns[name], insert.excluded[name])
            if name in greatest
            else columns[name] + insert.excluded[name]
            for name in counted
        },
    ).returning(*columns)
    return list(await transaction.rows(statement))
