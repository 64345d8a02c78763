"""What killed test runs left in PostgreSQL is dropped by the next one, and nothing else."""

import os
import subprocess
import sys

import pytest

from tests.support.databases import PLACE, drop_orphans, new_name, orphans
from tests.support.fixtures import POSTGRES, postgres_admin


@pytest.fixture
def of_the_dead() -> str:
    """A name that a process gave which is gone."""
    program = "from tests.support.databases import new_name; print(new_name('test'))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return said.stdout.decode().strip()


def test_only_a_dead_process_of_this_place_leaves_orphans(of_the_dead: str) -> None:
    elsewhere = of_the_dead.replace(PLACE, "0" * 8)
    somebody_elses = new_name("test").replace(f"_{os.getpid()}_", "_1_")
    others = [
        new_name("test"),
        elsewhere,
        somebody_elses,
        "dragoman",
        "dragoman_bench_0123456789ab",
    ]
    assert list(orphans([of_the_dead, *others])) == [of_the_dead]


@pytest.mark.postgres
async def test_orphans_are_dropped(of_the_dead: str) -> None:
    own = new_name("test")
    await postgres_admin(f"CREATE DATABASE {of_the_dead}", f"CREATE DATABASE {own}")
    try:
        await drop_orphans(POSTGRES.replace("+asyncpg", ""))
        listed = "SELECT string_agg(datname, ',') FROM pg_database"
        there = (await postgres_admin(listed)).split(",")
        assert own in there
        assert of_the_dead not in there
    finally:
        await postgres_admin(f"DROP DATABASE IF EXISTS {of_the_dead}", f"DROP DATABASE {own}")
