"""The lifecycle is one table: every strict operation obeys it, from every status, exactly."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from models import Run, Task, table_of
from models.enums import RunStatus, TaskStatus
from models.lifecycle import RUN_LIVE, TRANSITIONS
from models.transaction import select_all
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    IllegalTransitionError,
    InvalidError,
    LimitExceededError,
    NotFoundError,
)
from resolvers.task_board import move_task
from resolvers.task_lifecycle import (
    approve_task,
    block_task,
    cancel_task,
    dequeue_task,
    enqueue_task,
    finish_task,
    pause_task,
    reject_task,
    resume_task,
    retry_task,
    unblock_task,
)
from resolvers.tasks import create_task, delete_task, get_task
from tests.resolvers.conftest import Board, make_board

RUN = table_of(Run).c
Strict = Callable[..., Awaitable[Task]]
STRICT: dict[str, Strict] = {
    "enqueue": enqueue_task,
    "dequeue": dequeue_task,
    "pause": pause_task,
    "resume": resume_task,
    "approve": approve_task,
    "reject": reject_task,
    "retry": retry_task,
    "cancel": cancel_task,
    "finish": finish_task,
    "block": block_task,
    "unblock": unblock_task,
}
BY_RUNS = {"start", "submit", "fail"}
"""Transitions that a run makes, not a caller."""
RUNNING_STATUSES = {TaskStatus.QUEUED, TaskStatus.IN_PROGRESS, TaskStatus.PAUSED}


async def task_in(ctx: Context, board: Board, status: TaskStatus) -> Task:
    """A new task that was dropped into a column."""
    task = await create_task(ctx, workspace_id=board.id, title="T")
    return await move_task(ctx, task_id=task.id, status=status)


async def runs_of(board: Board, task_id: str) -> list[Run]:
    async with board.services.database.read() as reader:
        return await reader.records(
            Run, select_all(Run).where(RUN.task_id == task_id).order_by(RUN.created_at)
        )


async def set_run(board: Board, task_id: str, **changes: Any) -> None:
    """What a dispatcher would do to a run."""
    async with board.services.database.write() as transaction:
        await transaction.execute(
            sa.update(table_of(Run)).where(RUN.task_id == task_id).values(**changes)
        )


def test_every_transition_has_its_operation() -> None:
    assert STRICT.keys() | BY_RUNS == TRANSITIONS.keys()


async def test_every_operation_from_every_status(dev: Context, board: Board) -> None:
    for name, strict in STRICT.items():
        row = TRANSITIONS[name]
        for status in TaskStatus:
            task = await task_in(dev, board, status)
            before = await board.head()
            if status in row.allowed_from:
                after = await strict(dev, task_id=task.id)
                assert after.status == (row.to or TaskStatus.BACKLOG), (name, status)
                assert after.version == task.version + 1
                event = next(
                    event for event in (await board.events())[before:] if event.entity_id == task.id
                )
                assert event.type == row.event
                assert event.payload["from_status"] == status
                assert event.payload["task"]["status"] == after.status
            else:
                with pytest.raises(IllegalTransitionError) as refused:
                    await strict(dev, task_id=task.id)
                assert refused.value.details == {
                    "operation": name,
                    "status": status,
                    "allowed_from": sorted(row.allowed_from),
                }
                assert await board.head() == before
                assert (await get_task(dev, task_id=task.id)).version == task.version
    await board.check_totals()


async def test_no_operation_finds_a_task_that_is_not_there(dev: Context, board: Board) -> None:
    gone = await create_task(dev, workspace_id=board.id, title="T")
    await delete_task(dev, task_id=gone.id)
    mine = await create_task(dev, workspace_id=board.id, title="T")
    before = await board.head()
    stranger, viewer = board.context("stranger"), board.context("viewer")
    for strict in STRICT.values():
        for context, task_id, error in (
            (dev, gone.id, NotFoundError),
            (dev, "nonsense", NotFoundError),
            (stranger, mine.id, NotFoundError),
            (viewer, mine.id, ForbiddenError),
        ):
            with pytest.raises(error):
                await strict(context, task_id=task_id)
    assert await board.head() == before


async def test_which_operations_need_to_execute(board: Board) -> None:
    dev = board.context()
    writer = board.context()
    assert writer.principal is not None
    writer.principal = replace(writer.principal, scopes=frozenset({"task:write"}))
    forbidden = set()
    for name, strict in STRICT.items():
        status = min(TRANSITIONS[name].allowed_from)
        task = await task_in(dev, board, status)
        try:
            await strict(writer, task_id=task.id)
        except ForbiddenError:
            forbidden.add(name)
    assert forbidden == {"enqueue", "dequeue", "pause", "resume", "retry"}
    task = await task_in(dev, board, TaskStatus.BACKLOG)
    with pytest.raises(ForbiddenError):
        await move_task(writer, task_id=task.id, status="QUEUED")


async def test_a_queued_task_has_exactly_one_waiting_run(dev: Context, board: Board) -> None:
    task = await create_task(
        dev, workspace_id=board.id, title="T", priority_level=7, branch="b", model="m"
    )
    queued = await enqueue_task(dev, task_id=task.id, executor="CODEX", queue="HIGH")
    assert (queued.executor, queued.queue_class) == ("CODEX", "HIGH")
    assert queued.queued_at is not None
    (run,) = await runs_of(board, task.id)
    assert (run.status, run.executor, run.model, run.queue_rank) == ("QUEUED", "CODEX", "m", 0)
    assert (run.priority_level, run.branch, run.attempt, run.managed) == (7, "b", 1, True)
    assert board.services.dispatcher.wakes == 1
    back = await dequeue_task(dev, task_id=task.id)
    assert back.queued_at is None
    (run,) = await runs_of(board, task.id)
    assert (run.status, run.reason) == ("CANCELLED", "task_moved")
    await enqueue_task(dev, task_id=task.id)
    _, second = await runs_of(board, task.id)
    assert (second.status, second.attempt) == ("QUEUED", 2)


async def test_a_pull_mode_workspace_queues_no_runs(dev: Context, board: Board) -> None:
    async with board.services.database.write() as transaction:
        from models import Workspace

        await transaction.update_by_id(Workspace, board.id, pull_mode=True)
    task = await create_task(dev, workspace_id=board.id, title="T", status="QUEUED")
    assert task.status == "QUEUED"
    assert await runs_of(board, task.id) == []
    paused = await pause_task(dev, task_id=task.id)
    assert paused.status_before == "QUEUED"
    assert (await resume_task(dev, task_id=task.id)).status == "QUEUED"


async def test_what_stops_an_enqueue_changes_nothing(board: Board) -> None:
    dev = board.context()
    task = await create_task(dev, workspace_id=board.id, title="T")
    bare = await make_board(board.services, repository_url=None)
    homeless = await create_task(bare.context(), workspace_id=bare.id, title="T")
    before = await board.head()
    with pytest.raises(InvalidError):
        await enqueue_task(bare.context(), task_id=homeless.id)
    for wrong in ({"executor": "GEMINI"}, {"executor": "SH"}, {"queue": "SOON"}):
        with pytest.raises(InvalidError):
            await enqueue_task(dev, task_id=task.id, **wrong)
    board.services = replace(board.services, limits=replace(board.services.limits, queued_runs=0))
    with pytest.raises(LimitExceededError):
        await enqueue_task(board.context(), task_id=task.id)
    assert await board.head() == before
    assert (await get_task(dev, task_id=task.id)).version == 1
    await bare.close()


async def test_pausing_and_resuming_a_waiting_run(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T", status="QUEUED")
    paused = await pause_task(dev, task_id=task.id)
    assert (paused.status, paused.status_before) == ("PAUSED", "QUEUED")
    assert [run.status for run in await runs_of(board, task.id)] == ["PAUSED"]
    resumed = await resume_task(dev, task_id=task.id)
    assert (resumed.status, resumed.status_before) == ("QUEUED", None)
    assert resumed.queued_at is not None
    assert [run.status for run in await runs_of(board, task.id)] == ["QUEUED"]


async def test_pausing_an_executing_run_asks_it_to_stop(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T", status="QUEUED")
    await set_run(board, task.id, status="RUNNING")
    await move_task(dev, task_id=task.id, status="IN_PROGRESS")
    await pause_task(dev, task_id=task.id)
    (run,) = await runs_of(board, task.id)
    assert (run.status, run.stop_reason) == ("RUNNING", "paused")
    assert board.services.dispatcher.stopped == [run.id]
    with pytest.raises(ConflictError) as refused:
        await resume_task(dev, task_id=task.id)
    assert refused.value.details["retry_after"] == 1
    await set_run(board, task.id, status="PAUSED")
    resumed = await resume_task(dev, task_id=task.id)
    assert resumed.status == "IN_PROGRESS"
    (run,) = await runs_of(board, task.id)
    assert (run.status, run.stop_requested_at, run.stop_reason) == ("QUEUED", None, None)


async def test_leaving_ends_what_runs(dev: Context, board: Board) -> None:
    for leave, reason in (
        (lambda i: move_task(dev, task_id=i, status="BACKLOG"), "task_moved"),
        (lambda i: cancel_task(dev, task_id=i, reason="no"), "task_cancelled"),
        (lambda i: block_task(dev, task_id=i), "task_moved"),
        (lambda i: delete_task(dev, task_id=i, force=True), "task_deleted"),
    ):
        waiting = await create_task(dev, workspace_id=board.id, title="T", status="QUEUED")
        await leave(waiting.id)
        (run,) = await runs_of(board, waiting.id)
        assert (run.status, run.reason) == ("CANCELLED", reason)
        assert run.finished_at is not None

        executing = await create_task(dev, workspace_id=board.id, title="T", status="QUEUED")
        await set_run(board, executing.id, status="RUNNING")
        await leave(executing.id)
        (run,) = await runs_of(board, executing.id)
        assert (run.status, run.stop_reason) == ("RUNNING", reason)
        assert board.services.dispatcher.stopped[-1] == run.id


async def test_what_executes_forbids(dev: Context, board: Board) -> None:
    from resolvers.tasks import archive_task

    task = await create_task(dev, workspace_id=board.id, title="T", status="QUEUED")
    await set_run(board, task.id, status="RUNNING")
    before = await board.head()
    for attempt in (
        delete_task(dev, task_id=task.id),
        archive_task(dev, task_id=task.id),
        finish_task(dev, task_id=task.id),
    ):
        with pytest.raises(ConflictError):
            await attempt
    assert await board.head() == before


async def test_times_and_progress_follow_the_status(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T", progress=30)
    assert (task.started_at, task.completed_at) == (None, None)
    started = await move_task(dev, task_id=task.id, status="IN_PROGRESS")
    assert started.started_at is not None
    done = await finish_task(dev, task_id=task.id)
    assert (done.progress, done.started_at) == (100, started.started_at)
    assert done.completed_at is not None
    again = await move_task(dev, task_id=task.id, status="REVIEW")
    assert (again.completed_at, again.started_at) == (None, started.started_at)
    cancelled = await cancel_task(dev, task_id=task.id, reason="why not")
    assert cancelled.completed_at is not None
    assert cancelled.status_reason == "why not"
    failed = await task_in(dev, board, TaskStatus.FAILED)
    assert failed.completed_at is not None
    retried = await retry_task(dev, task_id=failed.id)
    assert (retried.completed_at, retried.progress, retried.error) == (None, 0, None)


async def test_a_review_leaves_its_words(dev: Context, board: Board) -> None:
    task = await task_in(dev, board, TaskStatus.REVIEW)
    rejected = await reject_task(dev, task_id=task.id, reason="too short")
    assert (rejected.status, rejected.review_comment) == ("BACKLOG", "too short")
    assert (rejected.review_reason, rejected.status_reason) == ("rejected", "too short")
    await move_task(dev, task_id=task.id, status="REVIEW")
    approved = await approve_task(dev, task_id=task.id, comment="fine")
    assert (approved.status, approved.review_comment) == ("COMPLETED", "fine")
    assert (approved.review_reason, approved.merge_commit) == ("approved", None)
    bare = await task_in(dev, board, TaskStatus.REVIEW)
    with pytest.raises(InvalidError):
        await approve_task(dev, task_id=bare.id, merge=True)
    assert (await get_task(dev, task_id=bare.id)).status == "REVIEW"


async def test_resuming_to_where_it_was_has_all_effects_of_being_there(
    dev: Context, board: Board
) -> None:
    for status in TaskStatus:
        if status in {TaskStatus.PAUSED, TaskStatus.QUEUED}:
            continue
        task = await task_in(dev, board, status)
        there = await get_task(dev, task_id=task.id)
        await move_task(dev, task_id=task.id, status="PAUSED")
        resumed = await resume_task(dev, task_id=task.id)
        assert (resumed.status, resumed.status_before) == (status, None)
        assert (resumed.completed_at is None) == (there.completed_at is None), status
        assert resumed.progress == there.progress


async def test_no_move_leaves_two_live_runs(dev: Context, board: Board) -> None:
    for left in TaskStatus:
        for entered in TaskStatus:
            task = await task_in(dev, board, left)
            moved = await move_task(dev, task_id=task.id, status=entered)
            assert moved.status == entered
            live = [run for run in await runs_of(board, task.id) if run.status in RUN_LIVE]
            assert len(live) <= 1
            waiting = [run for run in live if run.status == RunStatus.QUEUED]
            if entered == TaskStatus.QUEUED:
                assert len(waiting) == 1, (left, entered)
            if entered not in RUNNING_STATUSES:
                assert live == [], (left, entered)
    await board.check_totals()
