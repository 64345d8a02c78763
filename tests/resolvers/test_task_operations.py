"""Tasks: created, changed, archived, deleted; fields are checked, versions and totals kept."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from models import Task, Workspace, table_of
from models.enums import PRIORITY_LEVELS, TaskPriority, priority_of
from resolvers.agents import create_agent
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    LimitExceededError,
    NotFoundError,
    UnauthenticatedError,
    camel_case,
)
from resolvers.paging import PageArguments
from resolvers.stories import create_story
from resolvers.task_board import move_task
from resolvers.task_filters import TaskFilter
from resolvers.task_queries import TaskOrder, list_tasks, task_totals
from resolvers.tasks import archive_task, create_task, delete_task, get_task, update_task
from tests.resolvers.conftest import Board, make_board

TASK = table_of(Task).c


async def test_a_task_keeps_every_field(dev: Context, board: Board) -> None:
    agent = await create_agent(dev, workspace_id=board.id, name="a")
    story = await create_story(dev, workspace_id=board.id, title="S")
    parent = await create_task(dev, workspace_id=board.id, title="Parent")
    due = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    given: dict[str, Any] = {
        "description": "Do it\nwell\ttoday",
        "priority_level": 9,
        "type": "BUG",
        "category": "DESTRUCTIVE",
        "labels": ["a", "b"],
        "progress": 5,
        "owner": "builder",
        "assignee_id": board.users["viewer"].id,
        "agent_id": agent.id,
        "story_id": story.id,
        "parent_id": parent.id,
        "sprint_number": 0,
        "story_points": 2.5,
        "estimate_seconds": 60,
        "executor": "CODEX",
        "agent_name": "builder-1",
        "model": "m",
        "command": "make",
        "branch": "feature/x",
        "base_branch": "main",
        "repository": "a/b",
        "target_repository": "b",
        "spec": "# S",
        "context_notes": "n",
        "notes": "N",
        "steps": ["1", {"x": 2}],
        "acceptance_criteria": ["ok"],
        "files_hint": ["a.py"],
        "constraints": [],
        "subtasks": [{"name": "s"}],
        "next_action": [{"phase": 1}],
        "review_comment": "r",
        "review_verdict": "ERROR",
        "review_record": "{}",
        "pull_request_url": "https://x.example/1",
        "ci_prompt": "p",
        "output_schema": {"type": "object"},
        "commits": "abc",
        "origin": "imported",
        "internal": True,
        "due_at": due,
        "title_manually_set": False,
    }
    task = await create_task(
        dev, workspace_id=board.id, title=" Title ", metadata={"k": [1, None]}, **given
    )
    stored = await get_task(dev, task_id=task.id)
    assert stored.as_dict() == task.as_dict()
    assert {name: getattr(stored, name) for name in given} == given
    assert (stored.title, stored.meta, stored.number) == ("Title", {"k": [1, None]}, 2)
    assert stored.created_by == board.users["developer"].id
    assert len(stored.public_id) == 12

    clearable = set(given) - {
        "priority_level", "type", "progress", "origin", "internal", "title_manually_set",
    }  # fmt: skip
    cleared = await update_task(dev, task_id=task.id, **dict.fromkeys(clearable))
    empty = {"description": "", "notes": "", "labels": [], "subtasks": [], "next_action": []}
    assert {name: getattr(cleared, name) for name in clearable} == {
        name: empty.get(name) for name in clearable
    }
    event = (await board.events())[-1]
    assert set(event.payload["changed"]) == clearable
    assert cleared.version == 2


async def test_what_is_not_given_or_the_same_changes_nothing(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T", labels=["a"], due_at=None)
    before = await board.head()
    for same in ({}, {"title": "T"}, {"labels": ["a", "a"]}, {"metadata": {}}):
        fields: dict[str, Any] = same
        assert (await update_task(dev, task_id=task.id, **fields)).version == 1
    assert await board.head() == before
    due = datetime(2030, 1, 1, tzinfo=UTC)
    await update_task(dev, task_id=task.id, due_at=due)
    assert (await update_task(dev, task_id=task.id, due_at=due)).version == 2


async def test_priorities_round_trip(dev: Context, board: Board) -> None:
    for level in range(11):
        task = await create_task(dev, workspace_id=board.id, title="T", priority_level=level)
        same = await update_task(dev, task_id=task.id, priority=priority_of(level))
        assert (same.priority_level, same.version) == (level, 1)
    for priority in TaskPriority:
        task = await create_task(dev, workspace_id=board.id, title="T", priority=priority)
        assert task.priority_level == PRIORITY_LEVELS[priority].start


async def test_bad_fields_are_named_and_change_nothing(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T")
    other = await make_board(board.services)
    theirs = await create_task(other.context(), workspace_id=other.id, title="T")
    agent = await create_agent(other.context(), workspace_id=other.id, name="a")
    bad: list[tuple[str, Any]] = [
        ("title", ""),
        ("title", "a\nb"),
        ("title", "x" * 501),
        ("title", None),
        ("description", "x" * 100_001),
        ("description", "\x00"),
        ("description", "\udfff"),
        ("labels", ["x"] * 51),
        ("labels", [""]),
        ("priority", "HIGHEST"),
        ("priority", None),
        ("priority_level", 11),
        ("priority_level", None),
        ("progress", 101),
        ("type", "EPIC"),
        ("type", None),
        ("category", "SAFE"),
        ("executor", "BASH"),
        ("review_verdict", "MAYBE"),
        ("sprint_number", -1),
        ("story_points", float("nan")),
        ("story_points", float("inf")),
        ("story_points", 101),
        ("estimate_seconds", -1),
        ("due_at", datetime(2030, 1, 1)),  # noqa: DTZ001  # the lack of a zone is what is refused
        ("branch", "../x"),
        ("branch", "-rf"),
        ("base_branch", "a b"),
        ("steps", "not a list"),
        ("steps", [1] * 101),
        ("steps", ["x" * 70_000]),
        ("steps", ["\x00"]),
        ("metadata", None),
        ("metadata", {"x": float("nan")} | {"y": "z" * 70_000}),
        ("output_schema", [1]),
        ("owner", "x" * 65),
        ("parent_id", theirs.id),
        ("parent_id", "nonsense"),
        ("agent_id", agent.id),
        ("story_id", "nonsense"),
        ("assignee_id", board.users["stranger"].id),
        ("assignee_id", "nonsense"),
    ]
    before = await board.head()
    for field, value in bad:
        fields = {field: value}
        with pytest.raises(InvalidError) as refused:
            await update_task(dev, task_id=task.id, **fields)
        assert refused.value.details["field"] == camel_case(field), value
        with pytest.raises(InvalidError):
            await create_task(dev, workspace_id=board.id, **{"title": "T", **fields})
    assert await board.head() == before
    assert (await create_task(dev, workspace_id=board.id, title="T")).number == 2
    await other.close()


async def test_versions(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T")
    results = await asyncio.gather(
        *(
            update_task(board.context(), task_id=task.id, title=f"T{n}", expected_version=1)
            for n in range(5)
        ),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, ConflictError)]
    assert len(refused) == 4
    assert all(error.details == {"current_version": 2} for error in refused)
    for n in range(5):
        await update_task(dev, task_id=task.id, title=f"U{n}")
    assert (await get_task(dev, task_id=task.id)).version == 7


async def test_numbers_are_never_reused(board: Board) -> None:
    made = await asyncio.gather(
        *(create_task(board.context(), workspace_id=board.id, title="T") for _ in range(8))
    )
    assert sorted(task.number for task in made) == list(range(1, 9))
    last = max(made, key=lambda task: task.number)
    dev = board.context()
    await delete_task(dev, task_id=last.id)
    assert (await create_task(dev, workspace_id=board.id, title="T")).number == 9
    rows = await board.rows(sa.select(TASK.position).where(TASK.deleted_at.is_(None)))
    assert len({row.position for row in rows}) == 8
    await board.events()


async def test_archiving_and_deleting(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T")
    before = await board.head()
    archived = await archive_task(dev, task_id=task.id)
    assert archived.archived_at is not None
    assert (await archive_task(dev, task_id=task.id)).version == archived.version
    await board.check_totals()
    assert (await list_tasks(dev, workspace_id=board.id)).nodes == []
    assert (await get_task(dev, task_id=task.id)).title == "T"
    await archive_task(dev, task_id=task.id, archived=False)
    await delete_task(dev, task_id=task.id)
    await board.check_totals()
    assert await board.types_since(before) == ["task.archived", "task.unarchived", "task.deleted"]
    for attempt in (
        get_task(dev, task_id=task.id),
        update_task(dev, task_id=task.id, title="U"),
        delete_task(dev, task_id=task.id),
        archive_task(dev, task_id=task.id),
        move_task(dev, task_id=task.id, status="REVIEW"),
    ):
        with pytest.raises(NotFoundError):
            await attempt


async def test_who_may_do_what(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T")
    nobody = Context(board.services, None)
    cases = (
        (board.context("viewer"), ForbiddenError),
        (board.context("stranger"), NotFoundError),
        (nobody, UnauthenticatedError),
    )
    for context, error in cases:
        for attempt in (
            create_task(context, workspace_id=board.id, title="T"),
            update_task(context, task_id=task.id, title="U"),
            move_task(context, task_id=task.id, status="REVIEW"),
            archive_task(context, task_id=task.id),
            delete_task(context, task_id=task.id),
        ):
            with pytest.raises(error):
                await attempt
    assert (await get_task(board.context("viewer"), task_id=task.id)).id == task.id
    for unseen in (get_task(nobody, task_id=task.id), list_tasks(nobody)):
        with pytest.raises(UnauthenticatedError):
            await unseen
    agent = await create_agent(dev, workspace_id=board.id, name="a")
    me = board.agent_context(agent)
    await update_task(me, task_id=task.id, title="by an agent")
    event = (await board.events())[-1]
    assert (event.actor_type, event.actor_id, event.actor_name) == ("agent", agent.id, "a")


async def test_an_archived_workspace_takes_no_changes(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T")
    async with board.services.database.write() as transaction:
        await transaction.update_by_id(Workspace, board.id, status="ARCHIVED")
    for attempt in (
        create_task(dev, workspace_id=board.id, title="T"),
        update_task(dev, task_id=task.id, title="U"),
        delete_task(dev, task_id=task.id),
    ):
        with pytest.raises(ConflictError):
            await attempt
    assert (await get_task(dev, task_id=task.id)).title == "T"


async def test_the_number_of_tasks_is_bounded(board: Board) -> None:
    board.services = replace(
        board.services, limits=replace(board.services.limits, tasks_per_workspace=1)
    )
    dev = board.context()
    await create_task(dev, workspace_id=board.id, title="T")
    with pytest.raises(LimitExceededError):
        await create_task(dev, workspace_id=board.id, title="T")


async def test_lists(dev: Context, board: Board) -> None:
    async with board.services.database.write() as transaction:
        await transaction.update_by_id(Workspace, board.id, settings={"auto_assign": True})
    me = board.users["developer"].id
    rows: list[dict[str, Any]] = [
        {"title": "Alpha", "labels": ["x", "y"], "priority_level": 1, "type": "BUG"},
        {"title": "beta", "labels": ["y"], "description": "Über alpha", "sprint_number": 1},
        {"title": "Gamma_1", "priority_level": 8, "status": "REVIEW", "assignee_id": None},
        {"title": "delta%", "internal": True, "labels": ["x'; --"]},
    ]
    made = [await create_task(dev, workspace_id=board.id, **row) for row in rows]
    archived = await create_task(dev, workspace_id=board.id, title="old")
    await archive_task(dev, task_id=archived.id)

    async def numbers(order: TaskOrder = TaskOrder.NUMBER_ASC, **filters: Any) -> list[int]:
        page = await list_tasks(
            dev, workspace_id=board.id, filter_=TaskFilter(**filters), order=order
        )
        counted, exact = await page.count()
        assert (counted, exact) == (len(page.nodes), True)
        await dev.release()
        return [task.number for task in page.nodes]

    assert await numbers() == [1, 2, 3, 4]
    assert await numbers(archived=None) == [1, 2, 3, 4, 5]
    assert await numbers(archived=True) == [5]
    assert await numbers(status=["REVIEW"]) == [3]
    assert await numbers(status=[]) == []
    assert await numbers(labels_all=["x", "y"]) == [1]
    assert await numbers(labels_any=["x", "y"]) == [1, 2]
    assert await numbers(labels_any=["x'; --"]) == [4]
    assert await numbers(priority_min=2, priority_max=7) == [2, 4]
    assert await numbers(types=["BUG"]) == [1]
    assert await numbers(internal=False) == [1, 2, 3]
    assert await numbers(sprint_numbers=[1, 2]) == [2]
    assert await numbers(assignee_ids=[me]) == [1, 2, 4]
    assert await numbers(unassigned=True) == [3]
    assert await numbers(created_by=[me], ids=[made[0].id, made[1].id]) == [1, 2]
    assert await numbers(search="ALPHA") == [1, 2]
    assert await numbers(search="Über") == [2]
    assert await numbers(search="_1") == [3]
    assert await numbers(search="%") == [4]
    assert await numbers(search="#3") == [3]
    assert await numbers(search="  ") == [1, 2, 3, 4]
    assert await numbers(created_after=made[2].created_at) == [3, 4]
    assert await numbers(created_before=made[1].created_at) == [1, 2]
    assert await numbers(TaskOrder.PRIORITY_DESC) == [3, 2, 4, 1]
    assert await numbers(TaskOrder.NUMBER_DESC) == [4, 3, 2, 1]
    totals = await task_totals(dev, workspace_id=board.id)
    assert (totals["BACKLOG"], totals["REVIEW"], totals["FAILED"]) == (3, 1, 0)
    with pytest.raises(InvalidError):
        await numbers(ids=["x"] * 101)
    with pytest.raises(InvalidError):
        await numbers(search="x" * 501)


async def test_pages_in_every_order_and_both_directions(dev: Context, board: Board) -> None:
    for number in range(7):
        await create_task(
            dev, workspace_id=board.id, title="same", priority_level=number % 3, status="BACKLOG"
        )
    for order in TaskOrder:
        whole = [
            task.id for task in (await list_tasks(dev, workspace_id=board.id, order=order)).nodes
        ]
        assert len(whole) == 7
        forwards: list[str] = []
        arguments = PageArguments(first=3)
        while True:
            page = await list_tasks(dev, workspace_id=board.id, order=order, page=arguments)
            forwards += [task.id for task in page.nodes]
            if not page.has_next_page:
                break
            arguments = PageArguments(first=3, after=page.cursors[-1])
        backwards: list[str] = []
        arguments = PageArguments(last=3)
        while True:
            page = await list_tasks(dev, workspace_id=board.id, order=order, page=arguments)
            backwards = [task.id for task in page.nodes] + backwards
            if not page.has_previous_page:
                break
            arguments = PageArguments(last=3, before=page.cursors[0])
        assert forwards == backwards == whole, order
    first = await list_tasks(dev, workspace_id=board.id, page=PageArguments(first=1))
    for wrong in (
        PageArguments(first=-1),
        PageArguments(first=101),
        PageArguments(first=1, last=1),
        PageArguments(first=1, before=first.cursors[0]),
        PageArguments(last=1, after=first.cursors[0]),
        PageArguments(after="nonsense"),
        PageArguments(after="x" * 3000),
        PageArguments(after="bm9uc2Vuc2U"),
        PageArguments(after="WzEsMiwzXQ"),
    ):
        with pytest.raises(InvalidError):
            await list_tasks(dev, workspace_id=board.id, page=wrong)
    empty = await list_tasks(dev, workspace_id=board.id, page=PageArguments(first=0))
    assert empty.nodes == []


async def test_a_list_of_all_workspaces_shows_ones_own(dev: Context, board: Board) -> None:
    other = await make_board(board.services)
    mine = await create_task(dev, workspace_id=board.id, title="T")
    theirs = await create_task(other.context(), workspace_id=other.id, title="T")

    async def ids(context: Context) -> set[str]:
        found = {task.id for task in (await list_tasks(context)).nodes}
        await context.release()
        return found

    assert await ids(dev) == {mine.id}
    assert await ids(other.context()) == {theirs.id}
    assert await ids(board.context("owner")) == {mine.id, theirs.id}
    assert await ids(board.context("stranger")) == set()
    await other.close()
