import asyncio
from typing import Any

from models.enums import TaskStatus
from resolvers.context import Context
from resolvers.operation import operation
from resolvers.task_access import get_task
from resolvers.task_board import move_task
from resolvers.tasks import create_task


async def test_writers_who_meet_in_opposite_orders_both_succeed(board: Any) -> None:
    """PostgreSQL ends one of them after a second; it runs again. SQLite has one writer."""
    owner = board.context("owner")
    first, second = [
        (await create_task(owner, workspace_id=board.id, title=f"t{n}")).id for n in range(2)
    ]
    met = asyncio.Barrier(2)
    tries: list[str] = []

    @operation
    async def move_both(ctx: Context, *, task_ids: list[str]) -> None:
        tries.append(task_ids[0])
        await get_task(ctx, task_id=task_ids[0])
        if len(tries) <= 2 and ctx.transaction.dialect == "postgresql":
            await met.wait()  # each holds one row now, and wants the other's
        for task_id in task_ids:
            await move_task(ctx, task_id=task_id, status=TaskStatus.REVIEW)

    await asyncio.gather(
        move_both(board.context("developer"), task_ids=[first, second]),
        move_both(board.context("developer"), task_ids=[second, first]),
    )
    assert len(tries) == (2 if board.services.database.dialect == "sqlite" else 3)
    for task_id in (first, second):
        assert (await get_task(owner, task_id=task_id)).status == TaskStatus.REVIEW
