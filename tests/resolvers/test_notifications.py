"""Devices, what they show, and who is told of a run: decided in the log, sent over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from models import Device, Notification, Presence, table_of, utcnow
from models.enums import DevicePlatform, RunStatus, TaskStatus
from resolvers import devices
from resolvers.context import Context, Services
from resolvers.errors import InvalidError, NotFoundError
from resolvers.principal import SYSTEM
from resolvers.run_claims import claim_run
from resolvers.run_execution import RunOutcome, finish_run
from resolvers.runs import start_run
from resolvers.task_board import move_task
from resolvers.tasks import create_task
from server.outbound import NotificationTarget
from tests.support.receivers import Receiver, a_receiver
from workers.notifier import NotificationSender

IOS, WEB = DevicePlatform.IOS, DevicePlatform.WEB


@dataclass
class Ahead:
    """How far the clock is put forward."""

    by: timedelta = timedelta(0)


@pytest.fixture
def ahead() -> Ahead:
    return Ahead()


@pytest.fixture
def board_services(services: Services, ahead: Ahead) -> Services:
    """Services of a server with an executor, a clock to be moved, and a notifier to be set."""
    from resolvers.ports import Trust

    return replace(
        services,
        trust=Trust(executors={"CUSTOM": object()}),
        clock=lambda: utcnow() + ahead.by,
        notifier=NotificationSender(NotificationTarget("http://127.0.0.1:1/", None)),
    )


@asynccontextmanager
async def notifying(board: Any, receiver: Receiver) -> AsyncIterator[None]:
    target = NotificationTarget(receiver.url, "the operator's own")
    sender = NotificationSender(target)
    task = asyncio.create_task(sender.run_for_ever(board.services))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await target.aclose()


async def a_run_ends(board: Any, task_id: str, status: RunStatus = RunStatus.COMPLETED) -> None:
    """The task is run once, by the server."""
    manager = board.context("manager")
    await move_task(manager, task_id=task_id, status=TaskStatus.BACKLOG)
    await start_run(manager, task_id=task_id)
    system = Context(board.services, SYSTEM)
    claimed = await claim_run(system, host="here", executors=["CUSTOM"], maximum=9)
    assert claimed is not None
    await finish_run(
        system,
        run_id=claimed.run.id,
        token=claimed.token,
        outcome=RunOutcome(status, "done", error="broken" if status == "FAILED" else None),
    )


async def count(board: Any, model: Any) -> int:
    return int((await board.rows(sa.select(sa.func.count()).select_from(table_of(model))))[0][0])


async def decisions(board: Any) -> list[dict[str, str]]:
    """Decisions by event, newest last: a user's name in the place of the id."""
    names = {user.id: name for name, user in board.users.items()}
    return [
        {names[one["user_id"]]: one["decision"] for one in event.payload["recipients"]}
        for event in await board.events()
        if event.type == "notification.decided"
    ]


async def a_task(board: Any) -> str:
    task = await create_task(board.context("developer"), workspace_id=board.id, title="Do it")
    return task.id


async def test_the_people_of_a_task_are_told_when_its_run_ends(board: Any) -> None:
    dev = board.context("developer")
    phone = await devices.register_device(dev, token="phone", platform=IOS)
    web = await devices.register_device(dev, token="browser", platform=WEB)
    await devices.register_device(board.context("viewer"), token="other", platform=WEB)
    task_id = await a_task(board)
    async with a_receiver() as receiver:
        receiver.answers(503)
        async with notifying(board, receiver):
            await a_run_ends(board, task_id, RunStatus.FAILED)
            (first,) = await receiver.until(1)
    assert await decisions(board) == [{"developer": "NOTIFIED"}]
    assert first.headers["authorization"] == "Bearer the operator's own"
    told = first.json
    assert told["type"] == "run.failed"
    assert told["user_id"] == board.users["developer"].id
    assert (told["task"]["id"], told["run"]["error"]) == (task_id, "broken")
    assert {(d["id"], d["token"]) for d in told["devices"]} == {
        (phone.id, "phone"), (web.id, "browser"),
    }  # fmt: skip
    assert "phone" not in str([event.payload for event in await board.events()])


async def test_a_device_that_shows_the_task_keeps_all_quiet(board: Any, ahead: Ahead) -> None:
    dev, manager = board.context("developer"), board.context("manager")
    phone = await devices.register_device(dev, token="phone", platform=IOS)
    await devices.register_device(dev, token="browser", platform=WEB)
    await devices.register_device(manager, token="the manager's", platform=IOS)
    task_id, other_id = await a_task(board), await a_task(board)
    await devices.watch_task(dev, task_id=task_id, device_id=phone.id)
    await a_run_ends(board, task_id)
    await a_run_ends(board, other_id)
    ahead.by += timedelta(seconds=50)
    await devices.watch_task(dev, task_id=task_id, device_id=phone.id)
    ahead.by += timedelta(seconds=50)
    await a_run_ends(board, task_id)
    ahead.by += timedelta(seconds=11)
    await a_run_ends(board, task_id)
    await devices.watch_task(dev, task_id=task_id, device_id=phone.id)
    await devices.unwatch_task(dev, task_id=task_id, device_id=phone.id)
    await a_run_ends(board, task_id)
    told, quiet = ({"developer": word, "manager": "NOTIFIED"} for word in ("NOTIFIED", "WATCHING"))
    assert await decisions(board) == [quiet, told, quiet, told, told]
    assert await count(board, Notification) == 8


async def test_a_notifier_that_is_away_gets_it_later_and_then_it_is_given_up(
    board: Any, ahead: Ahead
) -> None:
    await devices.register_device(board.context("developer"), token="phone", platform=IOS)
    task_id = await a_task(board)
    async with a_receiver() as receiver, notifying(board, receiver):
        receiver.answers(500, None, 200, *[500] * 9)
        await a_run_ends(board, task_id)
        for seen, pause in ((1, 6), (2, 31)):
            await receiver.until(seen)
            await until(board, Notification, attempts=seen)
            ahead.by += timedelta(seconds=pause)
        await receiver.until(3)
        await until(board, Notification, rows=0)
        assert len({request.body for request in receiver.received}) == 1
        await a_run_ends(board, task_id)
        for seen in range(1, 5):
            await until(board, Notification, attempts=seen)
            ahead.by += timedelta(seconds=601)
        await until(board, Notification, rows=0)
        assert len(receiver.received) == 8


async def until(board: Any, model: Any, *, rows: int = 1, attempts: int = 0) -> None:
    columns = table_of(model).c
    statement = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(columns.attempt_count), 0))
    async with asyncio.timeout(20):
        while tuple((await board.rows(statement))[0]) != (rows, attempts if rows else 0):
            await asyncio.sleep(0.02)


async def test_who_does_not_see_the_workspace_any_more_is_not_told(board: Any) -> None:
    from resolvers.members import remove_member

    dev = board.users["developer"]
    await devices.register_device(board.context("developer"), token="phone", platform=IOS)
    task_id = await a_task(board)
    await remove_member(board.context("owner"), workspace_id=board.id, user_id=dev.id)
    await a_run_ends(board, task_id)
    assert await decisions(board) == []


async def test_a_token_is_registered_once_and_of_many_the_oldest_goes(
    board: Any, ahead: Ahead
) -> None:
    dev = board.context("developer")
    first = await devices.register_device(dev, token="t0", platform=IOS)
    for number in range(1, 20):
        ahead.by += timedelta(seconds=1)
        await devices.register_device(dev, token=f"t{number}", platform=IOS)
    again = await devices.register_device(dev, token=" t0 ", platform=WEB)
    assert (again.id, again.platform) == (first.id, WEB)
    ahead.by += timedelta(seconds=1)
    await devices.register_device(dev, token="t20", platform=IOS)
    await dev.release()
    left = await devices.list_devices(dev)
    assert len(left) == 20
    assert first.id in {device.id for device in left}
    assert (await devices.unregister_device(dev, token="t1")).was_registered is False
    assert (await devices.unregister_device(dev, token="t0")).was_registered is True
    await dev.release()
    assert len(await devices.list_devices(dev)) == 19


async def test_one_watches_with_devices_of_ones_own_what_one_sees(board: Any, ahead: Ahead) -> None:
    dev, viewer, stranger = (board.context(n) for n in ("developer", "viewer", "stranger"))
    mine = await devices.register_device(dev, token="phone", platform=IOS)
    foreign = await devices.register_device(stranger, token="phone", platform=IOS)
    task_id = await a_task(board)
    for ctx, device in ((viewer, mine), (dev, foreign), (stranger, foreign)):
        with pytest.raises(NotFoundError):
            await devices.watch_task(ctx, task_id=task_id, device_id=device.id)
        with pytest.raises(NotFoundError):
            await devices.unwatch_task(ctx, task_id=task_id, device_id=device.id)
    with pytest.raises(InvalidError):
        await devices.watch_task(dev, task_id=task_id, device_id=mine.id, ttl_seconds=601)
    await devices.watch_task(dev, task_id=task_id, device_id=mine.id)
    system = Context(board.services, SYSTEM)
    assert await devices.drop_ended_presences(system) == 0
    ahead.by += timedelta(seconds=61)
    assert await devices.drop_ended_presences(system) == 1
    assert await count(board, Presence) == 0
    assert await count(board, Device) == 2
