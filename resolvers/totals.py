"""Kept totals of tasks per workspace, status and archive: a page never has to count."""

from collections import defaultdict
from functools import lru_cache

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
        for task, delta in ((before, -1), (after, 1)):
            if task is not None and task.deleted_at is None:
                key = (task.workspace_id, task.status, task.archived_at is not None)
                self._changes[key] += delta

    async def write(self, transaction: Transaction) -> None:
        """Write what was noted."""
        changes = [(key, delta) for key, delta in sorted(self._changes.items()) if delta]
        if not changes:
            return
        values = [value for key, delta in changes for value in (*key, delta)]
        names = _parameters(len(changes))
        await transaction.touch(_adding(len(changes)), dict(zip(names, values, strict=True)))


@lru_cache(maxsize=64)
def _parameters(count: int) -> list[str]:
    """Names of the parameters of :func:`_adding`, in the order of a table of totals."""
    return [f"{name}_{number}" for number in range(count) for name in COLUMNS]


@lru_cache(maxsize=64)
def _adding(count: int) -> Command:
    """Add to so many totals; parameters: the columns of TaskTotal, numbered."""

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

    return Command(build)
