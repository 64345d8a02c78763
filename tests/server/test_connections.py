"""WebSocket connections are bounded per caller, and their places are given back."""

import asyncio
from pathlib import Path

import pytest

from tests.support.clients import SocketClosedError, open_socket
from tests.support.server import a_server


async def test_a_caller_has_so_many_open_streams_and_no_more(tmp_path: Path) -> None:
    with a_server(tmp_path, max_streams="2") as server:
        other = server.make_token("owner")
        async with (
            open_socket(server.websocket_url, server.token) as first,
            open_socket(server.websocket_url, other),
        ):
            with pytest.raises(SocketClosedError, match="4429"):
                async with open_socket(server.websocket_url, server.token):
                    pass
            assert await first.ask("{ __typename }") == {"__typename": "Query"}

        async def connects_again() -> bool:
            try:
                async with open_socket(server.websocket_url, server.token):
                    return True
            except SocketClosedError:
                return False

        async with asyncio.timeout(10):
            while not await connects_again():
                await asyncio.sleep(0.05)


async def test_operations_over_a_socket_wait_for_their_turn(tmp_path: Path) -> None:
    with a_server(tmp_path, max_concurrent_operations="1") as server:
        async with open_socket(server.websocket_url, server.token) as socket:
            answers = await asyncio.gather(
                *(socket.ask("{ viewer { __typename } }") for _ in range(20))
            )
        assert len(answers) == 20
