"""Cleaning up worktrees, deleting tasks with all they made, and ``dragoman gc`` beside a server."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.board import Board, create_board, git, make_repository
from tests.support.clients import HttpClient
from tests.support.server import RunningServer, a_server

CLEAN = """mutation ($input: CleanWorktreesInput!) { cleanWorktrees(input: $input) {
  worktrees { taskId path branch removed branchDeleted reason } cursor } }"""
DISCARD = "mutation ($id: ID!) { deleteTask(id: $id, discard: true) { task { id } } }"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with a_server(tmp_path_factory.mktemp("server"), max_concurrent_runs="8") as running:
        yield running
        assert running.complaints() == []


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[HttpClient]:
    async with HttpClient(server.url, server.token) as opened:
        yield opened


@pytest.fixture
async def board(client: HttpClient, tmp_path: Path) -> Board:
    found, _ = await create_board(client, make_repository(tmp_path / "project"))
    return found


async def clean(board: Board, **fields: Any) -> dict[str, dict[str, Any]]:
    found = await board.ask(CLEAN, {"input": {"workspaceId": board.id, **fields}})
    return {one["taskId"]: one for one in found["cleanWorktrees"]["worktrees"]}


async def reviewed(board: Board, name: str, **fields: Any) -> dict[str, Any]:
    task, _ = await board.run_script(f"write {name}.txt {name}", **fields)
    after = await board.until_task(task, "REVIEW", "FAILED")
    assert after["status"] == "REVIEW", after["error"]
    return after


async def approved(board: Board, name: str) -> dict[str, Any]:
    task = await reviewed(board, name)
    found = await board.ask(
        "mutation ($id: ID!) { approveTask(id: $id, merge: true) { task { status } } }",
        {"id": task["id"]},
    )
    assert found["approveTask"]["task"]["status"] == "COMPLETED"
    return task


def branches(board: Board) -> set[str]:
    return set(git(board.repository, "branch", "--format=%(refname:short)").split())


async def test_cleaning_up_loses_nothing_and_says_what_was_kept(board: Board) -> None:
    merged, open_ = await approved(board, "merged"), await reviewed(board, "open")
    told = await clean(board)
    assert (told[merged["id"]]["removed"], told[merged["id"]]["branchDeleted"]) == (True, True)
    assert not Path(told[merged["id"]]["path"]).exists()
    assert told[open_["id"]]["reason"] == "its branch is not merged"
    worktree = Path(told[open_["id"]]["path"])
    (worktree / "half.txt").write_text("half-written\n")
    told = await clean(board, onlyMerged=False)
    assert merged["id"] not in told
    assert told[open_["id"]]["reason"] == "it has changes that are not committed"
    assert (worktree / "half.txt").exists()
    (worktree / "half.txt").unlink()
    told = await clean(board, onlyMerged=False)
    assert told[open_["id"]]["removed"]
    assert "is not merged and stays" in told[open_["id"]]["reason"]
    assert branches(board) == {"main", open_["branch"]}
    # What was removed is made again when it is needed.
    await board.change("rejectTask", open_)
    await board.start_run(open_)
    assert (await board.until_task(open_, "REVIEW", "FAILED"))["status"] == "REVIEW"
    (Path(told[open_["id"]]["path"]) / "half.txt").write_text("half-written\n")
    told = await clean(board, onlyMerged=False, force=True, taskId=open_["id"])
    assert (told[open_["id"]]["removed"], told[open_["id"]]["branchDeleted"]) == (True, True)
    assert branches(board) == {"main"}
    assert await clean(board, onlyMerged=False) == {}


async def test_a_worktree_that_is_gone_already_is_forgotten(board: Board) -> None:
    task = await reviewed(board, "a")
    told = (await clean(board))[task["id"]]
    shutil.rmtree(told["path"])
    told = (await clean(board, onlyMerged=False, keepBranch=True))[task["id"]]
    assert (told["removed"], told["branchDeleted"], told["reason"]) == (True, False, None)
    assert await clean(board) == {}
    assert task["branch"] in branches(board)


async def test_what_a_run_uses_is_kept_whatever_is_asked(board: Board, tmp_path: Path) -> None:
    go = tmp_path / "go"
    task, run = await board.run_script("print here", f"await {go}")
    await board.until_output(run, "here")
    told = await clean(board, onlyMerged=False, force=True)
    assert told[task["id"]]["reason"] == "a run of the task is RUNNING"
    await board.change("pauseTask", task)
    await board.until_run(run, "PAUSED")
    told = await clean(board, onlyMerged=False)
    assert told[task["id"]]["reason"] == "a run of the task is PAUSED"
    go.touch()
    await board.change("resumeTask", task)
    assert (await board.until_task(task, "REVIEW", "FAILED"))["status"] == "REVIEW"


async def test_a_discarded_task_takes_run_worktree_and_branch_with_it(
    board: Board, server: RunningServer, tmp_path: Path
) -> None:
    task, run = await board.run_script("write a.txt A", "print here", f"await {tmp_path / 'never'}")
    await board.until_output(run, "here")
    worktrees = server.data_dir / "data" / "worktrees" / board.id
    assert len(list(worktrees.iterdir())) == 1
    await board.ask(DISCARD, {"id": task["id"]})
    assert list(worktrees.iterdir()) == []
    assert branches(board) == {"main"}
    await asyncio.to_thread(server.await_no_run_processes)


async def test_a_branch_that_somebody_named_stays_when_its_task_is_discarded(board: Board) -> None:
    git(board.repository, "branch", "develop")
    task = await reviewed(board, "a", branch="develop")
    await board.ask(DISCARD, {"id": task["id"]})
    assert branches(board) == {"main", "develop"}
    assert git(board.repository, "show", "develop:a.txt") == "a"


@pytest.mark.long
async def test_gc_beside_a_running_server(
    client: HttpClient, server: RunningServer, tmp_path: Path
) -> None:
    board, _ = await create_board(client, make_repository(tmp_path / "one"))
    done, open_ = await approved(board, "done"), await reviewed(board, "open")
    deleted, dirty = await reviewed(board, "deleted"), await reviewed(board, "dirty")
    go = tmp_path / "go"
    busy, run = await board.run_script("print here", f"await {go}")
    await board.until_output(run, "here")
    root = server.data_dir / "data" / "worktrees" / board.id
    of = {path.name.split("-")[1]: path for path in root.iterdir()}
    (of[str(dirty["number"])] / "half.txt").write_text("half-written\n")
    for task in (deleted, dirty):
        await board.ask(
            "mutation ($id: ID!) { deleteTask(id: $id) { task { id } } }", {"id": task["id"]}
        )
    (root / "not-ours").mkdir()
    elsewhere = root.parent / "00000000-0000-4000-8000-000000000000"
    (elsewhere / "task-1-abcdefghijkl").mkdir(parents=True)
    leftover = server.data_dir / "data" / "runs" / "00000000-0000-4000-8000-000000000001"
    (leftover / "1").mkdir(parents=True)

    before = sorted(root.rglob("*"))
    listed = await gc(server, "--dry-run")
    assert sorted(root.rglob("*")) == before
    assert leftover.exists()
    for task in (done, deleted, dirty):
        assert f"garbage  worktree    {board.id}/{of[str(task['number'])].name}" in listed
    assert "would be removed" in listed

    said = await gc(server)
    kept = {path.name for path in root.iterdir()}
    assert kept == {of[str(task["number"])].name for task in (open_, dirty, busy)} | {"not-ours"}
    assert "its task is deleted, but it has changes that are not committed" in said
    assert "removed  run output  " in said
    assert not leftover.exists()
    assert list(elsewhere.iterdir()) != []
    assert branches(board) >= {open_["branch"], deleted["branch"], dirty["branch"]}
    assert done["branch"] not in branches(board)
    again = await gc(server)
    assert again.splitlines()[-1].startswith("0 removed")
    go.touch()
    assert (await board.until_task(busy, "REVIEW", "FAILED"))["status"] == "REVIEW"
    assert (await board.task(open_))["status"] == "REVIEW"


async def gc(server: RunningServer, *options: str) -> str:
    return (await asyncio.to_thread(server.command, "gc", *options)).stdout


async def test_a_server_may_clean_up_by_itself(tmp_path: Path) -> None:
    with a_server(tmp_path / "server", gc_interval="200ms") as running:
        async with HttpClient(running.url, running.token) as client:
            board, _ = await create_board(client, make_repository(tmp_path / "project"))
            open_, done = await reviewed(board, "open"), await approved(board, "done")
            root = running.data_dir / "data" / "worktrees" / board.id
            async with asyncio.timeout(20):
                while done["branch"] in branches(board):
                    await asyncio.sleep(0.05)
            assert branches(board) == {"main", open_["branch"]}
            [left] = root.iterdir()
            assert left.name.startswith(f"task-{open_['number']}-")
