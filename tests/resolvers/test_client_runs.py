"""Runs that their clients drive: reports merge, logs keep order, and the server can take over."""

import asyncio
from typing import Any

import pytest

from models import Run
from models.enums import RunStatus, TaskStatus
from resolvers.client_runs import (
    append_run_log,
    create_client_run,
    set_run_output,
    update_client_run,
)
from resolvers.context import Context
from resolvers.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from resolvers.run_claims import claim_run
from resolvers.run_execution import RunOutcome, finish_run
from resolvers.run_handover import hand_over_run, resume_client_run, start_client_run
from resolvers.run_queries import read_run_output, run_chain
from resolvers.task_access import get_task
from resolvers.task_filters import TaskFilter
from resolvers.task_queries import list_tasks
from resolvers.tasks import create_task, update_task
from tests.resolvers.conftest import Board


async def a_run(dev: Context, board: Board, **more: Any) -> Run:
    task = await create_task(dev, workspace_id=board.id, title="T")
    return await create_client_run(dev, task_id=task.id, **more)


async def test_nothing_starts_by_itself(dev: Context, board: Board, system: Context) -> None:
    run = await a_run(dev, board, stage="plan", state={"mode": "background"})
    assert (run.managed, run.status, run.environment) == (False, "QUEUED", "local")
    assert await claim_run(system, host="h", executors=["CUSTOM"], maximum=9) is None
    assert (await get_task(dev, task_id=run.task_id or "")).status == TaskStatus.BACKLOG


async def test_reports_merge_and_an_end_is_final(dev: Context, board: Board) -> None:
    run = await a_run(dev, board, state={"mode": "background", "sandbox_id": "s", "gone": 1})
    run = await update_client_run(
        dev,
        run_id=run.id,
        status=RunStatus.RUNNING,
        stage="build",
        output={"pr_url": "u"},
        state={"a": 1, "sandbox_id": "mine"},
        state_remove=["gone", "sandbox_id"],
        protected_state=frozenset({"sandbox_id"}),
    )
    assert run.state == {"mode": "background", "sandbox_id": "s", "a": 1}
    assert (run.output, run.stage, run.started_at is not None) == ({"pr_url": "u"}, "build", True)
    back = await update_client_run(
        dev, run_id=run.id, status=RunStatus.QUEUED, output={"head_branch": "b"}
    )
    assert (back.status, back.output) == ("QUEUED", {"pr_url": "u", "head_branch": "b"})
    done = await update_client_run(dev, run_id=run.id, status=RunStatus.COMPLETED, output=None)
    assert (done.finished_at is not None, done.output) == (True, None)
    before = await board.head()
    late = await update_client_run(dev, run_id=run.id, status=RunStatus.FAILED, error="x")
    assert (late.status, late.version) == (done.status, done.version)
    assert await board.head() == before


async def test_reports_at_once_lose_no_key(board: Board) -> None:
    run = await a_run(board.context(), board)
    await asyncio.gather(
        *(update_client_run(board.context(), run_id=run.id, state={f"k{n}": n}) for n in range(8))
    )
    after = await update_client_run(board.context(), run_id=run.id, state={})
    assert after.state == {f"k{n}": n for n in range(8)}


async def test_the_log_keeps_order_and_unknown_keys(dev: Context, board: Board) -> None:
    run = await a_run(dev, board)
    entries = [{"type": "notification", "n": n, "é": "“”"} for n in range(3)]
    await append_run_log(dev, run_id=run.id, entries=entries[:2])
    await append_run_log(dev, run_id=run.id, entries=entries[2:])
    page = await read_run_output(dev, run_id=run.id)
    assert [(entry.line, entry.stream) for entry in page.entries] == [
        (1, "log"), (2, "log"), (3, "log"),
    ]  # fmt: skip
    assert '"é":"“”"' in page.entries[2].text
    with pytest.raises(InvalidError):
        await append_run_log(dev, run_id=run.id, entries=[{"x": "\x00"}])


async def test_output_obeys_the_tasks_schema(dev: Context, board: Board) -> None:
    run = await a_run(dev, board)
    await update_task(dev, task_id=run.task_id or "", output_schema={"required": ["verdict"]})
    with pytest.raises(InvalidError, match="verdict"):
        await set_run_output(dev, run_id=run.id, output={})
    assert (await set_run_output(dev, run_id=run.id, output={"verdict": 1})).output == {
        "verdict": 1
    }


async def test_the_server_takes_over_and_runs_of_a_task_take_turns(
    dev: Context, board: Board, system: Context
) -> None:
    first = await a_run(dev, board, environment="cloud")
    task_id = first.task_id or ""
    first = await hand_over_run(dev, run_id=first.id, prompt="do it")
    assert (first.managed, first.prompt) == (True, "do it")
    with pytest.raises(ConflictError):
        await hand_over_run(dev, run_id=first.id)
    with pytest.raises(ConflictError):
        await append_run_log(dev, run_id=first.id, entries=[{}])
    second = await start_client_run(dev, task_id=task_id, resume_from_id=first.id)
    assert [run.id for run in await run_chain(dev, run_id=second.id)] == [first.id, second.id]
    claimed = await claim_run(system, host="h", executors=["CUSTOM"], maximum=9)
    assert claimed is not None
    assert claimed.run.id == first.id
    assert await claim_run(system, host="h", executors=["CUSTOM"], maximum=9) is None
    await finish_run(
        system,
        run_id=first.id,
        token=claimed.token,
        outcome=RunOutcome(RunStatus.COMPLETED, "done"),
    )
    claimed = await claim_run(system, host="h", executors=["CUSTOM"], maximum=9)
    assert claimed is not None
    assert claimed.run.id == second.id
    await dev.release()
    assert (await get_task(dev, task_id=task_id)).status == TaskStatus.IN_PROGRESS
    again = await resume_client_run(dev, run_id=first.id, state={"m": 1}, state_remove=[])
    assert (again.status, again.finished_at, again.state) == ("QUEUED", None, {"m": 1})
    stopped = await update_client_run(dev, run_id=again.id, status=RunStatus.CANCELLED)
    assert stopped.status == "CANCELLED"


async def test_what_is_not_the_callers(dev: Context, board: Board) -> None:
    run = await a_run(dev, board)
    for name, error in (("stranger", NotFoundError), ("viewer", ForbiddenError)):
        ctx = board.context(name)
        with pytest.raises(error):
            await update_client_run(ctx, run_id=run.id, stage="x")
        with pytest.raises(error):
            await hand_over_run(ctx, run_id=run.id)
    other = await a_run(dev, board)
    with pytest.raises(InvalidError):
        await start_client_run(dev, task_id=run.task_id or "", resume_from_id=other.id)


async def test_tasks_are_found_by_repository_and_runs(dev: Context, board: Board) -> None:
    plain = await create_task(dev, workspace_id=board.id, description="\n  First line\nsecond")
    assert (plain.title, plain.title_manually_set) == ("First line", False)
    task = await create_task(
        dev, workspace_id=board.id, title="T", repository="Acme/Web_App", archived=True
    )
    assert task.archived_at == task.created_at
    older = await create_client_run(dev, task_id=task.id, stage="plan")
    await update_client_run(dev, run_id=older.id, status=RunStatus.FAILED)
    await create_client_run(dev, task_id=task.id)

    async def found(**conditions: Any) -> bool:
        await dev.release()
        page = await list_tasks(
            dev, workspace_id=board.id, filter_=TaskFilter(archived=None, **conditions)
        )
        assert plain.id not in [node.id for node in page.nodes] or not conditions
        return task.id in [node.id for node in page.nodes]

    assert await found(repository="acme/web_app")
    assert await found(repository="web_app")
    assert not await found(repository="webXapp")
    assert await found(repository_owner="ACME")
    assert await found(run_stage="plan")
    assert await found(latest_run_status=[RunStatus.QUEUED])
    assert not await found(latest_run_status=[RunStatus.FAILED])
    assert await found(search="zzz", search_number=task.number)
