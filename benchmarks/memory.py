"""Part memory: what a server holds when idle, and for each thousand subscribers that wait."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Section, at_most
from benchmarks.startup import Memory, memory_of
from tests.support.board import create_board, make_repository
from tests.support.clients import HttpClient, open_socket
from tests.support.server import RunningServer, a_server

SUBSCRIPTION = """subscription E($id: ID!) { events(workspaceId: $id) { __typename
  ... on Event { seq type at task { id title status priority updatedAt } } } }"""
SETTLE_SECONDS = 3.0
AT_ONCE = 50
MB = 2**20 / 1e6
"""Of a MiB."""
ROOM = {"max_streams": "20000"}


@contextlib.asynccontextmanager
async def _waiting(server: RunningServer, workspace: str, count: int) -> AsyncIterator[None]:
    """Open sockets with a subscription each, all at the head of their log."""
    places = asyncio.Semaphore(AT_ONCE)
    async with contextlib.AsyncExitStack() as stack:

        async def subscribe() -> None:
            async with places:
                socket = await stack.enter_async_context(
                    open_socket(server.websocket_url, server.token)
                )
                operation = await socket.subscribe(SUBSCRIPTION, {"id": workspace})
                await operation.next()

        await asyncio.gather(*(subscribe() for _ in range(count)))
        await asyncio.sleep(SETTLE_SECONDS)
        yield


@dataclass(frozen=True, slots=True)
class Waiting:
    """Memory of a server, and how many subscribers it had."""

    few: int
    many: int
    idle: Memory
    with_few: Memory
    with_many: Memory

    @property
    def mib_for_a_thousand(self) -> float:
        """What a thousand more subscribers take."""
        return (self.with_many.pss - self.with_few.pss) / (self.many - self.few) * 1_000


async def _measure(server: RunningServer, folder: Path, few: int, many: int) -> Waiting:
    assert server.process is not None
    found = [memory_of(server.process.pid)]
    async with HttpClient(server.url, server.token) as client:
        board, _ = await create_board(client, make_repository(folder / "project"))
        for count in (few, many):
            async with _waiting(server, board.id, count):
                # What each has for its first event is part of it.
                await board.create_task(title="first")
                await board.create_task(title="second")
                await asyncio.sleep(SETTLE_SECONDS)
                found.append(memory_of(server.process.pid))
    return Waiting(few, many, *found)


def measure(folder: Path, *, few: int, many: int) -> Waiting:
    """Start a server with an empty folder, and let few subscribers come, and then many."""
    with a_server(folder / "server", **ROOM) as server:
        return asyncio.run(_measure(server, folder, few, many))


def section(*, quick: bool) -> Section:
    """The figures of this machine as a part of the report."""
    few, many = (100, 600) if quick else (100, 2_100)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), few=few, many=many)
    return Section(
        "Memory of a server",
        ["what", "PSS, MiB"],
        [
            ["idle, after start", f"{found.idle.pss:.1f}"],
            [
                f"with {few} subscribers that wait, after their first events",
                f"{found.with_few.pss:.1f}",
            ],
            [f"with {many:,}", f"{found.with_many.pss:.1f}"],
            ["a thousand more", f"{found.mib_for_a_thousand:.1f}"],
        ],
        ["Each subscriber has a WebSocket of its own."],
        [
            at_most("idle", found.idle.pss * MB, 120, " MB"),
            at_most("a thousand idle subscribers", found.mib_for_a_thousand * MB, 60, " MB"),
        ],
    )
