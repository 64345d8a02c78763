"""A repository, or an agent at work in one, that would like the server to run its programs."""

import asyncio
import os
import shutil
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner import git
from runner.git.command import build_git_environment, run_git

AUTHOR = git.Identity("Ada", "ada@example.org")
HOOKS = [
    "pre-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "post-checkout",
    "post-merge",
    "pre-merge-commit",
    "pre-rebase",
    "post-index-change",
    "reference-transaction",
    "fsmonitor-watchman",
    "pre-auto-gc",
    "update",
    "pre-receive",
    "post-receive",
    "post-update",
    "push-to-checkout",
    "proc-receive",
    "post-rewrite",
]
PACKAGES = [
    "models",
    "resolvers",
    "schema",
    "subscriptions",
    "rest_compat",
    "runner",
    "compiler",
    "workers",
    "server",
]


class Trap:
    """A program that leaves a trace when anybody runs it."""

    def __init__(self, folder: Path) -> None:
        self.trace = folder / "trace"
        self.program = folder / "trap"
        self.program.write_text(f"#!/bin/sh\necho \"$0 $@\" >> '{self.trace}'\nexec cat\n")
        self.program.chmod(0o755)

    def was_sprung(self) -> bool:
        return self.trace.exists()

    def configuration(self) -> str:
        program = self.program
        return f"""
[core]
    fsmonitor = {program}
    sshCommand = {program}
    editor = {program}
    pager = {program}
    askPass = {program}
    gitProxy = {program}
    alternateRefsCommand = {program}
    hooksPath = {program.parent}/hooks
[credential]
    helper = !{program}
[gpg]
    program = {program}
[gpg "ssh"]
    program = {program}
[commit]
    gpgSign = true
    template = /etc/passwd
[diff]
    external = {program}
[diff "evil"]
    command = {program}
    textconv = {program}
[filter "evil"]
    clean = {program}
    smudge = {program}
    required = true
[filter "a=b.c\\"d"]
    clean = {program}
    smudge = {program}
    process = {program}
[merge "evil"]
    driver = {program} %A
[trailer "evil"]
    command = {program}
[alias]
    status = !{program}
    config = !{program}
    write-tree = !{program}
[uploadpack]
    packObjectsHook = {program}
[init]
    templateDir = {program.parent}/template
[include]
    path = included
[submodule]
    recurse = true
[submodule "sub"]
    active = true
    update = !{program}
    url = ext::{program}
"""


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    folder = tmp_path / "trap"
    folder.mkdir()
    found = Trap(folder)
    (folder / "hooks").mkdir()
    (folder / "template" / "hooks").mkdir(parents=True)
    for hooks in (folder / "hooks", folder / "template" / "hooks"):
        for name in HOOKS:
            shutil.copy2(found.program, hooks / name)
    return found


def arm(git_dir: Path, trap: Trap) -> None:
    """Put everything that git could be made to run into a repository."""
    with (git_dir / "config").open("a") as file:
        file.write(trap.configuration())
    (git_dir / "included").write_text(
        f'[filter "included"]\n clean = {trap.program}\n smudge = {trap.program}\n'
    )
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info" / "attributes").write_text("*.info filter=included\n")
    (git_dir / "hooks").mkdir(exist_ok=True)
    for name in HOOKS:
        shutil.copy2(trap.program, git_dir / "hooks" / name)


ATTRIBUTES = '* filter=evil diff=evil merge=evil\n*.odd filter=a=b.c"d\n*.info filter=included\n'


@pytest.fixture
def hostile(owner: Any, trap: Trap) -> Any:
    owner.commit({".gitattributes": ATTRIBUTES, "x.odd": "1\n", "x.info": "1\n"})
    arm(owner.path / ".git", trap)
    return owner


def test_the_trap_is_a_trap(hostile: Any, trap: Trap) -> None:
    hostile.git("status", check=False)
    assert trap.was_sprung()


async def test_no_operation_runs_a_program_of_the_repository(
    hostile: Any, trap: Trap, tmp_path: Path
) -> None:
    await git.probe(hostile.path)
    repository = await git.get_repository(hostile.path)
    worktree = await git.ensure_worktree(
        repository, root=tmp_path / "w", name="t", branch="task/1", base="main"
    )
    hostile.write(
        {"README.md": "ONE\ntwo\nthree\n", "new.odd": "2\n", "new.info": "2\n", "x.odd": "3\n"},
        cwd=worktree.path,
    )
    commit = await git.commit_all(worktree, message="m\n\nevil: x", author=AUTHOR)
    assert commit is not None
    assert (await git.diff_stat(repository, "main", "task/1")).files_changed == 4
    assert "ONE" in (await git.diff(repository, "main", "task/1")).text
    assert not trap.was_sprung(), trap.trace.read_text()
    # Both sides changed one file, so that a merge driver would be asked; its checkout moves too.
    other = await git.ensure_worktree(
        repository, root=tmp_path / "w", name="o", branch="other", base="main"
    )
    hostile.write({"README.md": "one\ntwo\nthree\nfour\n"}, cwd=other.path)
    assert await git.commit_all(other, message="m", author=AUTHOR)
    merge = await git.merge(repository, branch="task/1", into="other", author=AUTHOR)
    assert merge.updated_checkout
    assert (other.path / "README.md").read_text() == "ONE\ntwo\nthree\nfour\n"
    assert await git.list_worktrees(repository)
    assert await git.remove_worktree(repository, root=tmp_path / "w", name="t")
    assert await git.delete_branch(repository, "task/1")
    clone = await git.clone(str(hostile.path), tmp_path / "clone", allow_local=True)
    arm(clone.git_dir, trap)
    with pytest.raises(git.UnsafeRepositoryError) as caught:
        await git.fetch(clone, url=str(hostile.path), allow_local=True)
    assert "credential.helper" in caught.value.keys
    assert not trap.was_sprung(), trap.trace.read_text()


async def test_a_merge_conflict_does_not_ask_the_repositorys_driver(
    hostile: Any, trap: Trap, tmp_path: Path
) -> None:
    repository = await git.get_repository(hostile.path)
    for branch in ("a", "b"):
        worktree = await git.ensure_worktree(
            repository, root=tmp_path / "w", name=branch, branch=branch, base="main"
        )
        hostile.write({"README.md": f"{branch}\n"}, cwd=worktree.path)
        assert await git.commit_all(worktree, message="m", author=AUTHOR)
    with pytest.raises(git.MergeConflictError) as caught:
        await git.merge(repository, branch="a", into="b", author=AUTHOR)
    assert caught.value.files == ["README.md"]
    assert not trap.was_sprung(), trap.trace.read_text()


async def test_a_fetch_is_not_redirected(owner: Any, trap: Trap, tmp_path: Path) -> None:
    clone = await git.clone(str(owner.path), tmp_path / "clone", allow_local=True)
    for number, section in enumerate(
        (
            f'[url "ext::{trap.program} "]\n insteadOf = {owner.path}\n',
            f'[remote "origin"]\n uploadpack = {trap.program}\n',
            '[remote "origin"]\n vcs = evil\n',
            '[includeIf "gitdir:/"]\n path = /dev/null\n',
            "[http]\n proxy = http://evil\n",
        )
    ):
        bad = tmp_path / f"bad-{number}"
        shutil.copytree(clone.git_dir, bad)
        with (bad / "config").open("a") as file:
            file.write(section)
        with pytest.raises(git.UnsafeRepositoryError):
            await git.fetch(await git.get_repository(bad), url=str(owner.path), allow_local=True)
    assert not trap.was_sprung()


async def test_a_missing_object_is_not_asked_for(owner: Any, trap: Trap) -> None:
    blob = owner.git("rev-parse", "HEAD:README.md")
    (owner.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with (owner.path / ".git/config").open("a") as file:
        file.write(
            "[core]\n repositoryFormatVersion = 1\n[extensions]\n partialClone = evil\n"
            '[remote "evil"]\n promisor = true\n'
            f' url = {owner.path}\n uploadpack = "{trap.program} </dev/null; :"\n'
            '[protocol "file"]\n allow = always\n'
        )
    owner.git("cat-file", "-p", blob, check=False)
    assert trap.was_sprung(), "the trap must be one"
    trap.trace.unlink()
    repository = await git.get_repository(owner.path)
    empty = owner.git("hash-object", "-t", "tree", "-w", "/dev/null")
    commit = owner.git("commit-tree", "-m", "empty", empty)
    with pytest.raises(git.GitCommandError):
        await git.diff(repository, commit, "main")
    assert not trap.was_sprung(), trap.trace.read_text()


async def test_an_agent_cannot_put_another_repository_in_place_of_the_worktree(
    owner: Any, trap: Trap, tmp_path: Path
) -> None:
    repository = await git.get_repository(owner.path)
    worktree = await git.ensure_worktree(
        repository, root=tmp_path / "w", name="t", branch="task/1", base="main"
    )
    (worktree.path / ".git").unlink()
    owner.git("init", "--quiet", cwd=worktree.path)
    arm(worktree.path / ".git", trap)
    owner.write({"work": "done"}, cwd=worktree.path)
    worktree = await git.get_worktree(repository, worktree.path)
    commit = await git.commit_all(worktree, message="m", author=AUTHOR)
    assert commit is not None
    assert owner.git("rev-parse", "task/1") == commit.sha
    names = set(owner.git("ls-tree", "-r", "--name-only", commit.sha).splitlines())
    assert names == {"README.md", "src/app.py", "work"}
    assert not trap.was_sprung()
    # What calls itself a repository inside of the tree is armed as well, and not looked into.
    nested = worktree.path / "nested"
    nested.mkdir()
    owner.git("init", "--quiet", cwd=nested)
    owner.write({"x": "x"}, cwd=nested)
    owner.git("add", "x", cwd=nested)
    owner.git("commit", "--quiet", "-m", "x", cwd=nested)
    head = owner.git("rev-parse", "HEAD", cwd=nested)
    arm(nested / ".git", trap)
    index = repository.git_dir / "worktrees" / "t"
    environment = build_git_environment() | {"GIT_DIR": str(index)}
    entry = ["update-index", "--add", "--cacheinfo", f"160000,{head},nested"]
    await run_git(entry, cwd=worktree.path, environment=environment)
    owner.write({"more": "work"}, cwd=worktree.path)
    commit = await git.commit_all(worktree, message="m", author=AUTHOR)
    assert commit is not None
    assert "nested" in commit.skipped
    assert "160000" not in owner.git("ls-tree", "-r", commit.sha)
    assert not trap.was_sprung()


async def test_submodules_are_neither_entered_nor_moved(
    owner: Any, trap: Trap, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    shutil.copytree(owner.path, library)
    owner.git("submodule", "--quiet", "add", str(library), "sub")
    owner.git("commit", "--quiet", "-m", "sub")
    pointer = owner.git("rev-parse", "main:sub")
    repository = await git.get_repository(owner.path)
    worktree = await git.ensure_worktree(
        repository, root=tmp_path / "w", name="t", branch="task/1", base="main"
    )
    assert list((worktree.path / "sub").iterdir()) == []
    owner.git("submodule", "--quiet", "update", "--init", cwd=worktree.path)
    arm(repository.git_dir / "worktrees" / "t" / "modules" / "sub", trap)
    owner.write({"sub/new": "x", "more": "x"}, cwd=worktree.path)
    commit = await git.commit_all(worktree, message="m", author=AUTHOR)
    assert commit is not None
    assert owner.git("rev-parse", f"{commit.sha}:sub") == pointer
    assert (await git.diff_stat(repository, "main", "task/1")).files_changed == 1
    assert (await git.merge(repository, branch="task/1", into="main", author=AUTHOR)).sha
    assert not trap.was_sprung()
    assert await git.remove_worktree(repository, root=tmp_path / "w", name="t")


async def test_links_in_a_repository_lead_nothing_out_of_the_worktree(
    owner: Any, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (owner.path / "way-out").symlink_to(outside)
    owner.commit({})
    repository = await git.get_repository(owner.path)
    worktree = await git.ensure_worktree(
        repository, root=tmp_path / "w", name="t", branch="task/1", base="main"
    )
    (worktree.path / "README.md").unlink()
    (worktree.path / "README.md").symlink_to(outside / "secret")
    (worktree.path / "folder").symlink_to(outside)
    commit = await git.commit_all(worktree, message="m", author=AUTHOR)
    assert commit is not None
    assert owner.git("cat-file", "-p", f"{commit.sha}:README.md") == str(outside / "secret")
    assert "secret\n+" not in (await git.diff(repository, "main", "task/1")).text
    # The other side puts a file where this side has a link: nothing is written through it.
    owner.git("checkout", "--quiet", "-b", "evil")
    (owner.path / "way-out").unlink()
    owner.commit({"way-out/secret": "overwritten"})
    owner.git("checkout", "--quiet", "main")
    await git.merge(repository, branch="evil", into="main", author=AUTHOR)
    assert (outside / "secret").read_text() == "secret"
    assert (owner.path / "way-out/secret").read_text() == "overwritten"
    assert await git.remove_worktree(repository, root=tmp_path / "w", name="t")
    assert (outside / "secret").read_text() == "secret"


async def test_a_worktree_an_agent_closed_is_still_removed(owner: Any, tmp_path: Path) -> None:
    repository = await git.get_repository(owner.path)
    worktree = await git.ensure_worktree(
        repository, root=tmp_path / "w", name="t", branch="task/1", base="main"
    )
    owner.write({"a/b/c": "x"}, cwd=worktree.path)
    (worktree.path / "a/b").chmod(0)
    (worktree.path / "a").chmod(stat.S_IRUSR)
    assert await git.remove_worktree(repository, root=tmp_path / "w", name="t")
    assert not worktree.path.exists()


async def test_folders_named_like_ours_change_nothing_about_a_run(
    owner: Any, trap: Trap, tmp_path: Path, start_run: Any
) -> None:
    trace = f"open({str(trap.trace)!r}, 'a').write(__file__)\n"
    modules = ("json", "os", "signal", "ctypes", "sitecustomize", "usercustomize", "supervisor")
    owner.commit(
        {f"{package}/__init__.py": trace for package in PACKAGES}
        | {f"runner/{module}.py": trace for module in modules}
        | {f"{module}.py": trace for module in modules}
        | {"pyvenv.cfg": "home = /nowhere\n"}
    )
    repository = await git.get_repository(owner.path)
    worktree = await git.ensure_worktree(
        repository, root=tmp_path / "w", name="t", branch="task/1", base="main"
    )
    run = await start_run("import json\nprint(os.getcwd())", cwd=worktree.path)
    end = await run.wait()
    assert (end.reason, end.exit_code) == ("exited", 0)
    assert run.folder.stdout.read_text() == f"{worktree.path}\n"
    assert not trap.was_sprung()


def fake_git(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "git").write_text(f"#!{sys.executable} -IS\nimport os, sys, time\n{body}\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


async def test_git_is_bounded_in_time_with_its_helpers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    fake_git(
        tmp_path / "bin",
        f"if os.fork() == 0: open({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)",
        monkeypatch,
    )
    began = time.monotonic()
    with pytest.raises(git.GitTimeoutError):
        await run_git(["x"], cwd=tmp_path, environment=build_git_environment(), seconds=0.5)
    assert time.monotonic() - began < 10
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid.read_text()}/cmdline").exists():
            await asyncio.sleep(0.02)


async def test_git_is_bounded_in_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_git(
        tmp_path / "bin",
        "os.write(2, b'e' * 1000000)\nwhile True: os.write(1, b'x' * 65536)",
        monkeypatch,
    )
    environment = build_git_environment()
    with pytest.raises(git.GitOutputLimitError):
        await run_git(["x"], cwd=tmp_path, environment=environment, max_bytes=100_000)
    result = await run_git(
        ["x"], cwd=tmp_path, environment=environment, max_bytes=100_000, truncate=True
    )
    assert (len(result.stdout), result.truncated) == (100_000, True)
    assert len(result.stderr) <= 8192


async def test_git_ends_with_the_caller_who_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    fake_git(
        tmp_path / "bin",
        f"open({str(tmp_path / 'new')!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(pid)!r})\ntime.sleep(60)",
        monkeypatch,
    )
    call = asyncio.create_task(
        run_git(["x"], cwd=tmp_path, environment=build_git_environment(), stdin=b"x" * 1_000_000)
    )
    async with asyncio.timeout(10):
        while not pid.exists():
            await asyncio.sleep(0.02)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not Path(f"/proc/{pid.read_text()}/cmdline").exists()


async def test_git_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(git.GitMissingError):
        await run_git(["x"], cwd=tmp_path, environment=build_git_environment())


def test_the_environment_of_git_holds_nothing_of_the_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (
        "GIT_DIR",
        "GIT_EXTERNAL_DIFF",
        "DRAGOMAN_SECRET_KEYS",
        "GIT_SSH",
        "SSH_AUTH_SOCK",
    ):
        monkeypatch.setenv(name, "x")
    local, network = build_git_environment(), build_git_environment(network=True)
    for name in ("GIT_DIR", "GIT_EXTERNAL_DIFF", "DRAGOMAN_SECRET_KEYS", "GIT_SSH"):
        assert name not in local
        assert name not in network
    assert "SSH_AUTH_SOCK" in network
    assert "SSH_AUTH_SOCK" not in local


async def test_a_driver_that_is_set_between_two_commands_is_not_run(
    owner: Any, trap: Trap, tmp_path: Path
) -> None:
    """Nothing but the content tells it: the file, its size and its times stay the same."""
    owner.commit({".gitattributes": "* filter=evil\n"})
    config = owner.path / ".git" / "config"
    driver = f'[filter "evil"]\n clean = {trap.program}\n'
    harmless = config.read_text() + driver.replace("[", "#").replace(" clean", "#clean")
    config.write_text(harmless)
    repository = await git.get_repository(owner.path)
    worktree = await git.ensure_worktree(
        repository, root=tmp_path / "worktrees", name="task-1", branch="task-1", base="main"
    )
    assert not await git.has_changes(worktree)
    times = config.stat()
    armed = harmless.removesuffix(driver.replace("[", "#").replace(" clean", "#clean")) + driver
    with config.open("r+") as file:
        file.write(armed)
    os.utime(config, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert config.stat().st_size == times.st_size
    (worktree.path / "new").write_text("1\n")
    assert await git.commit_all(worktree, message="m", author=AUTHOR) is not None
    assert not trap.was_sprung()
    (owner.path / "README.md").write_text("changed\n")
    owner.git("add", "README.md", check=False)
    assert trap.was_sprung(), "this was a trap"
