"""Nothing in an idle server holds a snapshot: SQLite's log can be emptied, and starts anew."""

import asyncio
import contextlib
import sqlite3

from tests.support.clients import PATIENCE, HttpClient
from tests.support.server import RunningServer

MAKE = 'mutation { createWorkspace(input: { name: "Log" }) { cursor } }'


async def test_the_write_ahead_log_can_be_emptied(server: RunningServer) -> None:
    async with HttpClient(server.url, server.token) as client:
        await client.ask(MAKE)
    database = sqlite3.connect(server.data_dir / "data" / "dragoman.db")
    with contextlib.closing(database):
        async with asyncio.timeout(PATIENCE):
            while _checkpoint(database) != (0, 0):
                await asyncio.sleep(0.05)


def _checkpoint(database: sqlite3.Connection) -> tuple[int, int]:
    """Whether somebody stood in the way, and how many pages are left."""
    busy, pages, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return busy, pages
