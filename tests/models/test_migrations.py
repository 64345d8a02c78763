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
from server.migrations import (
    APART,
    DATABASE,
    DIRECTORY,
    HEAD,
    MigrationFailedError,
    NewerDatabaseError,
    migrate,
    migrated_apart,
    revision_of,
)

ROOT = Path(__file__).parents[2]


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


MIGRATES_APART = """
import asyncio, sys
from server.migrations import migrated_apart
async def run():
    async with migrated_apart(sys.argv[1]) as before:
        print(before)
    print("alembic" in sys.modules)
asyncio.run(run())
"""


async def test_a_process_apart_migrates_and_takes_alembic_with_it(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'apart.db'}"
    for before in (None, HEAD):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", MIGRATES_APART, url],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.stdout.decode().split() == [str(before), "False"]
        assert await revision_of(url) == HEAD


async def test_why_a_process_apart_failed_is_told(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(MigrationFailedError):
        async with migrated_apart(database_url):
            pass
    assert "dragoman: The database was made by a newer version" in capfd.readouterr().err


async def test_a_process_apart_ends_with_whoever_wanted_it(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'left.db'}"
    with pytest.raises(RuntimeError, match="gone"):
        async with migrated_apart(url):
            raise RuntimeError("gone")
    orphan = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", APART],
        stdin=subprocess.DEVNULL,  # at its end, as where the other process has died
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), DATABASE: url},
    )
    assert orphan.returncode == 1
    assert await revision_of(url) is None
    assert await migrate(url) is None


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
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert killed.returncode == -signal.SIGKILL
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
    await engine.dispose()
    assert names == []
    assert await migrate(url) is None
    assert await revision_of(url) == HEAD
