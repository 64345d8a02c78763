"""Lists without a filter are prepared; they have and count what composed ones have."""

from itertools import product
from typing import Any

import pytest

from models.enums import RunStatus, WorkspaceStatus
from resolvers.client_runs import create_client_run
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.paging import Page, PageArguments, Slice
from resolvers.run_lists import list_runs
from resolvers.tasks import create_task, delete_task
from resolvers.workspace_queries import WorkspaceFilter, WorkspaceOrder, list_workspaces
from resolvers.workspaces import create_workspace
from tests.resolvers.conftest import Board

PAGES = (Slice(2), Slice(2, 1), Slice(50), PageArguments(first=3), PageArguments())


async def _what(page: Page[Any]) -> Any:
    rows = [row.as_dict() for row in page.nodes]
    return rows, page.has_next_page, page.has_previous_page, await page.count()


async def test_workspaces(board: Board) -> None:
    owner = board.context("owner")
    for number in range(4):
        await create_workspace(owner, name=f"Other {number % 2}")
    everything = WorkspaceFilter(status=list(WorkspaceStatus))
    seen = set()
    people = [board.context(name) for name in ("owner", "viewer", "stranger")]
    for ctx, order, page in product(people, WorkspaceOrder, PAGES):
        prepared = await _what(await list_workspaces(ctx, order=order, page=page))
        composed = await list_workspaces(ctx, filter_=everything, order=order, page=page)
        assert prepared == await _what(composed)
        seen.add(len(prepared[0]))
    assert {0, 1, 5} <= seen


async def _runs(ctx: Context, board: Board) -> list[str]:
    """Tasks with runs: two, one, none, and a deleted one."""
    tasks = [
        await create_task(ctx, workspace_id=board.id, title=f"Task {number}") for number in range(4)
    ]
    for task in (tasks[0], tasks[0], tasks[1], tasks[3]):
        await create_client_run(ctx, task_id=task.id)
    await delete_task(ctx, task_id=tasks[3].id, force=True)
    return [task.id for task in tasks]


async def test_runs(board: Board) -> None:
    tasks = await _runs(board.context("manager"), board)
    ctx = board.context("viewer")
    seen = []
    for parent, page in product(
        ({"workspace_id": board.id}, *({"task_id": task_id} for task_id in tasks[:3])), PAGES
    ):
        prepared = await _what(await list_runs(ctx, page=page, **parent))
        composed = await list_runs(ctx, page=page, status=list(RunStatus), **parent)
        assert prepared == await _what(composed)
        if page == Slice(50):
            seen.append(len(prepared[0]))
    assert seen == [3, 2, 1, 0]
    for hidden in ({"task_id": tasks[3]}, {"task_id": board.id}, {"workspace_id": tasks[0]}):
        with pytest.raises(NotFoundError):
            await list_runs(ctx, page=Slice(50), **hidden)
