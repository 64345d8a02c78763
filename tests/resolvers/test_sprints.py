"""Sprints: numbers, steps, the current one, and what is planned into them."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from models.enums import SprintStatus, TaskStatus
from models.lifecycle import SPRINT_STEPS
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    IllegalTransitionError,
    InvalidError,
    NotFoundError,
)
from resolvers.loading import sprint_of
from resolvers.sprints import (
    advance_sprint,
    auto_transition,
    create_sprint,
    delete_sprint,
    find_current_sprint,
    get_sprint,
    get_sprint_by_number,
    list_sprints,
    update_sprint,
)
from resolvers.stories import create_story, get_story
from resolvers.task_board import move_task
from resolvers.tasks import archive_task, create_task, get_task
from resolvers.work_totals import sprint_totals
from tests.resolvers.conftest import Board, make_board


async def test_numbers_count_from_0_and_may_be_given(dev: Context, board: Board) -> None:
    first = await create_sprint(dev, workspace_id=board.id, goal="Begin", deadline="2026-01-31")
    assert (first.number, first.status, first.started_at) == (0, "PLANNING", None)
    fifth = await create_sprint(dev, workspace_id=board.id, number=5, status="ACTIVE")
    assert fifth.started_at is not None
    assert (await create_sprint(dev, workspace_id=board.id)).number == 6
    with pytest.raises(ConflictError):
        await create_sprint(dev, workspace_id=board.id, number=5)
    late = await create_sprint(dev, workspace_id=board.id, number=3)
    assert late.number == 3
    numbers = [sprint.number for sprint in (await list_sprints(dev, workspace_id=board.id)).nodes]
    assert numbers == [0, 3, 5, 6]
    active = await list_sprints(dev, workspace_id=board.id, status=[SprintStatus.ACTIVE])
    assert [sprint.number for sprint in active.nodes] == [5]
    assert (await get_sprint_by_number(dev, workspace_id=board.id, number=0)).goal == "Begin"


async def test_bad_sprints_are_refused(dev: Context, board: Board) -> None:
    sprint = await create_sprint(dev, workspace_id=board.id)
    before = await board.head()
    bad: list[dict[str, Any]] = [
        {"number": -1},
        {"number": 1_000_001},
        {"status": "COMPLETED"},
        {"status": "SOON"},
        {"deadline": "x" * 41},
        {"goal": "\x00"},
    ]
    for fields in bad:
        with pytest.raises(InvalidError):
            await create_sprint(dev, workspace_id=board.id, **fields)
    with pytest.raises(InvalidError):
        await advance_sprint(dev, sprint_id=sprint.id, to="SOON")
    for number in (1, -1, 2**70):
        with pytest.raises(NotFoundError):
            await get_sprint_by_number(dev, workspace_id=board.id, number=number)
    assert await board.head() == before


async def test_at_once_everybody_gets_another_number(board: Board) -> None:
    async def create() -> int | None:
        context = board.context()
        for _ in range(10):
            try:
                return (await create_sprint(context, workspace_id=board.id)).number
            except ConflictError:
                continue
        return None

    numbers = await asyncio.gather(*(create() for _ in range(4)))
    assert sorted(numbers, key=str) == [0, 1, 2, 3]


async def test_the_steps_are_the_table(dev: Context, board: Board) -> None:
    for start in SprintStatus:
        for wanted in SprintStatus:
            sprint = await create_sprint(dev, workspace_id=board.id)
            if start != SprintStatus.PLANNING:
                sprint = await advance_sprint(dev, sprint_id=sprint.id, to=start, force=True)
            before = await board.head()
            allowed = wanted in SPRINT_STEPS[start]
            if wanted == start:
                same = await advance_sprint(dev, sprint_id=sprint.id, to=wanted)
                assert same.version == sprint.version
            elif allowed:
                after = await advance_sprint(dev, sprint_id=sprint.id, to=wanted)
                assert (after.status, after.version) == (wanted, sprint.version + 1)
                assert await board.types_since(before) == ["sprint.status_changed"]
                assert (await board.events())[-1].payload["from_status"] == start
                continue
            else:
                with pytest.raises(IllegalTransitionError) as refused:
                    await advance_sprint(dev, sprint_id=sprint.id, to=wanted)
                assert refused.value.details["allowed_from"] == sorted(
                    step for step, onward in SPRINT_STEPS.items() if wanted in onward
                )
                assert await get_sprint(dev, sprint_id=sprint.id)
            assert await board.head() == before


async def test_times_follow_the_steps(dev: Context, board: Board) -> None:
    sprint = await create_sprint(dev, workspace_id=board.id)
    steps = list(SprintStatus)
    for _, following in pairwise(steps):
        sprint = await advance_sprint(dev, sprint_id=sprint.id, to=following)
    started, completed = sprint.started_at, sprint.completed_at
    assert started is not None
    assert completed is not None
    again = await advance_sprint(dev, sprint_id=sprint.id, to="ACTIVE", force=True)
    assert (again.started_at, again.completed_at) == (started, None)


async def test_the_current_sprint(dev: Context, board: Board) -> None:
    async def current() -> int | None:
        found = await find_current_sprint(dev, workspace_id=board.id)
        await dev.release()
        return found and found.number

    assert await current() is None
    sprints = [await create_sprint(dev, workspace_id=board.id) for _ in range(4)]

    async def step(number: int, to: SprintStatus) -> None:
        await advance_sprint(dev, sprint_id=sprints[number].id, to=to, force=True)

    await step(3, SprintStatus.COMPLETED)
    assert await current() == 2
    await step(0, SprintStatus.ACTIVE)
    await step(1, SprintStatus.ACTIVE)
    assert await current() == 1
    for number in range(3):
        await step(number, SprintStatus.COMPLETED)
    assert await current() == 3


async def test_a_sprint_whose_work_is_done_goes_to_review(dev: Context, board: Board) -> None:
    sprint = await create_sprint(dev, workspace_id=board.id)
    stays = await auto_transition(dev, sprint_id=sprint.id)
    assert stays.reason == "The sprint is PLANNING"
    await advance_sprint(dev, sprint_id=sprint.id, to="ACTIVE")
    assert (await auto_transition(dev, sprint_id=sprint.id)).reason == "The sprint has no tasks"

    made = [
        await create_task(dev, workspace_id=board.id, title="T", sprint_number=0) for _ in range(3)
    ]
    await create_task(dev, workspace_id=board.id, title="Elsewhere", sprint_number=1)
    assert (await auto_transition(dev, sprint_id=sprint.id)).from_status is None
    await move_task(dev, task_id=made[0].id, status="COMPLETED")
    before = await board.head()
    stays = await auto_transition(dev, sprint_id=sprint.id)
    assert (stays.reason, await board.head()) == ("2 tasks are not done", before)
    await move_task(dev, task_id=made[1].id, status="CANCELLED")
    await archive_task(dev, task_id=made[2].id)
    went = await auto_transition(dev, sprint_id=sprint.id)
    assert (went.from_status, went.sprint.status) == ("ACTIVE", "REVIEW")


async def test_nothing_remembered_is_used_for_the_decision(dev: Context, board: Board) -> None:
    sprint = await create_sprint(dev, workspace_id=board.id, status="ACTIVE")
    task = await create_task(dev, workspace_id=board.id, title="T", sprint_number=0)
    assert (await sprint_totals(dev, board.id, 0)).open == 1
    await move_task(board.context(), task_id=task.id, status="COMPLETED")
    went = await auto_transition(dev, sprint_id=sprint.id)
    assert went.sprint.status == "REVIEW"


async def test_totals_and_sprints_of_a_page_take_one_statement_each(
    dev: Context, board: Board
) -> None:
    other = await make_board(board.services)
    for number in (0, 1):
        await create_sprint(dev, workspace_id=board.id, number=number)
        task = await create_task(
            dev, workspace_id=board.id, title="T", sprint_number=number, story_points=3
        )
    await move_task(dev, task_id=task.id, status="COMPLETED")
    await create_task(other.context(), workspace_id=other.id, title="T", sprint_number=0)
    await other.close()
    reader = await dev.reader()
    before = reader.statements
    totals = await asyncio.gather(*(sprint_totals(dev, board.id, n) for n in (0, 1, 2)))
    assert [(t.total, t.done, t.open, t.points, t.done_points) for t in totals] == [
        (1, 0, 1, 3.0, 0.0),
        (1, 1, 0, 3.0, 3.0),
        (0, 0, 0, 0.0, 0.0),
    ]
    found = await asyncio.gather(
        *(sprint_of(dev, board.id, n) for n in (0, 1, 2, None)), sprint_of(dev, other.id, 0)
    )
    assert [sprint and sprint.number for sprint in found] == [0, 1, None, None, None]
    assert reader.statements == before + 2


async def test_a_deleted_sprint_leaves_its_work_in_the_backlog(dev: Context, board: Board) -> None:
    sprint = await create_sprint(dev, workspace_id=board.id, number=4)
    story = await create_story(
        dev, workspace_id=board.id, title="S", sprint_number=4, create_task=True
    )
    task = await create_task(dev, workspace_id=board.id, title="T", sprint_number=4)
    stays = await create_task(dev, workspace_id=board.id, title="T", sprint_number=5)
    await delete_sprint(dev, sprint_id=sprint.id)
    assert (await get_task(dev, task_id=task.id)).sprint_number is None
    assert (await get_story(dev, story_id=story.id)).sprint_number is None
    assert (await get_task(dev, task_id=stays.id)).sprint_number == 5
    event = (await board.events())[-1]
    assert (event.type, event.payload["task_count"]) == ("sprint.deleted", 2)
    assert event.payload["story_ids"] == [story.id]
    with pytest.raises(NotFoundError):
        await get_sprint(dev, sprint_id=sprint.id)


async def test_updates_and_permissions(dev: Context, board: Board) -> None:
    sprint = await create_sprint(dev, workspace_id=board.id, goal="One")
    assert (await update_sprint(dev, sprint_id=sprint.id, goal="One")).version == 1
    changed = await update_sprint(
        dev, sprint_id=sprint.id, goal=None, retro_summary="Good", expected_version=1
    )
    assert (changed.goal, changed.retro_summary, changed.version) == (None, "Good", 2)
    with pytest.raises(ConflictError):
        await update_sprint(dev, sprint_id=sprint.id, goal="Two", expected_version=1)
    viewer, stranger = board.context("viewer"), board.context("stranger")
    assert (await get_sprint(viewer, sprint_id=sprint.id)).version == 2
    for attempt in (
        create_sprint(viewer, workspace_id=board.id),
        update_sprint(viewer, sprint_id=sprint.id, goal="Mine"),
        advance_sprint(viewer, sprint_id=sprint.id, to="ACTIVE"),
        auto_transition(viewer, sprint_id=sprint.id),
        delete_sprint(viewer, sprint_id=sprint.id),
    ):
        with pytest.raises(ForbiddenError):
            await attempt
    for attempt in (
        get_sprint(stranger, sprint_id=sprint.id),
        advance_sprint(stranger, sprint_id=sprint.id, to="ACTIVE"),
        find_current_sprint(stranger, workspace_id=board.id),
        get_sprint_by_number(stranger, workspace_id=board.id, number=0),
    ):
        with pytest.raises(NotFoundError):
            await attempt


async def test_a_task_keeps_its_status_words(dev: Context, board: Board) -> None:
    """Totals know every status, so that a dialect can sum up in its own words."""
    for status in (TaskStatus.REVIEW, TaskStatus.FAILED, TaskStatus.PAUSED):
        await create_task(dev, workspace_id=board.id, title="T", sprint_number=0, status=status)
    totals = await sprint_totals(dev, board.id, 0)
    assert totals.by_status == {"REVIEW": 1, "FAILED": 1, "PAUSED": 1}
    assert totals.open == 3
