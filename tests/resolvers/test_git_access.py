"""Credentials for git hosts, and the setup of worktrees: who may, and that no secret comes out."""

from typing import Any

import pytest
import sqlalchemy as sa

from models import GitCredential, table_of
from resolvers.errors import ForbiddenError, InvalidError, LimitExceededError, NotFoundError
from resolvers.git_access import (
    HOSTS_MAX,
    check_host,
    find_secret,
    list_git_access,
    remove_git_access,
    set_git_access,
    set_worktree_setup,
)
from resolvers.ports import Secret
from tests.resolvers.conftest import Board

SECRET = "ghp_very-secret"


async def give(board: Board, who: str = "manager", **changes: Any) -> None:
    values = {"host": "Git.Example.org", "username": "x", "secret": SECRET, **changes}
    await set_git_access(board.context(who), workspace_id=board.id, **values)


async def test_a_credential_is_kept_encrypted_replaced_and_forgotten(board: Board) -> None:
    ctx = board.context("manager")
    await give(board)
    await give(board, secret="second", username="y")
    await give(board, host="other.test:8443")
    listed = await list_git_access(ctx, workspace_id=board.id)
    assert [(one.host, one.username) for one in listed] == [
        ("git.example.org", "y"),
        ("other.test:8443", "x"),
    ]
    assert "second" not in repr(listed)
    (row, other) = await board.rows(
        sa.select(table_of(GitCredential).c.secret_encrypted).order_by("host")
    )
    assert b"second" not in row[0]
    assert SECRET.encode() not in other[0]
    found = await find_secret(ctx, workspace_id=board.id, host="GIT.example.org")
    assert found == Secret("git.example.org", "y", "second")
    assert "second" not in repr(found)
    assert SECRET not in repr([event.payload for event in await board.events()])
    for _ in range(2):
        await remove_git_access(ctx, workspace_id=board.id, host="git.example.org")
    await ctx.release()
    assert await find_secret(ctx, workspace_id=board.id, host="git.example.org") is None
    changes = [e for e in await board.events() if e.type == "workspace.git_access_changed"]
    assert len(changes) == 4
    assert changes[-1].payload["host"] == "git.example.org"


async def test_only_managers_handle_credentials(board: Board) -> None:
    for who, error in (("developer", ForbiddenError), ("stranger", NotFoundError)):
        with pytest.raises(error):
            await give(board, who)
        with pytest.raises(error):
            await list_git_access(board.context(who), workspace_id=board.id)
        with pytest.raises(error):
            await remove_git_access(board.context(who), workspace_id=board.id, host="a.test")


async def test_wrong_values_and_too_many_hosts(board: Board) -> None:
    for changes in (
        {"secret": "two\nlines"},
        {"secret": ""},
        {"username": "a\nhost=evil.test"},
        {"host": "https://git.example.org"},
    ):
        with pytest.raises(InvalidError):
            await give(board, **changes)
    for number in range(HOSTS_MAX):
        await give(board, host=f"h{number}.test")
    await give(board, host="h0.test", secret="again")
    with pytest.raises(LimitExceededError):
        await give(board, host="one-more.test")


@pytest.mark.parametrize(
    "host",
    ["", "a b", "-a.test", "a..test", "a.test/", "u@a.test", "a.test:", "a.test:0", "a\nb", "*"],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidError):
        check_host(host)


@pytest.mark.parametrize("host", ["a", "github.com", "127.0.0.1:8080", "[::1]:443", "x-y.z"])
def test_hosts(host: str) -> None:
    assert check_host(host) == host


async def test_only_the_site_owner_names_commands(board: Board) -> None:
    with pytest.raises(ForbiddenError):
        await set_worktree_setup(
            board.context("manager"), workspace_id=board.id, commands=[["true"]]
        )
    owner = board.context("owner")
    setup = {"copy": ["config/*.local"], "commands": [["npm", "ci"], ["true", ""]]}
    after = await set_worktree_setup(owner, workspace_id=board.id, **setup)
    assert after.worktree_setup == setup
    head = await board.head()
    await set_worktree_setup(owner, workspace_id=board.id, **setup)
    assert await board.head() == head
    assert (await set_worktree_setup(owner, workspace_id=board.id)).worktree_setup is None


@pytest.mark.parametrize(
    "setup",
    [
        {"copy": ["/etc/passwd"]},
        {"copy": ["../x"]},
        {"copy": ["a/../../x"]},
        {"copy": [".git/config"]},
        {"copy": ["~/x"]},
        {"copy": ["a"] * 101},
        {"commands": [[]]},
        {"commands": [[" "]]},
        {"commands": [["a\0b"]]},
        {"commands": [["a"]] * 21},
        {"commands": [["a"] * 101]},
    ],
)
async def test_a_setup_that_cannot_be_meant_is_refused(board: Board, setup: Any) -> None:
    with pytest.raises(InvalidError):
        await set_worktree_setup(board.context("owner"), workspace_id=board.id, **setup)
