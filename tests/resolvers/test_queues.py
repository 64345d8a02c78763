"""Queues: who starts next, what holds the others up, and what is kept about it all."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from models import Run, RunTotal, table_of
from models.enums import QueueClass, RunHold, RunStatus, TaskStatus
from resolvers import queue_queries, queues
from resolvers.context import Context
from resolvers.dependencies import set_dependencies
from resolvers.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from resolvers.paging import PageArguments
from resolvers.principal import SYSTEM
from resolvers.queue_queries import MetricsPeriod
from resolvers.retention import prune_queue_statistics
from resolvers.run_claims import ClaimedRun, any_run_waits, claim_run
from resolvers.run_execution import RunOutcome, finish_run
from resolvers.run_queries import get_run
from resolvers.runs import start_run, stop_run
from resolvers.task_access import NewDependency, get_task
from resolvers.task_lifecycle import finish_task
from resolvers.tasks import create_task
from resolvers.workspace_changes import set_workspace_status, update_workspace
from tests.resolvers.conftest import Board, make_board

RUN, TOTAL = table_of(Run).c, table_of(RunTotal).c
DONE = RunOutcome(RunStatus.COMPLETED, "done")


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def timed(board_services: Any, clock: Clock) -> Any:
    board = await make_board(replace(board_services, clock=clock))
    yield board
    await board.close()


async def queued(board: Board, *, queue: str = "NORMAL", level: int = 2) -> Run:
    """A new task's waiting run."""
    dev = board.context()
    task = await create_task(dev, workspace_id=board.id, title="T", priority_level=level)
    return await start_run(dev, task_id=task.id, queue=queue)


async def order(board: Board) -> list[str]:
    """Ids of the waiting runs, as a client pages through them."""
    ctx = board.context("viewer")
    found: list[str] = []
    page = await queue_queries.list_queue(ctx, workspace_id=board.id, page=PageArguments(first=3))
    while True:
        found += [run.id for run in page.nodes]
        if not page.has_next_page:
            break
        after = page.cursors[-1]
        page = await queue_queries.list_queue(
            ctx, workspace_id=board.id, page=PageArguments(first=3, after=after)
        )
    for place, run_id in enumerate(found, start=1):
        run = await get_run(ctx, run_id=run_id)
        assert await queue_queries.queue_position(ctx, run) == place
    await ctx.release()
    return found


async def claim(board: Board, maximum: int = 100) -> ClaimedRun | None:
    return await claim_run(
        Context(board.services, SYSTEM), host="h", executors=["CUSTOM"], maximum=maximum
    )


async def hold(board: Board, run: Run) -> RunHold | None:
    ctx = board.context("viewer")
    found = await queue_queries.run_hold(ctx, await get_run(ctx, run_id=run.id))
    await ctx.release()
    return found


async def check_totals(board: Board) -> None:
    """The kept totals of runs are what a COUNT says."""
    counted = await board.rows(
        sa.select(RUN.queue_class, RUN.status, sa.func.count())
        .where(RUN.workspace_id == board.id, RUN.managed.is_(True))
        .group_by(RUN.queue_class, RUN.status)
    )
    kept = await board.rows(
        sa.select(TOTAL.queue_class, TOTAL.status, TOTAL.total).where(
            TOTAL.workspace_id == board.id, TOTAL.total != 0
        )
    )
    assert sorted(map(tuple, kept)) == sorted(map(tuple, counted))


async def test_runs_start_by_queue_then_priority_then_age(timed: Board, clock: Clock) -> None:
    made = []
    for queue, level in (("LOW", 9), ("NORMAL", 2), ("NORMAL", 3), ("NORMAL", 2), ("HIGH", 0)):
        made.append(await queued(timed, queue=queue, level=level))
        clock.go_on(milliseconds=1)
    low, normal, urgent, later, high = (run.id for run in made)
    assert await order(timed) == [high, urgent, normal, later, low]
    claims = [await claim(timed) for _ in range(5)]
    started = [claimed.run.id for claimed in claims if claimed is not None]
    # The workspace's limit of four holds the fifth.
    assert started == [high, urgent, normal, later]
    assert await hold(timed, made[0]) == RunHold.WORKSPACE_LIMIT
    await check_totals(timed)


async def test_moves_are_those_of_a_list(board: Board) -> None:
    seed = random.Random(4)  # noqa: S311  # no secret
    model: dict[str, list[str]] = {queue: [] for queue in QueueClass}
    for number in range(9):
        queue = list(QueueClass)[number % 3]
        model[queue].append((await queued(board, queue=queue)).id)
    manager = board.context("manager")
    for _ in range(30):
        everything = [run_id for runs in model.values() for run_id in runs]
        run_id = seed.choice(everything)
        for runs in model.values():
            if run_id in runs:
                runs.remove(run_id)
                own = runs
        kind = seed.choice(["before", "after", "position", "queue"])
        neighbour = seed.choice([other for other in everything if other != run_id])
        to: dict[str, Any]
        if kind in {"before", "after"}:
            target = next(runs for runs in model.values() if neighbour in runs)
            target.insert(target.index(neighbour) + (kind == "after"), run_id)
            to = {f"{kind}_id": neighbour}
        elif kind == "position":
            position = seed.randint(1, 5)
            own.insert(position - 1, run_id)
            to = {"position": position}
        else:
            queue = seed.choice(list(QueueClass))
            model[queue].append(run_id)
            to = {"queue": queue}
        await queues.move_queued_run(manager, run_id=run_id, **to)
        assert await order(board) == [run_id for runs in model.values() for run_id in runs]
    await check_totals(board)
    types = [event.type for event in await board.events()]
    assert types.count("run.moved") == 30


async def test_there_is_always_room_between_two(board: Board) -> None:
    first, second, third = [(await queued(board)).id for _ in range(3)]
    manager = board.context("manager")
    for _ in range(25):
        await queues.move_queued_run(manager, run_id=third, after_id=first)
        await queues.move_queued_run(manager, run_id=second, after_id=first)
        assert await order(board) == [first, second, third]


async def test_a_paused_queue_starts_nothing(board: Board) -> None:
    normal, high = await queued(board), await queued(board, queue="HIGH")
    manager = board.context("manager")
    head = await board.head()
    paused = await queues.pause_queue(
        manager, workspace_id=board.id, queue="NORMAL", reason="release"
    )
    assert paused.queue_paused == ["NORMAL"]
    again = await queues.pause_queue(manager, workspace_id=board.id, queue="NORMAL")
    assert again.version == paused.version
    event = (await board.events())[-1]
    assert (event.type, event.seq) == ("workspace.queue_paused", head + 1)
    assert (event.payload["queues"], event.payload["reason"]) == (["NORMAL"], "release")
    assert (await hold(board, normal), await hold(board, high)) == (
        RunHold.QUEUE_PAUSED,
        RunHold.TURN,
    )
    claimed = await claim(board)
    assert claimed is not None
    assert claimed.run.id == high.id
    assert await claim(board) is None
    system = Context(board.services, SYSTEM)
    assert not await any_run_waits(system, executors=["CUSTOM"])
    await system.release()
    await queues.pause_queue(manager, workspace_id=board.id)
    states = await queue_queries.queue_states(board.context("viewer"), workspace_id=board.id)
    assert [state.paused for state in states] == [True, True, True]
    await queues.resume_queue(manager, workspace_id=board.id)
    claimed = await claim(board)
    assert claimed is not None
    assert claimed.run.id == normal.id


async def test_a_task_that_waits_for_others_is_not_started(board: Board) -> None:
    dev = board.context()
    first = await create_task(dev, workspace_id=board.id, title="first")
    second = await create_task(dev, workspace_id=board.id, title="second")
    await set_dependencies(dev, task_id=second.id, depends_on=[NewDependency(first.id)])
    waiting = await start_run(dev, task_id=second.id)
    assert await hold(board, waiting) == RunHold.DEPENDENCIES
    assert await claim(board) is None
    await finish_task(dev, task_id=first.id)
    claimed = await claim(board)
    assert claimed is not None
    assert claimed.run.id == waiting.id


async def test_what_else_holds_runs_up(board: Board) -> None:
    manager = board.context("manager")
    await update_workspace(manager, workspace_id=board.id, max_concurrent=1)
    first, second = await queued(board), await queued(board)
    odd = await create_task(manager, workspace_id=board.id, title="odd", executor="CODEX")
    codex = await start_run(manager, task_id=odd.id)
    board.services = replace(
        board.services, trust=replace(board.services.trust, executors={"CUSTOM": object()})
    )
    assert await hold(board, codex) == RunHold.EXECUTOR_MISSING
    assert await claim(board, maximum=0) is None
    claimed = await claim(board)
    assert claimed is not None
    assert claimed.run.id == first.id
    assert await hold(board, first) is None
    assert await hold(board, second) == RunHold.WORKSPACE_LIMIT
    await finish_run(
        Context(board.services, SYSTEM), run_id=first.id, token=claimed.token, outcome=DONE
    )
    await set_workspace_status(board.context("owner"), workspace_id=board.id, status="COMPLETED")
    assert await hold(board, second) == RunHold.WORKSPACE_CLOSED


async def test_clearing_cancels_what_waits(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "CLEARED_AT_ONCE", 2)
    runs = [await queued(board) for _ in range(5)]
    kept = await queued(board, queue="LOW")
    claimed = await claim(board)
    assert claimed is not None
    done = await queues.clear_queue(
        board.context("manager"), workspace_id=board.id, queue="NORMAL", reason="new plan"
    )
    assert done.cleared == 4
    assert await order(board) == [kept.id]
    ctx = board.context("viewer")
    states = {(await get_run(ctx, run_id=run.id)).status for run in runs[1:]}
    assert states == {RunStatus.CANCELLED}
    assert (await get_run(ctx, run_id=runs[0].id)).status == RunStatus.RUNNING
    task = await get_task(ctx, task_id=runs[1].task_id or "")
    assert (task.status, task.status_reason) == (TaskStatus.BACKLOG, "new plan")
    event = (await board.events())[-1]
    assert (event.type, event.payload["cleared"]) == ("workspace.queue_cleared", 4)
    await check_totals(board)
    await board.check_totals()


async def test_only_managers_steer_queues(board: Board) -> None:
    run = await queued(board)
    other = await make_board(board.services)
    elsewhere = await queued(other)
    calls: list[Callable[[Context], Any]] = [
        lambda ctx: queues.pause_queue(ctx, workspace_id=board.id),
        lambda ctx: queues.resume_queue(ctx, workspace_id=board.id),
        lambda ctx: queues.clear_queue(ctx, workspace_id=board.id),
        lambda ctx: queues.move_queued_run(ctx, run_id=run.id, position=1),
    ]
    for call in calls:
        with pytest.raises(ForbiddenError):
            await call(board.context("developer"))
        with pytest.raises(NotFoundError):
            await call(board.context("stranger"))
    manager = board.context("manager")
    with pytest.raises(NotFoundError):
        await queues.move_queued_run(manager, run_id=elsewhere.id, position=1)
    with pytest.raises(InvalidError, match="does not wait"):
        await queues.move_queued_run(manager, run_id=run.id, before_id=elsewhere.id)
    with pytest.raises(InvalidError, match="Give one of"):
        await queues.move_queued_run(manager, run_id=run.id, position=1, before_id=run.id)
    await stop_run(manager, run_id=run.id)
    with pytest.raises(ConflictError, match="does not wait"):
        await queues.move_queued_run(manager, run_id=run.id, position=1)
    await other.close()


async def test_metrics_say_what_happened(timed: Board, clock: Clock) -> None:
    system = Context(timed.services, SYSTEM)
    for seconds, outcome in (
        (10, DONE),
        (20, RunOutcome(RunStatus.FAILED, "exit_code")),
        (60, DONE),
    ):
        await queued(timed, queue="HIGH")
        clock.go_on(seconds=seconds)
        claimed = await claim(timed)
        assert claimed is not None
        clock.go_on(seconds=100)
        await finish_run(system, run_id=claimed.run.id, token=claimed.token, outcome=outcome)
    cancelled = await queued(timed, queue="LOW")
    await queued(timed, queue="LOW")
    await stop_run(timed.context(), run_id=cancelled.id)
    clock.go_on(minutes=40)  # past midnight and the hour
    viewer = timed.context("viewer")
    report = await queue_queries.queue_report(viewer, workspace_id=timed.id)
    high, _, low = report.queues
    assert (high.enqueued, high.started, high.completed, high.failed) == (3, 3, 2, 1)
    assert high.average_wait_seconds == pytest.approx(30)
    assert high.average_run_seconds == pytest.approx(100)
    assert high.success_rate == pytest.approx(2 / 3)
    assert (low.enqueued, low.cancelled, low.most_waiting, low.success_rate) == (2, 1, 2, None)
    assert report.total.enqueued == sum(step.enqueued for step in report.timeline) == 5
    assert [len((await report_of(timed, period)).timeline) for period in MetricsPeriod] == [
        13, 25, 29, 31,
    ]  # fmt: skip
    states = await queue_queries.queue_states(viewer, workspace_id=timed.id)
    assert [(s.waiting, s.running, s.completed_today) for s in states] == [
        (0, 0, 0), (0, 0, 0), (1, 0, 0),
    ]  # fmt: skip
    everywhere = await queue_queries.queue_report(viewer)
    assert everywhere.total == report.total
    nowhere = await queue_queries.queue_report(timed.context("stranger"))
    assert nowhere.total.enqueued == 0
    clock.go_on(hours=4)
    assert await prune_queue_statistics(system) > 0
    hour = await report_of(timed, MetricsPeriod.HOUR)
    day = await report_of(timed, MetricsPeriod.DAY)
    assert (hour.total.enqueued, day.total.enqueued) == (0, 5)


async def report_of(board: Board, period: MetricsPeriod) -> queue_queries.QueueReport:
    ctx = board.context("viewer")
    return await queue_queries.queue_report(ctx, workspace_id=board.id, period=period)
