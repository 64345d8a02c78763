"""One change for many tasks: a result for each, and no effect twice, whatever breaks."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from models import IdempotencyRecord, Run, table_of
from resolvers import task_bulk
from resolvers.agents import create_agent
from resolvers.context import Context
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from resolvers.idempotency import claim_request, settle_request
from resolvers.stamps import restore
from resolvers.task_bulk import (
    BulkAction,
    BulkArguments,
    BulkResult,
    assign_task,
    bulk_update_tasks,
    label_task,
)
from resolvers.task_filters import TaskFilter
from resolvers.task_queries import list_tasks
from resolvers.tasks import create_task, get_task
from tests.resolvers.conftest import Board, make_board

RECORD = table_of(IdempotencyRecord).c


async def make_tasks(dev: Context, board: Board, number: int) -> list[str]:
    return [
        (await create_task(dev, workspace_id=board.id, title=f"T{i}")).id for i in range(number)
    ]


async def bulk(
    ctx: Context, board: Board, ids: list[str], action: str, **arguments: Any
) -> BulkResult:
    return await bulk_update_tasks(
        ctx,
        workspace_id=board.id,
        task_ids=ids,
        action=action,
        arguments=BulkArguments(**arguments),
    )


def codes(result: BulkResult) -> list[str | None]:
    return [item.error and item.error.code for item in result.items]


async def test_each_task_has_its_own_result(dev: Context, board: Board) -> None:
    first, second, third = await make_tasks(dev, board, 3)
    await bulk(dev, board, [second], "CANCEL")
    other = await make_board(board.services)
    (foreign,) = await make_tasks(other.context(), other, 1)
    before = await board.head()
    result = await bulk(
        dev, board, [first, second, "nonsense", third, foreign, first], "CANCEL", reason="over"
    )
    assert [item.task_id for item in result.items] == [first, second, "nonsense", third, foreign]
    assert codes(result) == [None, "ILLEGAL_TRANSITION", "NOT_FOUND", None, "NOT_FOUND"]
    assert [item.ok for item in result.items] == [True, False, False, True, False]
    assert await board.types_since(before) == ["task.cancelled"] * 2
    assert (await get_task(dev, task_id=third)).status_reason == "over"
    owner = board.context("owner")
    mixed = await bulk(owner, board, [foreign], "DELETE")
    assert codes(mixed) == ["NOT_FOUND"], "visible, but not in this workspace"
    assert (await get_task(owner, task_id=foreign)).deleted_at is None
    await other.close()


async def test_every_action(dev: Context, board: Board) -> None:
    agent = await create_agent(dev, workspace_id=board.id, name="a")
    user = board.users["manager"].id
    ids = await make_tasks(dev, board, 2)

    async def does(action: str, **arguments: Any) -> list[Any]:
        assert codes(await bulk(dev, board, ids, action, **arguments)) == [None, None]
        page = await list_tasks(
            dev, workspace_id=board.id, filter_=TaskFilter(ids=ids, archived=None)
        )
        await dev.release()
        return list(page.nodes)

    assert [t.priority_level for t in await does("SET_PRIORITY", priority="HIGH")] == [3, 3]
    assert [t.labels for t in await does("ADD_LABELS", labels=["x", "y"])] == [["x", "y"]] * 2
    assert [t.labels for t in await does("REMOVE_LABELS", labels=["x", "z"])] == [["y"]] * 2
    assigned = await does("ASSIGN", assignee_id=user, agent_id=agent.id)
    assert {(t.assignee_id, t.agent_id) for t in assigned} == {(user, agent.id)}
    assert {(t.assignee_id, t.agent_id) for t in await does("ASSIGN", agent_id=None)} == {
        (user, None)
    }
    assert {t.status for t in await does("ENQUEUE")} == {"QUEUED"}
    assert len(await board.rows(sa.select(table_of(Run).c.id))) == 2
    assert {t.status for t in await does("MOVE", status="FAILED", reason="no")} == {"FAILED"}
    assert {t.status for t in await does("RETRY")} == {"QUEUED"}
    assert {t.status for t in await does("CANCEL")} == {"CANCELLED"}
    assert all(t.archived_at for t in await does("ARCHIVE"))
    assert not any(t.archived_at for t in await does("UNARCHIVE"))
    assert await does("DELETE") == []
    await board.check_totals()
    assert {"MOVE", "ASSIGN"} <= set(BulkAction)


async def test_what_is_wrong_for_all_is_refused_at_once(dev: Context, board: Board) -> None:
    (task,) = await make_tasks(dev, board, 1)
    before = await board.head()
    bad: list[tuple[str, dict[str, Any]]] = [
        ("EXPLODE", {}),
        ("MOVE", {}),
        ("MOVE", {"status": "LATER"}),
        ("ASSIGN", {}),
        ("ADD_LABELS", {}),
        ("REMOVE_LABELS", {"labels": []}),
        ("SET_PRIORITY", {"priority": "MOST"}),
    ]
    for action, arguments in bad:
        with pytest.raises(InvalidError):
            await bulk(dev, board, [task], action, **arguments)
    for ids in ([], [str(n) for n in range(101)]):
        with pytest.raises(InvalidError) as refused:
            await bulk(dev, board, ids, "ARCHIVE")
        assert refused.value.details["limit"] == 100
    with pytest.raises(ForbiddenError):
        await bulk(board.context("viewer"), board, [task], "ARCHIVE")
    with pytest.raises(NotFoundError):
        await bulk(board.context("stranger"), board, [task], "ARCHIVE")
    assert await board.head() == before


async def claimed(board: Board, key: str = "k") -> Context:
    context = board.context()
    context.idempotency = await claim_request(
        context, key=key, request_hash="0" * 64, steps_expected=1
    )
    return context


async def record_of(board: Board) -> Any:
    (row,) = await board.rows(sa.select(RECORD.steps, RECORD.done))
    return row


@contextmanager
def breaking_at(
    monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException
) -> Iterator[None]:
    """The transaction of the n-th item fails after its work, as if the commit had been lost."""
    original = task_bulk.label_task
    calls = 0

    async def broken(ctx: Context, **arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        result = await original(ctx, **arguments)
        if calls == number:
            raise error
        return result

    with monkeypatch.context() as patch:
        patch.setattr(task_bulk, "label_task", broken)
        yield


class PowerFailureError(BaseException):
    """Stands for a process that ends between two statements."""


async def test_a_crash_between_items_doubles_nothing(
    dev: Context, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [*await make_tasks(dev, board, 4), "nonsense"]
    before = await board.head()
    context = await claimed(board)
    crash = pytest.raises(PowerFailureError)
    with breaking_at(monkeypatch, 3, PowerFailureError()), crash:
        await bulk(context, board, ids, "ADD_LABELS", labels=["x"])
    assert await board.types_since(before) == ["task.updated"] * 2
    assert set((await record_of(board)).steps) == {"0.0", "0.1"}
    assert context.idempotency is not None
    await settle_request(context, request=context.idempotency)

    await label_task(dev, task_id=ids[0], remove=["x"])
    again = await claimed(board)
    result = await bulk(again, board, ids, "ADD_LABELS", labels=["x"])
    assert codes(result) == [None, None, None, None, "NOT_FOUND"]
    assert await board.types_since(before) == ["task.updated"] * 5
    assert (await get_task(dev, task_id=ids[0])).labels == [], "done once, and not again"
    record = await record_of(board)
    assert (set(record.steps), record.done) == ({"0"}, True)

    assert again.idempotency is not None
    third = await claimed(board)
    assert third.idempotency is not None
    stamp = third.idempotency.stamped()
    assert stamp is not None
    restored = await restore(third, stamp["result"])
    assert restored == result
    assert await board.types_since(before) == ["task.updated"] * 5


async def test_a_busy_server_leaves_the_rest_for_the_same_key(
    dev: Context, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await make_tasks(dev, board, 3)
    before = await board.head()
    context = await claimed(board)
    with breaking_at(monkeypatch, 2, UnavailableError("The database is busy")):
        result = await bulk(context, board, ids, "ADD_LABELS", labels=["x"])
    assert codes(result) == [None, "UNAVAILABLE", None]
    record = await record_of(board)
    assert (set(record.steps), record.done) == ({"0.0", "0.2"}, False)
    assert context.idempotency is not None
    context.idempotency.step += 1
    await settle_request(context, request=context.idempotency)
    assert codes(await bulk(await claimed(board), board, ids, "ADD_LABELS", labels=["x"])) == [
        None,
        None,
        None,
    ]
    assert await board.types_since(before) == ["task.updated"] * 3
    assert (await record_of(board)).done


async def test_there_is_an_end_to_it(
    dev: Context, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await make_tasks(dev, board, 2)
    monkeypatch.setattr(task_bulk, "TIME_LIMIT", 0.0)
    result = await bulk(dev, board, ids, "ARCHIVE")
    assert codes(result) == ["UNAVAILABLE", "UNAVAILABLE"]


async def test_a_stamp_of_a_failed_transaction_is_forgotten(dev: Context, board: Board) -> None:
    """What a rolled back transaction stamped must not be written down by the next one."""
    (task,) = await make_tasks(dev, board, 1)
    context = await claimed(board)
    assert context.idempotency is not None
    request = context.idempotency
    labelled = await get_task(dev, task_id=task)

    async def stamp_and_fail() -> None:
        async with board.services.database.write() as transaction:
            await request.stamp(transaction, labelled, {})
            raise PowerFailureError

    with pytest.raises(PowerFailureError):
        await stamp_and_fail()
    assert request.steps == {}
    assert not request.is_settled


async def test_assigning(dev: Context, board: Board) -> None:
    (task,) = await make_tasks(dev, board, 1)
    agent = await create_agent(dev, workspace_id=board.id, name="a")
    manager, stranger = board.users["manager"].id, board.users["stranger"].id
    given = await assign_task(dev, task_id=task, assignee_id=manager)
    assert (given.assignee_id, given.agent_id) == (manager, None)
    given = await assign_task(dev, task_id=task, agent_id=agent.id)
    assert (given.assignee_id, given.agent_id) == (manager, agent.id)
    given = await assign_task(dev, task_id=task, assignee_id=None)
    assert (given.assignee_id, given.agent_id, given.version) == (None, agent.id, 4)
    for bad in ({}, {"assignee_id": stranger}, {"agent_id": stranger}):
        fields: dict[str, Any] = bad
        with pytest.raises(InvalidError):
            await assign_task(dev, task_id=task, **fields)
    assert (await get_task(dev, task_id=task)).version == 4


async def test_labelling(dev: Context, board: Board) -> None:
    (task,) = await make_tasks(dev, board, 1)
    labelled = await label_task(dev, task_id=task, add=["b", " a ", "b"])
    assert labelled.labels == ["b", "a"]
    assert (await label_task(dev, task_id=task, add=["a"], remove=["z"])).version == 2
    both = await label_task(dev, task_id=task, add=["b", "c"], remove=["a", "b"])
    assert both.labels == ["b", "c"]
    for bad in ({"add": ["x" * 51]}, {"add": [""]}, {"remove": ["a\nb"]}):
        with pytest.raises(InvalidError):
            await label_task(dev, task_id=task, **bad)
    with pytest.raises(InvalidError):
        await label_task(dev, task_id=task, add=[str(n) for n in range(49)])
    assert (await get_task(dev, task_id=task)).labels == ["b", "c"]


async def test_concurrent_bulks_leave_a_sound_log(board: Board) -> None:
    ids = await make_tasks(board.context(), board, 6)
    results = await asyncio.gather(
        *(bulk(board.context(), board, ids, "ADD_LABELS", labels=[f"l{n}"]) for n in range(4))
    )
    assert {code for result in results for code in codes(result)} == {None}
    page = await list_tasks(board.context(), workspace_id=board.id)
    assert all(set(task.labels) == {"l0", "l1", "l2", "l3"} for task in page.nodes)
    assert all(task.version == 5 for task in page.nodes)
    await board.check_totals()


async def test_a_key_that_may_not_execute_cannot_enqueue(board: Board) -> None:
    dev = board.context()
    ids = await make_tasks(dev, board, 1)
    assert dev.principal is not None
    dev.principal = replace(dev.principal, scopes=frozenset({"task:write"}))
    assert codes(await bulk(dev, board, ids, "ENQUEUE")) == ["FORBIDDEN"]
    assert codes(await bulk(dev, board, ids, "ARCHIVE")) == [None]
    with pytest.raises(ConflictError):
        await claim_request(await claimed(board), key="k", request_hash="1" * 64)
