"""What the database itself holds, read past the program."""

import asyncio
import sqlite3
from typing import Any

import asyncpg

from tests.support.server import POSTGRES, RunningServer


class Records:
    """Rows of a server's database, whichever kind it is."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        """All rows of a SELECT that both databases understand."""
        if self._server.database_url is None:
            return await asyncio.to_thread(self._from_sqlite, statement)
        connection = await asyncpg.connect(self._server.database_url)
        try:
            return [dict(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    def _from_sqlite(self, statement: str) -> list[dict[str, Any]]:
        path = self._server.data_dir / "data" / "dragoman.db"
        connection = sqlite3.connect(path, timeout=30)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(statement)]
        finally:
            connection.close()

    async def head(self, stream_id: str) -> int:
        """The newest number of a log."""
        rows = await self.rows(f"SELECT seq FROM event_stream WHERE id = '{stream_id}'")  # noqa: S608  # an id
        return int(rows[0]["seq"])

    async def is_touched(self) -> bool:
        """Whether a starting server has begun to use its database."""
        if self._server.database_url is None:
            return (self._server.data_dir / "data" / "dragoman.db").exists()
        name = self._server.database_url.rpartition("/")[2]
        connection = await asyncpg.connect(f"{POSTGRES}/test")
        try:
            count = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name
            )
        finally:
            await connection.close()
        return bool(count)
