"""Webhooks of a whole server: what was due is delivered after a crash; this machine is closed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import BOTH, MakeBoard
from tests.support.clients import HttpClient, RefusedError
from tests.support.receivers import Received, Reply, a_receiver
from tests.support.server import a_server

CREATE = """
mutation ($input: CreateWebhookInput!) {
  createWebhook(input: $input) { secret webhook { id } }
}
"""
TASK = (
    "mutation ($w: ID!, $t: String!) { createTask(input: {workspaceId: $w, title: $t}) { cursor } }"
)
DELIVERIES = """
query ($id: ID!) {
  webhook(id: $id) {
    deliveries { nodes { id status attemptCount attempts { status error response } } }
  }
}
"""


async def _hook(client: HttpClient, workspace_id: str, url: str) -> str:
    given = {"workspaceId": workspace_id, "url": url, "eventTypes": ["task.created"]}
    made = await client.ask(CREATE, {"input": given})
    assert made["createWebhook"]["secret"].startswith("whsec_")
    return str(made["createWebhook"]["webhook"]["id"])


@pytest.mark.long
@pytest.mark.parametrize("database", BOTH)
async def test_a_killed_server_delivers_after_its_restart_what_was_due(
    database: str, tmp_path: Path, new_board: MakeBoard
) -> None:
    """Killed in the middle of an attempt, with another event committed and not yet read."""
    hung = asyncio.Event()

    async def reply(_: Received) -> Reply:
        await hung.wait()
        return 200

    async with a_receiver() as receiver:
        with a_server(tmp_path, database=database, webhook_allow_loopback="1") as server:
            async with HttpClient(server.url, server.token) as client:
                board = await new_board(client)
                webhook_id = await _hook(client, board.id, receiver.url)
                receiver.reply = reply
                await client.ask(TASK, {"w": board.id, "t": "under way"})
                await receiver.until(1)
                await client.ask(TASK, {"w": board.id, "t": "committed"})
                await asyncio.to_thread(server.kill)
                hung.set()
                await asyncio.to_thread(server.start)
                client.url = server.url
                async with asyncio.timeout(150):  # on PostgreSQL a dead server's lease has to end
                    while len(receiver.received) < 3:
                        await asyncio.sleep(0.1)
                sent = [r.json["data"]["task"]["title"] for r in receiver.received]
                assert sent == ["under way", "under way", "committed"]
                ids = [r.headers["webhook-id"] for r in receiver.received]
                assert ids[0] == ids[1] != ids[2]
                assert receiver.received[0].body == receiver.received[1].body
                await _until_delivered(client, webhook_id, 2)
            assert server.complaints() == []


async def _until_delivered(client: HttpClient, webhook_id: str, count: int) -> None:
    async with asyncio.timeout(20):
        while True:
            found: Any = await client.ask(DELIVERIES, {"id": webhook_id})
            nodes = found["webhook"]["deliveries"]["nodes"]
            if [node["status"] for node in nodes] == ["DELIVERED"] * count:
                return
            await asyncio.sleep(0.05)


async def test_this_machine_is_closed_by_default(client: HttpClient, new_board: MakeBoard) -> None:
    board = await new_board(client)
    async with a_receiver() as receiver:
        for url in (receiver.url, f"http://localhost:{receiver.port}/", "http://169.254.169.254/"):
            with pytest.raises(RefusedError) as refused:
                await _hook(client, board.id, url)
            assert refused.value.code == "INVALID"
            assert refused.value.extensions["field"] == "url"
        assert receiver.connections == 0
