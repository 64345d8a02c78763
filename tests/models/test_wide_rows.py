"""Rows of many columns, which SQLite hands over as one array: the same as any other reader's."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import Task, Workspace, utcnow
from models.base import Record, column_names
from models.commands import WIDE
from models.database import Database
from resolvers.task_access import LOCKED_TASK

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBERS = st.integers(-(2**31), 2**31 - 1)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # bounds are naive
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": TEXTS,
    "description": TEXTS,
    "error": st.none() | TEXTS,
    "use_worktree": st.booleans(),
    "priority_level": NUMBERS,
    "additions": st.none() | NUMBERS,
    "position": st.floats(allow_nan=False, allow_infinity=False),
    "story_points": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "labels": st.lists(TEXTS, max_size=3),
    "steps": st.none() | st.lists(JSON, max_size=3),
    "meta": st.dictionaries(TEXTS, JSON, max_size=3),
    "due_at": st.none() | MOMENTS,
}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.fixed_dictionaries(VALUES))
async def test_a_wide_row_is_read_as_any_other(database: Database, values: dict[str, Any]) -> None:
    at = utcnow()
    async with database.write() as transaction:
        number = await transaction.next_number("site", "workspace")
        workspace = await transaction.insert(
            Workspace, name="W", slug=f"w{number}", number=number, created_at=at, updated_at=at
        )
        task = await transaction.insert(
            Task, workspace_id=workspace.id, number=1, created_at=at, updated_at=at, **values
        )
        ((found, workspace_status),) = await transaction.run(LOCKED_TASK, {"task_id": task.id})
        expected = await transaction.find_by_id(Task, task.id)
    assert len(column_names(Task)) >= WIDE
    assert isinstance(expected, Record)
    assert repr(found.as_dict()) == repr(expected.as_dict())
    assert workspace_status == workspace.status
