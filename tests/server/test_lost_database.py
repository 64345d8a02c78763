"""A database that went away, or is too slow, is said to be unavailable."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

import models.sqlite_reading
from models.database import Database
from models.errors import DatabaseBusyError
from tests.support.inside import Inside, open_inside
from tests.support.server import fresh_postgres

READ = "{ workspaces(first: 5) { nodes { id name } } }"
WRITE = 'mutation { createWorkspace(input: {name: "Board"}) { workspace { id } } }'
END_ALL = sa.text(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
async def inside(tmp_path: Path) -> AsyncIterator[Inside]:
    with fresh_postgres() as url:
        async with open_inside(tmp_path / "data", database_url=url) as opened:
            yield opened


async def lose_connections(inside: Inside) -> None:
    """End all connections of the server, which were used a moment ago, so that it trusts them."""
    await asyncio.gather(*(inside.post(READ, token=inside.token) for _ in range(3)))
    other = Database(inside.services.database.url.render_as_string(hide_password=False))
    try:
        async with other.write() as transaction:
            await transaction.rows(END_ALL)
    finally:
        await other.close()


@pytest.mark.postgres
@pytest.mark.parametrize("document", [READ, WRITE])
async def test_a_lost_connection_is_unavailable_and_replaced(inside: Inside, document: str) -> None:
    await lose_connections(inside)
    codes = []
    for _ in range(20):
        answer = await inside.post(document, token=inside.token)
        codes += answer.codes
        if not answer.codes:
            break
    assert set(codes) <= {"UNAVAILABLE"}
    assert not answer.codes
    assert inside.internal_errors == []


@pytest.mark.postgres
async def test_a_lost_connection_is_unavailable_over_rest(inside: Inside) -> None:
    await lose_connections(inside)
    statuses = []
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=inside.app),
        base_url="http://testserver",
        headers={"authorization": f"Bearer {inside.token}"},
    ) as client:
        for _ in range(20):
            answer = await client.get("/compat/viban/api/v1/projects")
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                break
    assert set(statuses) <= {200, 503}
    assert statuses[-1] == 200
    assert inside.internal_errors == []


async def test_a_statement_that_takes_too_long_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_inside(tmp_path / "data") as inside:
        await inside.post(READ, token=inside.token)
        fetched = []

        async def too_slow(*_: object) -> object:
            fetched.append(1)
            raise DatabaseBusyError("a statement took too long")

        connection = models.sqlite_reading.SqliteReadConnection
        for way in ("fetch", "fetch_slowly"):
            monkeypatch.setattr(connection, way, too_slow)
        monkeypatch.setattr(connection, "fetch_now", lambda *_: None)
        for _ in range(3):  # the third time the document is compiled
            fetched.clear()
            answer = await inside.post(READ, token=inside.token)
            assert answer.codes == ["UNAVAILABLE"]
            assert len(fetched) == 1  # what has taken too long is not tried again
        assert inside.internal_errors == []
