"""Payloads made once for many: who may see them, and who reads slowly."""

import asyncio
import base64
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from subscriptions.cursor import decode_cursor
from tests.e2e.conftest import MakeBoard
from tests.support.board import Board
from tests.support.clients import HttpClient, Operation, open_socket
from tests.support.server import RunningServer

EVENTS = """subscription ($id: ID!, $types: [String!]) {
  events(workspaceId: $id, types: $types) { __typename
    ... on Event { seq type task { title description } }
    ... on Checkpoint { cursor } ... on StreamClosed { reason cursor } } }"""
MAKE_PERSON = "mutation ($name: String!) { createUser(input: {name: $name}) { user { id } } }"
MAKE_TOKEN = """mutation ($user: ID!) { createToken(input: {userId: $user}) { secret } }"""
ADD = """mutation ($id: ID!, $user: ID!) {
  addMember(input: {workspaceId: $id, userId: $user, role: VIEWER}) { cursor } }"""
REMOVE = """mutation ($id: ID!, $user: ID!) {
  removeMember(workspaceId: $id, userId: $user) { cursor } }"""


async def new_person(client: HttpClient, board: Board, name: str) -> tuple[str, str]:
    """Id and token of somebody who may read the board."""
    user = (await client.ask(MAKE_PERSON, {"name": name}))["createUser"]["user"]["id"]
    await client.ask(ADD, {"id": board.id, "user": user})
    made = await client.ask(MAKE_TOKEN, {"user": user})
    return user, made["createToken"]["secret"]


async def read_to_end(operation: Operation, end: asyncio.Future[int]) -> list[dict[str, Any]]:
    """Items until the stream is closed, or the event numbered ``end`` has come."""
    items = []
    async for item in operation.items("events"):
        if item["__typename"] != "Checkpoint":
            items.append(item)
        if item["__typename"] == "StreamClosed" or (end.done() and item.get("seq") == end.result()):
            break
    return items


async def test_who_is_removed_gets_nothing_more_of_what_the_others_share(
    any_server: RunningServer, new_board: MakeBoard
) -> None:
    async with HttpClient(any_server.url, any_server.token) as client:
        board = await new_board(client)
        loser, losing_token = await new_person(client, board, "loser")
        _, token = await new_person(client, board, "keeper")
        async with (
            open_socket(any_server.websocket_url, losing_token) as losing,
            open_socket(any_server.websocket_url, token) as keeping,
        ):
            sockets = [*[losing] * 8, *[keeping] * 8]
            operations = [await one.subscribe(EVENTS, {"id": board.id}) for one in sockets]
            for operation in operations:
                assert (await operation.next())["events"]["__typename"] == "Checkpoint"
            begin = decode_cursor(await board.cursor()).seq
            end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            reading = [asyncio.create_task(read_to_end(one, end)) for one in operations]
            for step in range(20):
                await board.create_task(title=f"before {step}")
            await client.ask(REMOVE, {"id": board.id, "user": loser})
            removed = decode_cursor(await board.cursor()).seq
            for step in range(20):
                await board.create_task(title=f"after {step}")
            end.set_result(decode_cursor(await board.cursor()).seq + 1)
            await board.create_task(title="the last")
            lists = await asyncio.gather(*reading)
    for seen in lists[:8]:
        *events, closed = seen
        assert closed["__typename"] == "StreamClosed"
        assert closed["reason"] == "NOT_FOUND"
        assert [event["seq"] for event in events] == list(range(begin + 1, begin + len(events) + 1))
        assert begin + 20 <= events[-1]["seq"] <= removed
        assert decode_cursor(closed["cursor"]).seq == events[-1]["seq"]
    for seen in lists[8:]:
        assert [event["seq"] for event in seen] == list(range(begin + 1, end.result() + 1))
        assert [e["task"]["title"] for e in seen if e["task"]][-1] == "the last"


async def test_subscribers_with_other_wishes_get_each_their_own(
    server: RunningServer, client: HttpClient, board: Board
) -> None:
    short = "subscription ($id: ID!) { e: events(workspaceId: $id) { ... on Event { seq } } }"
    async with open_socket(server.websocket_url, server.token) as both:
        long_ones = [await both.subscribe(EVENTS, {"id": board.id}) for _ in range(3)]
        short_ones = [await both.subscribe(short, {"id": board.id}) for _ in range(3)]
        some = await both.subscribe(EVENTS, {"id": board.id, "types": ["task.updated"]})
        for operation in (*long_ones, *short_ones, some):
            await operation.next()
        begin = decode_cursor(await board.cursor()).seq
        for step in range(5):
            task = await board.create_task(title=f"{step}")
        update = 'mutation ($id: ID!) { updateTask(input: {id: $id, title: "x"}) { cursor } }'
        await client.ask(update, {"id": task["id"]})
        last = decode_cursor(await board.cursor()).seq
        expected = list(range(begin + 1, last + 1))
        for operation in short_ones:
            assert [await operation.next() for _ in expected] == [
                {"e": {"seq": seq}} for seq in expected
            ]
        for operation in long_ones:
            seen = [(await operation.next())["events"] for _ in expected]
            assert [event["seq"] for event in seen] == expected
            assert seen[-1]["task"] == {"title": "x", "description": ""}
        assert (await some.next())["events"]["seq"] == last


def text_frame(text: bytes) -> bytes:
    """A short masked frame; its mask changes nothing."""
    return struct.pack("!BBH4x", 0x81, 0xFE, len(text)) + text


def _open_and_never_read(server: RunningServer, board: Board) -> socket.socket:
    """A raw WebSocket with a subscription whose socket takes as little as the system allows."""
    address = urlsplit(server.url)
    assert address.hostname is not None
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((address.hostname, address.port))
    key = base64.b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET /graphql HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n".encode()
    )
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {server.token}"}}
    payload = {"query": EVENTS, "variables": {"id": board.id}}
    raw.sendall(text_frame(json.dumps(init).encode()))
    raw.sendall(
        text_frame(json.dumps({"id": "1", "type": "subscribe", "payload": payload}).encode())
    )
    return raw


@pytest.mark.long
async def test_one_that_does_not_read_is_cut_off_while_the_others_get_everything(
    server: RunningServer, client: HttpClient, board: Board
) -> None:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/statm")

    def pages() -> int:
        return int(status.read_text().split()[1])

    async with open_socket(server.websocket_url, server.token) as reading:
        operations = [await reading.subscribe(EVENTS, {"id": board.id}) for _ in range(10)]
        for operation in operations:
            await operation.next()
        begin = decode_cursor(await board.cursor()).seq
        before = pages()
        slow = _open_and_never_read(server, board)
        bulk = "x" * 4_000
        for step in range(1_500):
            await board.create_task(title=f"{step}", description=bulk)
            if step % 100 == 0:
                await asyncio.sleep(0.2)
        last = decode_cursor(await board.cursor()).seq
        for operation in operations:
            seen = [(await operation.next())["events"]["seq"] for _ in range(begin, last)]
            assert seen == list(range(begin + 1, last + 1))
        async with asyncio.timeout(60):
            while slow.fileno() >= 0 and not await asyncio.to_thread(_is_cut, slow):
                await asyncio.sleep(0.5)
        # 1,500 events of 4 kB for one slow reader would be 6 MB more.
        assert (pages() - before) * 4096 < 64 << 20
    slow.close()


def _is_cut(raw: socket.socket) -> bool:
    try:
        raw.sendall(text_frame(b'{"type":"ping"}'))
    except OSError:
        return True
    return False
