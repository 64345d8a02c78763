"""What waits for what: no circles, and exactly the right tasks are released."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa

from models import Task
from models.enums import DependencyKind, TaskStatus
from resolvers.context import Context
from resolvers.dependencies import set_dependencies, unmet_dependencies
from resolvers.errors import InvalidError
from resolvers.operation import operation
from resolvers.task_board import move_task
from resolvers.task_filters import TaskFilter
from resolvers.task_lifecycle import block_task, cancel_task, finish_task
from resolvers.task_queries import list_tasks
from resolvers.tasks import NewDependency, create_task, delete_task, get_task, update_task
from tests.resolvers.conftest import Board, make_board

Change = Callable[[Context], Awaitable[Any]]


def on(*tasks: Task | str, kind: DependencyKind = DependencyKind.BLOCKS) -> list[NewDependency]:
    return [NewDependency(t if isinstance(t, str) else t.id, kind) for t in tasks]


async def make(ctx: Context, board: Board, number: int) -> list[Task]:
    return [await create_task(ctx, workspace_id=board.id, title=f"T{i}") for i in range(number)]


async def statuses(ctx: Context, *tasks: Task) -> list[str]:
    found = [(await get_task(ctx, task_id=task.id)).status for task in tasks]
    await ctx.release()
    return found


async def test_dependencies_are_replaced(dev: Context, board: Board) -> None:
    first, second, third = await make(dev, board, 3)
    after = await set_dependencies(dev, task_id=first.id, depends_on=on(second, third))
    assert after.version == 2
    event = (await board.events())[-1]
    assert event.type == "task.dependencies_changed"
    assert event.payload["depends_on"] == sorted([second.id, third.id])
    same = await set_dependencies(dev, task_id=first.id, depends_on=on(third, second))
    assert same.version == 2
    kinds = await update_task(
        dev, task_id=first.id, depends_on=on(third, kind=DependencyKind.FAILURE)
    )
    assert kinds.version == 3
    assert await unmet_dependencies(await dev.reader(), first.id) == [third.id]
    await dev.release()
    made = await create_task(dev, workspace_id=board.id, title="T", depends_on=on(first))
    assert await unmet_dependencies(await dev.reader(), made.id) == [first.id]
    await dev.release()
    ready = await list_tasks(dev, workspace_id=board.id, filter_=TaskFilter(ready=True))
    waits = await list_tasks(dev, workspace_id=board.id, filter_=TaskFilter(ready=False))
    assert {t.id for t in ready.nodes} == {second.id, third.id}
    assert {t.id for t in waits.nodes} == {first.id, made.id}


async def test_circles_of_every_length_are_refused(dev: Context, board: Board) -> None:
    tasks = await make(dev, board, 5)
    for later, earlier in zip(tasks[1:], tasks, strict=False):
        await set_dependencies(dev, task_id=later.id, depends_on=on(earlier))
    before = await board.head()
    for index, task in enumerate(tasks):
        for target in tasks[index:]:
            with pytest.raises(InvalidError):
                await set_dependencies(dev, task_id=task.id, depends_on=on(target))
    other = await make_board(board.services)
    (foreign,) = await make(other.context(), other, 1)
    gone = await create_task(dev, workspace_id=board.id, title="T")
    await delete_task(dev, task_id=gone.id)
    before = await board.head()
    for wrong in (on(foreign), on(gone), on("nonsense"), on(*(str(n) for n in range(101)))):
        with pytest.raises(InvalidError):
            await set_dependencies(dev, task_id=tasks[0].id, depends_on=wrong)
    assert await board.head() == before
    await other.close()


@operation
async def first_of_two(
    ctx: Context, *, change: Change, made: asyncio.Event, go: asyncio.Event
) -> None:
    """Make a change, and hold its transaction open until told to go on."""
    await change(ctx)
    made.set()
    await go.wait()


async def until_somebody_waits(board: Board) -> None:
    """Another transaction has come as far as it can beside the one that is open."""
    database = board.services.database
    if database.dialect == "sqlite":
        while not database.write_waiters:  # a number, not an event
            await asyncio.sleep(0.01)
        return
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while not (await board.rows(waiting))[0][0]:  # another program's state
        await asyncio.sleep(0.01)


async def side_by_side(board: Board, first: Change, second: Change) -> None:
    """Begin the second change while the first is not committed."""
    made, go = asyncio.Event(), asyncio.Event()
    opened = asyncio.create_task(first_of_two(board.context(), change=first, made=made, go=go))
    await made.wait()
    follower = asyncio.ensure_future(second(board.context()))
    try:
        async with asyncio.timeout(10):
            await until_somebody_waits(board)
    finally:
        go.set()
    await opened
    await follower


async def test_a_circle_that_two_close_at_once_is_refused(board: Board) -> None:
    one, two, three = await make(board.context(), board, 3)
    await set_dependencies(board.context(), task_id=two.id, depends_on=on(three))
    with pytest.raises(InvalidError):
        await side_by_side(
            board,
            lambda ctx: set_dependencies(ctx, task_id=one.id, depends_on=on(two)),
            lambda ctx: set_dependencies(ctx, task_id=three.id, depends_on=on(one)),
        )


async def test_links_made_at_once_are_no_deadlock(board: Board) -> None:
    for _ in range(3):
        one, two, three = await make(board.context(), board, 3)
        results = await asyncio.gather(
            set_dependencies(board.context(), task_id=one.id, depends_on=on(two)),
            set_dependencies(board.context(), task_id=two.id, depends_on=on(three)),
            set_dependencies(board.context(), task_id=three.id, depends_on=on(one)),
            return_exceptions=True,
        )
        refused = [result for result in results if isinstance(result, BaseException)]
        assert [type(error) for error in refused] == [InvalidError]


async def test_no_task_is_below_itself(board: Board) -> None:
    dev = board.context()
    first, second, third = await make(dev, board, 3)
    await update_task(dev, task_id=second.id, parent_id=first.id)
    await update_task(dev, task_id=third.id, parent_id=second.id)
    for child, parent in ((first, first), (first, second), (first, third), (second, third)):
        with pytest.raises(InvalidError):
            await update_task(dev, task_id=child.id, parent_id=parent.id)
    one, two, three = await make(dev, board, 3)
    await update_task(dev, task_id=two.id, parent_id=three.id)
    with pytest.raises(InvalidError):
        await side_by_side(
            board,
            lambda ctx: update_task(ctx, task_id=one.id, parent_id=two.id),
            lambda ctx: update_task(ctx, task_id=three.id, parent_id=one.id),
        )


async def test_exactly_the_right_tasks_are_released(dev: Context, board: Board) -> None:
    """For both orders of ending, with every kind, with and without something else to wait for."""
    for first_end, second_end in permutations(
        (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED), 2
    ):
        one, two = await make(dev, board, 2)
        waiting: dict[tuple[str, str], Task] = {}
        for kind in DependencyKind:
            for scope, others in (("one", (one,)), ("both", (one, two))):
                task = await create_task(
                    dev, workspace_id=board.id, title="W", depends_on=on(*others, kind=kind)
                )
                waiting[kind, scope] = await block_task(dev, task_id=task.id)
        met = {
            DependencyKind.BLOCKS: {TaskStatus.COMPLETED},
            DependencyKind.COMPLETION: {TaskStatus.COMPLETED, TaskStatus.FAILED},
            DependencyKind.FAILURE: {TaskStatus.FAILED},
        }
        unrelated = await block_task(dev, task_id=(await make(dev, board, 1))[0].id)
        for ended, status in ((one, first_end), (two, second_end)):
            before = await board.head()
            await move_task(dev, task_id=ended.id, status=status)
            released = set()
            for (kind, scope), task in waiting.items():
                done = first_end in met[kind] and (
                    scope == "one" or (ended is two and second_end in met[kind])
                )
                expected = "BACKLOG" if done else "BLOCKED"
                assert await statuses(dev, task) == [expected], (kind, scope, ended.title)
                if done and (scope == "one") == (ended is one):
                    released.add(task.id)
            log = (await board.events())[before:]
            assert [event.type for event in log[1:]] == ["task.unblocked"] * len(released)
            assert {event.entity_id for event in log[1:]} == released
            assert {event.payload["released_by"] for event in log[1:]} <= {ended.id}
        assert await statuses(dev, unrelated) == ["BLOCKED"]
    await board.check_totals()


async def test_a_blocked_part_waits_for_the_whole(dev: Context, board: Board) -> None:
    whole, other = await make(dev, board, 2)
    part = await create_task(dev, workspace_id=board.id, title="P", parent_id=whole.id)
    both = await create_task(
        dev, workspace_id=board.id, title="P", parent_id=whole.id, depends_on=on(other)
    )
    for task in (part, both):
        await block_task(dev, task_id=task.id, reason="wait")
    await finish_task(dev, task_id=whole.id)
    assert await statuses(dev, part, both) == ["BACKLOG", "BLOCKED"]
    assert (await get_task(dev, task_id=part.id)).status_reason is None
    await finish_task(dev, task_id=other.id)
    assert await statuses(dev, both) == ["BACKLOG"]


async def test_a_deleted_task_holds_nobody_back(dev: Context, board: Board) -> None:
    one, two, three = await make(dev, board, 3)
    waiting = await create_task(dev, workspace_id=board.id, title="W", depends_on=on(one, two))
    await block_task(dev, task_id=waiting.id)
    await finish_task(dev, task_id=two.id)
    assert await statuses(dev, waiting) == ["BLOCKED"]
    before = await board.head()
    await delete_task(dev, task_id=one.id)
    assert await statuses(dev, waiting) == ["BACKLOG"]
    assert await board.types_since(before) == ["task.deleted", "task.unblocked"]
    assert (await block_task(dev, task_id=three.id, waits_for=on(waiting))).status == "BLOCKED"
    await cancel_task(dev, task_id=waiting.id)
    assert await statuses(dev, three) == ["BLOCKED"], "a cancelled one was never done"


async def test_both_ends_at_once_release_what_waits_for_both(board: Board) -> None:
    dev = board.context()
    for _ in range(4):
        one, two = await make(dev, board, 2)
        waiting = await create_task(dev, workspace_id=board.id, title="W", depends_on=on(one, two))
        await block_task(dev, task_id=waiting.id)
        await asyncio.gather(
            finish_task(board.context(), task_id=one.id),
            finish_task(board.context(), task_id=two.id),
        )
        assert await statuses(dev, waiting) == ["BACKLOG"]
    await board.events()
    await board.check_totals()
