"""A workspace with very many tasks, on SQLite or PostgreSQL: made once per size, then copied.

The server makes the workspace and one task; SQL makes copies of that task and of its event, so that
whatever the server keeps beside them is as if it had made them all.
"""

import asyncio
import contextlib
import hashlib
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import candidates, storing
from models import metadata
from tests.support.board import create_board, make_repository
from tests.support.clients import HttpClient
from tests.support.databases import drop_orphans, new_name
from tests.support.server import POSTGRES, RunningServer

MOST = 999_000
"""A thousand fewer than there may be, so that more can be created."""
COMMON, NEEDLE = "common", "needle"
"""A word of every task, and one of a task in five thousand."""
IDS = "00000007-0000-4000-8000-"


@dataclass(frozen=True, slots=True)
class Grown:
    """A running server with one workspace, whose tasks and events are numbered from 1 to `size`."""

    server: RunningServer
    database: str | None
    workspace: str
    size: int

    def pids(self) -> list[int]:
        """The processes whose CPU time counts."""
        assert self.server.process is not None
        own = [self.server.process.pid]
        return own if self.database is None else own + candidates.backends(self.database)

    def task(self, number: int) -> str:
        """The id of a task; the first one's is another."""
        return f"{IDS}{number:012d}"


@contextlib.contextmanager
def grown(folder: Path, size: int, *, database: str) -> Iterator[Grown]:
    """A server on a fresh copy.

    Args:
        folder: an empty one.
        size: how many tasks.
        database: ``sqlite`` or ``postgresql``.
    """
    template = _template(size, database)
    token, workspace = (template / "facts").read_text().split()
    shutil.copytree(template / "data", folder / "data")
    with _copied_database(template, database) as name:
        url = name and f"{POSTGRES}/{name}"
        server = RunningServer(folder, database_url=url, token=token)
        try:
            server.start()
            yield Grown(server, name, workspace, min(size, MOST))
        finally:
            server.end()


@contextlib.contextmanager
def _copied_database(template: Path, database: str) -> Iterator[str | None]:
    """A database of this block's own in PostgreSQL; none on SQLite, where it is a file."""
    if database == "sqlite":
        yield None
        return
    name = new_name("grown")
    candidates.postgres(f"CREATE DATABASE {name} TEMPLATE {_template_name(template)}")
    try:
        yield name
    finally:
        candidates.postgres(f"DROP DATABASE {name} WITH (FORCE)")


def _template_name(template: Path) -> str:
    # Named after the folder too: who prepares elsewhere does not share it.
    digest = hashlib.sha256(str(template).encode()).hexdigest()[:12]
    return f"dragoman_grown_{digest}"


def _template(size: int, database: str) -> Path:
    """The folder with the data folder, the token and the workspace's id; made if need be."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + storing.fingerprint().encode())
    folder = candidates.home() / f"grown-{database}-{size}-{digest.hexdigest()[:12]}"
    name, url = _template_name(folder), None
    there = True
    if database == "postgresql":
        asyncio.run(drop_orphans(POSTGRES))
        found = candidates.postgres("SELECT 1 FROM pg_database WHERE datname = $1", name)
        there, url = bool(found), f"{POSTGRES}/{name}"
    facts = folder / "facts"
    if facts.exists() and there:
        return folder
    print(f"filling {size:,} tasks on {database}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    if url is not None:
        candidates.postgres(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        candidates.postgres(f"CREATE DATABASE {name}")
    server = RunningServer(folder, database_url=url)
    try:
        server.start()
        workspace = asyncio.run(_begin(server, make_repository(folder / "project")))
    finally:
        server.end()
    statements = list(_statements(workspace, min(size, MOST), database))
    if url is None:
        _fill_sqlite(folder / "data" / "dragoman.db", statements)
    else:
        for statement in statements:
            candidates.postgres(statement, database=name)
        candidates.postgres("VACUUM ANALYZE", database=name)
    facts.write_text(f"{server.token} {workspace}")
    return folder


async def _begin(server: RunningServer, repository: Path) -> str:
    async with HttpClient(server.url, server.token) as client:
        board, _ = await create_board(client, repository)
        await board.create_task(title="template")
        return board.id


def _fill_sqlite(path: Path, statements: Sequence[str]) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.execute("ANALYZE")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _statements(workspace: str, size: int, database: str) -> Iterator[str]:
    """What makes tasks 2 to `size`, an event of each, and what is counted of them."""
    if database == "sqlite":
        serial = "printf('%012d', i)"
        moment = "strftime('%Y-%m-%d %H:%M:%f', '2026-01-01', '+' || i || ' seconds') || '000'"
    else:
        serial = "lpad(i::text, 12, '0')"
        moment = "timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second'"
    needle = f"CASE WHEN i % 4999 = 7 THEN ' {NEEDLE}' ELSE '' END"
    task = {
        "id": f"'{IDS}' || {serial}",
        "public_id": serial,
        "number": "i",
        "position": "i",
        "title": f"'task ' || i || ' {COMMON}' || {needle}",
        "description": "'what is to be done in step ' || i || ' of the work, and why it matters'",
        "status": "CASE i % 4 WHEN 0 THEN 'BACKLOG' WHEN 1 THEN 'REVIEW' "
        "WHEN 2 THEN 'COMPLETED' ELSE 'PAUSED' END",
        "priority_level": "i % 10",
        "created_at": moment,
        "updated_at": moment,
    }
    head = f"(SELECT seq FROM event_stream WHERE id = '{workspace}')"
    event = {"seq": f"{head} + i - 1", "at": moment, "entity_id": task["id"]}
    yield copies("task", f"workspace_id = '{workspace}'", task, size)
    yield copies("event", f"stream_id = '{workspace}' AND seq = {head}", event, size)
    yield f"UPDATE event_stream SET seq = seq + {size - 1} WHERE id = '{workspace}'"
    yield f"DELETE FROM task_total WHERE workspace_id = '{workspace}'"
    yield (
        "INSERT INTO task_total (workspace_id, status, archived, total) "
        "SELECT workspace_id, status, false, count(*) FROM task "
        f"WHERE workspace_id = '{workspace}' GROUP BY workspace_id, status"
    )
    yield f"UPDATE counter SET value = {size} WHERE name = 'task'"


def copies(table: str, where: str, own: Mapping[str, str], size: int) -> str:
    """A statement that copies the one row there is; `i` goes from 2 to `size`."""
    columns = [column.name for column in metadata.tables[table].columns]
    chosen = ", ".join(own.get(name, f't."{name}"') for name in columns)
    listed = ", ".join(f'"{name}"' for name in columns)
    series = f"SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {size}"
    numbers = f"(WITH RECURSIVE n(i) AS ({series}) SELECT i FROM n) numbers"
    row = f"(SELECT * FROM {table} WHERE {where}) t"
    return f"INSERT INTO {table} ({listed}) SELECT {chosen} FROM {row}, {numbers}"
