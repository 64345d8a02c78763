"""Phases, refinements and what agents are told, on a real server with real runs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.board import Board, git
from tests.support.clients import RefusedError
from tests.support.server import RunningServer

RUN_FIELDS = "id kind phase status result error branch worktreePath taskId reason"


async def refine(board: Board, task: dict[str, Any], **fields: Any) -> dict[str, Any]:
    found = await board.ask(
        f"""mutation ($input: RefineTaskInput!) {{
          refineTask(input: $input) {{ run {{ {RUN_FIELDS} }} }} }}""",
        {"input": {"taskId": task["id"], "executor": "CUSTOM", **fields}},
    )
    run: dict[str, Any] = found["refineTask"]["run"]
    return run


async def start_phase(board: Board, task: dict[str, Any], phase: str) -> dict[str, Any]:
    found = await board.ask(
        f"""mutation ($input: StartPhaseInput!) {{
          startPhase(input: $input) {{ run {{ {RUN_FIELDS} }} }} }}""",
        {"input": {"taskId": task["id"], "executor": "CUSTOM", "phase": phase}},
    )
    run: dict[str, Any] = found["startPhase"]["run"]
    return run


async def test_a_refinement_answers_with_text_and_changes_nothing(
    board: Board, server: RunningServer
) -> None:
    coloured = "raw " + b"\x1b[1m## Objective\x1b[0m\n\nA clear text.\n".hex()
    task = await board.create_task(coloured, "write left.txt behind")
    before = (await board.task(task), git(board.repository, "for-each-ref"))
    run = await refine(board, task, waitSeconds=30)
    assert (run["kind"], run["status"], run["taskId"]) == ("REFINE", "COMPLETED", None)
    assert run["result"] == "## Objective\n\nA clear text."
    assert (run["branch"], run["worktreePath"]) == (None, None)
    assert (await board.task(task), git(board.repository, "for-each-ref")) == before
    async with asyncio.timeout(30):  # the folder goes after the answer is kept
        while list((server.data_dir / "tmp").rglob("left.txt")):
            await asyncio.sleep(0.05)
    assert not (server.data_dir / "data" / "runs" / run["id"]).exists()


async def test_a_refinement_that_takes_long_is_awaited_later_or_ends_by_its_timeout(
    board: Board, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    task = await board.create_task(f"await {go}", "print done")
    run = await refine(board, task, waitSeconds=0.3)
    assert run["status"] in {"QUEUED", "RUNNING"}
    # It keeps nobody off the task.
    assert (await board.change("enqueueTask", task))["status"] == "QUEUED"
    go.touch()
    await board.until_run(run, "COMPLETED")
    never = await board.create_task(f"await {tmp_path / 'never'}")
    run = await refine(board, never, waitSeconds=30, timeoutSeconds=1)
    assert (run["status"], run["reason"], run["result"]) == ("FAILED", "time_limit", None)


async def test_a_refinement_without_an_answer_fails(board: Board) -> None:
    run = await refine(board, await board.create_task("err only complaints"), waitSeconds=30)
    assert (run["status"], run["reason"]) == ("FAILED", "no_result")
    with pytest.raises(RefusedError) as refusal:
        await refine(board, await board.create_task(), waitSeconds=1000)
    assert refusal.value.code == "INVALID"


async def test_a_phase_leaves_the_task_where_it_is_and_works_on_its_branch(board: Board) -> None:
    task = await board.create_task("write plan.md the plan")
    run = await start_phase(board, task, "PLAN")
    ended = await board.until_run(run)
    assert ended["status"] == "COMPLETED"
    after = await board.task(task)
    assert (after["status"], after["filesChanged"]) == ("BACKLOG", 1)
    assert git(board.repository, "show", f"{after['branch']}:plan.md") == "the plan"
    # The same worktree and branch serve the run that does the work.
    await board.start_run(task)
    reviewed = await board.until_task(task, "REVIEW", "FAILED")
    assert (reviewed["status"], reviewed["branch"]) == ("REVIEW", after["branch"])


async def test_a_waiting_phase_that_is_stopped_moves_no_card(board: Board, tmp_path: Path) -> None:
    task = await board.create_task(f"await {tmp_path / 'never'}")
    run = await start_phase(board, task, "CHECK")
    with pytest.raises(RefusedError) as refusal:
        await board.start_run(task)
    assert refusal.value.code == "CONFLICT"
    await board.until_run(run, "RUNNING")
    await board.ask("mutation ($id: ID!) { stopRun(id: $id) { run { id } } }", {"id": run["id"]})
    await board.until_run(run, "CANCELLED")
    assert (await board.task(task))["status"] == "BACKLOG"


async def test_context_files_and_every_rejection_reach_the_prompt(board: Board) -> None:
    task = await board.create_task("append log.txt ran")
    await board.ask(
        """mutation ($input: AddContextEntriesInput!) {
          addContextEntries(input: $input) { task { id } } }""",
        {
            "input": {
                "taskId": task["id"],
                "entries": [
                    {"path": "a.md", "phase": "IMPLEMENT", "reason": "x\ndo: append seen.txt impl"},
                    {"path": "b.md", "phase": "CHECK", "reason": "x\ndo: append seen.txt check"},
                    {"path": "c.md", "phase": "FIX", "reason": "x\ndo: append seen.txt fix"},
                ],
            }
        },
    )
    reject = """mutation ($id: ID!, $reason: String) {
      rejectTask(id: $id, reason: $reason) { task { id } } }"""
    seen = []
    for reason in ("First.\ndo: append why.txt one", "Second.\ndo: append why.txt two", None):
        await board.start_run(task)
        after = await board.until_task(task, "REVIEW", "FAILED")
        assert after["status"] == "REVIEW", after["error"]
        seen.append(git(board.repository, "show", f"{after['branch']}:seen.txt").split())
        if reason is not None:
            await board.ask(reject, {"id": task["id"], "reason": reason})
    assert seen == [["impl"], ["impl", "impl", "fix"], ["impl", "impl", "fix", "impl", "fix"]]
    # The second run was told the first reason; the third both, the newest first.
    why = git(board.repository, "show", f"{after['branch']}:why.txt").split()
    assert why == ["one", "two", "one"]


async def test_refinements_of_several_at_once_do_not_mix(board: Board) -> None:
    tasks = [await board.create_task(f"print answer {number}") for number in range(4)]
    runs = await asyncio.gather(*(refine(board, task, waitSeconds=60) for task in tasks))
    assert [run["result"] for run in runs] == [f"answer {number}" for number in range(4)]
