"""A user's steps on a board, each one request: repositories, workspaces, tasks, runs, streams."""

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.clients import PATIENCE, HttpClient, Operation, Socket

TASK_FIELDS = """id number title status statusReason version branch baseBranch commitSha
filesChanged additions deletions error reviewReason reviewComment mergeCommit"""
RUN_FIELDS = "id status reason error exitCode attempt branch outputLines"

CREATE_WORKSPACE = """mutation ($input: CreateWorkspaceInput!) {
  createWorkspace(input: $input) { workspace { id slug name } cursor } }"""
CREATE_TASK = f"""mutation ($input: CreateTaskInput!) {{
  createTask(input: $input) {{ task {{ {TASK_FIELDS} }} cursor }} }}"""
START_RUN = f"""mutation ($input: StartRunInput!) {{
  startRun(input: $input) {{ run {{ {RUN_FIELDS} }} cursor }} }}"""
TASK = f"""query ($id: ID!) {{ task(id: $id) {{ {TASK_FIELDS}
  latestRun {{ {RUN_FIELDS} }} }} }}"""
RUN = f"query ($id: ID!) {{ run(id: $id) {{ {RUN_FIELDS} }} }}"
CURSOR = "query ($id: ID!) { workspace(id: $id) { cursor } }"
OUTPUT = """query ($id: ID!, $after: Int!) { run(id: $id) {
  output(after: $after, first: 1000) { lastLine ended entries { line stream text } } } }"""
EVENTS = """subscription ($workspaceId: ID!, $after: String) {
  events(workspaceId: $workspaceId, after: $after) { __typename
    ... on Event { seq type cursor entityId fromStatus task { id status title }
      run { id status reason } }
    ... on Checkpoint { cursor }
    ... on ResyncRequired { reason floor head }
    ... on StreamClosed { reason cursor } } }"""
RUN_OUTPUT = """subscription ($id: ID!, $after: String) {
  runOutput(id: $id, after: $after) { __typename
    ... on OutputLine { line stream text cursor }
    ... on Checkpoint { cursor }
    ... on ResyncRequired { reason }
    ... on StreamClosed { reason cursor } } }"""
DIFF = """query ($id: ID!) { taskDiff(id: $id) { base head filesChanged additions deletions
  truncated patch files { path additions deletions } } }"""

FINAL_RUN = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


def verb(name: str, arguments: str = "", values: str = "") -> str:
    """The document of a mutation of one task by its id, such as ``approveTask``.

    Args:
        name: the mutation's.
        arguments: further variables, such as ``$merge: Boolean!``.
        values: how they are given, such as ``merge: $merge``.
    """
    return (
        f"mutation ($id: ID!, {arguments}) {{ {name}(id: $id, {values}) "
        f"{{ task {{ {TASK_FIELDS} }} cursor }} }}"
    )


def git(folder: Path, *arguments: str) -> str:
    """What git prints."""
    done = subprocess.run(
        ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def make_repository(folder: Path) -> Path:
    """A repository with one commit of ``README.md`` on ``main``."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "README.md").write_text("A project.\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=First")
    return folder


class Board:
    """One workspace over one repository, used through HTTP."""

    def __init__(self, client: HttpClient, workspace_id: str, repository: Path) -> None:
        self.client = client
        self.id = workspace_id
        self.repository = repository

    async def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The data of the answer."""
        return await self.client.ask(query, variables)

    async def create_task(self, *script: str, **fields: Any) -> dict[str, Any]:
        """A task whose runs do what the lines of the script say (see ``tests.support.agent``)."""
        fields.setdefault("title", f"Task {uuid.uuid4().hex[:8]}")
        description = "\n".join(f"do: {line}" for line in script)
        found = await self.ask(
            CREATE_TASK,
            {"input": {"workspaceId": self.id, "description": description, **fields}},
        )
        task: dict[str, Any] = found["createTask"]["task"]
        return task

    async def start_run(self, task: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """A queued run of the task."""
        fields.setdefault("executor", "CUSTOM")
        found = await self.ask(START_RUN, {"input": {"taskId": task["id"], **fields}})
        run: dict[str, Any] = found["startRun"]["run"]
        return run

    async def run_script(
        self, *script: str, **fields: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new task and its queued run."""
        task = await self.create_task(*script, **fields)
        return task, await self.start_run(task)

    async def task(self, task: dict[str, Any]) -> dict[str, Any]:
        """The task as it is now."""
        found: dict[str, Any] = (await self.ask(TASK, {"id": task["id"]}))["task"]
        return found

    async def run(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run as it is now."""
        found: dict[str, Any] = (await self.ask(RUN, {"id": run["id"]}))["run"]
        return found

    async def cursor(self) -> str:
        """Where the workspace's log stands."""
        cursor: str = (await self.ask(CURSOR, {"id": self.id}))["workspace"]["cursor"]
        return cursor

    async def change(self, name: str, task: dict[str, Any]) -> dict[str, Any]:
        """A mutation of the task that needs nothing but its id; the task afterwards."""
        found = await self.ask(
            f"mutation ($id: ID!) {{ {name}(id: $id) {{ task {{ {TASK_FIELDS} }} }} }}",
            {"id": task["id"]},
        )
        after: dict[str, Any] = found[name]["task"]
        return after

    async def output(self, run: dict[str, Any]) -> list[tuple[str, str]]:
        """All lines of a run by now: stream and text. Their numbers are checked."""
        lines: list[tuple[str, str]] = []
        while True:
            found = await self.ask(OUTPUT, {"id": run["id"], "after": len(lines)})
            page = found["run"]["output"]
            numbers = [entry["line"] for entry in page["entries"]]
            assert numbers == list(range(len(lines) + 1, len(lines) + 1 + len(numbers)))
            lines.extend((entry["stream"], entry["text"]) for entry in page["entries"])
            if not numbers:
                assert page["lastLine"] == len(lines)
                return lines

    async def until_task(
        self, task: dict[str, Any], *statuses: str, within: float = PATIENCE
    ) -> dict[str, Any]:
        """Wait until the task has one of the statuses; the task then."""
        return await self._until(lambda: self.task(task), statuses, within)

    async def until_run(
        self, run: dict[str, Any], *statuses: str, within: float = PATIENCE
    ) -> dict[str, Any]:
        """Wait until the run has one of the statuses (a final one by default); the run then."""
        return await self._until(lambda: self.run(run), statuses or FINAL_RUN, within)

    async def until_output(
        self, run: dict[str, Any], text: str, within: float = PATIENCE
    ) -> list[tuple[str, str]]:
        """Wait until a line with this text is in the run's output."""
        async with asyncio.timeout(within):
            while True:
                lines = await self.output(run)
                if any(text in line for _, line in lines):
                    return lines
                await asyncio.sleep(0.05)

    async def _until(self, look: Any, statuses: Any, within: float) -> dict[str, Any]:
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(within):
                while True:
                    found = await look()
                    if found["status"] in statuses:
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never {sorted(statuses)}: {found}") from None


async def create_board(client: HttpClient, repository: Path, **fields: Any) -> tuple[Board, str]:
    """A workspace over a repository, and the cursor of its creation."""
    fields.setdefault("name", repository.name)
    found = await client.ask(CREATE_WORKSPACE, {"input": {"localPath": str(repository), **fields}})
    payload = found["createWorkspace"]
    return Board(client, payload["workspace"]["id"], repository), payload["cursor"]


async def watch(
    socket: Socket, board: Board, after: str | None
) -> tuple[Operation, AsyncIterator[dict[str, Any]]]:
    """The events of a board after a cursor."""
    operation = await socket.subscribe(EVENTS, {"workspaceId": board.id, "after": after})
    return operation, operation.items("events")


async def watch_output(socket: Socket, run: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The items of a run's output from its first line on."""
    operation = await socket.subscribe(RUN_OUTPUT, {"id": run["id"], "after": "EARLIEST"})
    return operation.items("runOutput")
