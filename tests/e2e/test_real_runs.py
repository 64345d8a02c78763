"""Runs on a real repository, as a user sees them: how they end, wait, stop, pause and merge."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeBoard
from tests.support.board import DIFF, TASK_FIELDS, Board, git, verb, watch_output
from tests.support.clients import HttpClient, RefusedError, Socket
from tests.support.server import RunningServer


def texts(lines: list[tuple[str, str]], stream: str = "stdout") -> list[str]:
    return [text for name, text in lines if name == stream]


async def approve(board: Board, task: dict[str, Any]) -> dict[str, Any]:
    document = verb("approveTask", "$merge: Boolean!", "merge: $merge")
    found = await board.ask(document, {"id": task["id"], "merge": True})
    after: dict[str, Any] = found["approveTask"]["task"]
    return after


async def test_a_failing_program_fails_its_task_with_its_last_words(board: Board) -> None:
    task, run = await board.run_script("print I try", "err It is broken", "exit 3")
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"], ended["exitCode"]) == ("FAILED", "exit_code", 3)
    task = await board.task(task)
    assert task["status"] == "FAILED"
    assert "3" in task["error"]
    assert "It is broken" in task["error"]
    assert "I try" in task["error"]
    assert texts(await board.output(run), "stderr") == ["It is broken"]


async def test_a_failed_task_is_retried_on_its_branch(board: Board, tmp_path: Path) -> None:
    task, run = await board.run_script("append notes.txt once more", f"await {tmp_path / 'no'}")
    await board.until_run(run, "RUNNING")
    await board.ask("mutation ($id: ID!) { stopRun(id: $id) { run { id } } }", {"id": run["id"]})
    await board.until_run(run, "CANCELLED")

    task, run = await board.run_script("append notes.txt once", "exit 1")
    await board.until_task(task, "FAILED")
    after = await board.change("retryTask", task)
    assert after["status"] == "QUEUED"
    failed = await board.until_task(task, "FAILED")
    assert failed["latestRun"]["attempt"] == 2
    assert failed["latestRun"]["id"] != run["id"]
    assert failed["branch"] == failed["latestRun"]["branch"]


async def test_a_rejected_task_goes_back_and_its_next_run_is_told_why(board: Board) -> None:
    task, _ = await board.run_script("write a.txt A")
    await board.until_task(task, "REVIEW")
    document = verb("rejectTask", "$reason: String", "reason: $reason")
    reason = "Do better:\n\ndo: write b.txt B"
    found = await board.ask(document, {"id": task["id"], "reason": reason})
    assert found["rejectTask"]["task"]["status"] == "BACKLOG"
    await board.start_run(task)
    task = await board.until_task(task, "REVIEW", "FAILED")
    assert task["status"] == "REVIEW"
    files = (await board.ask(DIFF, {"id": task["id"]}))["taskDiff"]["files"]
    assert {file["path"] for file in files} == {"a.txt", "b.txt"}


@pytest.mark.parametrize(("changes", "target"), [(True, "REVIEW"), (False, "BACKLOG")])
async def test_a_stopped_run_leaves_no_process(
    board: Board, server: RunningServer, tmp_path: Path, *, changes: bool, target: str
) -> None:
    script = ["write a.txt A"] if changes else []
    never = tmp_path / "never"
    task, run = await board.run_script(*script, "child", "deaf", "print here", f"await {never}")
    await board.until_output(run, "here")
    assert len(server.run_processes()) >= 3  # supervisor, agent, child
    stopped = await board.ask(
        "mutation ($id: ID!) { stopRun(id: $id) { run { id status } } }", {"id": run["id"]}
    )
    assert stopped["stopRun"]["run"]["status"] == "RUNNING"
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("CANCELLED", "stopped")
    assert server.run_processes() == {}
    task = await board.until_task(task, target)
    assert (task["filesChanged"] or 0) == int(changes)


async def test_a_paused_run_goes_on_in_the_same_worktree(board: Board, tmp_path: Path) -> None:
    go = tmp_path / "go"
    task, run = await board.run_script("append log.txt began", "print here", f"await {go}")
    await board.until_output(run, "here")
    assert (await board.change("pauseTask", task))["status"] == "PAUSED"
    await board.until_run(run, "PAUSED")
    with pytest.raises(RefusedError) as refusal:
        await board.change("pauseTask", task)
    assert refusal.value.code == "ILLEGAL_TRANSITION"
    assert "IN_PROGRESS" in refusal.value.extensions["allowedFrom"]
    go.touch()
    await board.change("resumeTask", task)
    task = await board.until_task(task, "REVIEW", "FAILED")
    assert task["status"] == "REVIEW"
    ended = await board.run(run)
    assert ended["status"] == "COMPLETED"
    # It began twice, in one worktree and one run; both beginnings are in its one output.
    assert git(board.repository, "show", f"{task['branch']}:log.txt") == "began\nbegan"
    assert texts(await board.output(run)) == ["here", "here"]


async def test_as_many_run_at_once_as_the_workspace_allows_by_priority_then_age(
    client: HttpClient, new_board: MakeBoard, tmp_path: Path
) -> None:
    board = await new_board(client, maxConcurrent=2)
    gates = [tmp_path / f"gate-{number}" for number in range(6)]
    levels = [1, 1, 1, 8, 1, 8]
    begun: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for gate, level in zip(gates, levels, strict=True):
        begun.append(await board.run_script(f"await {gate}", priorityLevel=level))
        if len(begun) == 2:  # the first two are on their way before anybody else asks
            for _, run in begun:
                await board.until_run(run, "RUNNING")
    order = [0, 1]
    async with asyncio.timeout(60):
        for number in (3, 5, 2, 4):
            statuses = [(await board.run(run))["status"] for _, run in begun]
            assert statuses.count("RUNNING") == 2
            done = order[-2]
            gates[done].touch()
            await board.until_run(begun[done][1], "COMPLETED")
            await board.until_run(begun[number][1], "RUNNING", "COMPLETED")
            statuses = [(await board.run(run))["status"] for _, run in begun]
            assert statuses.count("RUNNING") == 2, statuses
            order.append(number)
        for gate in gates:
            gate.touch()
        for _, run in begun:
            await board.until_run(run, "COMPLETED")


@pytest.mark.long
async def test_the_high_queue_is_drained_first_and_a_waiting_run_can_be_withdrawn(
    client: HttpClient, new_board: MakeBoard, tmp_path: Path
) -> None:
    board = await new_board(client, maxConcurrent=1)
    gate = tmp_path / "gate"
    _, first = await board.run_script(f"await {gate}")
    await board.until_run(first, "RUNNING")
    low_task = await board.create_task("print low", priorityLevel=10)
    low = await board.start_run(low_task, queue="LOW")
    high = await board.start_run(await board.create_task("print high"), queue="HIGH")
    withdrawn_task = await board.create_task("print never")
    withdrawn = await board.start_run(withdrawn_task)
    assert (await board.change("dequeueTask", withdrawn_task))["status"] == "BACKLOG"
    gate.touch()
    await board.until_run(low, "COMPLETED")
    runs = await board.ask(
        """query ($id: ID!) { runs(workspaceId: $id) { nodes { id startedAt status } } }""",
        {"id": board.id},
    )
    times = {run["id"]: run["startedAt"] for run in runs["runs"]["nodes"]}
    assert times[first["id"]] < times[high["id"]] < times[low["id"]]
    assert times[withdrawn["id"]] is None
    assert (await board.run(withdrawn))["status"] == "CANCELLED"


async def test_a_conflicting_merge_changes_nothing(board: Board) -> None:
    tasks = []
    for text in ("mine", "yours"):
        task, _ = await board.run_script(f"write README.md {text}", f"write {text}.txt {text}")
        tasks.append(await board.until_task(task, "REVIEW"))
    merged = await approve(board, tasks[0])
    assert merged["status"] == "COMPLETED"
    before = (
        git(board.repository, "for-each-ref"),
        git(board.repository, "status", "--porcelain"),
        await board.task(tasks[1]),
        await board.cursor(),
    )
    with pytest.raises(RefusedError) as refusal:
        await approve(board, tasks[1])
    assert refusal.value.code == "CONFLICT"
    assert refusal.value.extensions["files"] == ["README.md"]
    assert before == (
        git(board.repository, "for-each-ref"),
        git(board.repository, "status", "--porcelain"),
        await board.task(tasks[1]),
        await board.cursor(),
    )
    # Without the merge it can still be approved.
    assert (await board.change("approveTask", tasks[1]))["status"] == "COMPLETED"


async def test_a_merge_into_a_branch_that_is_checked_out_with_changes_is_refused(
    board: Board,
) -> None:
    task, _ = await board.run_script("write README.md theirs")
    await board.until_task(task, "REVIEW")
    (board.repository / "README.md").write_text("half-written work of a person\n")
    before = git(board.repository, "rev-parse", "main")
    with pytest.raises(RefusedError) as refusal:
        await approve(board, task)
    assert refusal.value.code == "CONFLICT"
    assert (board.repository / "README.md").read_text() == "half-written work of a person\n"
    assert git(board.repository, "rev-parse", "main") == before
    assert (await board.task(task))["status"] == "REVIEW"


async def test_a_line_of_two_megabytes_and_bytes_that_are_no_text(
    board: Board, socket: Socket
) -> None:
    script = ["print before", "big 2097152", "raw ff00fe410a", "print after"]
    _, run = await board.run_script(*script)
    await board.until_run(run, "COMPLETED")
    lines = texts(await board.output(run))
    assert lines == ["before", "x" * 2_097_152, "���A", "after"]
    items = [item async for item in await watch_output(socket, run)]
    streamed = [item["text"] for item in items if item.get("stream") == "stdout"]
    assert streamed == lines


async def test_output_without_a_line_end_and_no_output_at_all(board: Board) -> None:
    _, run = await board.run_script("raw 616263")
    _, silent = await board.run_script()
    assert (await board.until_run(run))["status"] == "COMPLETED"
    assert texts(await board.output(run)) == ["abc"]
    assert (await board.until_run(silent))["status"] == "COMPLETED"
    assert texts(await board.output(silent)) == []


async def test_output_is_resumed_after_any_line(board: Board, socket: Socket) -> None:
    _, run = await board.run_script("count 1 50 1")
    await board.until_run(run, "COMPLETED")
    first = [item async for item in await watch_output(socket, run)]
    document = """subscription ($id: ID!, $after: String) { runOutput(id: $id, after: $after) {
      ... on OutputLine { line text cursor } ... on StreamClosed { reason cursor } } }"""
    for item in (first[0], first[24], first[-2], first[-1]):
        operation = await socket.subscribe(document, {"id": run["id"], "after": item["cursor"]})
        rest = [found["text"] async for found in operation.items("runOutput") if "text" in found]
        assert rest == [found["text"] for found in first[item.get("line", len(first)) : -1]]


async def test_a_deleted_task_takes_its_run_with_it(
    board: Board, server: RunningServer, tmp_path: Path
) -> None:
    task, run = await board.run_script("print here", f"await {tmp_path / 'never'}")
    await board.until_output(run, "here")
    with pytest.raises(RefusedError) as refusal:
        await board.change("deleteTask", task)
    assert refusal.value.code == "CONFLICT"
    document = f"""mutation ($id: ID!) {{ deleteTask(id: $id, force: true) {{
      task {{ {TASK_FIELDS} }} }} }}"""
    await board.ask(document, {"id": task["id"]})
    assert await board.ask("query ($id: ID!) { task(id: $id) { id } }", {"id": task["id"]}) == {
        "task": None
    }
    await asyncio.to_thread(server.await_no_run_processes)
