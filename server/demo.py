"""``dragoman demo``: a run to watch, through the public API of a running server.

Without an address it starts a server of its own, with everything in a temporary folder, and a
scripted agent (``server.demo_agent``). Whatever happens, Ctrl-C included, it leaves no process,
no folder and no workspace behind.
"""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from runner.folder import remove_tree
from server import demo_agent
from server.demo_client import BoardClient, BoardError, open_board
from server.demo_screen import Screen

INTERRUPTED = 130
START_SECONDS = 60.0
STOP_SECONDS = 30.0
GIT_SECONDS = 60.0
PAUSE_SECONDS = 0.5
AGENT = str(Path(demo_agent.__file__).resolve())
_TOKEN = re.compile(r"dgm_[A-Za-z0-9_-]+")
_README = "# Greeter\n\nA repository that is about to learn some manners.\n"
_TITLE = "Say hello"
_DESCRIPTION = (
    "Write a file hello.txt with a line that greets its reader, and mention it in README.md."
)

EXECUTORS = "query { executors { executor isAvailable reason } }"
CREATE_WORKSPACE = """
mutation ($input: CreateWorkspaceInput!) {
  createWorkspace(input: $input) { workspace { id slug } }
}"""
DELETE_WORKSPACE = """
mutation ($id: ID!) { deleteWorkspace(id: $id, force: true) { cursor } }"""
CREATE_TASK = """
mutation ($input: CreateTaskInput!) {
  createTask(input: $input) { task { id number title } }
}"""
START_RUN = """
mutation ($input: StartRunInput!) {
  startRun(input: $input) { run { id attempt } cursor }
}"""
STOP_RUN = 'mutation ($id: ID!) { stopRun(id: $id, reason: "demo") { cursor } }'
WATCH_TASK = """
subscription ($id: ID!, $after: String!) {
  task(id: $id, after: $after) {
    __typename
    ... on Event {
      type fromStatus
      task { status statusReason error }
      run { status activity }
    }
    ... on StreamClosed { reason }
  }
}"""
WATCH_OUTPUT = """
subscription ($id: ID!) {
  runOutput(id: $id, after: "EARLIEST") {
    __typename
    ... on OutputLine { stream text event }
    ... on StreamClosed { reason }
  }
}"""
WATCH_END = """
subscription ($id: ID!) { run(id: $id, after: "EARLIEST") { __typename } }"""
REVIEW = """
query ($id: ID!) {
  task(id: $id) { status branch commitSha filesChanged additions deletions }
  taskDiff(id: $id) { patch truncated files { path additions deletions } }
}"""
APPROVE = """
mutation ($id: ID!) {
  approveTask(id: $id, merge: true, comment: "Well said.") {
    task { status mergeCommit baseBranch }
  }
}"""


async def run_demo(*, url: str | None, token: str | None, pause: float = PAUSE_SECONDS) -> int:
    """Tell the story of one task on the terminal.

    Args:
        url: address of a running server on this machine; None starts a throw-away one.
        token: of that server's site owner, or of somebody who may name local repositories.
        pause: seconds between two steps of the scripted agent.

    Returns:
        0 when the task was reviewed and merged, 1 when something was refused or failed, 130 when
        interrupted.
    """
    screen = Screen(sys.stdout)
    me = asyncio.current_task()
    assert me is not None  # noqa: S101  # a coroutine that runs is in a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    try:
        async with AsyncExitStack() as stack:
            await _prepare_and_tell(stack, screen, url=url, token=token, pause=pause)
    except BoardError as error:
        screen.error(str(error))
        return 1
    except asyncio.CancelledError:
        screen.status("")
        screen.line("stopped", "Interrupted; nothing is left behind.")
        return INTERRUPTED
    return 0


async def _prepare_and_tell(
    stack: AsyncExitStack, screen: Screen, *, url: str | None, token: str | None, pause: float
) -> None:
    if url is not None and not token:
        raise BoardError("A running server needs a token: --token or DRAGOMAN_TOKEN")
    folder = await asyncio.to_thread(_make_folder)
    stack.callback(remove_tree, folder)
    repository = folder / "greeter"
    await _make_repository(repository)
    if url is None:
        address, token = await stack.enter_async_context(_own_server(folder, pause=pause))
    else:
        address = url
    screen.line("server", address)
    board = await stack.enter_async_context(open_board(address, token or ""))
    await _require_custom(board)
    await _tell(board, screen, repository)


# --- what it needs ---


def _make_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="dragoman-demo-")).resolve()


async def _make_repository(path: Path) -> None:
    """A git repository with one commit.

    Raises:
        BoardError: git is missing or refuses.
    """
    await asyncio.to_thread(path.mkdir)
    await asyncio.to_thread((path / "README.md").write_text, _README)
    identity = ("-c", "user.name=Demo", "-c", "user.email=demo@localhost")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "README.md"),
        (*identity, "commit", "--quiet", "--message=Begin"),
    ):
        await _git(path, *arguments)


async def _git(path: Path, *arguments: str) -> str:
    keep = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            cwd=path,
            env={**keep, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
    except FileNotFoundError:
        raise BoardError("The program git is needed and not on the PATH") from None
    async with asyncio.timeout(GIT_SECONDS):
        said, complaint = await process.communicate()
    if process.returncode != 0:
        raise BoardError(f"git {arguments[0]}: {complaint.decode(errors='replace').strip()}")
    return said.decode(errors="replace").strip()


@asynccontextmanager
async def _own_server(folder: Path, *, pause: float) -> AsyncIterator[tuple[str, str]]:
    """A server process with data in ``folder``; its address and the token of its owner.

    Raises:
        BoardError: it did not come up.
    """
    agent = [sys.executable, "-I", "-S", AGENT]
    own = {
        "DRAGOMAN_DATA_DIR": str(folder / "data"),
        "DRAGOMAN_CUSTOM_COMMAND": json.dumps([*agent, f"--pause={pause:g}", "{prompt_file}"]),
        "DRAGOMAN_LOG_FORMAT": "json",
        "DRAGOMAN_LOG_LEVEL": "warning",
        # Should this program be killed, what it started ends by itself soon after.
        "DRAGOMAN_RUN_ORPHAN_AFTER": "5s",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRAGOMAN_")}
    log = folder / "server.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            # -P: a folder called "server" where somebody tries the demo is not taken for ours.
            *(sys.executable, "-P", "-c", "from server.cli import main; main()"),
            *("serve", "--host", "127.0.0.1", "--port", "0"),
            env={**kept, **own},
            cwd=folder,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for us; we end it in order
        )
    try:
        yield await _ready(process, log)
    except BoardError as error:
        if error.code != "INTERNAL":
            raise
        # This server is nobody else's: its log may be told, and goes with the folder.
        said = await asyncio.to_thread(log.read_text, "utf-8", "replace")
        raise BoardError(f"{error}\n{said[-4000:].strip()}") from None
    finally:
        await _end(process)


async def _ready(process: asyncio.subprocess.Process, log: Path) -> tuple[str, str]:
    assert process.stdout is not None  # noqa: S101  # asked for above
    try:
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode(errors="replace")
    except TimeoutError:
        line = ""
    said = await asyncio.to_thread(log.read_text, "utf-8", "replace")
    token = _TOKEN.search(said)
    if not line or token is None:
        raise BoardError(f"The server did not come up:\n{said[-4000:].strip() or 'no word'}")
    return line.split()[-1], token[0]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, and make it."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


# --- the story ---


async def _require_custom(board: BoardClient) -> None:
    """Raise BoardError unless the server can run the executor CUSTOM."""
    answer = await board.ask(EXECUTORS)
    [custom] = [item for item in answer["executors"] if item["executor"] == "CUSTOM"]
    if not custom["isAvailable"]:
        command = json.dumps(["python3", AGENT, "{prompt_file}"])
        raise BoardError(
            f"{custom['reason']}. For the demo's own scripted agent, start the server with "
            f"DRAGOMAN_CUSTOM_COMMAND='{command}'"
        )


async def _tell(board: BoardClient, screen: Screen, repository: Path) -> None:
    made = await board.ask(CREATE_WORKSPACE, input={"name": "Demo", "localPath": str(repository)})
    workspace = made["createWorkspace"]["workspace"]
    run_id: str | None = None
    try:
        screen.line("workspace", f"{workspace['slug']} for {repository}")
        wanted = {
            "workspaceId": workspace["id"],
            "title": _TITLE,
            "description": _DESCRIPTION,
        }
        task = (await board.ask(CREATE_TASK, input=wanted))["createTask"]["task"]
        screen.line("task", f"#{task['number']} {task['title']}")
        start = {"taskId": task["id"], "executor": "CUSTOM"}
        started = (await board.ask(START_RUN, input=start))["startRun"]
        run_id = started["run"]["id"]
        await _watch(board, screen, task_id=task["id"], run_id=run_id, after=started["cursor"])
        await _review(board, screen, repository, task_id=task["id"])
    finally:
        await _leave(board, workspace_id=workspace["id"], run_id=run_id)


async def _watch(
    board: BoardClient, screen: Screen, *, task_id: str, run_id: str, after: str
) -> None:
    """Show state and output live until the task is in review.

    Raises:
        BoardError: it did not get there.
    """
    output = asyncio.create_task(_show_output(board, screen, run_id))
    try:
        async with aclosing(board.follow(WATCH_TASK, id=task_id, after=after)) as items:
            async for data in items:
                item = data["task"]
                if item["__typename"] == "StreamClosed":
                    raise BoardError(f"The stream ended: {item['reason']}")
                if item["__typename"] == "Event" and _show_event(screen, item):
                    break
        async with asyncio.timeout(STOP_SECONDS):
            await output
    finally:
        output.cancel()
        await asyncio.gather(output, return_exceptions=True)
        screen.status("")


def _show_event(screen: Screen, event: dict[str, Any]) -> bool:
    """Show a change of state; whether the task is in review now.

    Raises:
        BoardError: it will not come to a review.
    """
    task, run = event["task"], event["run"]
    if run is not None and event["type"] != "run.activity":
        screen.line("run", f"{event['type'].removeprefix('run.')}: {run['status']}")
    if task is None or event["fromStatus"] is None:
        return False
    screen.line("task", f"{event['fromStatus']} → {task['status']}")
    if task["status"] in {"FAILED", "CANCELLED", "BACKLOG"}:
        why = task["error"] or task["statusReason"] or "for no reason given"
        raise BoardError(f"The task is {task['status']}: {why}")
    return bool(task["status"] == "REVIEW")


async def _show_output(board: BoardClient, screen: Screen, run_id: str) -> None:
    async with aclosing(board.follow(WATCH_OUTPUT, id=run_id)) as items:
        async for data in items:
            item = data["runOutput"]
            if item["__typename"] != "OutputLine":
                continue
            if item["event"] is not None:
                screen.event(item["event"])
            else:
                screen.line("server" if item["stream"] == "server" else "prints", item["text"])


async def _review(board: BoardClient, screen: Screen, repository: Path, *, task_id: str) -> None:
    answer = await board.ask(REVIEW, id=task_id)
    task, diff = answer["task"], answer["taskDiff"]
    screen.line("branch", f"{task['branch']} at {task['commitSha'][:12]}")
    screen.line(
        "changed", f"{task['filesChanged']} files, +{task['additions']} -{task['deletions']} lines"
    )
    screen.text("")
    screen.diff(diff["patch"])
    screen.text("")
    approved = (await board.ask(APPROVE, id=task_id))["approveTask"]["task"]
    screen.line("task", f"REVIEW → {approved['status']}")
    commit = approved["mergeCommit"]
    subject = await _git(repository, "log", "-1", "--format=%h %s", commit)
    screen.line("merged", f"{subject} (into {approved['baseBranch']})")


async def _leave(board: BoardClient, *, workspace_id: str, run_id: str | None) -> None:
    """Stop what still runs, and take the workspace off the server; best effort."""
    with suppress(BoardError, TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            if run_id is not None:
                await board.ask(STOP_RUN, id=run_id)
                async with aclosing(board.follow(WATCH_END, id=run_id)) as items:
                    async for _ in items:
                        continue
            await board.ask(DELETE_WORKSPACE, id=workspace_id)
