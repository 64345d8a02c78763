"""Who uses the server while it is killed: writers, watchers, and those who have runs made."""

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx2
from websockets.exceptions import WebSocketException

from tests.chaos.journal import (
    Entry,
    bulk_entry,
    create_entry,
    pair_entry,
    refused_entry,
    start_entry,
    update_entry,
)
from tests.support.board import EVENTS, RUN_OUTPUT
from tests.support.clients import HttpClient, RefusedError, SocketClosedError, open_socket
from tests.support.server import RunningServer

LABELS_PER_TASK = 40
BROKEN = (httpx2.TransportError, OSError, WebSocketException, SocketClosedError, TimeoutError)
"""What a client sees of a server that is killed."""
PASSING = {"UNAVAILABLE", "RATE_LIMITED", "INTERNAL"}


def dice(seed: object) -> random.Random:
    """Chance that can be repeated."""
    return random.Random(str(seed))  # noqa: S311  # dice, not secrets


class Place:
    """Where the server is now, if anywhere."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.is_up = asyncio.Event()

    async def url(self) -> str:
        """The address, as soon as there is one."""
        await self.is_up.wait()
        return self.server.url


class Seen(NamedTuple):
    """An event as a subscriber got it."""

    seq: int
    type: str
    entity_id: str


@dataclass(slots=True)
class Writer:
    """Sends changes, each under a key of its own, and repeats each until it is acknowledged.

    What the server asks to wait for is put aside meanwhile, like a client with several requests.
    """

    place: Place
    workspace_id: str
    chance: random.Random
    pause: float
    journal: list[Entry] = field(default_factory=list)
    is_finishing: bool = False
    _pending: deque[Entry] = field(default_factory=deque)
    _tasks: list[str] = field(default_factory=list)
    _labels: dict[str, int] = field(default_factory=dict)

    async def write(self) -> None:
        """Until told to finish, and nothing is pending."""
        async with HttpClient("", self.place.server.token) as client:
            while not (self.is_finishing and not self._pending):
                entry = self._next()
                if entry is None:
                    await asyncio.sleep(0.05)
                    continue
                await self._send(client, entry)
                await asyncio.sleep(self.chance.uniform(0, 2 * self.pause))

    async def insist(self, client: HttpClient, entry: Entry) -> Entry:
        """Repeat one request until it is acknowledged."""
        self.journal.append(entry)
        while not entry.is_acknowledged:
            await asyncio.sleep(max(0.0, entry.due - _now()))
            await self._send(client, entry)
        return entry

    def _next(self) -> Entry | None:
        for _ in range(len(self._pending)):
            entry = self._pending.popleft()
            if entry.due <= _now():
                return entry
            self._pending.append(entry)
        if self.is_finishing:
            return None
        if self.journal and self.chance.random() < 0.1:
            again = self.chance.choice(self.journal)
            if again.is_acknowledged:
                return again
        entry = self._invent()
        self.journal.append(entry)
        return entry

    def _invent(self) -> Entry:
        roll = self.chance.random()
        if len(self._tasks) < 5 or roll < 0.35:
            return create_entry(self.workspace_id)
        if roll < 0.5:
            return pair_entry(self.workspace_id)
        if roll < 0.85:
            return update_entry(self.chance.choice(self._tasks))
        if roll < 0.9:
            return refused_entry(self.chance.choice(self._tasks))
        free = [task for task in self._tasks if self._labels.get(task, 0) < LABELS_PER_TASK]
        if len(free) < 3:
            return create_entry(self.workspace_id)
        chosen = self.chance.sample(free, 3)
        for task in chosen:
            self._labels[task] = self._labels.get(task, 0) + 1
        return bulk_entry(self.workspace_id, chosen)

    async def _send(self, client: HttpClient, entry: Entry) -> None:
        client.url = await self.place.url()
        entry.attempts += 1
        try:
            response = await client.post(entry.document, entry.variables, key=entry.key)
            answer = response.json()
        except (*BROKEN, ValueError):
            return self._put_aside(entry, 0.05)
        wait = _must_wait(response.status_code, answer)
        if wait is not None:
            return self._put_aside(entry, wait)
        if not entry.is_acknowledged:
            self._learn(entry, answer)
        entry.answers.append(answer)
        return None

    def _put_aside(self, entry: Entry, seconds: float) -> None:
        entry.due = _now() + seconds
        # A repetition of what is acknowledged already need not succeed now.
        if not entry.is_acknowledged and entry.kind != "start":
            self._pending.append(entry)

    def _learn(self, entry: Entry, answer: dict[str, Any]) -> None:
        if entry.titles and not answer.get("errors"):
            self._tasks.extend(payload["task"]["id"] for payload in answer["data"].values())


def _now() -> float:
    return asyncio.get_running_loop().time()


def _must_wait(status: int, answer: dict[str, Any]) -> float | None:
    """Seconds after which the same request has to be sent again; None for a final answer."""
    for error in answer.get("errors") or []:
        extensions = error.get("extensions", {})
        if extensions.get("code") in PASSING or "retryAfter" in extensions:
            return float(extensions.get("retryAfter") or 0.2)
    if status >= 500:
        return 0.2
    for payload in (answer.get("data") or {}).values():
        for item in (payload or {}).get("results", []):
            if not item["ok"] and item["error"]["code"] in PASSING:
                return 0.2
    return None


@dataclass(slots=True)
class Watcher:
    """Follows a workspace's log for ever, over WebSockets or event streams that come and go."""

    place: Place
    workspace_id: str
    start: str
    chance: random.Random
    over: str
    seen: list[Seen] = field(default_factory=list)
    cursor: str | None = None
    connections: int = 0

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            url = await self.place.url()
            self.connections += 1
            try:
                async with asyncio.timeout(self.chance.uniform(0.05, 6)):
                    if self.over == "websocket":
                        await self._over_websocket(url)
                    else:
                        await self._over_events(url)
            except BROKEN:
                await asyncio.sleep(self.chance.uniform(0, 0.1))
            except RefusedError as error:
                if error.code not in PASSING:
                    raise
                await asyncio.sleep(0.1)

    @property
    def _variables(self) -> dict[str, Any]:
        return {"workspaceId": self.workspace_id, "after": self.cursor or self.start}

    async def _over_websocket(self, url: str) -> None:
        address = f"ws{url.removeprefix('http')}/graphql"
        async with open_socket(address, self.place.server.token) as socket:
            operation = await socket.subscribe(EVENTS, self._variables)
            async for item in operation.items("events"):
                self._take(item)

    async def _over_events(self, url: str) -> None:
        async with HttpClient(url, self.place.server.token) as client:
            variables = {"workspaceId": self.workspace_id, "after": self.start}
            async with client.events(EVENTS, variables, last_event_id=self.cursor) as stream:
                async for event in stream:
                    if event.event == "next":
                        self._take(event.data["data"]["events"])

    def _take(self, item: dict[str, Any]) -> None:
        kind = item["__typename"]
        if kind == "Event":
            self.seen.append(Seen(item["seq"], item["type"], item["entityId"]))
        elif kind == "StreamClosed":
            assert item["reason"] in {"GOING_AWAY", "UNAVAILABLE"}, item
            return
        else:
            assert kind == "Checkpoint", item
        self.cursor = item["cursor"]


@dataclass(slots=True)
class MadeRun:
    """A run somebody had made, how many lines it was to print, and what of it was streamed."""

    task_id: str
    run_id: str
    expected: list[str]
    streamed: list[str] = field(default_factory=list)
    has_ended: bool = False


@dataclass(slots=True)
class RunMaker:
    """Has one run after another made, and follows the output of each to its end."""

    place: Place
    writer: Writer
    chance: random.Random
    runs: list[MadeRun] = field(default_factory=list)
    is_finishing: bool = False

    async def make_runs(self) -> None:
        """Until told to finish, and the last run has ended."""
        async with HttpClient("", self.place.server.token) as client:
            while not self.is_finishing:
                run = await self._make(client)
                self.runs.append(run)
                await self._follow(run)

    async def _make(self, client: HttpClient) -> MadeRun:
        lines, pause = self.chance.randint(20, 300), self.chance.randint(5, 25)
        script = f"do: count 1 {lines} {pause}\ndo: write {self.chance.random()}.txt done"
        entry = create_entry(self.writer.workspace_id, description=script)
        task = (await self.writer.insist(client, entry)).created()[0][0]
        entry = await self.writer.insist(client, start_entry(task["id"]))
        [payload] = entry.payloads()
        expected = [f"line {number}" for number in range(1, lines + 1)]
        return MadeRun(task["id"], payload["run"]["id"], expected)

    async def _follow(self, run: MadeRun) -> None:
        cursor = "EARLIEST"
        while not run.has_ended:
            url = await self.place.url()
            address = f"ws{url.removeprefix('http')}/graphql"
            try:
                async with open_socket(address, self.place.server.token) as socket:
                    variables = {"id": run.run_id, "after": cursor}
                    operation = await socket.subscribe(RUN_OUTPUT, variables)
                    async for item in operation.items("runOutput", within=120):
                        cursor = item["cursor"]
                        if item.get("stream") == "stdout":
                            run.streamed.append(item["text"])
                        run.has_ended = item.get("reason") == "ENDED"
            except BROKEN:
                await asyncio.sleep(0.05)
