"""What a language reads of a row is what its answers show of it: no less, and no more."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from models import Run, Task, User, Workspace, new_id, table_of
from models.base import column_names, record_of
from models.enums import Executor, RunStatus, TaskStatus
from rest_compat.posthog import shapes as posthog
from rest_compat.viban import shapes as viban

ROWS = 200
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = {
    (Task, "status"): list(TaskStatus),
    (Run, "status"): list(RunStatus),
    (Run, "executor"): list(Executor),
    (Run, "stop_reason"): ["paused", "asked", None],
}
Show = Callable[[Any], Any]
RENDERERS: list[tuple[str, type[SQLModel], tuple[str, ...], set[str], Show]] = [
    ("viban project", Workspace, viban.PROJECT_COLUMNS, {"id"}, viban.project),
    ("viban task", Task, viban.TASK_COLUMNS, set(), lambda row: viban.task(row, "proj_1")),
    (
        "viban execution",
        Run,
        viban.EXECUTION_COLUMNS,
        set(),
        lambda row: viban.execution(row, "task_1"),
    ),
    (
        "posthog user",
        User,
        posthog.USER_COLUMNS,
        set(),
        lambda row: posthog.user_json(row, with_email=True),
    ),
    (
        "posthog run",
        Run,
        posthog.RUN_COLUMNS,
        set(),
        lambda row: posthog.run_json(posthog.RunFacts(row, [], None)),
    ),
    (
        "posthog task",
        Task,
        posthog.TASK_COLUMNS,
        {"created_by"},
        lambda row: posthog.task_json(row, slug_prefix="ABC", latest_run=None, created_by=None),
    ),
    (
        "posthog summary",
        Task,
        posthog.SUMMARY_COLUMNS,
        set(),
        lambda row: posthog.summary_json(row, None),
    ),
    (
        "posthog summary of a run",
        Run,
        posthog.SUMMARY_RUN_COLUMNS,
        set(),
        lambda row: posthog.summary_json(_TASK, row),
    ),
]


class _Seen:
    """A record that remembers what was asked of it."""

    def __init__(self, record: Any) -> None:
        self.record = record
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self.record, name)


def _value(model: type[SQLModel], column: sa.Column[Any], dice: random.Random) -> Any:
    known = WORDS.get((model, column.key))
    if known is not None:
        return dice.choice(known)
    if column.nullable and dice.random() < 1 / 3:
        return None
    type_ = getattr(column.type, "impl_instance", column.type)
    if isinstance(type_, sa.DateTime):
        return FIRST + timedelta(microseconds=dice.choice([0, 1, 10**6, 10**12]))
    if isinstance(type_, sa.JSON):
        return dice.choice([{}, {"runtime_adapter": "claude", "model": "m"}])
    if isinstance(type_, sa.Boolean):
        return dice.random() < 1 / 2
    if isinstance(type_, sa.Integer | sa.Float):
        return dice.randrange(1, 1_000)
    return dice.choice(["", "Some words", new_id()])


def _row(model: type[SQLModel], dice: random.Random) -> dict[str, Any]:
    return {column.key: _value(model, column, dice) for column in table_of(model).columns}


_TASK: Any = record_of(Task)(*_row(Task, random.Random(1)).values())  # noqa: S311  # nothing secret


@pytest.mark.parametrize(
    ("model", "columns", "besides", "show"),
    [renderer[1:] for renderer in RENDERERS],
    ids=[renderer[0] for renderer in RENDERERS],
)
def test_a_row_of_the_columns_is_shown_as_a_whole_one(
    model: type[SQLModel], columns: tuple[str, ...], besides: set[str], show: Show
) -> None:
    dice = random.Random(7)  # noqa: S311  # nothing secret
    looked_at: set[str] = set()
    for _ in range(ROWS):
        values = _row(model, dice)
        whole = _Seen(record_of(model)(*(values[name] for name in column_names(model))))
        narrow = record_of(model, columns)(*(values[name] for name in columns))
        assert show(narrow) == show(whole)
        looked_at |= whole.names
    assert looked_at | besides == set(columns)
