"""Upgrading a database with runs in it fills what is kept about them, and loses nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine

from models import Run, RunOutput, new_id, table_of
from server.migrations import DIRECTORY, HEAD
from tests.support.databases import new_name
from tests.support.fixtures import BOTH, POSTGRES, postgres_admin

AT = "2026-02-03 04:05:06.000000"
RUNS: list[dict[str, Any]] = [
    {"status": "COMPLETED", "input_tokens": 5, "cost_usd": 0.1, "queue_class": "HIGH"},
    {"status": "FAILED", "input_tokens": 7, "output_tokens": 2, "cost_usd": 0.2},
    {"status": "QUEUED", "priority_level": 4},
    {"status": "QUEUED", "priority_level": 2},
    {"status": "RUNNING", "managed": False, "cached_tokens": 3},
]


def _go_to(connection: sa.Connection, revision: str, *, up: bool) -> None:
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    config.attributes["connection"] = connection
    (command.upgrade if up else command.downgrade)(config, revision)


def _insert(connection: sa.Connection, name: str, **values: Any) -> None:
    """A row under the old shape, with something in every column that must have it."""
    table = sa.Table(name, sa.MetaData(), autoload_with=connection, resolve_fks=False)
    for column in table.columns:
        if column.name not in values and not column.nullable:
            kind = column.type
            if isinstance(kind, sa.DateTime):
                values[column.name] = sa.text(f"'{AT}'")
            elif column.name in {"settings", "limits", "process", "state", "queue_paused"}:
                values[column.name] = sa.text("'{}'")
            elif isinstance(kind, sa.Boolean):
                values[column.name] = True
            elif isinstance(kind, sa.Integer | sa.Float):
                values[column.name] = 0
            else:
                values[column.name] = ""
    connection.execute(sa.insert(table).values(**values))


def _fill(connection: sa.Connection) -> str:
    workspace = new_id()
    _insert(connection, "workspace", id=workspace)
    for number, run in enumerate(RUNS):
        run_id = new_id()
        queued = sa.text(f"'{AT}'")
        given = {"queue_class": "NORMAL", "kind": "TASK", **run}
        _insert(
            connection, "run", id=run_id, public_id=f"run{number}", workspace_id=workspace,
            queued_at=queued, **given,
        )  # fmt: skip
        _insert(connection, "run_output", run_id=run_id, first_line=1, last_line=1, data=b"x")
    return workspace


def _look(connection: sa.Connection, workspace: str) -> None:
    totals = connection.execute(
        sa.text("SELECT queue_class, status, total FROM run_total ORDER BY 1, 2")
    )
    assert [tuple(row) for row in totals] == [
        ("HIGH", "COMPLETED", 1), ("NORMAL", "FAILED", 1), ("NORMAL", "QUEUED", 2),
    ]  # fmt: skip
    usage = connection.execute(
        sa.text(
            "SELECT workspace_id, subject, subject_id, input_tokens, output_tokens, "
            "cached_tokens, cost_nano_usd FROM usage_total ORDER BY subject, workspace_id DESC"
        )
    )
    sums = (12, 2, 3, 300_000_000)
    assert [tuple(row) for row in usage] == [
        ("site", "day", "2026-02-03", *sums),
        (workspace, "day", "2026-02-03", *sums),
        (workspace, "workspace", workspace, *sums),
    ]
    waiting = connection.execute(
        sa.text("SELECT priority_level FROM run WHERE status = 'QUEUED' ORDER BY queue_key")
    )
    assert [row[0] for row in waiting] == [4, 2]
    run, output = table_of(Run), table_of(RunOutput)
    kept = sa.select(sa.func.count()).select_from(output.join(run, run.c.id == output.c.run_id))
    assert connection.execute(kept).scalar() == len(RUNS)


@pytest.fixture(params=BOTH)
async def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'old.db'}"
        return
    name = new_name("test")
    await postgres_admin(f"CREATE DATABASE {name}")
    try:
        yield f"{POSTGRES}/{name}"
    finally:
        await postgres_admin(f"DROP DATABASE {name} WITH (FORCE)")


async def test_totals_are_filled_and_nothing_is_lost(empty_database_url: str) -> None:
    engine = create_async_engine(empty_database_url)

    def all_of_it(connection: sa.Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        _go_to(connection, "0001", up=True)
        workspace = _fill(connection)
        _go_to(connection, HEAD, up=True)
        _look(connection, workspace)
        _go_to(connection, "0001", up=False)
        names = {column["name"] for column in sa.inspect(connection).get_columns("run")}
        assert names.isdisjoint({"queue_key", "command", "token_budget"})
        _go_to(connection, HEAD, up=True)
        _look(connection, workspace)

    try:
        async with engine.connect() as connection:
            await connection.run_sync(all_of_it)
    finally:
        await engine.dispose()
