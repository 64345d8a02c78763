"""Reading PostgreSQL: through SQLAlchemy, or past it where a statement is prepared."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from models.errors import Translated
from models.prepared import Prepared
from models.transaction import Fetch, FetchPrepared
from models.uninterrupted import uninterrupted


def fetch_prepared_with(connection: AsyncConnection) -> FetchPrepared:
    """Fetch from PostgreSQL past SQLAlchemy, which begins the transaction all the same."""

    async def fetch(prepared: Prepared[Any], values: tuple[Any, ...]) -> list[Any]:
        ready = prepared.ready(connection.dialect)
        with Translated():
            rows = await uninterrupted(_fetch_rows(connection, ready.text, ready.values(*values)))
        return ready.records(rows)

    return fetch


async def _fetch_rows(connection: AsyncConnection, text: str, values: tuple[Any, ...]) -> Any:
    import asyncpg  # type: ignore[import-untyped]  # only there where PostgreSQL is used

    adapter: Any = (await connection.get_raw_connection()).dbapi_connection
    adapters_own = connection.dialect.loaded_dbapi.Error
    try:
        if adapter._transaction is None:  # noqa: SLF001  # it begins at the first statement, as SQLAlchemy's own
            await adapter._start_transaction()  # noqa: SLF001
        return await adapter.driver_connection.fetch(text, *values)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, adapters_own) as error:
        if adapter.driver_connection.is_closed():
            await connection.invalidate(error)  # else the pool would go on with it
        raise DBAPIError(text, None, error) from error


def fetch_with(connection: AsyncConnection) -> Fetch:
    """Fetch through an async connection; cancellation waits for the statement's end."""

    async def fetch(statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        with Translated():
            return (await uninterrupted(connection.execute(statement))).fetchall()

    return fetch
