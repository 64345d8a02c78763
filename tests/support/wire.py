"""Connections to a server in this process, past any socket, and what goes over them."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn

from resolvers.context import Context
from server.plain import PlainGraphQL
from server.serving import _uvicorn_config
from tests.support.inside import Inside, open_inside

NAMES = "query N($first: Int) { workspaces(first: $first) { totalCount nodes { name } } }"
NEW = 'mutation { createWorkspace(input: {name: "Board"}) { workspace { id } } }'
CREATE = """mutation C($title: String!) {
  createTask(input: {workspaceId: "WORKSPACE", title: $title}) { task { number title } } }"""
PAINT = CREATE.replace("number ", "")
ID = "8b0c2a34-7d0e-4c53-a5a5-33d4c1c9bb0f"
HIGH_WATER = 64 * 1024
PEER = ("192.0.2.7", 40_000)


class Wire(asyncio.Transport):
    """A connection's other side: what was written, and what the protocol has been told."""

    def __init__(self, *, reads: bool = True) -> None:
        super().__init__()
        self.written = b""
        self.reads = reads
        self.is_paused = self.is_closed = False
        self.protocol: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": PEER, "sockname": ("192.0.2.1", 80)}.get(name, default)

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.written += data
        if not self.reads and len(self.written) > HIGH_WATER:
            self.protocol.pause_writing()

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


class Connection:
    """A connection to a server; ``took`` tells of each request that took the short way."""

    def __init__(self, server: Inside, **wire: Any) -> None:
        config = _uvicorn_config(server.app.state.server.settings, server.app)
        config.load()
        self.state = uvicorn.server.ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.wire = Wire(**wire)
        made: Any = config.http_protocol_class
        self.protocol = made(config=config, server_state=self.state, app_state={})
        self.wire.protocol = self.protocol
        self.protocol.connection_made(self.wire)

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(20):
            while self.state.tasks:
                await asyncio.wait(self.state.tasks)

    async def ask(self, *packets: bytes) -> bytes:
        """The answers to packets, each sent when the one before has been dealt with."""
        before = len(self.wire.written)
        for packet in packets:
            self.protocol.data_received(packet)
            await asyncio.sleep(0)
        await self.settle()
        return self.wire.written[before:]

    def lose(self) -> None:
        """The client leaves."""
        self.wire.is_closed = True
        self.protocol.connection_lost(ConnectionResetError())


def message(token: str, body: bytes, *, method: str = "POST", **headers: str) -> bytes:
    given = {
        "host": "testserver",
        "content-type": "application/json",
        "authorization": f"Bearer {token}",
        "content-length": str(len(body)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} /graphql HTTP/1.1\r\n{lines}\r\n".encode() + body


def query(text: str, **variables: Any) -> bytes:
    return orjson.dumps({"query": text, "variables": variables})


def masked(answer: bytes) -> bytes:
    """Without what differs from one request to the next: an id that was made, a moment, a time."""
    answer = re.sub(rb"(x-request-id|request_id.:)[: ]*[^\r,]*", rb"\1", answer)
    return re.sub(rb"\d{4}-\d\d-\d\dT[\d:.]+Z", b"MOMENT", answer)


@asynccontextmanager
async def a_board(folder: Path, **changes: Any) -> AsyncIterator[tuple[Inside, str]]:
    """A server whose usual documents are compiled, and a workspace's id."""
    async with open_inside(folder, **changes) as server:
        made = (await server.post(NEW, token=server.token)).data
        board = made["createWorkspace"]["workspace"]["id"]
        connection = Connection(server)
        create = PAINT.replace("WORKSPACE", board)
        for _ in range(3):
            await connection.ask(message(server.token, query(NAMES, first=1)))
            await connection.ask(message(server.token, query(create, title="Paint")))
        yield server, create


@contextmanager
def lines_of_requests() -> Iterator[list[dict[str, Any]]]:
    """The lines of requests that are written meanwhile, without moments and durations."""
    found: list[dict[str, Any]] = []

    class Listener(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            if isinstance(record.msg, dict):
                shown = {
                    k: v for k, v in record.msg.items() if k not in {"timestamp", "duration_ms"}
                }
                found.append(shown)
            return True

    listener, root = Listener(), logging.getLogger()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.INFO)
    try:
        yield found
    finally:
        root.removeHandler(listener)
        root.setLevel(level)


def is_all_given_back(server: Inside) -> bool:
    plain: PlainGraphQL = server.app.state.plain
    return plain.limiter.running == 0


def before_reading_or_writing(patch: pytest.MonkeyPatch, first: Any) -> None:
    """Call an asynchronous function whenever a request begins to read or to write."""
    reader, transact = Context.reader, Context.transact

    async def reads(ctx: Context) -> Any:
        await first()
        return await reader(ctx)

    async def writes(ctx: Context, *arguments: Any, **more: Any) -> Any:
        await first()
        return await transact(ctx, *arguments, **more)

    patch.setattr(Context, "reader", reads)
    patch.setattr(Context, "transact", writes)


class Gate:
    """Holds everybody who begins to read or to write while it is closed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.opened = asyncio.Event()
        self.reached = asyncio.Event()
        before_reading_or_writing(patch, self._pass)

    async def _pass(self) -> None:
        self.reached.set()
        await self.opened.wait()
