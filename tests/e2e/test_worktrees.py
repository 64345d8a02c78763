"""Worktrees on a real server: private repositories, copied files, commands of preparation."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.board import Board, create_board, git, make_repository
from tests.support.clients import HttpClient
from tests.support.git_http import SECRET, USERNAME, GitServer, a_git_server
from tests.support.server import RunningServer, a_server

COMMAND = ["python3", "-I", "-S", "-c", "print('set up'); open('setup.txt', 'a').write('once\\n')"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with a_server(
        tmp_path_factory.mktemp("server"),
        worktree_copy=".env,local",
        commit_author="Board Bot <bot@example.org>",
        worktree_commands=json.dumps([COMMAND]),
    ) as running:
        yield running
        assert running.complaints() == []


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[HttpClient]:
    async with HttpClient(server.url, server.token) as opened:
        yield opened


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[GitServer]:
    project = make_repository(tmp_path / "origin")
    (tmp_path / "remote").mkdir()
    git(tmp_path, "clone", "--quiet", "--bare", str(project), "remote/project.git")
    with a_git_server(tmp_path / "remote") as serving:
        yield serving


async def test_a_worktree_is_prepared_once_and_copied_files_are_never_committed(
    client: HttpClient, tmp_path: Path
) -> None:
    project = make_repository(tmp_path / "project")
    (project / ".env").write_text("SECRET=1\n")
    (project / "local").mkdir()
    (project / "local" / "a.txt").write_text("a\n")
    board, _ = await create_board(client, project)
    await board.ask(
        """mutation ($input: SetWorktreeSetupInput!) {
          setWorktreeSetup(input: $input) { workspace { id } } }""",
        {
            "input": {
                "workspaceId": board.id,
                "copy": ["more.txt"],
                "commands": [["cp", "local/a.txt", "b.txt"]],
            }
        },
    )
    task, run = await board.run_script("write c.txt c", "print ran")
    after = await board.until_task(task, "REVIEW", "FAILED")
    assert after["status"] == "REVIEW", after["error"]
    said = [text for stream, text in await board.output(run) if stream == "server"]
    assert "There is no more.txt to copy" in said
    assert "set up" in said
    assert "$ cp local/a.txt b.txt" in said
    files = git(project, "ls-tree", "-r", "--name-only", after["branch"]).split()
    assert files == ["README.md", "b.txt", "c.txt", "setup.txt"]
    author = git(project, "log", "-1", "--format=%an <%ae> %cn", after["branch"])
    assert author == "Board Bot <bot@example.org> Board Bot"
    await board.change("rejectTask", task)
    await board.start_run(task)
    await board.until_task(task, "REVIEW")
    assert git(project, "show", f"{after['branch']}:setup.txt") == "once"


async def test_a_failed_preparation_fails_the_run_with_its_words_and_is_tried_again(
    client: HttpClient, tmp_path: Path
) -> None:
    board, _ = await create_board(client, make_repository(tmp_path / "project"))
    luck = tmp_path / "luck"
    source = f"import os; print('no luck', flush=True); os.stat({str(luck)!r})"
    await board.ask(
        """mutation ($input: SetWorktreeSetupInput!) {
          setWorktreeSetup(input: $input) { workspace { id } } }""",
        {
            "input": {
                "workspaceId": board.id,
                "commands": [["python3", "-I", "-S", "-c", source]],
            }
        },
    )
    task, run = await board.run_script("print ran")
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("FAILED", "not_started")
    assert "exit code 1" in ended["error"]
    assert "no luck" in ended["error"]
    luck.touch()
    await board.change("retryTask", task)
    after = await board.until_task(task, "REVIEW", "FAILED")
    assert after["status"] == "REVIEW", after["error"]


async def private_board(client: HttpClient, remote: GitServer) -> Board:
    created = await client.ask(
        "mutation ($input: CreateWorkspaceInput!) {"
        " createWorkspace(input: $input) { workspace { id } } }",
        {"input": {"name": "Private", "repositoryUrl": remote.url("project.git")}},
    )
    return Board(client, created["createWorkspace"]["workspace"]["id"], remote.root)


async def give_access(board: Board, host: str, secret: str = SECRET) -> None:
    values: dict[str, Any] = {"host": host, "username": USERNAME, "secret": secret}
    await board.ask(
        """mutation ($input: SetGitAccessInput!) {
          setGitAccess(input: $input) { workspace { id } } }""",
        {"input": {"workspaceId": board.id, **values}},
    )


async def test_a_private_repository_is_cloned_once_with_its_credential(
    client: HttpClient, server: RunningServer, remote: GitServer
) -> None:
    board = await private_board(client, remote)
    task, run = await board.run_script("write a.txt A")
    ended = await board.until_run(run)
    assert (ended["status"], ended["reason"]) == ("FAILED", "not_started")
    await give_access(board, remote.host, "wrong-secret")
    await board.change("retryTask", task)
    failed = await board.until_task(task, "FAILED")
    assert "Authentication failed" in failed["error"]
    await give_access(board, remote.host)
    # Two at once: one clones, the other waits for it.
    runs = [await board.run_script(f"write {name}.txt x") for name in "bc"]
    await board.change("retryTask", task)
    for one in (task, *(other for other, _ in runs)):
        after = await board.until_task(one, "REVIEW", "FAILED")
        assert after["status"] == "REVIEW", after["error"]
    clones = [path for _, path, header in remote.asked if header and "upload-pack" in path]
    assert clones
    clone = server.data_dir / "data" / "repositories" / board.id
    assert SECRET not in (clone / "config").read_text()
    files = [*server.data_dir.glob("data/*.db*"), server.log_path]
    everything = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in files))
    assert SECRET.encode() not in everything
    assert b"wrong-secret" not in everything
