"""Commands on a real server: run, refused, streamed, stopped, kept; and hostile repositories."""

import asyncio
import contextlib
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.board import Board, git
from tests.support.clients import HttpClient, RefusedError
from tests.support.server import RunningServer

RUN = """
mutation ($input: RunCommandInput!) {
  runCommand(input: $input) { run { id kind status command executor } cursor }
}
"""
CHECK = """
query ($id: ID!, $command: String!) {
  checkCommand(workspaceId: $id, command: $command) {
    allowed safe argv alternatives issues { code message }
  }
}
"""
HISTORY = """
query ($id: ID!, $live: Boolean, $everyone: Boolean!) {
  commands(workspaceId: $id, live: $live, everyone: $everyone) {
    nodes { id command status exitCode startedAt finishedAt }
  }
  runs(workspaceId: $id) { nodes { id } }
}
"""
SUGGEST = """
query ($id: ID!) {
  commandSuggestions(workspaceId: $id, prefix: "git ") { command category }
  own: commandSuggestions(workspaceId: $id, category: "own") { command }
}
"""
STOP = "mutation ($id: ID!) { stopRun(id: $id) { run { status } } }"
MARK = "hostile code ran"
HOOKS = (
    "pre-commit", "post-commit", "commit-msg", "prepare-commit-msg", "post-index-change",
    "fsmonitor-watchman", "reference-transaction",
)  # fmt: skip


async def start(board: Board, command: str, **fields: Any) -> dict[str, Any]:
    given = {"workspaceId": board.id, "command": command, **fields}
    found = await board.ask(RUN, {"input": given})
    run: dict[str, Any] = found["runCommand"]["run"]
    return run


async def run_to_end(board: Board, command: str, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    run = await start(board, command, **fields)
    ended = await board.until_run(run)
    return ended, [text for _, text in await board.output(run)]


async def test_a_command_runs_in_the_folder_and_is_kept(board: Board) -> None:
    (board.repository / "sub").mkdir()
    (board.repository / "sub" / "a.txt").write_text("one\ntwo\n")
    run = await start(board, "cat a.txt", workingDirectory="sub")
    assert (run["kind"], run["command"]) == ("COMMAND", "cat a.txt")
    ended = await board.until_run(run)
    assert (ended["status"], ended["exitCode"]) == ("COMPLETED", 0)
    assert await board.output(run) == [("stdout", "one"), ("stdout", "two")]
    ended, lines = await run_to_end(board, "ls nothing-there")
    assert (ended["status"], ended["reason"], ended["exitCode"]) == ("FAILED", "exit_code", 2)
    assert "nothing-there" in lines[0]

    found = await board.ask(HISTORY, {"id": board.id, "everyone": False})
    shown = [(c["command"], c["status"]) for c in found["commands"]["nodes"]]
    assert shown == [("ls nothing-there", "FAILED"), ("cat a.txt", "COMPLETED")]
    assert found["runs"]["nodes"] == []
    found = await board.ask(SUGGEST, {"id": board.id})
    assert {"command": "git add .", "category": "git"} in found["commandSuggestions"]
    assert found["own"] == [{"command": "cat a.txt"}]


async def test_git_works_as_it_should(board: Board) -> None:
    (board.repository / "new.txt").write_text("new\n")
    assert (await run_to_end(board, "git status --short"))[1] == ["?? new.txt"]
    assert (await run_to_end(board, "git add ."))[0]["status"] == "COMPLETED"
    ended, _ = await run_to_end(board, "git commit -m 'More; of $it'")
    assert ended["status"] == "COMPLETED"
    assert git(board.repository, "log", "-1", "--format=%s") == "More; of $it"
    _, lines = await run_to_end(board, "git log --oneline -n 1")
    assert lines[0].endswith("More; of $it")


async def test_refusals_say_why_and_start_nothing(board: Board) -> None:
    for command, code, issue in (
        ("rm -rf .", "INVALID", "DESTRUCTION"),
        ("make", "FORBIDDEN", "NOT_ALLOWED"),
        ("git push", "FORBIDDEN", "ARGUMENT"),
        ("ls | cat", "INVALID", "SHELL"),
        ("cat /etc/hostname", "INVALID", "PATH"),
    ):
        with pytest.raises(RefusedError) as refused:
            await start(board, command)
        extensions = refused.value.errors[0]["extensions"]
        assert extensions["code"] == code
        assert issue in extensions["issues"]
        assert extensions["warnings"]
        found = (await board.ask(CHECK, {"id": board.id, "command": command}))["checkCommand"]
        assert (found["allowed"], found["argv"]) == (False, [])
        assert issue in {problem["code"] for problem in found["issues"]}
    found = await board.ask(CHECK, {"id": board.id, "command": "ls -l"})
    assert found["checkCommand"]["argv"] == ["ls", "-l"]
    with pytest.raises(RefusedError, match="leads out"):
        await start(board, "ls", workingDirectory="..")
    with pytest.raises(RefusedError, match="not a folder"):
        await start(board, "ls", workingDirectory="README.md")
    found = await board.ask(HISTORY, {"id": board.id, "everyone": False})
    assert found["commands"]["nodes"] == []


async def test_a_command_is_stopped_and_timed_out(board: Board, server: RunningServer) -> None:
    run = await start(board, "sleep 100")
    await board.until_run(run, "RUNNING")
    await board.ask(STOP, {"id": run["id"]})
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("CANCELLED", "stopped")
    ended, _ = await run_to_end(board, "sleep 100", timeoutSeconds=1)
    assert (ended["status"], ended["reason"]) == ("FAILED", "time_limit")
    assert server.run_processes() == {}


async def test_no_more_than_two_at_once(board: Board) -> None:
    runs = [await start(board, "sleep 100") for _ in range(2)]
    with pytest.raises(RefusedError, match="Too many commands"):
        await start(board, "sleep 100")
    for run in runs:
        await board.ask(STOP, {"id": run["id"]})
        await board.until_run(run)
    assert (await run_to_end(board, "true"))[0]["status"] == "COMPLETED"


async def test_nothing_of_the_server_is_inherited(board: Board) -> None:
    _, lines = await run_to_end(board, "pwd")
    assert lines == [str(board.repository.resolve())]
    run = await start(board, "sleep 30")
    await board.until_run(run, "RUNNING")
    found: list[bytes] = []
    async with asyncio.timeout(10):
        while not found:
            await asyncio.sleep(0.05)
            found = _environments_of(b"sleep\x0030\x00")
    await board.ask(STOP, {"id": run["id"]})
    await board.until_run(run)
    names = {part.partition(b"=")[0].decode() for part in found[0].split(b"\0") if part}
    assert {name for name in names if not name.startswith("DRAGOMAN_RUN")} == {
        "PATH", "HOME", "LC_ALL", "TERM", "TMPDIR",
    }  # fmt: skip


def _environments_of(command: bytes) -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.joinpath("cmdline").read_bytes().endswith(command):
                found.append(path.joinpath("environ").read_bytes())
    return found


def make_hostile(repository: Path, mark: Path) -> None:
    """Everything by which a repository makes git run a program, each leaving a mark."""
    script = repository.parent / "hostile.sh"
    script.write_text(f"#!/bin/sh\necho '{MARK}' >> {mark}\ncat\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    included = repository.parent / "included.gitconfig"
    included.write_text(f"[core]\n\tpager = {script}\n\tfsmonitor = {script}\n")
    (repository / ".gitattributes").write_text("*.txt filter=evil diff=evil merge=evil\n")
    with (repository / ".git" / "config").open("a") as config:
        config.write(
            f"""
[core]
	fsmonitor = {script}
	pager = {script}
	editor = {script}
	hooksPath = {repository.parent}/hooks
	sshCommand = {script}
	worktree = /etc
[alias]
	status = !{script}
	log = !{script}
	x = !{script}
[diff]
	external = {script}
[diff "evil"]
	command = {script}
	textconv = {script}
[filter "evil"]
	clean = {script}
	smudge = {script}
	process = {script}
	required = true
[commit]
	gpgsign = true
[gpg]
	program = {script}
[log]
	showSignature = true
[pager]
	status = {script}
	log = {script}
	diff = {script}
[trailer "x"]
	command = {script}
[interactive]
	diffFilter = {script}
[include]
	path = {included}
[includeIf "gitdir:/"]
	path = {included}
"""
        )
    for folder in (repository / ".git" / "hooks", repository.parent / "hooks"):
        folder.mkdir(exist_ok=True)
        for name in HOOKS:
            os.link(script, folder / name)
    nested = repository / "nested"
    git(repository.parent, "init", "-q", str(nested))
    with (nested / ".git" / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {script}\n\tpager = {script}\n")
    (repository / "git").symlink_to(script)
    (repository / "ls").symlink_to(script)


@pytest.mark.long
async def test_a_hostile_repository_runs_nothing(board: Board, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    make_hostile(board.repository, mark)
    (board.repository / "a.txt").write_text("changed\n")
    commands = [
        "git status", "git add a.txt README.md", "git diff --cached", "git commit -m 'all'",
        "git log -p -n 3", "git show HEAD", "git diff", "git blame README.md", "git ls-files",
        "git describe --always", "git shortlog -s HEAD", "ls -la", "grep -rn x .",
    ]  # fmt: skip
    for folder, command in (
        *((".", command) for command in commands),
        ("nested", "git status"),
        ("nested", "git log -n 1"),
    ):
        ended, _ = await run_to_end(board, command, workingDirectory=folder)
        assert ended["status"] in {"COMPLETED", "FAILED"}, (command, ended)
        assert not mark.exists(), (command, folder)
    ended, lines = await run_to_end(board, "git status --short")
    assert ended["status"] == "COMPLETED"
    assert "?? nested/" in lines
    assert (await run_to_end(board, "git show --stat HEAD"))[0]["status"] == "COMPLETED"
    # The trap is one: git by itself walks into it.
    plain = ["git", "-c", f"core.worktree={board.repository}", "status"]
    await asyncio.to_thread(subprocess.run, plain, cwd=board.repository, check=False)
    assert mark.exists()


async def test_a_reader_runs_nothing(board: Board, server: RunningServer) -> None:
    server.command("user", "create", f"reader-{board.id[:8]}", "--role", "viewer")
    made = server.command("token", "create", "--user", f"reader-{board.id[:8]}")
    async with HttpClient(server.url, made.stdout.strip()) as reader:
        for document, variables in (
            (RUN, {"input": {"workspaceId": board.id, "command": "ls"}}),
            (CHECK, {"id": board.id, "command": "ls"}),
            (SUGGEST, {"id": board.id}),
        ):
            with pytest.raises(RefusedError, match="execute"):
                await reader.ask(document, variables)
