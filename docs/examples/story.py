"""The whole story of one task over GraphQL: create, run, watch, review, approve.

    DRAGOMAN_TOKEN=dgm_… python story.py http://127.0.0.1:8000 /path/to/a/git/repository

Needs Python 3.11 and the package websockets, nothing of the server's. What is worth copying is
``Board.follow``: a stream that survives lost connections and restarts of the server, without a
gap and without saying anything twice.
"""
# ruff: noqa: INP001, T201 - a script, not a module of a package; it speaks by printing

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

# Codes after which a new connection is worth a try. None: the connection was cut without a word;
# 1012 and 1013 are the server's "going away" and "try again later"; 4503: we read too slowly.
RESUMABLE = {None, 1001, 1011, 1012, 1013, 4503}
MAX_MESSAGE_BYTES = 16 << 20
"""A line of output may have 8 MiB; most libraries take no such message unless told."""

CREATE_WORKSPACE = """
mutation ($input: CreateWorkspaceInput!) {
  createWorkspace(input: $input) { workspace { id name } }
}"""
CREATE_TASK = """
mutation ($input: CreateTaskInput!) {
  createTask(input: $input) { task { id number title } }
}"""
START_RUN = """
mutation ($input: StartRunInput!) {
  startRun(input: $input) { run { id } cursor }
}"""
TASK_EVENTS = """
subscription ($id: ID!, $after: String) {
  task(id: $id, after: $after) {
    __typename
    ... on Event { type cursor task { status error } run { status activity } }
    ... on Checkpoint { cursor }
    ... on ResyncRequired { reason head }
    ... on StreamClosed { reason cursor }
  }
}"""
RUN_OUTPUT = """
subscription ($id: ID!, $after: String) {
  runOutput(id: $id, after: $after) {
    __typename
    ... on OutputLine { line stream text cursor }
    ... on ResyncRequired { reason head }
    ... on StreamClosed { reason cursor }
  }
}"""
REVIEW = """
query ($id: ID!) {
  task(id: $id) { status error branch commitSha filesChanged additions deletions }
  taskDiff(id: $id) { patch }
}"""
APPROVE = """
mutation ($id: ID!) {
  approveTask(id: $id, merge: true) { task { status mergeCommit } }
}"""


class RefusedError(Exception):
    """The server answered with errors; ``code`` is the first one's."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.code = errors[0].get("extensions", {}).get("code")


class Board:
    """One server. Every operation has a connection of its own here: simple, and quick enough."""

    def __init__(self, url: str, token: str) -> None:
        self.address = f"ws{url.removeprefix('http').rstrip('/')}/graphql"
        self.token = token

    async def ask(self, query: str, *, key: str | None = None, **variables: Any) -> dict[str, Any]:
        """The data of a query or mutation; with ``key`` it is safe to send again."""
        extensions = {"idempotencyKey": key} if key else {}
        async with self._connected() as connection:
            async for data in _results(connection, query, variables, extensions):
                return data
        raise ConnectionError("no answer")

    async def change(self, mutation: str, **variables: Any) -> dict[str, Any]:
        """A mutation that happens once, however often the connection is lost on the way."""
        key, pause = str(uuid.uuid4()), 0.2
        while True:
            try:
                return await self.ask(mutation, key=key, **variables)
            except (OSError, ConnectionClosed) as error:
                pause = await _wait(error, pause)
            except RefusedError as error:
                if error.code != "UNAVAILABLE":
                    raise
                pause = await _wait(None, pause)

    async def follow(
        self, subscription: str, *, after: str | None, **variables: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The items of a stream after a cursor, for as long as it takes."""
        pause = 0.2
        while True:
            try:
                async with self._connected() as connection:
                    variables["after"] = after
                    results = _results(connection, subscription, variables, {})
                    async with aclosing(results):
                        async for data in results:
                            pause = 0.2
                            [item] = data.values()
                            if item["__typename"] == "StreamClosed":
                                after = item["cursor"] or after
                                if item["reason"] in {"GOING_AWAY", "UNAVAILABLE"}:
                                    break  # resume
                                if item["reason"] != "ENDED":
                                    raise PermissionError(item["reason"])
                                return
                            yield item
                            # Only what was handled counts as seen.
                            after = item.get("cursor") or item.get("head") or after
            except (OSError, ConnectionClosed) as error:
                pause = await _wait(error, pause)
            else:
                pause = await _wait(None, pause)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        async with connect(
            self.address,
            subprotocols=["graphql-transport-ws"],
            max_size=MAX_MESSAGE_BYTES,
        ) as connection:
            payload = {"authorization": f"Bearer {self.token}"}
            await connection.send(json.dumps({"type": "connection_init", "payload": payload}))
            json.loads(await connection.recv())  # connection_ack, or ConnectionClosed with 4401
            yield connection


async def _results(
    connection: ClientConnection,
    query: str,
    variables: dict[str, Any],
    extensions: dict[str, Any],
) -> AsyncGenerator[dict[str, Any], None]:
    payload = {"query": query, "variables": variables, "extensions": extensions}
    await connection.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
    async for text in connection:
        message = json.loads(text)
        match message["type"]:
            case "ping":
                await connection.send(json.dumps({"type": "pong"}))
            case "error":
                raise RefusedError(message["payload"])
            case "next" if message["payload"].get("errors"):
                raise RefusedError(message["payload"]["errors"])
            case "next":
                yield message["payload"]["data"]
            case "complete":
                return


async def _wait(error: Exception | None, pause: float) -> float:
    """Wait before the next try; the next pause. Raises an error that no new try can mend."""
    if isinstance(error, ConnectionClosed):
        code = error.rcvd.code if error.rcvd else None
        if code not in RESUMABLE:
            raise error
    await asyncio.sleep(pause)
    return min(pause * 2, 10.0)


async def main(url: str, repository: str, token: str) -> int:
    """Tell the story; 0 when the task was approved."""
    board = Board(url, token)
    workspace = await board.change(
        CREATE_WORKSPACE, input={"name": "Story", "localPath": repository}
    )
    workspace_id = workspace["createWorkspace"]["workspace"]["id"]
    wanted = {
        "workspaceId": workspace_id,
        "title": "Say hello",
        "description": "Write a file hello.txt that greets its reader.",
    }
    task = (await board.change(CREATE_TASK, input=wanted))["createTask"]["task"]
    started = (await board.change(START_RUN, input={"taskId": task["id"]}))["startRun"]
    output = asyncio.create_task(show_output(board, started["run"]["id"]))
    status = await watch(board, task["id"], after=started["cursor"])
    await output

    review = await board.ask(REVIEW, id=task["id"])
    if status != "REVIEW":
        print(f"{status}: {review['task']['error']}")
        return 1
    print(f"branch {review['task']['branch']} at {review['task']['commitSha']}")
    print(review["taskDiff"]["patch"])
    approved = (await board.change(APPROVE, id=task["id"]))["approveTask"]["task"]
    print(f"{approved['status']}, merged as {approved['mergeCommit']}")
    return 0


async def watch(board: Board, task_id: str, *, after: str) -> str:
    """Print what happens to a task until its run is over; where it stands then."""
    async with aclosing(board.follow(TASK_EVENTS, id=task_id, after=after)) as items:
        async for item in items:
            match item:
                case {"__typename": "ResyncRequired"}:
                    # What lies between is gone: read the present state instead.
                    status = (await board.ask(REVIEW, id=task_id))["task"]["status"]
                case {"__typename": "Event", "task": {"status": status}}:
                    pass
                case _:
                    continue
            print(f"task: {status}")
            if status not in {"QUEUED", "IN_PROGRESS"}:
                return str(status)
    raise AssertionError("a task's stream has no end of its own")


async def show_output(board: Board, run_id: str) -> None:
    """Print what a run prints, to its end."""
    async for item in board.follow(RUN_OUTPUT, id=run_id, after="EARLIEST"):
        if item["__typename"] == "OutputLine":
            print(f"{item['line']:>5} {item['text']}")


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main(sys.argv[1], sys.argv[2], os.environ["DRAGOMAN_TOKEN"])))
