"""The first story, by script over one WebSocket: from an empty board to a merged change."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.board import (
    CREATE_TASK,
    CREATE_WORKSPACE,
    DIFF,
    EVENTS,
    RUN_OUTPUT,
    START_RUN,
    TASK,
    git,
    make_repository,
    verb,
)
from tests.support.clients import Socket, open_socket
from tests.support.server import RunningServer

SCRIPT = """
do: print I begin
do: write hello.txt Hello, reader
do: append README.md One more line.
do: print I wait for {go}
do: await {go}
do: err I am done
"""


async def _until_text(items: AsyncIterator[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    seen = []
    async for item in items:
        seen.append(item)
        if item.get("text") == text:
            return seen
    raise AssertionError(f"the stream ended without {text!r}: {seen}")


async def _until_type(items: AsyncIterator[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    seen = []
    async for item in items:
        seen.append(item)
        if item.get("type") == name:
            return seen
    raise AssertionError(f"the stream ended without {name}: {seen}")


async def _create(socket: Socket, repository: Path, go: Path) -> tuple[str, str, str]:
    """Workspace and task; their ids and the cursor after the workspace's creation."""
    made = await socket.ask(
        CREATE_WORKSPACE, {"input": {"name": "My board", "localPath": str(repository)}}
    )
    workspace = made["createWorkspace"]["workspace"]
    task = await socket.ask(
        CREATE_TASK,
        {
            "input": {
                "workspaceId": workspace["id"],
                "title": "Say hello",
                "description": SCRIPT.format(go=go),
            }
        },
    )
    return workspace["id"], task["createTask"]["task"]["id"], made["createWorkspace"]["cursor"]


async def test_from_an_empty_board_to_a_merged_change(
    any_server: RunningServer, tmp_path: Path
) -> None:
    repository, go = make_repository(tmp_path / "project"), tmp_path / "go"
    before = git(repository, "rev-parse", "main")
    async with (
        asyncio.timeout(60),
        open_socket(any_server.websocket_url, any_server.token) as socket,
    ):
        workspace_id, task_id, cursor = await _create(socket, repository, go)
        watching = await socket.subscribe(EVENTS, {"workspaceId": workspace_id, "after": cursor})
        events = watching.items("events")
        run = (await socket.ask(START_RUN, {"input": {"taskId": task_id, "executor": "CUSTOM"}}))[
            "startRun"
        ]["run"]
        assert run["status"] == "QUEUED"

        # Output and state arrive while the run goes on: it waits for us.
        operation = await socket.subscribe(RUN_OUTPUT, {"id": run["id"], "after": "EARLIEST"})
        output = operation.items("runOutput")
        lines = await _until_text(output, f"I wait for {go}")
        started = await _until_type(events, "task.started")
        assert [event["type"] for event in started][:3] == [
            "task.created",
            "task.queued",
            "run.queued",
        ]
        assert (await socket.ask(TASK, {"id": task_id}))["task"]["status"] == "IN_PROGRESS"
        go.touch()

        lines += [item async for item in output]
        assert lines[-1] == {
            "__typename": "StreamClosed",
            "reason": "ENDED",
            "cursor": lines[-1]["cursor"],
        }
        told = [(item["stream"], item["text"]) for item in lines if "text" in item]
        assert told[:3] == [
            ("stdout", "I begin"),
            ("stdout", f"I wait for {go}"),
            ("stderr", "I am done"),
        ]
        assert [item["line"] for item in lines[:-1]] == list(range(1, len(lines)))
        ended = await _until_type(events, "task.submitted")

        task = (await socket.ask(TASK, {"id": task_id}))["task"]
        assert task["status"] == "REVIEW"
        assert task["latestRun"]["status"] == "COMPLETED"
        assert task["branch"] == "dragoman/task-1-say-hello"
        assert task["commitSha"] == git(repository, "rev-parse", task["branch"])
        assert (task["filesChanged"], task["additions"], task["deletions"]) == (2, 2, 0)
        diff = (await socket.ask(DIFF, {"id": task_id}))["taskDiff"]
        assert {file["path"] for file in diff["files"]} == {"hello.txt", "README.md"}
        assert "+Hello, reader" in diff["patch"]
        assert git(repository, "rev-parse", "main") == before

        approved = await socket.ask(
            verb("approveTask", "$merge: Boolean!", "merge: $merge"), {"id": task_id, "merge": True}
        )
        task = approved["approveTask"]["task"]
        assert task["status"] == "COMPLETED"
        assert task["mergeCommit"] == git(repository, "rev-parse", "main")
        assert git(repository, "show", "main:hello.txt") == "Hello, reader"
        assert git(repository, "rev-parse", "main^1") == before

        rest = await _until_type(events, "task.approved")
        numbers = [event["seq"] for event in started + ended + rest]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert rest[-1]["cursor"] == approved["approveTask"]["cursor"]
        assert (await socket.ask(DIFF, {"id": task_id}))["taskDiff"]["filesChanged"] == 2
    assert any_server.run_processes() == {}
