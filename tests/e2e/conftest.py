"""A server for the tests of a module, and boards on it, one for each test."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.board import Board, create_board, make_repository
from tests.support.clients import HttpClient, Socket, open_socket
from tests.support.server import RunningServer, a_server

BOTH = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
]
ROOM = {"max_concurrent_runs": "8", "max_streams": "1000"}
MakeBoard = Callable[..., Awaitable[Board]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server on SQLite for all tests of the module; they must not stop it."""
    with a_server(tmp_path_factory.mktemp("server"), **ROOM) as running:
        yield running
        assert running.complaints() == []


@pytest.fixture(scope="module", params=BOTH)
def any_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Like ``server``, once on each kind of database."""
    folder = tmp_path_factory.mktemp("server")
    with a_server(folder, database=request.param, **ROOM) as running:
        yield running
        assert running.complaints() == []


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[HttpClient]:
    """The site owner over HTTP."""
    async with HttpClient(server.url, server.token) as opened:
        yield opened


@pytest.fixture
async def socket(server: RunningServer) -> AsyncIterator[Socket]:
    """The site owner over a WebSocket."""
    async with open_socket(server.websocket_url, server.token) as opened:
        yield opened


@pytest.fixture
def new_board(tmp_path: Path) -> Callable[..., Awaitable[Board]]:
    """Makes a board over a repository of its own: ``await new_board(client, maxConcurrent=1)``."""
    numbers = itertools.count(1)

    async def make(client: HttpClient, **fields: Any) -> Board:
        repository = make_repository(tmp_path / f"project-{next(numbers)}")
        board, _ = await create_board(client, repository, **fields)
        return board

    return make


@pytest.fixture
async def board(client: HttpClient, new_board: MakeBoard) -> Board:
    """A board of the site owner's over HTTP."""
    return await new_board(client)
