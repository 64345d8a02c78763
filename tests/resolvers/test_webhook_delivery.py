"""Webhooks over real sockets: in order, signed, again and again until accepted, never lost."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from models import Delivery, Webhook, table_of, utcnow
from models.enums import DeliveryStatus, TaskStatus
from models.event import EventStream
from resolvers import webhook_history, webhooks
from resolvers.context import Context, Services
from resolvers.errors import ConflictError
from resolvers.operation import step
from resolvers.principal import SYSTEM
from resolvers.retention import prune_events
from resolvers.task_board import move_task
from resolvers.tasks import create_task
from resolvers.webhook_deliveries import claim_deliveries, plan_deliveries
from resolvers.webhook_formats import NativeWebhooks, Ordering, WebhookPolicy
from server.outbound import OutboundHttp
from tests.support.fakes import RecordingWakeUps
from tests.support.receivers import Received, Receiver, Reply, a_receiver
from workers.webhooks import WebhookDeliverer

DELIVERY = table_of(Delivery).c
PATIENCE = 20.0


class Loose(NativeWebhooks):
    """Like a dialect in which a failing delivery holds back nothing."""

    policy = WebhookPolicy(
        schedule=(60.0, 600.0), ordering=Ordering.FIRST_ATTEMPTS, timeout=5.0, disable_after=100
    )


class PerEntity(NativeWebhooks):
    """Like a dialect that keeps the order of each thing's events."""

    policy = WebhookPolicy(
        schedule=(60.0,), ordering=Ordering.ENTITY, timeout=5.0, disable_after=100
    )


class _Waking(RecordingWakeUps):
    def __init__(self) -> None:
        super().__init__()
        self.deliverers: list[WebhookDeliverer] = []

    def events(self, stream_ids: Iterable[str]) -> None:
        for deliverer in self.deliverers:
            deliverer.wake(f"e:{stream_id}" for stream_id in stream_ids)


@dataclass
class Ahead:
    """How far the servers' clock is put forward."""

    by: timedelta = timedelta(0)


@dataclass
class World:
    """A board whose events are delivered; its clock can be put forward."""

    board: Any
    services: Services
    ahead: Ahead

    @asynccontextmanager
    async def delivering(self, *, servers: int = 1) -> AsyncIterator[None]:
        """Servers that deliver as long as the block."""
        waking: Any = self.services.wakeups
        tasks = []
        for number in range(servers):
            deliverer = WebhookDeliverer(sole=False)
            waking.deliverers.append(deliverer)
            own = replace(self.services, instance=f"server {number}")
            tasks.append(asyncio.create_task(deliverer.run_for_ever(own)))
        try:
            yield
        finally:
            waking.deliverers.clear()
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(ended, asyncio.CancelledError), ended

    async def hook(self, receiver: Receiver, *types: str, **fields: Any) -> webhooks.SecretShown:
        """A new webhook."""
        return await webhooks.create_webhook(
            self.board.context(),
            workspace_id=self.board.id,
            url=fields.pop("url", receiver.url),
            event_types=types or ["task.created"],
            **fields,
        )

    async def tasks(self, *titles: str) -> list[str]:
        """New tasks: an event each."""
        made = [
            await create_task(self.board.context(), workspace_id=self.board.id, title=title)
            for title in titles
        ]
        return [task.id for task in made]

    async def deliveries(self, webhook_id: str) -> list[Delivery]:
        """A webhook's deliveries, oldest first."""
        async with self.services.database.read() as reader:
            return await reader.records(
                Delivery,
                sa.select(*table_of(Delivery).c)
                .where(DELIVERY.webhook_id == webhook_id)
                .order_by(DELIVERY.seq),
            )

    async def webhook(self, webhook_id: str) -> Webhook:
        async with self.services.database.read() as reader:
            found = await reader.find_by_id(Webhook, webhook_id)
        assert found is not None
        return found

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something in the database."""
        async with asyncio.timeout(PATIENCE):
            while not await condition():
                await asyncio.sleep(0.02)

    async def until_statuses(self, webhook_id: str, *wanted: DeliveryStatus) -> list[Delivery]:
        """Wait until a webhook's deliveries stand like this."""

        async def stand() -> bool:
            found = await self.deliveries(webhook_id)
            return [delivery.status for delivery in found] == [*wanted]

        await self.until(stand)
        return await self.deliveries(webhook_id)

    async def until_attempted(self, webhook_id: str, count: int) -> None:
        """Wait until so many attempts in all are written down."""

        async def attempted() -> bool:
            return sum(d.attempt_count for d in await self.deliveries(webhook_id)) >= count

        await self.until(attempted)


@pytest.fixture
def ahead() -> Ahead:
    return Ahead()


@pytest.fixture
async def board_services(services: Services, ahead: Ahead) -> AsyncIterator[Services]:
    """Services that reach real sockets on this machine."""
    outbound = OutboundHttp(allow_local=True)
    yield replace(
        services,
        outbound=outbound,
        clock=lambda: utcnow() + ahead.by,
        wakeups=_Waking(),
        webhook_formats={"VIBAN": Loose(), "CLAUDE_CLI_WEB_UI": PerEntity()},
    )
    await outbound.aclose()


@pytest.fixture
def world(board: Any, ahead: Ahead) -> World:
    return World(board, board.services, ahead)


def signed(secret: str, received: Received) -> str:
    """The signature as the standard says, made here once more."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    message = b".".join(
        [
            received.headers["webhook-id"].encode(),
            received.headers["webhook-timestamp"].encode(),
            received.body,
        ]
    )
    return "v1," + base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()


def titles(received: Iterable[Received]) -> list[str]:
    return [request.json["data"]["task"]["title"] for request in received]


PENDING, DELIVERED, FAILED = (
    DeliveryStatus.PENDING, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED,
)  # fmt: skip


async def test_events_arrive_in_order_signed_and_once(world: World) -> None:
    await world.tasks("before the webhook")
    async with a_receiver() as receiver, world.delivering():
        shown = await world.hook(receiver, "task.*")
        (first,) = await world.tasks("one")
        await move_task(world.board.context(), task_id=first, status=TaskStatus.REVIEW)
        await world.tasks("two", "three")
        received = await receiver.until(4)
        assert [r.json["type"] for r in received] == [
            "task.created", "task.moved", "task.created", "task.created",
        ]  # fmt: skip
        assert titles(received) == ["one", "one", "two", "three"]
        seqs = [r.json["data"]["seq"] for r in received]
        assert seqs == sorted(seqs)
        deliveries = await world.until_statuses(shown.webhook.id, *[DELIVERED] * 4)
        for request, delivery in zip(received, deliveries, strict=True):
            assert request.headers["webhook-id"] == delivery.id
            assert request.headers["webhook-signature"] == signed(shown.secret or "", request)
            assert request.headers["user-agent"] == "Dragoman-Webhooks/1"
            (attempt,) = delivery.attempts
            assert (attempt["status"], attempt["response"]) == (200, "ok")
    assert len(receiver.received) == 4


async def test_a_failing_receiver_gets_the_same_again_and_the_order_is_kept(world: World) -> None:
    async with a_receiver() as receiver, world.delivering():
        receiver.answers(500, None, 302)
        shown = await world.hook(receiver)
        await world.tasks("one", "two")
        for attempt, pause in enumerate((6, 400, 2400), 1):
            await world.until_attempted(shown.webhook.id, attempt)
            assert titles(receiver.received) == ["one"] * attempt
            world.ahead.by += timedelta(seconds=pause)
        received = await receiver.until(5)
        assert titles(received) == ["one", "one", "one", "one", "two"]
        again = received[:4]
        assert len({(r.body, r.headers["webhook-id"]) for r in again}) == 1
        assert len({r.headers["webhook-timestamp"] for r in again}) == 4
        one, _ = await world.until_statuses(shown.webhook.id, DELIVERED, DELIVERED)
        assert [a["status"] for a in one.attempts] == [500, None, 302, 200]
        assert one.attempts[1]["error"].startswith("the exchange broke off")


async def test_a_loose_one_holds_back_nothing(world: World) -> None:
    async with a_receiver() as receiver, world.delivering():
        receiver.answers(500)
        shown = await world.hook(receiver, dialect="VIBAN")
        await world.tasks("one", "two", "three")
        assert titles(await receiver.until(3)) == ["one", "two", "three"]
        await world.until_statuses(shown.webhook.id, PENDING, DELIVERED, DELIVERED)
        world.ahead.by += timedelta(seconds=80)
        assert titles(await receiver.until(4))[-1] == "one"
        await world.until_statuses(shown.webhook.id, *[DELIVERED] * 3)


async def test_a_slow_answer_holds_back_a_loose_one_for_a_moment_only(world: World) -> None:
    hung = asyncio.Event()

    async def reply(received: Received) -> Reply:
        if titles([received]) == ["one"]:
            await hung.wait()
        return 200

    async with a_receiver() as receiver, world.delivering():
        receiver.reply = reply
        shown = await world.hook(receiver, dialect="VIBAN")
        await world.tasks("one", "two")
        assert titles(await receiver.until(2)) == ["one", "two"]
        await world.until_statuses(shown.webhook.id, PENDING, DELIVERED)
        hung.set()
        await world.until_statuses(shown.webhook.id, DELIVERED, DELIVERED)


async def test_the_order_of_each_things_events_is_kept(world: World) -> None:
    async def reply(received: Received) -> Reply:
        return 500 if titles([received]) == ["one"] else 200

    async with a_receiver() as receiver, world.delivering():
        receiver.reply = reply
        shown = await world.hook(receiver, "task.*", dialect="CLAUDE_CLI_WEB_UI")
        one, two = await world.tasks("one", "two")
        for task_id in (one, two):
            await move_task(world.board.context(), task_id=task_id, status=TaskStatus.REVIEW)
        await world.until_statuses(shown.webhook.id, PENDING, DELIVERED, PENDING, DELIVERED)
        kinds = [(titles([r])[0], r.json["type"]) for r in receiver.received]
        assert sorted(kinds) == [
            ("one", "task.created"), ("two", "task.created"), ("two", "task.moved"),
        ]  # fmt: skip


async def test_gone_disables_where_everybody_sees_it_and_nothing_is_lost(world: World) -> None:
    async with a_receiver() as receiver:
        receiver.answers(200, 410)
        webhook_id = (await world.hook(receiver)).webhook.id
        await world.tasks("one", "two", "three")  # all there before the second is refused
        async with world.delivering():
            await world.until_statuses(webhook_id, DELIVERED, FAILED, PENDING)
            webhook = await world.webhook(webhook_id)
            assert (webhook.is_active, webhook.disabled_reason) == (False, "GONE")
            told = [e for e in await world.board.events() if e.type == "webhook.disabled"]
            assert [e.payload["webhook"]["disabled_reason"] for e in told] == ["GONE"]
            assert "url" not in told[0].payload["webhook"]
            await world.tasks("four")
            ctx = world.board.context()
            await webhooks.update_webhook(ctx, webhook_id=webhook_id, is_active=True)
            assert titles(await receiver.until(4)) == ["one", "two", "three", "four"]


async def test_given_up_after_the_last_attempt(world: World) -> None:
    async def reply(_: Received) -> Reply:
        return 503

    async with a_receiver() as receiver, world.delivering():
        receiver.reply = reply
        shown = await world.hook(receiver)
        await world.tasks("one")
        policy = NativeWebhooks.policy
        for attempt in range(1, len(policy.schedule) + 2):
            await world.until_attempted(shown.webhook.id, attempt)
            world.ahead.by += timedelta(days=2)
        (given_up,) = await world.until_statuses(shown.webhook.id, FAILED)
        assert given_up.attempt_count == len(receiver.received) == 10
        webhook = await world.webhook(shown.webhook.id)
        assert (webhook.is_active, webhook.disabled_reason) == (False, "FAILING")
        with pytest.raises(ConflictError):
            await webhook_history.redeliver(world.board.context(), delivery_id=given_up.id)


async def test_skipping_what_was_missed(world: World) -> None:
    async with a_receiver() as receiver, world.delivering():
        shown = await world.hook(receiver)
        off = {"webhook_id": shown.webhook.id}
        await webhooks.update_webhook(world.board.context(), **off, is_active=False)
        await world.tasks("missed", "missed too")
        await webhooks.update_webhook(
            world.board.context(), **off, is_active=True, skip_missed=True
        )
        await world.tasks("again")
        assert titles(await receiver.until(1)) == ["again"]
        enabled = [e for e in await world.board.events() if e.type == "webhook.enabled"]
        assert enabled[0].payload["missed_events"] >= 2


async def test_redelivery_is_one_attempt_under_the_same_id(world: World) -> None:
    async with a_receiver() as receiver, world.delivering():
        shown = await world.hook(receiver)
        await world.tasks("one", "two")
        one, _ = await world.until_statuses(shown.webhook.id, DELIVERED, DELIVERED)
        receiver.answers(500)
        await webhook_history.redeliver(world.board.context(), delivery_id=one.id)
        again, _ = await world.until_statuses(shown.webhook.id, FAILED, DELIVERED)
        assert [a["status"] for a in again.attempts] == [200, 500]
        await webhook_history.redeliver(world.board.context(), delivery_id=one.id)
        await world.until_statuses(shown.webhook.id, DELIVERED, DELIVERED)
        ids = [r.headers["webhook-id"] for r in receiver.received]
        assert ids.count(one.id) == 3


async def test_both_secrets_sign_while_they_overlap(world: World) -> None:
    async with a_receiver() as receiver, world.delivering():
        shown = await world.hook(receiver)
        rotated = await webhooks.rotate_webhook_secret(
            world.board.context(), webhook_id=shown.webhook.id, overlap_seconds=60
        )
        assert rotated.secret not in {None, shown.secret}
        await world.tasks("one")
        (received,) = await receiver.until(1)
        assert received.headers["webhook-signature"].split() == [
            signed(rotated.secret or "", received), signed(shown.secret or "", received),
        ]  # fmt: skip
        world.ahead.by += timedelta(seconds=61)
        await world.tasks("two")
        received = (await receiver.until(2))[1]
        assert received.headers["webhook-signature"] == signed(rotated.secret or "", received)


async def test_secrets_are_stored_encrypted_and_a_receiver_cannot_echo_them(world: World) -> None:
    async with a_receiver() as receiver, world.delivering():
        shown = await world.hook(receiver)
        secret = shown.secret or ""
        echo = f"you said {secret}".encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(echo)}\r\n\r\n".encode()
        receiver.answers(head + echo)
        await world.tasks("one")
        (delivery,) = await world.until_statuses(shown.webhook.id, DELIVERED)
        assert delivery.attempts[0]["response"] == "you said [redacted]"
        stored = (await world.webhook(shown.webhook.id)).secrets_encrypted
        assert secret not in str(stored)
        assert secret not in str([e.payload for e in await world.board.events()])


async def test_several_servers_send_each_delivery_once(world: World) -> None:
    async with a_receiver() as receiver, world.delivering(servers=3):
        hooks = [await world.hook(receiver, dialect=dialect) for dialect in (None, "VIBAN")]
        names = [f"t{number}" for number in range(30)]
        await asyncio.gather(*(world.tasks(name) for name in names))
        await receiver.until(60)
        for shown in hooks:
            found = await world.until_statuses(shown.webhook.id, *[DELIVERED] * 30)
            assert {d.attempt_count for d in found} == {1}
    assert len(receiver.received) == 60
    native = [r for r in receiver.received if r.json["data"]["seq"]]
    assert len(native) == 60


async def test_what_a_dead_server_had_claimed_is_sent_again(world: World) -> None:
    async with a_receiver() as receiver:
        shown = await world.hook(receiver)
        await world.tasks("one")
        dead = Context(replace(world.services, instance="dead"), SYSTEM)
        await plan_deliveries(dead, webhook_ids=[shown.webhook.id])
        (claimed,) = await claim_deliveries(dead, webhook_ids=[shown.webhook.id], maximum=9)
        async with world.delivering():
            await asyncio.sleep(0.2)
            assert receiver.received == []
            world.ahead.by += timedelta(seconds=91)
            (received,) = await receiver.until(1)
            assert received.headers["webhook-id"] == claimed.delivery.id
            (delivery,) = await world.until_statuses(shown.webhook.id, DELIVERED)
            assert delivery.lease_token == claimed.token + 1


async def test_a_long_log_becomes_few_deliveries_at_a_time(world: World) -> None:
    async def reply(_: Received) -> Reply:
        return 500

    async with a_receiver() as receiver:
        receiver.reply = reply
        shown = await world.hook(receiver)
        await world.tasks(*(f"t{number}" for number in range(120)))
        async with world.delivering():
            await world.until_attempted(shown.webhook.id, 1)
            assert 90 < len(await world.deliveries(shown.webhook.id)) <= 100
            receiver.answers()
            world.ahead.by += timedelta(minutes=7)
            received = await receiver.until(121)
        assert titles(received[1:]) == [f"t{number}" for number in range(120)]


async def test_retention_stops_in_front_of_what_is_to_be_delivered(world: World) -> None:
    async with a_receiver() as receiver:
        receiver.answers(500)
        shown = await world.hook(receiver)
        await world.tasks("one", "two")
        async with world.delivering():
            await world.until_attempted(shown.webhook.id, 1)
        world.ahead.by += timedelta(days=400)
        system = Context(world.services, SYSTEM)
        await prune_events(system, older_than=timedelta(days=1))
        async with world.services.database.read() as reader:
            stream = await reader.find_by_id(EventStream, world.board.id)
        assert stream is not None
        first = (await world.deliveries(shown.webhook.id))[0]
        assert stream.floor == first.seq - 1
        async with world.delivering():
            assert titles(await receiver.until(3)) == ["one", "one", "two"]


async def test_an_event_that_is_gone_ends_its_delivery(world: World) -> None:
    async with a_receiver() as receiver:
        shown = await world.hook(receiver)
        await world.tasks("one")
        system = Context(world.services, SYSTEM)
        await plan_deliveries(system, webhook_ids=[shown.webhook.id])
        await _forget_events(system, stream_id=world.board.id)
        async with world.delivering():
            (delivery,) = await world.until_statuses(shown.webhook.id, FAILED)
        assert delivery.attempts[0]["error"] == "the event is no longer kept"
        assert receiver.received == []


@step
async def _forget_events(ctx: Context, *, stream_id: str) -> None:
    from models import Event

    columns = table_of(Event).c
    await ctx.transaction.execute(sa.delete(table_of(Event)).where(columns.stream_id == stream_id))
