"""The load of W4: many graphql-transport-ws subscribers, and moves at fixed due times.

Runs in a process of its own, on another core than the server: ``python -m benchmarks.subscribers``
reads a ``Job`` as JSON from stdin and prints a ``Seen``.
"""

import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import statistics
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks.processes import cpu_seconds

PUBLISHERS = 8
PATIENCE = 30.0
DRAIN = 10.0
MASK = b"\x00\x00\x00\x00"  # a client masks its frames; this mask changes nothing


@dataclass(frozen=True, slots=True)
class Job:
    """What to do to one server.

    ``marker`` is what stands before an event's number in a message; numbers are consecutive.
    Subscriber i uses the i-th token, going round; none where the list is empty. Moves begin at
    ``offset`` of their circle: one made twice in a row would change nothing the second time.
    """

    url: str
    pids: list[int]
    subscription: dict[str, Any]
    marker: str
    moves: list[str]
    tokens: list[str] = field(default_factory=list)
    subscribers: int = 200
    rate: float = 200.0
    warm_up: float = 3.0
    seconds: float = 10.0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was published and delivered in the window; latencies are seconds from the due time.

    ``offset`` is where the next load goes on in the circle of moves.
    """

    published: int
    expected: int
    delivered_in_time: int
    delivered: int
    seconds: float
    cpu: float
    size: float
    p50: float
    p99: float
    offset: int
    problems: list[str]


def text_frame(text: bytes) -> bytes:
    """One masked text frame."""
    size = len(text)
    if size < 126:
        return struct.pack("!BB", 0x81, 0x80 | size) + MASK + text
    return struct.pack("!BBH", 0x81, 0x80 | 126, size) + MASK + text


class Subscriber(asyncio.Protocol):
    """One WebSocket with one subscription; keeps the times at which numbers arrived."""

    def __init__(self, job: Job, token: str | None, times: list[tuple[int, float]]) -> None:
        self.job = job
        self.token = token
        self.times = times
        self.marker = job.marker.encode()
        self.buffer = bytearray()
        self.is_open = False
        self.last: int | None = None
        self.count = self.size = 0
        self.problem = ""
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        address = urlsplit(self.job.url)
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n".encode()
        )

    def send(self, message: dict[str, Any]) -> None:
        self.transport.write(text_frame(json.dumps(message).encode()))

    def connection_lost(self, exc: Exception | None) -> None:
        self.problem = self.problem or f"closed: {exc}"
        if not self.ready.done():
            self.ready.set_exception(SystemExit(self.problem))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        buffer = self.buffer
        buffer += data
        if not self.is_open:
            head, separator, rest = bytes(buffer).partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                raise SystemExit(head.decode())
            self.is_open, self.buffer = True, bytearray(rest)
            buffer = self.buffer
            payload = {"authorization": f"Bearer {self.token}"} if self.token else {}
            self.send({"type": "connection_init", "payload": payload})
        at = 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1] & 127, at + 2
            if size == 126:
                if len(buffer) - at < 4:
                    break
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            elif size == 127:
                self.problem = "a message of more than 64 KiB"
                break
            if len(buffer) < start + size:
                break
            self.frame(buffer[at] & 15, buffer[start : start + size], now)
            at = start + size
        del buffer[:at]

    def frame(self, opcode: int, text: bytearray, now: float) -> None:
        found = text.find(self.marker)
        if opcode == 1 and found >= 0:
            start = found + len(self.marker)
            end = start
            while 48 <= text[end] <= 57:
                end += 1
            number = int(text[start:end])
            if self.last is not None and number != self.last + 1:
                self.problem = self.problem or f"{number} after {self.last}"
            self.last = number
            self.count += 1
            self.size += len(text)
            self.times.append((number, now))
        elif opcode == 9:
            self.transport.write(bytes([0x8A, 0x80]) + MASK)
        else:
            self.other(opcode, text)

    def other(self, opcode: int, text: bytearray) -> None:
        message = json.loads(text) if opcode == 1 else {"type": f"opcode {opcode} {bytes(text)!r}"}
        match message["type"]:
            case "connection_ack":
                payload = self.job.subscription
                self.send({"id": "1", "type": "subscribe", "payload": payload})
                self.ready.set_result(None)
            case "ping":
                self.send({"type": "pong"})
            case "next" if not message["payload"].get("errors"):
                return  # a checkpoint
            case _:
                self.problem = self.problem or str(message)[:300]


class Publisher:
    """Moves over kept connections, each as soon as it is due and a connection is free."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.position = job.offset
        self.due: asyncio.Queue[float | None] = asyncio.Queue()
        self.published: list[float] = []
        self.problems: list[str] = []

    async def connection(self) -> None:
        address = urlsplit(self.job.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        token = f"Authorization: Bearer {self.job.tokens[0]}\r\n" if self.job.tokens else ""
        while (due := await self.due.get()) is not None:
            body = self.job.moves[self.position % len(self.job.moves)].encode()
            self.position += 1
            self.published.append(due)
            writer.write(
                f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n{token}"
                "Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            self.due.task_done()
            if not head.startswith(b"http/1.1 200") or b'"errors":' in answer:
                self.problems.append(answer[:300].decode())
        writer.close()

    async def run(self, seconds: float) -> None:
        """Make moves due for a while, whether or not the server keeps up."""
        began = time.perf_counter()
        for number in range(round(seconds * self.job.rate)):
            due = began + number / self.job.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self.due.put_nowait(due)

    async def caught_up(self) -> None:
        """Wait until nothing is due, as long as that may take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                await self.due.join()


async def _settled(crowd: list[Subscriber], expected: int) -> None:
    """Wait until everybody has everything, as long as that may take."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN):
            while any(one.count < expected for one in crowd):  # noqa: ASYNC110  # counts change
                await asyncio.sleep(0.02)


async def run(job: Job) -> Seen:
    """Subscribe, warm up, publish for the time of the window, let the rest arrive."""
    loop = asyncio.get_running_loop()
    address = urlsplit(job.url)
    times: list[tuple[int, float]] = []
    crowd: list[Subscriber] = []
    for number in range(job.subscribers):
        token = job.tokens[number % len(job.tokens)] if job.tokens else None
        _, one = await loop.create_connection(
            lambda token=token: Subscriber(job, token, times), address.hostname, address.port
        )
        crowd.append(one)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(one.ready for one in crowd))
    await asyncio.sleep(1)  # until all have subscribed: the protocol acknowledges no subscription
    publisher = Publisher(job)
    connections = [asyncio.create_task(publisher.connection()) for _ in range(PUBLISHERS)]
    await publisher.run(job.warm_up)
    await publisher.caught_up()
    await _settled(crowd, len(publisher.published))
    warm = len(publisher.published)
    before = [(one.count, one.size) for one in crowd]
    times.clear()
    cpu, began = cpu_seconds(job.pids), time.perf_counter()
    await publisher.run(job.seconds)
    in_time = len(times)
    seconds = time.perf_counter() - began
    await publisher.caught_up()
    await _settled(crowd, len(publisher.published))
    cpu = cpu_seconds(job.pids) - cpu
    for _ in connections:
        publisher.due.put_nowait(None)
    published = len(publisher.published) - warm
    problems = [*publisher.problems, *(one.problem for one in crowd if one.problem)]
    delivered = sum(one.count - old for one, (old, _) in zip(crowd, before, strict=True))
    size = sum(one.size - old for one, (_, old) in zip(crowd, before, strict=True))
    first = min((number for number, _ in times), default=0)
    due = publisher.published[warm:]
    late = [at - due[number - first] for number, at in times if number - first < len(due)]
    cuts = statistics.quantiles(late, n=100) if len(late) > 1 else [0.0] * 99
    return Seen(
        published=published,
        expected=published * job.subscribers,
        delivered_in_time=in_time,
        delivered=delivered,
        seconds=seconds,
        cpu=cpu,
        size=size / max(1, delivered),
        p50=cuts[49],
        p99=cuts[98],
        offset=publisher.position,
        problems=problems[:3],
    )


def main() -> None:
    import uvloop

    job = Job(**json.load(sys.stdin))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(dataclasses.asdict(runner.run(run(job)))))
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
