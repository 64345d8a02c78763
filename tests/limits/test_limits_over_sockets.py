"""The same limits in a real server: what ASGI promises and what arrives are two things."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws_max_size=1_048_576
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # uvicorn tells by this flag only
            await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


async def converse(port: int, *parts: bytes) -> tuple[bytes, dict[str, Any]]:
    """Send raw bytes, read to the end of the connection: status line and JSON body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return head.partition(b"\r\n")[0], json.loads(await reader.readexactly(length))
    finally:
        writer.close()


HEAD = b"POST /graphql HTTP/1.1\r\nHost: board.test\r\nContent-Type: application/json\r\n"


async def test_a_chunked_flood_is_cut_off(make_board: Any) -> None:
    board = make_board(max_body_bytes=10_000)
    chunk = b"400\r\n" + b" " * 1_024 + b"\r\n"
    async with serving(board.app) as port:
        flood = [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 12]
        status, answer = await converse(port, *flood)
        assert status.split()[1] == b"413"
        assert answer["errors"][0]["extensions"]["limit"]["max"] == 10_000
        announced = HEAD + b"Content-Length: 99999999\r\n\r\n"
        status, answer = await converse(port, announced)
        assert status.split()[1] == b"413"
        body = b'{"query": "{ hello }"}'
        status, answer = await converse(port, HEAD + b"Content-Length: 22\r\n\r\n", body)
        assert status.split()[1] == b"200"
        assert answer["data"] == {"hello": "Hello you"}


async def test_a_foreign_page_gets_no_socket(board: Any) -> None:
    async with serving(board.app) as port:
        url = f"ws://127.0.0.1:{port}/graphql"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(
                url, subprotocols=["graphql-transport-ws"], origin="https://evil.test"
            ):
                pass
        assert refused.value.response.status_code == 403
        own = f"http://127.0.0.1:{port}"
        async with connect(url, subprotocols=["graphql-transport-ws"], origin=own) as socket:
            await socket.send('{"type": "connection_init"}')
            assert json.loads(await socket.recv()) == {"type": "connection_ack"}
            query = {"query": "{ hello " + "x" * 9_000}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": query}))
            answer = json.loads(await socket.recv())
            assert answer["payload"][0]["extensions"] == {"code": "INVALID"}
            await socket.send('{"id": "2", "type": "subscribe", "payload": {"query": "{hello}"}}')
            assert json.loads(await socket.recv())["payload"]["data"] == {"hello": "Hello you"}
