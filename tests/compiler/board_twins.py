"""Two servers with equal data: one compiles documents, the other leaves them to graphql-core."""

import dataclasses
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from unittest.mock import patch

from compiler import Options
from resolvers.context import Context
from server.metrics import Metrics
from tests.support.inside import Inside, open_inside
from tests.support.server import fresh_postgres
from tests.support.tenants import Tenant, make_tenant

ROOM = {
    "max_cost": 10**9,
    "max_depth": 40,
    "max_aliases": 2_000,
    "max_directives": 2_000,
    "max_document_tokens": 50_000,
}
"""Limits that random documents stay below."""


@asynccontextmanager
async def open_twins(
    folder: Path, *, on_postgresql: bool = False
) -> AsyncIterator[tuple[Tenant, Tenant, list[str]]]:
    """A tenant on a compiling server, its copy on one that does not, and what metrics were told."""
    told: list[str] = []
    one, two = folder / "one", folder / "two"
    async with AsyncExitStack() as stack:
        stack.enter_context(
            patch.object(Metrics, "graphql_execution", lambda _, how: told.append(str(how)))
        )
        eager = partial(Options, compile_at_sighting=1)
        stack.enter_context(patch("server.graphql.Options", eager))
        # When a key was last used is written once, before there are two servers to write it.
        stack.enter_context(patch("resolvers.authentication.LAST_USED_RESOLUTION", timedelta(1)))
        url = stack.enter_context(fresh_postgres()) if on_postgresql else None
        async with open_inside(one / "data", database_url=url) as inside:
            made = await make_tenant(inside, "FUZZ", one)
            made.tokens["owner"] = inside.token
            for token in made.tokens.values():
                await inside.post("{ __typename }", token=token)
        _copy(one, two, made.repository.name)
        other = stack.enter_context(fresh_postgres(url.rpartition("/")[2])) if url else None
        move = f"UPDATE workspace SET local_path = replace(local_path, '{one}', '{two}')"  # noqa: S608  # our own paths
        if other is None:
            with sqlite3.connect(two / "data" / "dragoman.db") as connection:
                connection.execute(move)
            connection.close()
        else:
            await _execute(other, move)
        tenants = []
        for place, database, compiles in ((one, url, True), (two, other, False)):
            server = await stack.enter_async_context(
                open_inside(
                    place / "data",
                    database_url=database,
                    owner=(inside.token, inside.owner_id),
                    compile=compiles,
                    **ROOM,
                )
            )
            tenants.append(_moved(made, server, place))
        yield tenants[0], tenants[1], told


def _copy(folder: Path, to: Path, repository: str) -> None:
    shutil.copytree(folder, to)
    # A copied checkout looks changed until git has looked at its files again.
    command = ["git", "update-index", "-q", "--refresh"]
    subprocess.run(command, cwd=to / repository, check=True)


async def _execute(url: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


def _moved(tenant: Tenant, inside: Inside, place: Path) -> Tenant:
    """The same tenant on another server."""
    owner = Context(inside.services, tenant.owner.principal)
    repository = place / tenant.repository.name
    return dataclasses.replace(
        tenant, inside=inside, owner=owner, repository=repository, numbers=count(10_000)
    )
