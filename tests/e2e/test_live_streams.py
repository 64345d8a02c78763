"""Streams of a running server under writers, crowds and silence."""

import asyncio
import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from subscriptions.cursor import decode_cursor
from tests.e2e.conftest import MakeBoard
from tests.support.board import EVENTS, Board
from tests.support.clients import HttpClient, Socket, open_socket
from tests.support.server import POSTGRES, RunningServer, a_server

QUERY = """query ($id: ID!) { workspace(id: $id) { cursor }
  tasks(workspaceId: $id, first: 100) { totalCount nodes { id } } }"""
FEW = """subscription ($workspaceId: ID!, $after: String) {
  events(workspaceId: $workspaceId, after: $after) {
    __typename ... on Event { seq entityId cursor } } }"""


async def write_storm(board: Board, *, writers: int, each: int) -> set[str]:
    """Ids of the tasks that many writers made at the same time."""

    async def write(number: int) -> list[str]:
        async with HttpClient(board.client.url, board.client.token) as own:
            mine = Board(own, board.id, board.repository)
            made = [await mine.create_task(title=f"{number}.{step}") for step in range(each)]
            return [task["id"] for task in made]

    lists = await asyncio.gather(*[write(number) for number in range(writers)])
    return {task for made in lists for task in made}


async def test_query_then_subscribe_misses_nothing_of_a_storm_of_writers(
    any_server: RunningServer, new_board: MakeBoard
) -> None:
    async with (
        HttpClient(any_server.url, any_server.token) as client,
        open_socket(any_server.websocket_url, any_server.token) as socket,
    ):
        board = await new_board(client)
        storm = asyncio.create_task(write_storm(board, writers=8, each=12))
        snapshots: list[tuple[set[str], str]] = []
        while not storm.done():
            found = await client.ask(QUERY, {"id": board.id})
            known = {task["id"] for task in found["tasks"]["nodes"]}
            assert found["tasks"]["totalCount"] == len(known)
            snapshots.append((known, found["workspace"]["cursor"]))
        everything = await storm
        head = decode_cursor(await board.cursor()).seq
        assert len(snapshots) > 3
        chosen = random.Random(0).sample(snapshots, min(8, len(snapshots)))  # noqa: S311  # a sample
        for known, cursor in [snapshots[0], *chosen]:
            later = await _rest(socket, board, cursor, head)
            begin = decode_cursor(cursor).seq
            assert [event["seq"] for event in later] == list(range(begin + 1, head + 1))
            arrived = [event["entityId"] for event in later if event["seq"] > 1]
            # What the query showed and what the stream told make the whole, without overlap.
            assert len(arrived) == len(set(arrived))
            assert known.isdisjoint(arrived)
            assert known | set(arrived) == everything


async def _rest(socket: Socket, board: Board, cursor: str, head: int) -> list[dict[str, Any]]:
    if decode_cursor(cursor).seq >= head:
        return []
    operation = await socket.subscribe(FEW, {"workspaceId": board.id, "after": cursor})
    events = []
    async for item in operation.items("events"):
        events.append(item)
        if item["seq"] == head:
            break
    await operation.stop()
    return events


async def _come_and_go(
    server: RunningServer, board: Board, chance: random.Random, ended: asyncio.Future[int]
) -> list[int]:
    """The numbers one subscriber sees over connections that it drops at any moment.

    ``ended`` is the log's head once that moves no more.
    """
    seen: list[int] = []
    cursor = "EARLIEST"
    while not (ended.done() and seen and seen[-1] == ended.result()):
        try:
            async with (
                asyncio.timeout(60 if ended.done() else chance.uniform(0.2, 4)),
                open_socket(server.websocket_url, server.token) as socket,
            ):
                operation = await socket.subscribe(FEW, {"workspaceId": board.id, "after": cursor})
                async for item in operation.items("events"):
                    seen.append(item["seq"])
                    cursor = item["cursor"]
                    if ended.done() and seen[-1] == ended.result():
                        break
        except TimeoutError:
            continue
    return seen


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "subscribers", [pytest.param(50), pytest.param(200, marks=pytest.mark.long)]
)
async def test_subscribers_who_come_and_go_each_see_exactly_the_log(
    any_server: RunningServer, new_board: MakeBoard, subscribers: int
) -> None:
    async with HttpClient(any_server.url, any_server.token) as client:
        board = await new_board(client)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        crowd = [
            asyncio.create_task(
                _come_and_go(any_server, board, random.Random(number), ended)  # noqa: S311  # dice
            )
            for number in range(subscribers)
        ]
        await write_storm(board, writers=4, each=10)
        ended.set_result(decode_cursor(await board.cursor()).seq)
        everything = list(range(1, ended.result() + 1))
        for seen in await asyncio.gather(*crowd):
            assert seen == everything


async def _transactions(server: RunningServer, seconds: float) -> float:
    """Transactions of the server's database per second, as PostgreSQL counts them."""
    assert server.database_url is not None
    statement = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1"
    name = server.database_url.rpartition("/")[2]
    connection = await asyncpg.connect(f"{POSTGRES}/test")
    try:
        before = await connection.fetchval(statement, name)
        await asyncio.sleep(seconds)
        return float(await connection.fetchval(statement, name) - before) / seconds
    finally:
        await connection.close()


@pytest.mark.long
@pytest.mark.postgres
async def test_ninety_idle_subscribers_cost_the_database_no_more_than_three(
    tmp_path: Path, new_board: MakeBoard
) -> None:
    with a_server(tmp_path / "server", database="postgresql") as server:
        async with HttpClient(server.url, server.token) as client:
            boards = [await new_board(client) for _ in range(3)]
            async with open_socket(server.websocket_url, server.token) as socket:

                async def subscribe(times: int) -> None:
                    for number in range(times):
                        variables = {"workspaceId": boards[number % 3].id, "after": "EARLIEST"}
                        operation = await socket.subscribe(EVENTS, variables)
                        await operation.next()
                    await _transactions(server, 12)  # idle connections tell late what they did

                await subscribe(0)
                alone = await _transactions(server, 10)
                await subscribe(3)
                few = await _transactions(server, 10)
                await subscribe(87)
                many = await _transactions(server, 10)
        # A look at all watched logs is one transaction, and one more to see if the database is
        # there; what the server does by itself goes on beside it, and is counted late: by one or
        # two in a second. A look for each subscriber would be some ninety.
        assert 1 <= few <= alone + 4, (alone, few, many)
        assert abs(many - few) <= 3, (alone, few, many)
