"""The database's shape: made by migrations, the same as the models', whatever happens meanwhile."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from models import metadata
from server.migrations import DIRECTORY, HEAD, NewerDatabaseError, migrate, revision_of


async def _differences(url: str) -> list[object]:
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(
                lambda sync: compare_metadata(
                    MigrationContext.configure(
                        sync, opts={"compare_type": True, "include_object": _is_comparable}
                    ),
                    metadata,
                )
            )
    finally:
        await engine.dispose()


def _is_comparable(_object: object, name: str | None, *_: object) -> bool:
    """SQLite cannot reflect an index over an expression; PostgreSQL's is looked at by name.

    The indexes of words in tasks are the database's own: no model describes them.
    """
    unlike_models = ("uq_user_account_name_folded", "ix_task_priority")
    return name is None or not (
        name in unlike_models or name.startswith("task_text") or name.endswith("_trigram")
    )


def test_there_is_one_head_and_the_program_knows_it() -> None:
    assert ScriptDirectory(str(DIRECTORY)).get_heads() == [HEAD]


@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression")
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
async def test_the_migrated_shape_is_the_models_shape(database_url: str) -> None:
    assert await _differences(database_url) == []
    assert await revision_of(database_url) == HEAD


async def test_migrating_again_does_nothing(database_url: str) -> None:
    assert await migrate(database_url) == HEAD


async def test_a_newer_database_is_refused(database_url: str) -> None:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(NewerDatabaseError, match="newer version"):
        await migrate(database_url)


async def test_servers_that_start_together_migrate_once(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'together.db'}"
    await asyncio.gather(*(migrate(url) for _ in range(3)))
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        rows = (await connection.execute(sa.text("SELECT version_num FROM alembic_version"))).all()
    await engine.dispose()
    assert [row[0] for row in rows] == [HEAD]


KILLED_IN_THE_MIDDLE = """
import asyncio, os, signal, sys
from alembic import op
create, made = op.create_table, []
def create_and_die(name, *columns, **options):
    create(name, *columns, **options)
    made.append(name)
    if len(made) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
op.create_table = create_and_die
from server.migrations import migrate
asyncio.run(migrate(sys.argv[1]))
"""


async def test_a_migration_killed_in_the_middle_leaves_nothing_half_done(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'killed.db'}"
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED_IN_THE_MIDDLE, url],
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert killed.returncode == -signal.SIGKILL
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
    await engine.dispose()
    assert names == []
    assert await migrate(url) is None
    assert await revision_of(url) == HEAD
