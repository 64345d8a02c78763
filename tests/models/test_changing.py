"""A change of a record that was read: the record afterwards is what a reader would find."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from models import Task, Workspace, utcnow
from models.base import Record
from models.database import Database
from models.enums import TaskStatus
from models.transaction import RowNotFoundError, Transaction


async def _task(transaction: Transaction) -> Task:
    at = utcnow()
    workspace = await transaction.insert(
        Workspace, name="W", slug="w", number=1, created_at=at, updated_at=at
    )
    task = await transaction.insert(
        Task, workspace_id=workspace.id, number=1, title="t", created_at=at, updated_at=at
    )
    found = await transaction.find_by_id(Task, task.id)
    assert found is not None
    return found


def _values(record: Task) -> dict[str, tuple[type, object]]:
    assert isinstance(record, Record)
    return {name: (type(value), value) for name, value in record.as_dict().items()}


async def test_the_record_after_a_change_is_as_it_would_be_read(database: Database) -> None:
    elsewhere = datetime(2026, 1, 1, 12, 30, 0, 7, tzinfo=timezone(timedelta(hours=5)))
    async with database.write() as transaction:
        task = await _task(transaction)
        after = await transaction.change(
            Task,
            task,
            {
                "version": 2,
                "status": TaskStatus.REVIEW,
                "position": 3,
                "labels": ("a", "b"),
                "meta": {"kind": TaskStatus.PAUSED},
                "due_at": elsewhere,
                "started_at": datetime(2026, 1, 1, tzinfo=UTC),
                "status_reason": None,
                "auto_start": 1,
            },
        )
    async with database.read() as reader:
        found = await reader.find_by_id(Task, task.id)
    assert found is not None
    assert _values(after) == _values(found)
    assert after.title == "t"


async def test_a_record_of_an_earlier_version_is_read_again(database: Database) -> None:
    async with database.write() as transaction:
        task = await _task(transaction)
        await transaction.change(Task, task, {"version": 2, "title": "new"})
        after = await transaction.change(Task, task, {"version": 2, "status": "REVIEW"})
        assert (after.title, after.status) == ("new", "REVIEW")
        await transaction.delete_by_id(Task, task.id)
        with pytest.raises(RowNotFoundError):
            await transaction.change(Task, task, {"version": 3, "title": "gone"})
