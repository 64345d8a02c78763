import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from functools import partial
from pathlib import Path

import pytest

from runner.executors.base import find_json_object
from runner.executors.progress import read_event
from server import demo_agent
from server.demo import run_demo
from server.demo_client import BoardError, open_board, websocket_address
from server.demo_screen import Screen
from tests.support.server import PROGRAM, a_server

AGENT = str(Path(demo_agent.__file__).resolve())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where temporary files are made, so that what is left can be seen."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that mention a folder or work in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
                place = str((entry / "cwd").readlink())
            except OSError:
                continue
            if line and (str(folder) in line or place.startswith(str(folder))):
                found.append(line)
    return found


async def test_the_story_is_told_and_nothing_is_left(
    temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run_demo(url=None, token=None, pause=0.01) == 0
    said = capsys.readouterr().out
    for part in (
        r"server +http://127\.0\.0\.1:\d+",
        r"task +#1 Say hello",
        r"task +QUEUED → IN_PROGRESS",
        r"changes +hello\.txt \(add\)",
        r"task +IN_PROGRESS → REVIEW",
        r"branch +dragoman/task-1-say-hello at [0-9a-f]{12}",
        r"changed +2 files, \+3 -0 lines",
        r"\+Hello! This repository greets its reader\.",
        r"task +REVIEW → COMPLETED",
        r"merged +[0-9a-f]+ Merge dragoman/task-1-say-hello: Say hello \(into main\)",
    ):
        assert re.search(part, said), f"{part}\n{said}"
    assert "\x1b" not in said
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


@pytest.mark.long
async def test_an_interrupted_demo_leaves_nothing(temporary: Path) -> None:
    # What a shell starts in the background ignores SIGINT, and so would what it starts in turn.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM), "demo", stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, preexec_fn=listening
    )
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(60):
        while "uses       look" not in said:
            line = await process.stdout.readline()
            assert line, said
            said += line.decode()
        process.send_signal(signal.SIGINT)
        said += (await process.stdout.read()).decode()
        assert await process.wait() == 130, said
    assert "Interrupted" in said
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


@pytest.mark.long
async def test_a_running_server_is_used_and_left_as_it_was(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = json.dumps([sys.executable, "-IS", AGENT, "--pause=0.01", "{prompt_file}"])
    with a_server(tmp_path / "s", custom_command=command) as server:
        assert await run_demo(url=server.url, token=server.token) == 0
        async with open_board(f"{server.url}/", server.token) as board:
            left = await board.ask("{ workspaces { totalCount } }")
        assert left == {"workspaces": {"totalCount": 0}}
    assert "REVIEW → COMPLETED" in capsys.readouterr().out
    assert [path for path in temporary.iterdir() if path.name.startswith("dragoman-demo")] == []


async def test_what_is_missing_is_said(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with a_server(tmp_path / "s", custom_command="") as server:
        assert await run_demo(url=server.url, token=None) == 1
        assert "--token or DRAGOMAN_TOKEN" in capsys.readouterr().out
        assert await run_demo(url=server.url, token="dgm_wrong") == 1
        assert "4401" in capsys.readouterr().out
        assert await run_demo(url=server.url, token=server.token) == 1
        said = capsys.readouterr().out
        assert "Not configured: set DRAGOMAN_CUSTOM_COMMAND" in said
        assert AGENT[-20:] in said
    assert await run_demo(url="http://127.0.0.1:1", token="x") == 1
    assert "Nobody answers at http://127.0.0.1:1" in capsys.readouterr().out


@pytest.mark.long
async def test_a_failed_run_is_told_with_its_reason(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = json.dumps([sys.executable, "-c", "print('no idea'); raise SystemExit(3)"])
    with a_server(tmp_path / "s", custom_command=command) as server:
        assert await run_demo(url=server.url, token=server.token) == 1
    said = capsys.readouterr().out
    assert "The task is FAILED: The agent ended with exit code 3" in said
    assert "no idea" in said


def test_every_line_of_the_scripted_agent_is_a_progress_event(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.md"
    prompt.write_text("# Say hello\n\nPlease.\n")
    folder = tmp_path / "work"
    folder.mkdir()
    for expected in ("hello.txt", "hello.txt and README.md"):
        result = subprocess.run(
            [sys.executable, "-I", "-S", AGENT, "--pause", "0", str(prompt)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        events = [read_event(find_json_object(line)) for line in result.stdout.splitlines()]
        assert events[-1].type == "result"
        assert expected in result.stdout.splitlines()[-1]
        (folder / "README.md").write_text("# Work\n")
    assert (folder / "hello.txt").read_text() == demo_agent.GREETING


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/graphql"),
        ("https://board.example.org/base/", "wss://board.example.org/base/graphql"),
        ("http://[::1]:8000/graphql", "ws://[::1]:8000/graphql"),
    ],
)
def test_addresses(given: str, expected: str) -> None:
    assert websocket_address(given) == expected


@pytest.mark.parametrize("given", ["", "board.example.org", "ftp://x", "http://"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(BoardError, match="is not an address"):
        websocket_address(given)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours_and_a_status_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    screen = Screen(terminal)
    screen.status("half done")
    screen.diff("-old\n+new")
    said = terminal.getvalue()
    assert "\x1b[31m-old" in said
    assert "\x1b[32m+new" in said
    assert said.count("half done") == 3


def test_nothing_an_agent_says_steers_the_terminal() -> None:
    plain = io.StringIO()
    Screen(plain).event({"type": "message", "text": "a\x1b]0;title\x07b\rc\n\x9bd"})
    said = plain.getvalue()
    assert said.endswith("\n")
    assert said[:-1].isprintable()
