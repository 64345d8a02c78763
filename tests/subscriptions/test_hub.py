import asyncio
import contextlib
from typing import Any

import pytest

from subscriptions.hub import Hub, LogUnavailableError
from subscriptions.pages import PAGE_BYTES, PageCache, make_page
from subscriptions.ports import Head, Reading, events_key, principal_key
from subscriptions.watcher import HubClosedError


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_one_statement_per_tick_however_many_watch(log: Any, hub: Hub) -> None:
    keys = [events_key(log.new(entries=3)) for _ in range(20)]
    async with contextlib.AsyncExitStack() as stack:
        for n in range(500):
            watcher = await stack.enter_async_context(hub.watch(keys[n % 20]))
            watcher.stands_at(keys[n % 20], epoch=1, seq=3)
        assert hub.watchers == 500
        log.heads_asked.clear()
        began = hub.ticks_total
        await eventually(lambda: hub.ticks_total >= began + 4)
        assert len(log.heads_asked) == hub.ticks_total - began
        assert all(asked == sorted(keys) for asked in log.heads_asked)
        assert log.reads == []


async def test_no_statement_when_nobody_watches(log: Any, hub: Hub) -> None:
    key = events_key(log.new())
    async with hub.watch(key):
        await eventually(lambda: hub.ticks_total == 1)
    ticks = hub.ticks_total
    await asyncio.sleep(0.2)
    assert hub.ticks_total == ticks
    async with hub.watch(principal_key("user:1")):
        await asyncio.sleep(0.2)
    assert hub.ticks_total == ticks
    async with hub.watch(key):
        await eventually(lambda: hub.ticks_total > ticks)


async def test_wake_ups_coalesce(log: Any, hub: Hub) -> None:
    key = events_key(log.new())
    async with hub.watch(key) as watcher:
        watcher.stands_at(key, epoch=1, seq=0)
        for _ in range(100):
            hub.wake([key, "e:somebody else"])
        assert await watcher.wait(5) == {key}
        assert await watcher.wait(0.01) == frozenset()


async def test_a_lost_wake_up_is_found_by_the_tick_and_counted(log: Any, hub: Hub) -> None:
    stream = log.new(entries=1)
    key = events_key(stream)
    async with hub.watch(key) as behind, hub.watch(key) as ahead:
        behind.stands_at(key, epoch=1, seq=1)
        ahead.stands_at(key, epoch=1, seq=2)
        log.append(stream)
        assert await behind.wait(5) == {key}
        assert hub.wakeups_lost_total == 1
        assert await ahead.wait(0.2) == frozenset()


async def test_a_wake_up_that_came_is_not_counted_as_lost(log: Any, hub: Hub) -> None:
    stream = log.new()
    key = events_key(stream)
    async with hub.watch(key) as watcher:
        for seq in range(1, 4):
            watcher.stands_at(key, epoch=1, seq=seq - 1)
            log.append(stream)
            hub.wake([key])
            assert await watcher.wait(5) == {key}
        watcher.stands_at(key, epoch=1, seq=3)
        assert await watcher.wait(0.15) == frozenset()
    assert hub.wakeups_lost_total == 0


async def test_one_who_reads_nothing_is_still_told_of_news(log: Any, hub: Hub) -> None:
    stream = log.new(entries=2)
    key = events_key(stream)
    async with hub.watch(key) as watcher:
        assert await watcher.wait(5) == {key}  # the first look: it may have missed what was before
        assert await watcher.wait(0.15) == frozenset()
        log.append(stream)
        assert await watcher.wait(5) == {key}
    assert hub.wakeups_lost_total == 0


async def test_another_epoch_and_the_end_of_a_log_wake(log: Any, hub: Hub) -> None:
    stream = log.new(entries=5)
    key = events_key(stream)
    async with hub.watch(key) as watcher:
        watcher.stands_at(key, epoch=1, seq=5)
        log.restore(stream, seq=2)
        assert await watcher.wait(5) == {key}
        watcher.stands_at(key, epoch=2, seq=2)
        log.heads_by_key[key] = Head(epoch=2, seq=2, ended=True)
        assert await watcher.wait(5) == {key}
        del log.heads_by_key[key]
        assert await watcher.wait(5) == {key}


async def test_the_tick_survives_a_database_that_is_away(
    log: Any, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    stream = log.new()
    key = events_key(stream)
    async with hub.watch(key) as watcher:
        watcher.stands_at(key, epoch=1, seq=0)
        log.failing = True
        await eventually(lambda: hub.ticks_total >= 2)
        log.append(stream)
        log.failing = False
        assert await watcher.wait(10) == {key}
    assert "could not be read" in caplog.text


async def test_a_thousand_watchers_cost_one_read_per_event(log: Any, hub: Hub) -> None:
    stream = log.new(entries=5)
    key = events_key(stream)
    async with hub.watch(key):
        pages = await asyncio.gather(*(hub.page(key, after=3) for _ in range(1_000)))
        assert log.reads == [(key, 3)]
        assert len({id(page) for page in pages}) == 1
        assert [item.event.seq for item in pages[0].items] == [4, 5]

        await asyncio.gather(*(hub.page(key, after=5) for _ in range(1_000)))
        await asyncio.gather(*(hub.page(key, after=5) for _ in range(1_000)))
        assert log.reads == [(key, 3), (key, 5)]

        log.append(stream)
        hub.wake([key])
        pages = await asyncio.gather(*(hub.page(key, after=5) for _ in range(1_000)))
        assert log.reads == [(key, 3), (key, 5), (key, 5)]
        assert pages[0].end == 6
        assert hub.is_present(key, pages[0])


async def test_who_was_woken_never_joins_a_read_that_began_before(log: Any, hub: Hub) -> None:
    stream = log.new(entries=1)
    key = events_key(stream)
    async with hub.watch(key):
        log.gate.clear()
        early = asyncio.create_task(hub.page(key, after=1))
        await eventually(lambda: len(log.reads) == 1)
        log.append(stream)
        hub.wake([key])
        late = asyncio.create_task(hub.page(key, after=1))
        await eventually(lambda: len(log.reads) == 2)
        log.gate.set()
        assert (await early).end == 1
        assert (await late).end == 2
        assert (await hub.page(key, after=1)).end == 2


async def test_a_cached_page_is_a_true_piece_of_the_log(log: Any, hub: Hub) -> None:
    stream = log.new(entries=2)
    key = events_key(stream)
    async with hub.watch(key):
        short = await hub.page(key, after=0)
        log.append(stream, 3)
        hub.wake([key])
        again = await hub.page(key, after=0)
        assert again is short
        assert not hub.is_present(key, again)
        rest = await hub.page(key, after=again.end)
        assert [item.event.seq for item in rest.items] == [3, 4, 5]
        assert (await hub.fresh_page(key, after=0)).end == 5


async def test_a_read_that_fails_says_so_to_all_and_is_tried_anew(log: Any, hub: Hub) -> None:
    key = events_key(log.new(entries=1))
    log.failing = True
    results = await asyncio.gather(
        *(hub.page(key, after=0) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, LogUnavailableError) for result in results)
    log.failing = False
    assert (await hub.page(key, after=0)).end == 1
    assert await hub.head("e:nowhere") is None
    assert await hub.page("e:nowhere", after=0) is None


async def test_one_who_gives_up_takes_the_page_from_nobody(log: Any, hub: Hub) -> None:
    key = events_key(log.new(entries=1))
    async with hub.watch(key):
        log.gate.clear()
        impatient = asyncio.create_task(hub.page(key, after=0))
        patient = asyncio.create_task(hub.page(key, after=0))
        await eventually(lambda: len(log.reads) == 1)
        impatient.cancel()
        log.gate.set()
        assert (await patient).end == 1
        assert len(log.reads) == 1
        with pytest.raises(asyncio.CancelledError):
            await impatient


async def test_closing_ends_every_wait_now_and_later(log: Any, hub: Hub) -> None:
    key = events_key(log.new())
    async with hub.watch(key) as watcher:
        waiting = asyncio.create_task(watcher.wait(60))
        await asyncio.sleep(0)
        hub.close()
        with pytest.raises(HubClosedError):
            await waiting
    async with hub.watch(key) as late:
        with pytest.raises(HubClosedError):
            await late.wait(60)


def page_of(sizes: list[int], entry: Any, *, after: int = 0) -> Any:
    entries = [entry(after + n, size=size) for n, size in enumerate(sizes, start=1)]
    head = Head(epoch=1, seq=after + len(sizes))
    return make_page(events_key("site"), Reading(head, entries), after=after, moment=1)


@pytest.fixture
def entry(log: Any) -> Any:
    log.append(log.new())
    return type(log.entries.popitem()[1][0])


def test_pages_are_bounded_but_never_empty_of_what_is_there(entry: Any) -> None:
    assert len(page_of([10] * 500, entry).items) == 200
    assert len(page_of([PAGE_BYTES // 4] * 10, entry).items) == 4
    assert len(page_of([PAGE_BYTES * 2, 1], entry).items) == 1
    assert len(page_of([], entry).items) == 0


def test_the_cache_is_bounded_by_number_and_by_bytes(entry: Any) -> None:
    cache = PageCache(max_pages=3, max_bytes=1_000)
    for after in range(5):
        cache.keep("e:site", page_of([100], entry, after=after))
    assert len(cache) == 3
    assert cache.find("e:site", after=1) is None
    assert cache.find("e:site", after=2) is not None  # used last, so it stays longest

    cache.keep("e:site", page_of([700], entry, after=9))
    assert cache.size <= 1_000
    assert cache.find("e:site", after=3) is None or cache.find("e:site", after=2) is not None
    cache.keep("e:site", page_of([5_000], entry, after=10))
    assert cache.find("e:site", after=10) is None
    cache.keep("e:site", page_of([200], entry, after=9))
    assert cache.size == sum(
        page.size for after in range(11) if (page := cache.find("e:site", after=after))
    )


@pytest.mark.parametrize(
    ("head", "after", "seqs", "follows"),
    [
        (Head(1, 5), 3, [4, 5], True),
        (Head(1, 5), 5, [], True),
        (Head(1, 500), 3, [4, 5], True),
        (Head(2, 5), 3, [4, 5], False),
        (Head(1, 5, floor=4), 3, [5], False),
        (Head(1, 5), 6, [], False),
        (Head(1, 5), 3, [5], False),
        (Head(1, 5), 2, [3, 5], False),
        (Head(1, 5), 3, [], False),
    ],
)
def test_a_page_follows_only_without_a_gap(
    head: Head,
    after: int,
    seqs: list[int],
    *,
    follows: bool,
    entry: Any,
) -> None:
    reading = Reading(head, [entry(seq) for seq in seqs])
    page = make_page(events_key("site"), reading, after=after, moment=1)
    assert page.follows(epoch=1) is follows


async def test_the_end_waits_for_the_last_watcher(log: Any, hub: Hub) -> None:
    key = events_key(log.new())
    async with hub.watch(key) as first, hub.watch(key, principal_key("user:1")):
        ending = asyncio.create_task(hub.unwatched())
        with pytest.raises(HubClosedError):
            await first.wait(5)
        assert not ending.done()
    async with asyncio.timeout(5):
        await ending
        await hub.unwatched()
