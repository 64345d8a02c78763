"""Pages by prepared statements have what pages by composed ones have, and count the same."""

from itertools import product

import pytest

from models.enums import TaskStatus
from resolvers.errors import InvalidError
from resolvers.paging import PageArguments, Slice
from resolvers.task_filters import TaskFilter
from resolvers.task_queries import TaskOrder, list_tasks
from resolvers.tasks import create_task, update_task
from tests.resolvers.conftest import Board

NUMBER = 13
STATUSES = (TaskStatus.BACKLOG, TaskStatus.REVIEW, TaskStatus.COMPLETED)
PAGES = (Slice(4), Slice(4, 3), Slice(50), Slice(2, 50), PageArguments(first=5), PageArguments())


async def _some_tasks(board: Board) -> list[str]:
    ctx = board.context("manager")
    ids = []
    for number in range(NUMBER):
        task = await create_task(
            ctx,
            workspace_id=board.id,
            title=f"Task {number % 5}",
            status=STATUSES[number % 3],
            internal=number % 2 == 0,
        )
        if number % 4 == 0:
            await update_task(ctx, task_id=task.id, archived=True)
        ids.append(task.id)
    return ids


async def test_plain_filters_choose_the_same_rows_prepared_or_not(board: Board) -> None:
    ids = await _some_tasks(board)
    ctx = board.context("viewer")
    sizes = set()
    for status, archived, internal, page, order in product(
        (None, STATUSES[:1], [*STATUSES, STATUSES[0]]),
        (None, True, False),
        (None, True, False),
        PAGES,
        (TaskOrder.CREATED_AT_ASC, TaskOrder.TITLE_ASC),
    ):
        plain = TaskFilter(status=status, archived=archived, internal=internal)
        assert plain.plain is not None
        composed = TaskFilter(ids=ids, status=status, archived=archived, internal=internal)
        assert composed.plain is None
        one, other = [
            await list_tasks(ctx, workspace_id=board.id, filter_=chosen, order=order, page=page)
            for chosen in (plain, composed)
        ]
        assert [task.as_dict() for task in one.nodes] == [task.as_dict() for task in other.nodes]  # type: ignore[attr-defined]  # records
        assert one.has_next_page == other.has_next_page
        assert one.has_previous_page == other.has_previous_page
        assert await one.count() == await other.count() == await one.total()
        sizes.add((await one.total())[0])
    assert min(sizes) < 2 < NUMBER == max(sizes)


async def test_a_filter_by_too_many_words_is_refused(board: Board) -> None:
    status = [TaskStatus.BACKLOG] * 101
    for page in (Slice(4), PageArguments()):
        with pytest.raises(InvalidError):
            await list_tasks(
                board.context(),
                workspace_id=board.id,
                filter_=TaskFilter(status=status),
                page=page,
            )


async def test_no_status_at_all_finds_nothing(board: Board) -> None:
    await _some_tasks(board)
    page = await list_tasks(
        board.context(), workspace_id=board.id, filter_=TaskFilter(status=[]), page=Slice(4)
    )
    assert (page.nodes, await page.total()) == ([], (0, True))
