"""Kept totals of tasks per workspace, status and archive: a page never has to count."""

from collections import Counter

from models import Task, TaskTotal, table_of
from models.transaction import Transaction, upsert

TOTAL = table_of(TaskTotal).c


class TaskTotals:
    """Changes of totals gathered during a transaction, written once at its end.

    Rows are written in one order, so that two transactions never wait for each other in a circle.
    """

    def __init__(self) -> None:
        self._changes: Counter[tuple[str, str, bool]] = Counter()

    def record(self, before: Task | None, after: Task | None) -> None:
        """Note how one task changed; None for not there (yet, or any more)."""
        for task, delta in ((before, -1), (after, 1)):
            if task is not None and task.deleted_at is None:
                key = (task.workspace_id, task.status, task.archived_at is not None)
                self._changes[key] += delta

    async def write(self, transaction: Transaction) -> None:
        """Write what was noted."""
        rows = [
            {"workspace_id": key[0], "status": key[1], "archived": key[2], "total": delta}
            for key, delta in sorted(self._changes.items())
            if delta
        ]
        if not rows:
            return
        insert = upsert(transaction, TaskTotal).values(rows)
        await transaction.execute(
            insert.on_conflict_do_update(
                index_elements=["workspace_id", "status", "archived"],
                set_={"total": TOTAL.total + insert.excluded.total},
            )
        )
