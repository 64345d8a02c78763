"""What the pages say is done: documents in order on a real server, commands in a real shell."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from runner.executors.base import find_json_object
from runner.executors.progress import read_event
from server import demo_agent
from server.demo_client import BoardClient, BoardError, open_board
from tests.support.documents import PAGES, ROOT, Block, blocks
from tests.support.server import (
    READY,
    REDIS,
    RunningServer,
    a_server,
    fresh_postgres,
)

PATIENCE = 60.0
AGENT = [sys.executable, "-IS", str(Path(demo_agent.__file__).resolve()), "--pause=0.05"]
STORIES = [p for p in PAGES if any(b.kind in {"story", "sh"} for b in blocks(p))]
SERVES = [b for p in PAGES for b in blocks(p) if b.kind == "serve"]


def make_repository(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "README.md").write_text("# Repository\n")
    git = ["git", "-c", "user.name=T", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "Begin"]):
        subprocess.run([*git, *arguments], cwd=path, check=True)


@dataclass
class Place:
    """A folder that looks like the project's own to the commands of a page.

    ``make`` only tells what it would do, so that nothing is installed again.
    """

    folder: Path
    server: RunningServer | None = None
    words: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".venv").symlink_to(sys.prefix)
        for name in ("server", "docs", "deploy"):
            (self.folder / name).symlink_to(ROOT / name)
        bin_ = self.folder / "bin"
        bin_.mkdir()
        make = shutil.which("make")
        (bin_ / "make").write_text(f'#!/bin/sh\nexec {make} -n -C "{ROOT}" "$@"\n')
        (bin_ / "make").chmod(0o700)
        for number, path in enumerate(("a/git/repository", "another/repository")):
            repository = self.folder / f"repository-{number}"
            make_repository(repository)
            self.words[f"/path/to/{path}"] = str(repository)
        clean = {n: v for n, v in os.environ.items() if not n.startswith("DRAGOMAN_")}
        self.environment |= {
            **clean,
            "PATH": f"{bin_}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NO_PROXY": "127.0.0.1",
            "HOME": str(self.folder),
        }
        if self.server is not None:
            self.words["http://127.0.0.1:8000"] = self.server.url
            self.environment |= self.server.environment() | {
                "PATH": self.environment["PATH"],
                "TOKEN": self.server.token,
            }

    def text_of(self, block: Block) -> str:
        """The block with the words that this machine and this run have for its words."""
        text = block.text
        for word, meaning in self.words.items():
            text = re.sub(rf"(?<![A-Z_]){re.escape(word)}(?![A-Z_])", meaning, text)
        return text

    def shell(self, text: str) -> str:
        """Run a block; what it says on standard output."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def custom_command() -> str:
    return json.dumps([*AGENT, "{prompt_file}"])


def value_at(data: Any, path: str) -> Any:
    for name in path.split("."):
        data = (data or {}).get(name) if isinstance(data, dict) else None
    return data


@pytest.mark.long
@pytest.mark.parametrize("page", STORIES, ids=lambda page: page.name)
async def test_a_page_can_be_followed_from_top_to_bottom(
    page: Path, tmp_path: Path, custom_command: str
) -> None:
    with a_server(tmp_path / "s", custom_command=custom_command) as server:
        place = Place(tmp_path / "project", server)
        async with open_board(server.url, server.token) as board:
            for block in blocks(page):
                if block.kind == "story":
                    await follow(board, place, block)
                elif block.kind == "sh":
                    said = await asyncio.to_thread(place.shell, place.text_of(block))
                    assert all(word in said for word in block.options("expect")), said


async def follow(board: BoardClient, place: Place, block: Block) -> None:
    """Execute one document as its comment says."""
    text = place.text_of(block)
    if errors := block.options("error"):
        with pytest.raises(BoardError) as refusal:
            await board.ask(text)
        assert [refusal.value.code] == errors
        return
    if until := block.options("until"):
        path, _, wanted = until[0].partition("=")
        seen = []
        async with asyncio.timeout(PATIENCE), aclosing(board.follow(text)) as items:
            async for data in items:
                seen.append(data)
                if str(value_at(data, path)) == wanted:
                    return
        raise AssertionError(f"{block}: never {until}: {seen}")
    data = await board.ask(text)
    for kept in block.options("keep"):
        name, _, path = kept.partition("=")
        place.words[name] = str(value_at(data, path))
    for expected in block.options("expect"):
        path, _, wanted = expected.partition("=")
        assert str(value_at(data, path)) == wanted, f"{block}: {data}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def services(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Addresses of examples and what they mean here."""
    block: Block = request.getfixturevalue("block")
    if not block.has("postgres"):
        yield {}
        return
    with fresh_postgres() as url:
        yield {
            "postgresql://dragoman:secret@db.example.org/dragoman": url,
            "redis://redis.example.org:6379/0": f"{REDIS}/0",
        }


def _marked(block: Block) -> Any:
    marks = [getattr(pytest.mark, name) for name in ("postgres", "redis") if block.has(name)]
    return pytest.param(block, marks=[*marks, pytest.mark.long], id=str(block))


@pytest.mark.parametrize("block", [_marked(block) for block in SERVES])
def test_a_server_starts_as_it_is_written(
    block: Block, tmp_path: Path, services: dict[str, str]
) -> None:
    place = Place(tmp_path / "project", words=services)
    text = place.text_of(block).replace("make serve", ".venv/bin/dragoman serve")
    text = text.replace("--port 8000", "--port 0")
    process = subprocess.Popen(
        ["bash", "-euc", re.sub(r"^(\S*dragoman serve)", r"exec \1", text, flags=re.MULTILINE)],
        cwd=place.folder,
        env={**place.environment, "DRAGOMAN_PORT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert READY.search(line), f"{line}\n{complaint}"


@pytest.mark.long
def test_backup_and_restore_begin_a_new_epoch(tmp_path: Path) -> None:
    page = ROOT / "docs" / "operator.md"
    [backup] = [block for block in blocks(page) if block.kind == "backup"]
    [restore] = [block for block in blocks(page) if block.kind == "restore"]
    with a_server(tmp_path) as server:
        place = Place(tmp_path, server)
        early = asyncio.run(_make_workspace(server, "Kept"))
        place.shell(place.text_of(backup))
        late = asyncio.run(_make_workspace(server, "Lost"))
        server.stop()
        place.shell(place.text_of(restore))
        assert (tmp_path / "backup.keys").read_bytes() == (
            tmp_path / "data" / "secret.keys"
        ).read_bytes()
        server.start()
        assert asyncio.run(_first_item(server, after=late)) == "ResyncRequired EPOCH_CHANGED"
        assert asyncio.run(_first_item(server, after=early)) == "ResyncRequired EPOCH_CHANGED"
        with sqlite3.connect(tmp_path / "data" / "dragoman.db") as database:
            assert database.execute("SELECT name FROM workspace").fetchall() == [("Kept",)]


async def _make_workspace(server: RunningServer, name: str) -> str:
    """The cursor of the site's log after a workspace was made."""
    made = (
        "mutation ($name: String!) { createWorkspace(input: {name: $name}) { workspace { id } } }"
    )
    head = 'subscription { events(after: "EARLIEST") { ... on Event { cursor type payload } } }'
    async with open_board(server.url, server.token) as board:
        answer = await board.ask(made, name=name)
        identifier = answer["createWorkspace"]["workspace"]["id"]
        async with asyncio.timeout(PATIENCE), aclosing(board.follow(head)) as items:
            async for data in items:
                if identifier in json.dumps(data["events"]):
                    return str(data["events"]["cursor"])
    raise AssertionError("the site's log does not tell of it")


async def _first_item(server: RunningServer, *, after: str) -> str:
    query = (
        "subscription ($after: String) { events(after: $after) {"
        " __typename ... on ResyncRequired { reason } } }"
    )
    async with (
        asyncio.timeout(PATIENCE),
        open_board(server.url, server.token) as board,
        aclosing(board.follow(query, after=after)) as items,
    ):
        async for data in items:
            return " ".join(data["events"].values())
    raise AssertionError("the stream ended")


def test_the_agent_of_the_page_tells_progress(tmp_path: Path) -> None:
    [block] = [b for b in blocks(ROOT / "docs" / "operator.md") if b.kind == "agent"]
    place = Place(tmp_path)
    said = place.shell(place.text_of(block).replace("demo_agent.py ", "demo_agent.py --pause 0 "))
    events = [read_event(find_json_object(line)) for line in said.splitlines()]
    assert events[-1].type == "result"
    assert (tmp_path / "hello.txt").exists()


# --- the example program ---


@dataclass
class Cable:
    """Passes connections on to a server, and cuts all of them every so many bytes."""

    target: int
    cut_after: int
    port: int = 0
    cuts: int = 0
    _open: list[asyncio.StreamWriter] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cut()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._open += [writer, to_writer]
        pumps = [
            asyncio.create_task(self._pump(reader, to_writer, counted=False)),
            asyncio.create_task(self._pump(to_reader, writer, counted=True)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, to_writer):
            end.close()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        passed = 0
        try:
            while data := await reader.read(256):
                writer.write(data)
                await writer.drain()
                passed += len(data)
                if counted and passed > self.cut_after:
                    self.cuts += 1
                    writer.transport.abort()
                    return
        except OSError:
            return

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()


@pytest.mark.long
async def test_the_example_survives_a_bad_connection(tmp_path: Path, custom_command: str) -> None:
    repository = tmp_path / "repository"
    make_repository(repository)
    with a_server(tmp_path / "s", custom_command=custom_command) as server:
        port = int(server.url.rpartition(":")[2])
        async with Cable(port, cut_after=1500) as cable:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(ROOT / "docs" / "examples" / "story.py"),
                f"http://127.0.0.1:{cable.port}",
                str(repository),
                env={**os.environ, "DRAGOMAN_TOKEN": server.token, "NO_PROXY": "127.0.0.1"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(PATIENCE):
                out, complaint = await process.communicate()
        assert process.returncode == 0, complaint.decode()
        assert cable.cuts >= 3
        async with open_board(server.url, server.token) as board:
            counted = await board.ask("{ workspaces { totalCount } tasks { totalCount } }")
    said = out.decode()
    numbers = [int(n) for n in re.findall(r"^ +(\d+) ", said, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "Branch dragoman/task-1-say-hello" in said
    assert "COMPLETED, merged as" in said
    assert counted == {"workspaces": {"totalCount": 1}, "tasks": {"totalCount": 1}}


# --- metrics ---


async def test_the_documented_metrics_are_told(tmp_path: Path) -> None:
    port = free_port()
    with a_server(tmp_path, metrics_port=str(port)) as server:
        await _make_workspace(server, "Counted")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
    named = re.findall(
        r"^\| `(dragoman_\w+)`", (ROOT / "docs/operator.md").read_text(), re.MULTILINE
    )
    assert len(named) >= 9
    for name in named:
        assert f"# TYPE {name} " in text
    for counted in (
        "dragoman_events_appended_total",
        "dragoman_db_write_wait_seconds_count",
        'dragoman_graphql_operation_seconds_count{kind="mutation"',
        "dragoman_websockets_ended_total{",
    ):
        values = [line for line in text.splitlines() if line.startswith(counted)]
        assert values, counted
        assert float(values[0].rpartition(" ")[2]) > 0, values
