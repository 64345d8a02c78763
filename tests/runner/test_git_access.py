"""Clone, fetch and push with a credential: who gets it, and where it is never seen."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner import git
from runner.git import credential_helper as helper
from tests.support.git_http import SECRET, USERNAME, GitServer, a_git_server

AUTHOR = git.Identity("Ada", "ada@example.org")


@pytest.fixture
def remote(owner: Any, tmp_path: Path) -> Iterator[GitServer]:
    """A server with ``project.git``, a bare copy of the owner's repository."""
    owner.git("clone", "--quiet", "--bare", str(owner.path), str(tmp_path / "remote/project.git"))
    with a_git_server(tmp_path / "remote") as server:
        yield server


def access_to(remote: GitServer, secret: str = SECRET) -> git.Access:
    return git.Access(remote.host, USERNAME, secret)


def everything_below(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_clone_fetch_and_push_with_a_credential(
    remote: GitServer, owner: Any, tmp_path: Path
) -> None:
    url, access = remote.url("project.git"), access_to(remote)
    clone = await git.clone(url, tmp_path / "clones" / "one", access=access)
    assert remote.authorized
    owner.commit({"new.txt": "new\n"})
    owner.git("push", "--quiet", str(remote.root / "project.git"), "main")
    await git.fetch(clone, url=url, access=access)
    head = await git.get_commit(clone, "refs/remotes/origin/main")
    assert head == owner.git("rev-parse", "main")
    worktree = await git.ensure_worktree(
        clone, root=tmp_path / "worktrees", name="task", branch="task/ü-1", base=head
    )
    (worktree.path / "done.txt").write_text("done\n")
    commit = await git.commit_all(worktree, message="Done", author=AUTHOR)
    assert commit is not None
    for _ in range(2):  # again is no error
        assert await git.push(clone, url=url, branch="task/ü-1", access=access) == commit.sha
    bare = remote.root / "project.git"
    assert owner.git("rev-parse", "refs/heads/task/ü-1", cwd=bare) == commit.sha
    for folder in (clone.git_dir, worktree.path):
        assert SECRET.encode() not in everything_below(folder)


async def test_a_push_overwrites_nothing(remote: GitServer, owner: Any, tmp_path: Path) -> None:
    url, access = remote.url("project.git"), access_to(remote)
    clone = await git.clone(url, tmp_path / "clone", access=access)
    owner.commit({"theirs.txt": "theirs\n"})
    owner.git("push", "--quiet", str(remote.root / "project.git"), "main:refs/heads/task")
    theirs = owner.git("rev-parse", "main")
    await git.ensure_worktree(
        clone, root=tmp_path / "worktrees", name="task", branch="task", base="main"
    )
    worktree = await git.get_worktree(clone, tmp_path / "worktrees" / "task")
    (worktree.path / "ours.txt").write_text("ours\n")
    await git.commit_all(worktree, message="Ours", author=AUTHOR)
    with pytest.raises(git.PushRefusedError):
        await git.push(clone, url=url, branch="task", access=access)
    assert owner.git("rev-parse", "task", cwd=remote.root / "project.git") == theirs
    with pytest.raises(git.UnknownRevisionError):
        await git.push(clone, url=url, branch="nothing", access=access)


async def test_a_wrong_secret_is_refused_and_told_to_nobody(
    remote: GitServer, tmp_path: Path
) -> None:
    wrong = access_to(remote, "wrong-secret-of-mine")
    with pytest.raises(git.GitCommandError) as failure:
        await git.clone(remote.url("project.git"), tmp_path / "clone", access=wrong)
    assert "Authentication failed" in str(failure.value)
    assert "wrong-secret-of-mine" not in str(failure.value)
    assert "wrong-secret-of-mine" not in repr(wrong)
    assert not (tmp_path / "clone").exists()


async def test_the_credential_goes_to_its_own_host_only(remote: GitServer, tmp_path: Path) -> None:
    elsewhere = git.Access("git.example.org", USERNAME, SECRET)
    with pytest.raises(git.GitCommandError):
        await git.clone(remote.url("project.git"), tmp_path / "one", access=elsewhere)
    assert {header for _, _, header in remote.asked} == {None}
    with a_git_server(remote.root) as other:
        remote.moved_to = f"http://{other.host}"
        with pytest.raises(git.GitCommandError):
            await git.clone(remote.url("project.git"), tmp_path / "two", access=access_to(remote))
        assert other.asked == []


async def test_no_argument_list_and_no_other_helper_sees_the_secret(
    remote: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every git command, of ours or of git's own, goes through a recorder of argument lists; the
    # user's configuration has a helper for this very host.
    seen, stolen, home = tmp_path / "seen", tmp_path / "stolen", tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[credential "http://{remote.host}"]\n\thelper = "!cat >> {stolen} #"\n'
    )
    monkeypatch.setenv("HOME", str(home))
    shim = tmp_path / "bin" / "git"
    shim.parent.mkdir()
    real = shutil.which("git")
    shim.write_text(f'#!/bin/sh\nprintf "%s\\n" "$0 $*" >> {seen}\nexec {real} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    await git.clone(remote.url("project.git"), tmp_path / "clone", access=access_to(remote))
    assert "clone" in seen.read_text()
    assert SECRET not in seen.read_text()
    assert not stolen.exists()


@pytest.mark.parametrize(
    ("action", "asked", "answered"),
    [
        ("get", "protocol=https\nhost=git.example.org\n", True),
        ("get", "protocol=https\nhost=GIT.example.org\n", True),
        ("get", "protocol=http\nhost=git.example.org\n", False),
        ("get", "protocol=https\nhost=git.example.org.evil.test\n", False),
        ("get", "protocol=https\nhost=git.example.org:8443\n", False),
        ("get", "", False),
        ("store", "protocol=https\nhost=git.example.org\n", False),
        ("erase", "protocol=https\nhost=git.example.org\n", False),
    ],
)
def test_the_helper_answers_for_one_host(action: str, asked: str, *, answered: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(Path(helper.__file__)), action],
        input=asked,
        capture_output=True,
        text=True,
        check=True,
        env={
            helper.PROTOCOL: "https",
            helper.HOST: "git.example.org",
            helper.USERNAME: "u",
            helper.SECRET: "p",
        },
    )
    assert done.stdout == ("username=u\npassword=p\n" if answered else "")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://git.example.org/a/b", "git.example.org"),
        ("https://Git.Example.org:8443/a", "git.example.org:8443"),
        ("https://user@git.example.org/a", "git.example.org"),
        ("http://git.example.org/a", None),
        ("http://127.0.0.1:80/a", "127.0.0.1:80"),
        ("http://127.0.0.1.evil.test:80/a", None),
        ("ssh://git@git.example.org/a", None),
        ("git@git.example.org:a/b", None),
        ("/srv/git/a", None),
        ("https://[broken", None),
    ],
)
def test_only_encrypted_ways_and_this_machine_get_a_credential(url: str, host: str | None) -> None:
    assert git.host_of(url) == host
