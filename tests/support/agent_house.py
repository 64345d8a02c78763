"""A server with agent programs, real or alike, and boards on it."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.support.board import Board, create_board, make_repository
from tests.support.clients import HttpClient
from tests.support.server import RunningServer

RUN = """query ($id: ID!, $after: Int!) { run(id: $id) {
  status reason error exitCode sessionId worktreePath
  usage { inputTokens outputTokens cachedTokens costUsd }
  output(after: $after, first: 1000) { lastLine entries { stream text event } } } }"""


class House:
    """A server with the programs, and a board on it."""

    def __init__(self, server: RunningServer, home: Path) -> None:
        self.server = server
        self.home = home
        self.client = HttpClient(server.url, server.token)

    async def board(self, folder: Path) -> Board:
        board, _ = await create_board(self.client, make_repository(folder))
        return board

    def starts(self, worktree: str) -> list[dict[str, Any]]:
        """How the programs were started in a worktree, in order."""
        notes = (self.home / "started.jsonl").read_text().splitlines()
        return [note for note in map(json.loads, notes) if note["cwd"] == worktree]

    async def look(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run as it is now, with all of its output."""
        entries: list[dict[str, Any]] = []
        while True:
            answer = await self.client.ask(RUN, {"id": run["id"], "after": len(entries)})
            found: dict[str, Any] = answer["run"]
            page = found["output"]
            entries += page["entries"]
            if not page["entries"] or len(entries) >= page["lastLine"]:
                page["entries"] = entries
                return found

    async def events(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """The progress events of a run so far."""
        entries = (await self.look(run))["output"]["entries"]
        return [entry["event"] for entry in entries if entry["event"]]

    async def until_tool(self) -> None:
        """Wait until the tool of a fake agent runs."""

        def has_tool() -> bool:
            return any("time.sleep(600)" in words for words in self.server.run_processes().values())

        async with asyncio.timeout(20):
            while not await asyncio.to_thread(has_tool):
                await asyncio.sleep(0.05)
