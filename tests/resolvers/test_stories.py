"""Stories: what they keep, who may touch them, what becomes of their tasks."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from models.enums import StoryStatus, TaskPriority, TaskStatus
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    LimitExceededError,
    NotFoundError,
    camel_case,
)
from resolvers.paging import PageArguments
from resolvers.stories import (
    StoryFilter,
    StoryOrder,
    create_story,
    delete_story,
    get_story,
    list_stories,
    update_story,
)
from resolvers.task_filters import TaskFilter
from resolvers.task_lifecycle import finish_task
from resolvers.task_queries import list_tasks
from resolvers.tasks import archive_task, create_task, delete_task, get_task
from resolvers.work_totals import WorkTotals, story_totals
from tests.resolvers.conftest import Board


async def test_a_story_keeps_what_was_given(dev: Context, board: Board) -> None:
    story = await create_story(
        dev,
        workspace_id=board.id,
        title="  As a reader ",
        description="I want **pages**",
        priority=TaskPriority.HIGH,
        status=StoryStatus.READY,
        sprint_number=3,
        feedback="so far so good",
    )
    found = await get_story(dev, story_id=story.id)
    assert (found.title, found.number, found.version) == ("As a reader", 1, 1)
    assert (found.status, found.priority_level, found.sprint_number) == ("READY", 3, 3)
    assert found.created_by == board.users["developer"].id
    event = (await board.events())[-1]
    assert (event.type, event.entity_type, event.entity_id) == ("story.created", "story", story.id)
    assert event.payload["story"]["title"] == "As a reader"


async def test_a_story_can_come_with_a_task_of_the_same_words(dev: Context, board: Board) -> None:
    before = await board.head()
    story = await create_story(
        dev,
        workspace_id=board.id,
        title="Pages",
        description="many",
        priority_level=7,
        sprint_number=2,
        create_task=True,
        task_fields={"owner": "builder", "type": "BUG"},
    )
    (task,) = (await list_tasks(dev, workspace_id=board.id)).nodes
    assert (task.title, task.description, task.priority_level) == ("Pages", "many", 7)
    assert (task.sprint_number, task.story_id) == (2, story.id)
    assert (task.owner, task.type, task.status) == ("builder", "BUG", "BACKLOG")
    assert await board.types_since(before) == ["story.created", "task.created"]


async def test_an_update_changes_what_is_given_and_counts_it(dev: Context, board: Board) -> None:
    story = await create_story(
        dev, workspace_id=board.id, title="One", priority_level=6, sprint_number=1
    )
    same = await update_story(dev, story_id=story.id, priority=TaskPriority.URGENT, title="One")
    assert same.version == 1, "the word of the level it has changes nothing"
    changed = await update_story(
        dev, story_id=story.id, expected_version=1, sprint_number=None, status="DONE"
    )
    assert (changed.sprint_number, changed.status, changed.version) == (None, "DONE", 2)
    event = (await board.events())[-1]
    assert event.type == "story.updated"
    assert event.payload["changed"] == ["sprint_number", "status"]
    with pytest.raises(ConflictError) as refused:
        await update_story(dev, story_id=story.id, expected_version=1, title="Two")
    assert refused.value.details == {"current_version": 2}


async def test_bad_fields_are_named_and_change_nothing(dev: Context, board: Board) -> None:
    story = await create_story(dev, workspace_id=board.id, title="One")
    before = await board.head()
    for field, value in [
        ("title", " "),
        ("title", "x" * 501),
        ("title", None),
        ("description", "a\x00b"),
        ("status", "LATER"),
        ("status", None),
        ("priority", None),
        ("priority_level", 11),
        ("sprint_number", -1),
        ("feedback", "\ud800"),
    ]:
        fields: dict[str, Any] = {field: value}
        with pytest.raises(InvalidError) as refused:
            await update_story(dev, story_id=story.id, **fields)
        assert refused.value.details["field"] == camel_case(field)
    assert await board.head() == before


async def test_deleting_a_story_leaves_its_tasks(dev: Context, board: Board) -> None:
    story = await create_story(dev, workspace_id=board.id, title="One", create_task=True)
    other = await create_task(dev, workspace_id=board.id, title="Another", story_id=story.id)
    gone = await delete_story(dev, story_id=story.id)
    assert (gone.id, gone.workspace_id) == (story.id, board.id)
    left = (await list_tasks(dev, workspace_id=board.id)).nodes
    assert [task.story_id for task in left] == [None, None]
    assert {task.version for task in left} == {2}
    event = (await board.events())[-1]
    assert event.type == "story.deleted"
    assert event.payload["task_count"] == 2
    assert other.id in event.payload["task_ids"]
    with pytest.raises(NotFoundError):
        await get_story(dev, story_id=story.id)


async def test_who_may_do_what(dev: Context, board: Board) -> None:
    story = await create_story(dev, workspace_id=board.id, title="One")
    viewer, stranger = board.context("viewer"), board.context("stranger")
    assert (await get_story(viewer, story_id=story.id)).id == story.id
    for attempt in (
        create_story(viewer, workspace_id=board.id, title="Mine"),
        update_story(viewer, story_id=story.id, title="Mine"),
        delete_story(viewer, story_id=story.id),
    ):
        with pytest.raises(ForbiddenError):
            await attempt
    for attempt in (
        get_story(stranger, story_id=story.id),
        list_stories(stranger, workspace_id=board.id),
        update_story(stranger, story_id=story.id, title="Mine"),
        create_story(stranger, workspace_id=board.id, title="Mine"),
    ):
        with pytest.raises(NotFoundError):
            await attempt


async def test_filters_orders_and_pages(dev: Context, board: Board) -> None:
    for number, (title, sprint, level) in enumerate(
        [("Alpha", 1, 2), ("Beta", None, 9), ("Größe Ä", 1, 5), ("100%_done", 2, 2)], start=1
    ):
        story = await create_story(
            dev, workspace_id=board.id, title=title, sprint_number=sprint, priority_level=level
        )
        assert story.number == number

    async def titles(order: StoryOrder = StoryOrder.NUMBER_ASC, **filters: Any) -> list[str]:
        page = await list_stories(
            dev, workspace_id=board.id, filter_=StoryFilter(**filters), order=order
        )
        return [node.title for node in page.nodes]

    assert await titles(sprint_numbers=[1]) == ["Alpha", "Größe Ä"]
    assert await titles(backlog=True) == ["Beta"]
    assert await titles(backlog=False, status=["OPEN"]) == ["Alpha", "Größe Ä", "100%_done"]
    assert await titles(search="ALPH") == ["Alpha"]
    assert await titles(search="Größe Ä") == ["Größe Ä"]
    assert await titles(search="0%_d") == ["100%_done"]
    assert await titles(search="%") == ["100%_done"]
    assert await titles(search="#2") == ["Beta"]
    assert await titles(StoryOrder.PRIORITY_DESC) == ["Beta", "Größe Ä", "Alpha", "100%_done"]

    for order in StoryOrder:
        whole = (await list_stories(dev, workspace_id=board.id, order=order)).nodes
        seen: list[str] = []
        after = None
        while True:
            page = await list_stories(
                dev,
                workspace_id=board.id,
                order=order,
                page=PageArguments(first=2, after=after),
            )
            seen.extend(node.id for node in page.nodes)
            if not page.has_next_page:
                break
            after = page.cursors[-1]
        assert seen == [node.id for node in whole]
    assert await (await list_stories(dev, workspace_id=board.id)).count() == (4, True)


async def test_totals_of_a_page_take_one_statement(dev: Context, board: Board) -> None:
    stories = [
        await create_story(dev, workspace_id=board.id, title=f"S{i}", create_task=True)
        for i in range(3)
    ]
    for points in (1.5, 2.0, 4.0):
        task = await create_task(
            dev,
            workspace_id=board.id,
            title="More",
            story_id=stories[0].id,
            story_points=points,
        )
        if points == 1.5:
            await finish_task(dev, task_id=task.id)
        if points == 2.0:
            await archive_task(dev, task_id=task.id)
    gone = await create_task(dev, workspace_id=board.id, title="Gone", story_id=stories[1].id)
    await delete_task(dev, task_id=gone.id)

    reader = await dev.reader()
    before = reader.statements
    totals = await asyncio.gather(*(story_totals(dev, story.id) for story in stories))
    assert reader.statements == before + 1
    assert totals[0] == WorkTotals(
        total=4,
        done=1,
        open=2,
        points=7.5,
        done_points=1.5,
        by_status={TaskStatus.COMPLETED: 1, TaskStatus.BACKLOG: 3},
    )
    assert totals[1].total == 1


async def test_an_archived_workspace_takes_no_stories(dev: Context, board: Board) -> None:
    story = await create_story(dev, workspace_id=board.id, title="One", create_task=True)
    async with board.services.database.write() as transaction:
        from models import Workspace

        await transaction.update_by_id(Workspace, board.id, status="ARCHIVED")
    for attempt in (
        create_story(dev, workspace_id=board.id, title="Two"),
        update_story(dev, story_id=story.id, title="Two"),
        delete_story(dev, story_id=story.id),
    ):
        with pytest.raises(ConflictError):
            await attempt
    assert (await get_story(dev, story_id=story.id)).title == "One"


async def test_the_number_of_stories_is_bounded(board: Board) -> None:
    dev = board.context()
    limits = replace(board.services.limits, stories_per_workspace=2)
    dev.services = replace(board.services, limits=limits)
    for _ in range(2):
        await create_story(dev, workspace_id=board.id, title="One")
    with pytest.raises(LimitExceededError) as refused:
        await create_story(dev, workspace_id=board.id, title="One")
    assert refused.value.details["limit"] == 2


async def test_a_failing_task_takes_its_story_with_it(dev: Context, board: Board) -> None:
    before = await board.head()
    with pytest.raises(InvalidError):
        await create_story(
            dev,
            workspace_id=board.id,
            title="One",
            create_task=True,
            task_fields={"type": "NO_SUCH"},
        )
    assert await board.head() == before
    assert (await list_stories(dev, workspace_id=board.id)).nodes == []
    assert await get_next_number(dev, board) == 1


async def get_next_number(dev: Context, board: Board) -> int:
    return (await create_story(dev, workspace_id=board.id, title="Next")).number


async def test_a_task_refers_to_stories_of_its_own_workspace_only(
    dev: Context, board: Board
) -> None:
    from tests.resolvers.conftest import make_board

    other = await make_board(board.services)
    foreign = await create_story(other.context(), workspace_id=other.id, title="Theirs")
    with pytest.raises(InvalidError):
        await create_task(dev, workspace_id=board.id, title="Mine", story_id=foreign.id)
    await other.close()
    story = await create_story(dev, workspace_id=board.id, title="Ours")
    task = await create_task(dev, workspace_id=board.id, title="Mine", story_id=story.id)
    assert (await get_task(dev, task_id=task.id)).story_id == story.id
    mine = await list_tasks(
        dev, workspace_id=board.id, filter_=TaskFilter(story_ids=[story.id, foreign.id])
    )
    assert [node.id for node in mine.nodes] == [task.id]
