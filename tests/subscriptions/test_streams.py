import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from resolvers.errors import ForbiddenError, NotFoundError, UnauthenticatedError, UnavailableError
from subscriptions.cursor import EARLIEST, Cursor, InvalidCursor, decode_cursor
from subscriptions.delivery import Delivery, current_delivery
from subscriptions.hub import Hub
from subscriptions.pages import EventItem
from subscriptions.ports import Head, events_key, principal_key
from subscriptions.stream_items import Checkpoint, ResyncRequired, StreamClosed, StreamItem
from subscriptions.streams import StreamLimits, event_stream, run_output_stream

Stream = AsyncGenerator[StreamItem, None]
OTHER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


async def allowed() -> None:
    """An authorization that is always given."""


def stream_of(hub: Hub, stream_id: str, after: str | None, **options: Any) -> Stream:
    options.setdefault("authorize", allowed)
    return event_stream(hub, stream_id=stream_id, after=after, **options)


async def take(stream: Stream, count: int) -> list[StreamItem]:
    async with asyncio.timeout(10):
        return [await anext(stream) for _ in range(count)]


async def rest_of(stream: Stream) -> list[StreamItem]:
    async with asyncio.timeout(10):
        return [item async for item in stream]


def seqs(items: list[StreamItem]) -> list[int]:
    return [item.event.seq for item in items if isinstance(item, EventItem)]


def at(stream_id: str, seq: int, *, epoch: int = 1) -> str:
    return Cursor(stream_id, epoch, seq).encode()


async def test_replay_and_live_are_one_sequence(log: Any, hub: Hub) -> None:
    sid = log.new(entries=450)
    stream = stream_of(hub, sid, at(sid, 3))
    assert seqs(await take(stream, 447)) == list(range(4, 451))
    pending = asyncio.create_task(take(stream, 3))
    await asyncio.sleep(0)
    for _ in range(3):
        log.append(sid)
        hub.wake([events_key(sid)])
        await asyncio.sleep(0)
    assert seqs(await pending) == [451, 452, 453]
    await stream.aclose()
    assert hub.watchers == 0


async def test_each_event_carries_the_cursor_to_go_on_from(log: Any, hub: Hub) -> None:
    sid = log.new(entries=3)
    first = stream_of(hub, sid, EARLIEST)
    one, two = await take(first, 2)
    await first.aclose()
    assert decode_cursor(one.cursor or "") == Cursor(sid, 1, 1)
    second = stream_of(hub, sid, two.cursor)
    assert seqs(await take(second, 1)) == [3]
    await second.aclose()


async def test_without_a_position_it_begins_at_the_head_and_says_where(log: Any, hub: Hub) -> None:
    sid = log.new(entries=5)
    stream = stream_of(hub, sid, None)
    assert await take(stream, 1) == [Checkpoint(at(sid, 5))]
    log.append(sid)
    assert seqs(await take(stream, 1)) == [6]
    await stream.aclose()


async def test_earliest_begins_at_the_floor(log: Any, hub: Hub) -> None:
    sid = log.new(entries=9)
    log.prune(sid, 6)
    stream = stream_of(hub, sid, EARLIEST)
    assert seqs(await take(stream, 3)) == [7, 8, 9]
    await stream.aclose()


async def test_a_lost_wake_up_only_delays(log: Any, hub: Hub) -> None:
    sid = log.new()
    stream = stream_of(hub, sid, EARLIEST)
    pending = asyncio.create_task(take(stream, 2))
    await asyncio.sleep(0.1)
    log.append(sid, 2)
    assert seqs(await pending) == [1, 2]
    assert hub.wakeups_lost_total == 1
    await stream.aclose()


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        (lambda sid: at(sid, 2), "TRIMMED"),
        (lambda _: at(OTHER, 7), "WRONG_STREAM"),
        (lambda _: at("site", 7), "WRONG_STREAM"),
        (lambda sid: at(sid, 7, epoch=2), "EPOCH_CHANGED"),
        (lambda sid: at(sid, 7, epoch=0), "EPOCH_CHANGED"),
        (lambda sid: at(sid, 11), "AHEAD"),
    ],
)
async def test_what_cannot_be_resumed_is_said_first_and_it_goes_on_from_the_head(
    cursor: Any, reason: str, log: Any, hub: Hub
) -> None:
    sid = log.new(entries=10)
    log.prune(sid, 4)
    stream = stream_of(hub, sid, cursor(sid))
    assert await take(stream, 1) == [ResyncRequired(reason, floor=at(sid, 4), head=at(sid, 10))]
    log.append(sid, 2)
    assert seqs(await take(stream, 2)) == [11, 12]
    await stream.aclose()


async def test_the_floor_itself_can_be_resumed_from(log: Any, hub: Hub) -> None:
    sid = log.new(entries=10)
    log.prune(sid, 4)
    stream = stream_of(hub, sid, at(sid, 4))
    assert seqs(await take(stream, 1)) == [5]
    await stream.aclose()


async def test_entries_pruned_under_a_reader_are_announced(log: Any, hub: Hub) -> None:
    sid = log.new(entries=300)
    stream = stream_of(hub, sid, EARLIEST)
    await take(stream, 1)
    log.prune(sid, 250)
    items = await take(stream, 200)
    assert seqs(items) == list(range(2, 201))  # the page it has is still a true piece of the log
    assert items[-1] == ResyncRequired("TRIMMED", floor=at(sid, 250), head=at(sid, 300))
    await stream.aclose()


async def test_a_hole_in_the_log_is_never_skipped_silently(log: Any, hub: Hub) -> None:
    sid = log.new(entries=6)
    del log.entries[events_key(sid)][3]
    stream = stream_of(hub, sid, at(sid, 3))
    assert await take(stream, 1) == [ResyncRequired("TRIMMED", floor=at(sid, 0), head=at(sid, 6))]
    await stream.aclose()


async def test_a_restore_under_a_reader_is_announced(log: Any, hub: Hub) -> None:
    sid = log.new(entries=6)
    stream = stream_of(hub, sid, EARLIEST)
    await take(stream, 6)
    pending = asyncio.create_task(take(stream, 1))
    await asyncio.sleep(0.02)
    log.restore(sid, seq=4)
    expected = ResyncRequired("EPOCH_CHANGED", floor=at(sid, 0, epoch=2), head=at(sid, 4, epoch=2))
    assert await pending == [expected]
    log.append(sid)
    assert [item.cursor for item in await take(stream, 1)] == [at(sid, 5, epoch=2)]
    await stream.aclose()


@pytest.mark.parametrize("after", ["", "garbage", "earliest", "x" * 100_000])
async def test_what_is_no_position_is_refused(after: str, log: Any, hub: Hub) -> None:
    sid = log.new()
    with pytest.raises(InvalidCursor):
        await anext(stream_of(hub, sid, after))


async def test_filters_and_checkpoints_by_count(log: Any, hub: Hub) -> None:
    sid = log.new()
    for n in range(1, 31):
        log.append(sid, type="task.created" if n % 10 == 0 else "task.updated")
    stream = stream_of(
        hub, sid, EARLIEST, types=["task.created"], limits=StreamLimits(checkpoint_skipped=6)
    )
    items = await take(stream, 6)
    assert [type(item) for item in items] == [Checkpoint, EventItem] * 3
    assert [decode_cursor(item.cursor or "").seq for item in items] == [6, 10, 16, 20, 26, 30]
    await stream.aclose()


async def test_a_quiet_filtered_stream_moves_its_cursor_by_the_clock(log: Any, hub: Hub) -> None:
    sid = log.new(entries=5)
    limits = StreamLimits(checkpoint_after=0.1)
    stream = stream_of(hub, sid, EARLIEST, where=lambda entry: entry.seq > 8, limits=limits)
    assert await take(stream, 1) == [Checkpoint(at(sid, 5))]
    pending = asyncio.create_task(take(stream, 1))
    await asyncio.sleep(0.25)
    assert not pending.done()  # nothing was skipped since
    log.append(sid, 3)
    hub.wake([events_key(sid)])
    assert await pending == [Checkpoint(at(sid, 8))]
    log.append(sid)
    assert seqs(await take(stream, 1)) == [9]
    await stream.aclose()


async def test_types_and_where_hold_together(log: Any, hub: Hub) -> None:
    sid = log.new()
    for type_ in ("a", "b", "a", "b"):
        log.append(sid, type=type_)
    stream = stream_of(hub, sid, EARLIEST, types={"b"}, where=lambda entry: entry.seq > 2)
    assert seqs(await take(stream, 1)) == [4]
    await stream.aclose()


class Permission:
    """An authorization that can be taken away, and counts how often it is asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    async def __call__(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnauthenticatedError("revoked"), "UNAUTHENTICATED"),
        (ForbiddenError("no longer"), "FORBIDDEN"),
        (NotFoundError("Workspace"), "NOT_FOUND"),
    ],
)
async def test_a_principal_revoked_in_mid_stream_ends_it_at_once(
    error: Exception, reason: str, log: Any, hub: Hub
) -> None:
    sid = log.new(entries=2)
    permission = Permission()
    stream = stream_of(hub, sid, EARLIEST, authorize=permission, principal="user:1")
    await take(stream, 2)
    pending = asyncio.create_task(rest_of(stream))
    await asyncio.sleep(0.02)
    permission.error = error
    hub.wake([principal_key("user:1")])
    assert await pending == [StreamClosed(reason, at(sid, 2))]


async def test_nothing_is_delivered_to_a_principal_revoked_between_two_items(
    log: Any, hub: Hub
) -> None:
    sid = log.new(entries=100)
    permission = Permission()
    stream = stream_of(hub, sid, EARLIEST, authorize=permission, principal="user:1")
    await take(stream, 3)
    permission.error = UnauthenticatedError("revoked")
    hub.wake([principal_key("user:1")])
    items = await rest_of(stream)
    assert seqs(items) == []
    assert isinstance(items[-1], StreamClosed)


async def test_permission_is_asked_at_most_once_a_second_and_while_idle(log: Any, hub: Hub) -> None:
    sid = log.new(entries=1_000)
    permission = Permission()
    stream = stream_of(hub, sid, EARLIEST, authorize=permission)
    await take(stream, 1_000)
    assert permission.asked == 1
    await stream.aclose()

    limits = StreamLimits(authorize_idle=0.05)
    idle = stream_of(hub, sid, None, authorize=permission, limits=limits)
    await take(idle, 1)
    pending = asyncio.create_task(rest_of(idle))
    await asyncio.sleep(0.12)
    assert permission.asked >= 3
    permission.error = UnauthenticatedError("expired")
    assert await pending == [StreamClosed("UNAUTHENTICATED", at(sid, 1_000))]


async def test_without_permission_nothing_is_read(log: Any, hub: Hub) -> None:
    permission = Permission()
    permission.error = ForbiddenError("no")
    sid = log.new(entries=1)
    items = await rest_of(stream_of(hub, sid, EARLIEST, authorize=permission))
    assert items == [StreamClosed("FORBIDDEN", EARLIEST)]
    assert log.reads == []
    assert log.heads_asked == []


async def test_an_error_in_authorize_that_is_no_refusal_is_not_hidden(log: Any, hub: Hub) -> None:
    permission = Permission()
    permission.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        await anext(stream_of(hub, log.new(), EARLIEST, authorize=permission))
    assert hub.watchers == 0


async def test_shutdown_closes_with_a_cursor_to_go_on_from(log: Any, hub: Hub) -> None:
    sid = log.new(entries=10)
    idle = stream_of(hub, sid, None)
    busy = stream_of(hub, sid, EARLIEST)
    await take(idle, 1)
    await take(busy, 4)
    waiting = asyncio.create_task(rest_of(idle))
    await asyncio.sleep(0.02)
    hub.close()
    assert await waiting == [StreamClosed("GOING_AWAY", at(sid, 10))]
    assert await rest_of(busy) == [StreamClosed("GOING_AWAY", at(sid, 4))]


async def test_a_database_that_is_away_delays_and_then_ends_it_resumably(
    log: Any, hub: Hub
) -> None:
    sid = log.new(entries=4)
    log.failing = True
    patient = stream_of(hub, sid, at(sid, 2))
    pending = asyncio.create_task(take(patient, 2))
    await asyncio.sleep(0.1)
    log.failing = False
    assert seqs(await pending) == [3, 4]
    await patient.aclose()

    log.failing = True
    hub.wake([events_key(sid)])
    impatient = stream_of(hub, sid, at(sid, 4), limits=StreamLimits(unavailable_after=0.0))
    assert await rest_of(impatient) == [StreamClosed("UNAVAILABLE", at(sid, 4))]


async def test_a_permission_that_cannot_be_looked_up_now_is_asked_again(log: Any, hub: Hub) -> None:
    sid = log.new(entries=1)
    permission = Permission()
    permission.error = UnavailableError("busy")
    stream = stream_of(hub, sid, EARLIEST, authorize=permission)
    pending = asyncio.create_task(take(stream, 1))
    await asyncio.sleep(0.05)
    permission.error = None
    assert seqs(await pending) == [1]
    await stream.aclose()


async def test_a_log_that_is_gone_or_never_was_ends_the_stream(log: Any, hub: Hub) -> None:
    assert await rest_of(stream_of(hub, OTHER, None)) == [StreamClosed("NOT_FOUND", None)]
    sid = log.new(entries=1)
    stream = stream_of(hub, sid, EARLIEST)
    await take(stream, 1)
    del log.heads_by_key[events_key(sid)]
    assert await rest_of(stream) == [StreamClosed("NOT_FOUND", at(sid, 1))]


async def test_a_run_output_stream_ends_with_its_run(log: Any, hub: Hub) -> None:
    run, key = OTHER, f"r:{OTHER}"
    log.heads_by_key[key], log.entries[key] = Head(1, 0), []
    stream = run_output_stream(hub, run_id=run, after=EARLIEST, authorize=allowed)
    pending = asyncio.create_task(rest_of(stream))
    await asyncio.sleep(0.02)
    log.entries[key] = log.entries[events_key(log.new(entries=3))]
    log.heads_by_key[key] = Head(1, 3)
    hub.wake([key])
    await asyncio.sleep(0.02)
    assert not pending.done()
    log.heads_by_key[key] = Head(1, 3, ended=True)  # and its wake-up is lost
    items = await pending
    assert seqs(items) == [1, 2, 3]
    assert items[-1] == StreamClosed("ENDED", at(run, 3))


async def test_the_transport_hears_of_cursors_and_of_the_end(log: Any, hub: Hub) -> None:
    sid = log.new(entries=3)
    delivery = Delivery(last_event_id=at(sid, 1))
    token = current_delivery.set(delivery)
    try:
        stream = stream_of(hub, sid, None)
        assert seqs(await take(stream, 2)) == [2, 3]
        assert delivery.cursor == at(sid, 3)
        hub.close()
        await rest_of(stream)
        assert (delivery.cursor, delivery.closed) == (at(sid, 3), "GOING_AWAY")
    finally:
        current_delivery.reset(token)


@pytest.mark.parametrize(
    ("after", "seen", "first"),
    [(None, 4, 5), (EARLIEST, 4, 5), (2, 4, 5), (6, 4, 7), (3, None, 4)],
)
async def test_of_two_positions_the_later_one_counts(
    after: Any, seen: int | None, first: int, log: Any, hub: Hub
) -> None:
    sid = log.new(entries=9)
    asked = at(sid, after) if isinstance(after, int) else after
    token = current_delivery.set(Delivery(at(sid, seen) if seen is not None else None))
    try:
        stream = stream_of(hub, sid, asked)
        assert seqs(await take(stream, 1)) == [first]
        await stream.aclose()
    finally:
        current_delivery.reset(token)
