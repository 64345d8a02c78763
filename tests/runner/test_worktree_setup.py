"""Preparing worktrees: what is copied and what is not, and commands under supervision."""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from runner import worktree_setup
from runner.process_table import read_table
from runner.worktree_setup import (
    SetupCommands,
    SetupError,
    SetupStoppedError,
    WorktreeSetup,
    copy_files,
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "config" / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in (".env", "config/a.local", "config/deep/b.local", ".git/config", "plain.txt"):
        (folder / name).write_text(f"of the checkout: {name}\n")
    (folder / ".env").chmod(0o640)
    return folder


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    folder = tmp_path / "worktree"
    folder.mkdir()
    return folder


def files_of(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def test_files_folders_and_patterns_are_copied(checkout: Path, worktree: Path) -> None:
    told = copy_files(checkout, worktree, [".env", "config/", "**/*.local", "missing"])
    assert files_of(worktree) == {".env", "config/a.local", "config/deep/b.local"}
    assert (worktree / ".env").read_text() == "of the checkout: .env\n"
    assert (worktree / ".env").stat().st_mode & 0o777 == 0o600
    assert told[0] == "There is no missing to copy"
    assert told[-1].startswith("Copied 3 files")


def test_what_is_there_stays(checkout: Path, worktree: Path) -> None:
    (worktree / ".env").write_text("tracked\n")
    copy_files(checkout, worktree, [".env"])
    assert (worktree / ".env").read_text() == "tracked\n"


def test_nothing_comes_from_outside_the_checkout(
    checkout: Path, worktree: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret\n")
    (checkout / "out").symlink_to(secret)
    (checkout / "key").symlink_to(secret / "key")
    (checkout / "config" / "key").symlink_to(secret / "key")
    (checkout / "inside").symlink_to(checkout / "plain.txt")
    (checkout / "git").symlink_to(checkout / ".git")
    os.mkfifo(checkout / "pipe")
    names = ["out", "key", "config", "inside", "git", "pipe", "out/key", "*"]
    told = copy_files(checkout, worktree, names)
    assert not any("secret" in (worktree / name).read_text() for name in files_of(worktree))
    assert "config/key" not in files_of(worktree)
    assert (worktree / "inside").read_text() == "of the checkout: plain.txt\n"
    assert not (worktree / "inside").is_symlink()
    assert ".git/config" not in files_of(worktree)
    assert not (worktree / "git").exists()
    assert {text.split(" ")[0] for text in told} >= {"out", "key", "git", "pipe"}


def test_nothing_goes_out_of_the_worktree(checkout: Path, worktree: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # A repository may track such links.
    (worktree / "config").symlink_to(elsewhere)
    (worktree / ".env").symlink_to(elsewhere / "env")
    told = copy_files(checkout, worktree, ["config", ".env"])
    assert files_of(elsewhere) == set()
    assert any("would leave the worktree" in text for text in told)


def test_too_much_is_refused(
    checkout: Path, worktree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (checkout / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SetupError, match="too much"):
        copy_files(checkout, worktree, ["huge"])
    assert not (worktree / "huge").exists()
    monkeypatch.setattr(worktree_setup, "MAX_COPY_FILES", 1)
    with pytest.raises(SetupError, match="too much"):
        copy_files(checkout, worktree, ["config"])


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        (".env", ".env", True),
        (".env", "src/.env", False),
        (".env", ".env.example", False),
        ("config/", "config/deep/b.local", True),
        ("config", "config2/x", False),
        ("**/*.local", "a.local", True),
        ("**/*.local", "config/deep/b.local", True),
        ("*.pem", "key.pem", True),
    ],
)
def test_what_is_copied_is_known_again(pattern: str, path: str, *, covered: bool) -> None:
    assert WorktreeSetup(copy=(pattern,)).covers(path) is covered


# --- commands ---


class Told(list[str]):
    async def __call__(self, lines: Sequence[str]) -> None:
        self.extend(lines)


def commands(tmp_path: Path, seconds: float = 20) -> SetupCommands:
    heartbeat = tmp_path / "heartbeat"
    heartbeat.touch()
    return SetupCommands(
        run_id=str(uuid.uuid4()),
        folder=tmp_path / "runs",
        prefix="1-setup",
        heartbeat=heartbeat,
        seconds=seconds,
        orphan_after=600,
        stop_grace=0.3,
    )


async def run(tmp_path: Path, worktree: Path, *argv: str, seconds: float = 20) -> Told:
    told = Told()
    await commands(tmp_path, seconds).run(
        argv, number=0, cwd=worktree, tell=told, stopped=asyncio.Event()
    )
    return told


PYTHON = (sys.executable, "-I", "-S", "-c")


async def test_a_command_runs_in_the_worktree_without_a_shell_and_is_seen(
    tmp_path: Path, worktree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAGOMAN_SECRET_KEYS", "hidden")
    source = (
        "import os, sys; print(sys.argv[1], os.getcwd(), *os.environ); print('e', file=sys.stderr)"
    )
    told = await run(tmp_path, worktree, *PYTHON, source, "$(touch x); `y`")
    assert told[0].startswith("$ ")
    assert told[1].startswith(f"$(touch x); `y` {worktree.resolve()} ")
    assert "DRAGOMAN_SECRET_KEYS" not in told[1]
    assert told[2] == "e"
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((*PYTHON, "print('why'); raise SystemExit(3)"), "exit code 3\n\nwhy"),
        ((*PYTHON, "import os; os.kill(os.getpid(), 9)"), "signal 9"),
        (("no-such-program-of-mine",), "spawn_error"),
        ((*PYTHON, "import time; time.sleep(60)"), "took longer than 1 s"),
        ((*PYTHON, "while True: print('x' * 1000)"), "output_limit"),
    ],
)
async def test_a_command_that_fails_is_told_with_its_words(
    tmp_path: Path, worktree: Path, argv: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SetupError) as failure:
        await run(tmp_path, worktree, *argv, seconds=1)
    assert words in str(failure.value)
    assert "Preparing the worktree failed" in str(failure.value)


async def test_a_stop_ends_the_command_and_all_it_started(tmp_path: Path, worktree: Path) -> None:
    source = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if not os.fork(): os.setsid()\n"
        "open('here', 'a').write(f'{os.getpid()} ')\n"
        "time.sleep(600)\n"
    )
    stopped = asyncio.Event()
    work = asyncio.create_task(
        commands(tmp_path).run(
            (*PYTHON, source), number=0, cwd=worktree, tell=Told(), stopped=stopped
        )
    )
    here = worktree / "here"
    deadline = time.monotonic() + 10
    while not here.exists() or len(here.read_text().split()) < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    pids = {int(word) for word in here.read_text().split()}
    stopped.set()
    with pytest.raises(SetupStoppedError):
        await work
    assert not pids & read_table().keys()
