"""The time budget of reads belongs to one statement, not to what comes after it."""

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from models import sqlite_reading
from models.database import Database


async def test_a_used_up_budget_does_not_interrupt_the_next_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_reading, "LOOK_EVERY", 1)
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}")
    async with database.write() as transaction:
        await transaction.execute(sa.text("CREATE TABLE thing (id INTEGER)"))
    try:
        for _ in range(3):
            async with database.read() as reader:
                assert await reader.scalar(sa.text("SELECT count(*) FROM thing")) == 0
                time.sleep(2 * sqlite_reading.LOOP_SECONDS)  # noqa: ASYNC251  # the clock must go on
    finally:
        await database.close()
