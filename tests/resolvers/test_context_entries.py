"""Context entries of tasks."""

from dataclasses import replace
from typing import Any

import pytest

from resolvers.context import Context
from resolvers.errors import ForbiddenError, InvalidError, LimitExceededError, NotFoundError
from resolvers.stamps import restore
from resolvers.task_context import (
    NewContextEntry,
    add_context_entries,
    list_context_entries,
    remove_context_entries,
    replace_context_entries,
)
from resolvers.tasks import create_task
from tests.resolvers.conftest import Board


def entry(path: str, phase: str = "IMPLEMENT", **more: Any) -> NewContextEntry:
    return NewContextEntry(path=path, phase=phase, **more)


async def paths(ctx: Context, task_id: str) -> list[tuple[str, str]]:
    found = await list_context_entries(ctx, task_id=task_id)
    await ctx.release()
    return [(item.phase, item.path) for item in found]


async def test_entries_are_added_once_per_phase_and_path(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T")
    before = await board.head()
    added = await add_context_entries(
        dev,
        task_id=task.id,
        entries=[
            entry("src/b.py", reason="look", kind="file"),
            entry("src/a.py"),
            entry("src/b.py", reason="again"),
            entry("src/b.py", phase="CHECK"),
        ],
    )
    assert (added.changed, added.unchanged, added.task.version) == (3, 0, 2)
    again = await add_context_entries(
        dev, task_id=task.id, entries=[entry("src/a.py"), entry("src", kind="directory")]
    )
    assert (again.changed, again.unchanged, again.task.version) == (1, 1, 3)
    assert await paths(dev, task.id) == [
        ("CHECK", "src/b.py"),
        ("IMPLEMENT", "src/b.py"),
        ("IMPLEMENT", "src/a.py"),
        ("IMPLEMENT", "src"),
    ]
    (first, *_) = [
        item
        for item in await list_context_entries(dev, task_id=task.id)
        if item.phase == "IMPLEMENT"
    ]
    assert (first.reason, first.kind) == ("look", "file")
    nothing = await add_context_entries(dev, task_id=task.id, entries=[entry("src/a.py")])
    assert (nothing.changed, nothing.task.version) == (0, 3)
    assert await board.types_since(before) == ["task.context_changed"] * 2
    restored = await restore(dev, added.to_stamp())
    assert (restored.changed, restored.unchanged, restored.task.id) == (3, 0, task.id)


async def test_entries_are_removed_and_replaced(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T")
    await add_context_entries(
        dev,
        task_id=task.id,
        entries=[entry("a"), entry("a", "CHECK"), entry("b"), entry("b", "FIX")],
    )
    removed = await remove_context_entries(dev, task_id=task.id, paths=["a", "zzz"])
    assert (removed.changed, removed.unchanged) == (2, 1)
    removed = await remove_context_entries(dev, task_id=task.id, paths=["b"], phases=["FIX"])
    assert (removed.changed, removed.unchanged) == (1, 0)
    assert await paths(dev, task.id) == [("IMPLEMENT", "b")]
    before = await board.head()
    nothing = await remove_context_entries(dev, task_id=task.id, paths=["zzz"])
    assert (nothing.changed, nothing.unchanged) == (0, 1)
    same = await replace_context_entries(dev, task_id=task.id, entries=[entry("b")])
    assert (same.changed, same.unchanged) == (0, 1)
    assert await board.head() == before
    await replace_context_entries(dev, task_id=task.id, entries=[entry("c"), entry("b")])
    assert await paths(dev, task.id) == [("IMPLEMENT", "c"), ("IMPLEMENT", "b")]
    await replace_context_entries(dev, task_id=task.id, entries=[])
    assert await paths(dev, task.id) == []
    assert await board.types_since(before) == ["task.context_changed"] * 2


async def test_bad_entries_are_refused(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T")
    before = await board.head()
    bad = [
        entry("/etc/passwd"),
        entry("../secret"),
        entry("a/../../b"),
        entry(".."),
        entry("~/x"),
        entry("a\\..\\b"),
        entry("a\x00b"),
        entry("a\nb"),
        entry("a\x1bb"),
        entry(" "),
        entry("x" * 1025),
        entry("a", phase="LATER"),
        entry("a", kind="socket"),
        entry("a", reason="x" * 2001),
    ]
    for wrong in bad:
        with pytest.raises(InvalidError):
            await add_context_entries(dev, task_id=task.id, entries=[entry("fine"), wrong])
        with pytest.raises(InvalidError):
            await replace_context_entries(dev, task_id=task.id, entries=[wrong])
    for several in ([], [entry(str(n)) for n in range(101)]):
        with pytest.raises(InvalidError):
            await add_context_entries(dev, task_id=task.id, entries=several)
    for wanted in ([], ["x"] * 101, ["a\nb"]):
        with pytest.raises(InvalidError):
            await remove_context_entries(dev, task_id=task.id, paths=wanted)
    assert await board.head() == before
    assert await paths(dev, task.id) == []
    for fine in ("a..b/..c", "..a", "dir/", "./x", "ünï/côdé 1.py"):
        await add_context_entries(dev, task_id=task.id, entries=[entry(fine)])


async def test_their_number_is_bounded(board: Board) -> None:
    limits = replace(board.services.limits, context_entries=3)
    board.services = replace(board.services, limits=limits)
    dev = board.context()
    task = await create_task(dev, workspace_id=board.id, title="T")
    await add_context_entries(dev, task_id=task.id, entries=[entry("a"), entry("b")])
    with pytest.raises(LimitExceededError):
        await add_context_entries(dev, task_id=task.id, entries=[entry("c"), entry("d")])
    with pytest.raises(LimitExceededError):
        await replace_context_entries(dev, task_id=task.id, entries=[entry(c) for c in "abcd"])
    assert len(await paths(dev, task.id)) == 2


async def test_who_may(dev: Context, board: Board) -> None:
    task = await create_task(dev, workspace_id=board.id, title="T")
    viewer, stranger = board.context("viewer"), board.context("stranger")
    assert await list_context_entries(viewer, task_id=task.id) == []
    for context, error in ((viewer, ForbiddenError), (stranger, NotFoundError)):
        with pytest.raises(error):
            await add_context_entries(context, task_id=task.id, entries=[entry("a")])
        with pytest.raises(error):
            await remove_context_entries(context, task_id=task.id, paths=["a"])
        with pytest.raises(error):
            await replace_context_entries(context, task_id=task.id, entries=[])
    with pytest.raises(NotFoundError):
        await list_context_entries(stranger, task_id=task.id)
