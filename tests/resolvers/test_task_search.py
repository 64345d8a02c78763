"""Words in tasks: found by an index where there is one, and the same without."""

import random
from typing import Any

import pytest
import sqlalchemy as sa

from models import Task, Workspace
from models.enums import Role
from resolvers import task_search
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.filtering import text_contains
from resolvers.lookup import search
from resolvers.members import add_member
from resolvers.task_filters import TaskFilter
from resolvers.task_queries import list_tasks
from resolvers.tasks import create_task, delete_task, update_task
from resolvers.users import create_user
from resolvers.workspaces import create_workspace
from tests.support.fixtures import MakeContext
from tests.support.people import principal_of

WORDS = [
    "Über",
    "über",
    "ÉTÉ",
    "été",
    "Task",
    "task",
    '"quoted"',
    "100%",
    "a_b",
    "\\",
    "漢字",
    "日本語",
]


@pytest.fixture
async def workspace(owner: Context) -> Workspace:
    return await create_workspace(owner, name="Board")


async def found(ctx: Context, words: str, workspace_id: str | None, **options: Any) -> set[str]:
    page = await list_tasks(
        ctx, workspace_id=workspace_id, filter_=TaskFilter(search=words, **options)
    )
    await ctx.release()
    return {task.title for task in page.nodes}


async def by_scan(ctx: Context, words: str, workspace_id: str) -> set[str]:
    """What comparing every task with the words finds."""
    table: Any = sa.inspect(Task).local_table
    statement = sa.select(table.c.title).where(
        table.c.workspace_id == workspace_id,
        table.c.deleted_at.is_(None),
        text_contains(words, table.c.title, table.c.description),
    )
    rows = await (await ctx.reader()).scalars(statement)
    await ctx.release()
    return set(rows)


@pytest.mark.parametrize("seed", range(3))
async def test_the_index_finds_what_a_scan_finds(
    owner: Context, workspace: Workspace, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # dice
    tasks = []
    for number in range(40):
        text = " ".join(chance.choices(WORDS, k=4))
        task = await create_task(
            owner, workspace_id=workspace.id, title=f"{number} {text[:60]}", description=text
        )
        tasks.append(task)
    for task in chance.sample(tasks, 10):
        await update_task(owner, task_id=task.id, title=f"{task.number} changed {task.title}"[:80])
    for task in chance.sample(tasks, 5):
        await delete_task(owner, task_id=task.id)
    pieces = [*WORDS, "changed", "Cha", "nothing of it", "k t", "%", "__", "本語"]
    for words in pieces:
        expected = await by_scan(owner, words, workspace.id)
        assert await found(owner, words, workspace.id) == expected, words
        assert await found(owner, words, None) == expected, words


async def test_only_tasks_that_the_asker_may_see_are_found(
    owner: Context, workspace: Workspace, as_principal: MakeContext
) -> None:
    hidden = await create_workspace(owner, name="Hidden")
    for one in (workspace, hidden):
        await create_task(owner, workspace_id=one.id, title=f"needle of {one.name}")
    user = await create_user(owner, name="reader")
    await add_member(owner, workspace_id=workspace.id, user_id=user.id, role=Role.VIEWER)
    reader = as_principal(await principal_of(owner.services, user))
    assert await found(reader, "needle", None) == {"needle of Board"}
    assert {task.title for task in (await search(reader, query="NEEDLE")).tasks} == {
        "needle of Board"
    }
    assert await found(owner, "needle", None) == {"needle of Board", "needle of Hidden"}
    with pytest.raises(NotFoundError):
        await found(reader, "needle", hidden.id)


async def test_a_number_finds_its_task_beside_those_with_the_words(
    owner: Context, workspace: Workspace
) -> None:
    for number in range(1, 121):
        await create_task(owner, workspace_id=workspace.id, title=f"n {number + 1000}")
    assert await found(owner, "#112", workspace.id) == {"n 1112"}
    assert await found(owner, "112", workspace.id) == {"n 1112", "n 1120"}
    assert await found(owner, "105", workspace.id, search_number=7) >= {"n 1105", "n 1007"}


async def test_a_word_of_very_many_is_found_too(
    owner: Context, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_search, "MOST", 5)
    monkeypatch.setattr(task_search, "MOST_WORKSPACES", 1)
    for number in range(12):
        await create_task(owner, workspace_id=workspace.id, title=f"common {number}")
    other = await create_workspace(owner, name="Other")
    await create_task(owner, workspace_id=workspace.id, title="seldom here")
    await create_task(owner, workspace_id=other.id, title="seldom there")
    assert len(await found(owner, "common", workspace.id)) == 12
    assert await found(owner, "seldom", None) == {"seldom here", "seldom there"}


async def test_the_index_is_used(owner: Context, workspace: Workspace) -> None:
    await create_task(owner, workspace_id=workspace.id, title="find me")
    reader = await owner.reader()
    if reader.dialect == "sqlite":
        known = await task_search.narrowed(owner, "ind m", workspace=workspace)
        assert known is not None
        assert "IN (1)" in str(known.compile(compile_kwargs={"literal_binds": True}))
        return
    for other in ("enable_seqscan", "enable_indexscan", "enable_indexonlyscan"):
        await reader.rows(sa.select(sa.func.set_config(other, "off", True)))
    statement = "EXPLAIN SELECT id FROM task WHERE lower(title) LIKE '%find%'"
    plan = await reader.scalars(sa.text(statement))
    assert any("ix_task_title_trigram" in line for line in plan)
