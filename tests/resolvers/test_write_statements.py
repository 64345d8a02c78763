"""How many statements a mutation takes: none may creep in unseen."""

import pytest

import models.database
from models.transaction import Transaction
from resolvers.context import Context
from resolvers.task_board import move_task
from resolvers.tasks import create_task, update_task
from resolvers.workspaces import create_workspace

FRAME = 4096 + 24
"""Bytes of a page in SQLite's write-ahead log."""


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[Transaction]:
    made: list[Transaction] = []

    class Counting(Transaction):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(models.database, "Transaction", Counting)
    return made


async def test_statements_of_everyday_mutations(
    owner: Context, transactions: list[Transaction]
) -> None:
    workspace = await create_workspace(owner, name="W")
    task = await create_task(owner, workspace_id=workspace.id, title="t")

    async def count(work: object) -> int:
        transactions.clear()
        await work
        (transaction,) = transactions
        return transaction.statements

    # The task with its workspace's status, the change, totals, the log's head, the event.
    assert await count(move_task(owner, task_id=task.id, status="REVIEW")) == 5
    # And those who may have waited for it.
    assert await count(move_task(owner, task_id=task.id, status="COMPLETED")) == 6
    assert await count(move_task(owner, task_id=task.id, status="IN_PROGRESS")) == 5
    # And its runs.
    assert await count(move_task(owner, task_id=task.id, status="BACKLOG")) == 6
    assert await count(move_task(owner, task_id=task.id, status="BACKLOG")) == 1
    # The task, the change, the log's head, the event.
    assert await count(update_task(owner, task_id=task.id, title="new")) == 4


async def test_pages_of_a_move(owner: Context) -> None:
    database = owner.services.database
    if database.path is None:
        pytest.skip("PostgreSQL's pages are its own affair")
    log = database.path.with_name(f"{database.path.name}-wal")
    workspace = await create_workspace(owner, name="W")
    task = await create_task(owner, workspace_id=workspace.id, title="t")
    for status in ("REVIEW", "BACKLOG"):  # after this, both columns have a row of totals
        await move_task(owner, task_id=task.id, status=status)
    before = log.stat().st_size
    await move_task(owner, task_id=task.id, status="REVIEW")
    # The task and its indexes by status and by change, the totals, the log's head, the event and
    # its two indexes: no other index, and not what is searched.
    assert (log.stat().st_size - before) // FRAME <= 8
