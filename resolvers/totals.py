"""Kept totals of tasks per workspace, status and archive: a page never has to count."""

from collections import defaultdict
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from models import Task, TaskTotal, table_of
from models.commands import Command, DialectName
from models.transaction import Transaction, upserting

TOTAL = table_of(TaskTotal).c
COLUMNS = ("workspace_id", "status", "archived", "total")


class TaskTotals:
    """Changes of totals gathered during a transaction, written once at its end.

    Rows are written in one order, so that two transactions never wait for each other in a circle.
    """

    def __init__(self) -> None:
        self._changes: defaultdict[tuple[str, str, bool], int] = defaultdict(int)

    def record(self, before: Task | None, after: Task | None) -> None:
        """Note how one task changed; None for not there (yet, or any more)."""
        left, entered = _row_of(before), _row_of(after)
        if left == entered:
            return
        if left is not None:
            self._changes[left] -= 1
        if entered is not None:
            self._changes[entered] += 1

    async def write(self, transaction: Transaction) -> None:
        """Write what was noted."""
        values: list[Any] = []
        for key, delta in sorted(self._changes.items()):
            if delta:
                values += key
                values.append(delta)
        if values:
            command, names = _adding(len(values) // len(COLUMNS))
            await transaction.touch(command, dict(zip(names, values, strict=True)))


def _row_of(task: Task | None) -> tuple[str, str, bool] | None:
    if task is None or task.deleted_at is not None:
        return None
    return task.workspace_id, task.status, task.archived_at is not None


@lru_cache(maxsize=64)
def _adding(count: int) -> tuple[Command, list[str]]:
    """What adds to so many totals; its parameters, in the order of a table of totals."""
    names = [f"{name}_{number}" for number in range(count) for name in COLUMNS]

    def build(dialect: DialectName) -> sa.Executable:
        insert = upserting(dialect, table_of(TaskTotal)).values(
            [
                {name: sa.bindparam(f"{name}_{number}", type_=TOTAL[name].type) for name in COLUMNS}
                for number in range(count)
            ]
        )
        statement: sa.Executable = insert.on_conflict_do_update(
            index_elements=["workspace_id", "status", "archived"],
            set_={"total": TOTAL.total + insert.excluded.total},
        )
        return statement

    return Command(build), names
