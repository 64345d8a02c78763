"""Where cards stand: any sequence of moves gives the order it says."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import Task, table_of
from models.database import Database, DatabaseOptions
from resolvers import task_board
from resolvers.context import Context
from resolvers.errors import InvalidError
from resolvers.task_board import move_task
from resolvers.task_queries import list_tasks
from resolvers.tasks import create_task, delete_task, get_task
from tests.resolvers.conftest import Board, make_board, offline_services

TASK = table_of(Task).c
Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def order(ctx: Context, board: Board) -> list[str]:
    page = await list_tasks(ctx, workspace_id=board.id)
    await ctx.release()
    return [task.title for task in page.nodes]


async def make_cards(ctx: Context, board: Board, names: str) -> dict[str, str]:
    return {name: (await create_task(ctx, workspace_id=board.id, title=name)).id for name in names}


async def test_before_and_behind(dev: Context, board: Board) -> None:
    cards = await make_cards(dev, board, "ABC")
    assert await order(dev, board) == ["A", "B", "C"]
    await move_task(dev, task_id=cards["C"], before_id=cards["A"])
    assert await order(dev, board) == ["C", "A", "B"]
    await move_task(dev, task_id=cards["C"], after_id=cards["A"])
    assert await order(dev, board) == ["A", "C", "B"]
    before = await board.head()
    same = await move_task(dev, task_id=cards["C"], after_id=cards["C"])
    assert await board.head() == before
    moved = await move_task(dev, task_id=cards["A"], status="REVIEW", after_id=cards["B"])
    assert (moved.status, moved.version) == ("REVIEW", 2)
    assert same.version == 3
    assert await board.types_since(before) == ["task.moved"]
    assert await order(dev, board) == ["C", "B", "A"]


async def test_a_new_card_stands_behind_all(dev: Context, board: Board) -> None:
    cards = await make_cards(dev, board, "AB")
    for _ in range(3):
        await move_task(dev, task_id=cards["A"], after_id=cards["B"])
        await move_task(dev, task_id=cards["B"], after_id=cards["A"])
    await create_task(dev, workspace_id=board.id, title="C")
    assert await order(dev, board) == ["A", "B", "C"]


async def test_cards_at_one_place_are_told_apart(dev: Context, board: Board) -> None:
    cards = await make_cards(dev, board, "ABCD")
    async with board.services.database.write() as transaction:
        await transaction.execute(sa.update(table_of(Task)).values(position=5.0))
    ids = {card_id: name for name, card_id in cards.items()}
    expected = [ids[card_id] for card_id in sorted(ids)]
    assert await order(dev, board) == expected
    first, second, third, last = expected
    await move_task(dev, task_id=cards[last], after_id=cards[first])
    assert await order(dev, board) == [first, last, second, third]
    await move_task(dev, task_id=cards[first], before_id=cards[third])
    assert await order(dev, board) == [last, second, first, third]


async def test_room_is_made_when_there_is_none(dev: Context, board: Board) -> None:
    cards = await make_cards(dev, board, "ABC")
    gone = await create_task(dev, workspace_id=board.id, title="gone")
    await delete_task(dev, task_id=gone.id)
    before = await board.head()
    for number in range(70):
        name = "BC"[number % 2]
        await move_task(dev, task_id=cards[name], after_id=cards["A"])
        assert (await order(dev, board))[:2] == ["A", name]
    types = await board.types_since(before)
    assert types.count("task.moved") == 70
    assert "workspace.positions_changed" in types, "who keeps positions must read them again"
    positions = [
        row.position
        for row in await board.rows(
            sa.select(TASK.position).where(TASK.deleted_at.is_(None)).order_by(TASK.position)
        )
    ]
    assert min(b - a for a, b in pairwise(positions)) >= 1e-6
    await create_task(dev, workspace_id=board.id, title="D")
    assert (await order(dev, board))[-1] == "D"


async def test_bad_places_are_refused(dev: Context, board: Board) -> None:
    from resolvers.errors import ConflictError

    cards = await make_cards(dev, board, "AB")
    other = await make_board(board.services)
    foreign = await create_task(other.context(), workspace_id=other.id, title="F")
    await delete_task(dev, task_id=cards["B"])
    before = await board.head()
    for place in (
        {"before_id": foreign.id},
        {"after_id": cards["B"]},
        {"after_id": "nonsense"},
        {"before_id": cards["A"], "after_id": cards["B"]},
        {"status": "LATER"},
        {"reason": "x" * 2001, "status": "REVIEW"},
    ):
        with pytest.raises(InvalidError):
            await move_task(dev, task_id=cards["A"], **place)
    with pytest.raises(ConflictError):
        await move_task(dev, task_id=cards["A"], status="REVIEW", expected_version=4)
    assert await board.head() == before
    assert (await get_task(dev, task_id=cards["A"])).version == 1
    await other.close()


async def test_moves_at_once_leave_every_card_in_its_place(board: Board) -> None:
    cards = await make_cards(board.context(), board, "ABCDEF")
    await asyncio.gather(
        *(move_task(board.context(), task_id=cards[name], before_id=cards["A"]) for name in "BCDEF")
    )
    after = await order(board.context(), board)
    assert sorted(after) == list("ABCDEF")
    assert after[-1] == "A"


@pytest.fixture
def bench(database_url: str) -> Iterator[tuple[Run, Board]]:
    """A board, and a way to run coroutines on it from an ordinary function."""
    with asyncio.Runner() as runner:
        database = Database(database_url, DatabaseOptions(synchronous="NORMAL"))
        board = runner.run(make_board(offline_services(database)))
        yield runner.run, board
        runner.run(board.close())
        runner.run(database.close())


MOVES = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["before", "after"]), st.integers(0, 5)),
    max_size=25,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moves=MOVES, gap=st.sampled_from([task_board.MINIMUM_GAP, 200.0]))
def test_any_sequence_of_moves_gives_the_expected_order(
    bench: tuple[Run, Board],
    moves: list[tuple[int, str, int]],
    gap: float,
) -> None:
    """With a large least gap, room has to be made every few moves; the order is the same."""
    run, template = bench

    async def play() -> None:
        board = await make_board(template.services)
        dev = board.context()
        names = "ABCDEF"
        cards = await make_cards(dev, board, names)
        expected = list(names)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task_board, "MINIMUM_GAP", gap)
            for moved, side, neighbour in moves:
                name, other = names[moved], names[neighbour]
                place = {f"{side}_id": cards[other]}
                await move_task(dev, task_id=cards[name], **place)
                if name != other:
                    expected.remove(name)
                    expected.insert(expected.index(other) + (side == "after"), name)
        assert await order(dev, board) == expected
        await board.events()
        await board.close()

    run(play())
