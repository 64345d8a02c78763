"""The load of one slice: eight connections that ask again as soon as they are answered.

wrk does it where it is installed; otherwise a program of ours in a process of its own, which takes
more CPU itself (that is not what is measured, but it lowers requests per second).
"""

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.processes import cores

CONNECTIONS = 8
LUA = Path(__file__).with_name("load.lua")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice of load saw; times in seconds, sizes in bytes. ``failed`` has to be 0."""

    requests: int
    failed: int
    seconds: float
    size: float
    p50: float
    p99: float
    example: str = ""


def generator() -> str:
    """What makes the load on this machine."""
    return "wrk" if shutil.which("wrk") else "benchmarks.load"


def load(
    url: str, headers: Mapping[str, str], bodies: Path, *, seconds: float, offset: int = 0
) -> Slice:
    """Ask for a while, from the ``offset``-th body of the file on."""
    environment = {
        "LOAD_BODIES": str(bodies),
        "LOAD_OFFSET": str(offset),
        "LOAD_HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items()),
    }
    if generator() == "wrk":
        duration = f"{max(1, round(seconds))}s"
        connections = f"-c{CONNECTIONS}"
        command = ["wrk", "-t1", connections, f"-d{duration}", "--timeout", "10s", "--latency"]
        output = _run([*command, "-s", str(LUA), url], environment)
        return _of_wrk(output)
    output = _run([sys.executable, "-m", "benchmarks.load", url, str(seconds)], environment)
    return Slice(**json.loads(output))


def _run(command: list[str], environment: dict[str, str]) -> str:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    os.sched_setaffinity(process.pid, cores()[1])
    output, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the load failed: {output}")
    return output


def _of_wrk(output: str) -> Slice:
    lines = dict(line.partition(" ")[::2] for line in output.splitlines())
    requests, failed, duration, size, p50, p99 = map(int, lines["RESULT"].split())
    return Slice(
        requests,
        failed,
        duration / 1e6,
        size / max(1, requests),
        p50 / 1e6,
        p99 / 1e6,
        lines.get("EXAMPLE", ""),
    )


# --- our own ---


class _Load:
    def __init__(self, url: str) -> None:
        self.address = urlsplit(url)
        self.bodies = Path(os.environ["LOAD_BODIES"]).read_text().splitlines()
        self.position = int(os.environ["LOAD_OFFSET"])
        self.headers = os.environ["LOAD_HEADERS"].replace("\n", "\r\n")
        self.latencies: list[float] = []
        self.size = self.failed = 0
        self.example = ""

    async def run(self, seconds: float) -> Slice:
        began = time.perf_counter()
        self.end = began + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._connection())
        taken = time.perf_counter() - began
        requests = len(self.latencies)
        p99 = statistics.quantiles(self.latencies, n=100)[98] if requests > 1 else 0.0
        p50 = statistics.median(self.latencies or [0.0])
        mean = self.size / max(1, requests)
        return Slice(requests, self.failed, taken, mean, p50, p99, self.example)

    async def _connection(self) -> None:
        host, port = self.address.hostname, self.address.port
        reader, writer = await asyncio.open_connection(host, port)
        while (began := time.perf_counter()) < self.end:
            body = self.bodies[self.position % len(self.bodies)].encode()
            self.position += 1
            head = f"POST {self.address.path} HTTP/1.1\r\nHost: {host}:{port}\r\n{self.headers}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await self._answer(reader)
            self.latencies.append(time.perf_counter() - began)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        self.size += len(head) + length
        if not head.startswith(b"http/1.1 200") or b'"errors":' in body:
            self.failed += 1
            self.example = self.example or body[:300].decode(errors="replace")


def main() -> None:
    url, seconds = sys.argv[1:]
    print(json.dumps(asdict(asyncio.run(_Load(url).run(float(seconds))))))


if __name__ == "__main__":
    main()
