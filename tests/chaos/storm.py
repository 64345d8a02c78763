"""A storm: people at work, and a server that is killed under them again and again."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.people import Place, RunMaker, Watcher, Writer, dice
from tests.chaos.records import Records
from tests.support.board import create_board, make_repository
from tests.support.clients import HttpClient
from tests.support.server import RunningServer, ServerFailedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How hard it blows; times in seconds.

    ``kills_in_start`` come before the first start succeeds, in migration and first set-up.
    ``calm`` is how long a server may live at least and at most. On a slow machine it blows longer
    than ``seconds``, until there were ``kills`` of them.
    """

    seconds: float
    kills: int = 2
    kills_in_start: int = 2
    calm: tuple[float, float] = (0.3, 5.0)
    kill_again: float = 0.35
    writers: int = 8
    watchers: int = 20
    run_makers: int = 3
    pause: float = 0.05
    patience: float = 90.0


@dataclass(slots=True)
class Storm:
    """Everything that took part, for the verdict afterwards."""

    server: RunningServer
    workspace_id: str
    start: str
    writers: list[Writer] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    makers: list[RunMaker] = field(default_factory=list)
    kills: int = 0


async def kill_first_starts(server: RunningServer, chance: random.Random, times: int) -> None:
    """Kill starts on an empty database, as soon as it is touched or a little later."""
    records = Records(server)
    for _ in range(times):
        server.launch()
        assert server.process is not None
        async with asyncio.timeout(60):
            while not await records.is_touched() and server.process.poll() is None:
                await asyncio.sleep(0.002)
        await asyncio.sleep(chance.uniform(0, 0.4))
        await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


async def keep_killing(storm: Storm, place: Place, chance: random.Random, weather: Weather) -> None:
    """Kill and start the server until the time is over; afterwards it is up."""
    loop = asyncio.get_running_loop()
    end = loop.time() + weather.seconds
    while loop.time() < end or storm.kills < weather.kills:
        await asyncio.sleep(chance.uniform(*weather.calm))
        place.is_up.clear()
        await asyncio.to_thread(storm.server.kill)
        storm.kills += 1
        while chance.random() < weather.kill_again:
            storm.server.launch()
            # Anywhere from the first import to the first answered requests.
            await asyncio.sleep(chance.uniform(0.0, 2.5))
            await asyncio.to_thread(storm.server.kill)
            storm.kills += 1
        await asyncio.to_thread(storm.server.start)
        place.is_up.set()


async def raise_storm(
    server: RunningServer, folder: Path, chance: random.Random, weather: Weather
) -> Storm:
    """From an empty database to the end of the storm, when everybody has what they asked for."""
    await kill_first_starts(server, chance, weather.kills_in_start)
    repository = make_repository(folder / "project")
    async with HttpClient(server.url, server.token) as client:
        board, start = await create_board(client, repository, maxConcurrent=weather.run_makers)
    storm = Storm(server, board.id, start)
    place = Place(server)
    place.is_up.set()

    def writer(number: int) -> Writer:
        own = dice(f"{chance.random()} {number}")
        return Writer(place, board.id, own, weather.pause)

    storm.writers = [writer(number) for number in range(weather.writers)]
    storm.makers = [
        RunMaker(place, writer(-number), dice(chance.random()))
        for number in range(weather.run_makers)
    ]
    storm.watchers = [
        Watcher(
            place,
            board.id,
            start,
            dice(chance.random()),
            over="events" if number % 5 == 0 else "websocket",
        )
        for number in range(weather.watchers)
    ]
    async with _at_work([w.watch() for w in storm.watchers]) as watching:
        work = [w.write() for w in storm.writers] + [m.make_runs() for m in storm.makers]
        async with asyncio.TaskGroup() as group:
            for task in work:
                group.create_task(task)
            await keep_killing(storm, place, chance, weather)
            for person in (*storm.writers, *storm.makers):
                person.is_finishing = True
        await _until_all_have_seen(storm, watching, weather.patience)
    return storm


@asynccontextmanager
async def _at_work(work: list) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.ensure_future(task) for task in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_all_have_seen(
    storm: Storm, watching: list[asyncio.Task[None]], patience: float
) -> None:
    """Wait until every watcher has reached the head of a log that grows no more."""
    head = await Records(storm.server).head(storm.workspace_id)
    try:
        async with asyncio.timeout(patience):
            while any(not w.seen or w.seen[-1].seq < head for w in storm.watchers):
                for task in watching:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.1)
    except TimeoutError:
        reached = [w.seen[-1].seq if w.seen else 0 for w in storm.watchers]
        raise ServerFailedError(f"head is {head}, watchers are at {reached}") from None
