"""The way of a task through git: worktree, commit, diff, merge; on real repositories."""

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import git

AUTHOR = git.Identity("Ada <agent>\n", "ada@example.org")


async def make_worktree(owner: Any, tmp_path: Path, *, branch: str = "task/1") -> git.Worktree:
    repository = await git.get_repository(owner.path)
    name = branch.replace("/", "-")
    return await git.ensure_worktree(
        repository, root=tmp_path / "worktrees", name=name, branch=branch, base="main"
    )


async def test_a_task_from_worktree_to_merge(owner: Any, tmp_path: Path) -> None:
    head = owner.git("rev-parse", "main")
    assert await git.probe(owner.path) == git.Probe("main", head)
    worktree = await make_worktree(owner, tmp_path)
    assert worktree.path == tmp_path / "worktrees" / "task-1"
    assert (worktree.path / "README.md").read_text() == "one\ntwo\nthree\n"
    assert await git.commit_all(worktree, message="nothing", author=AUTHOR) is None
    owner.write(
        {
            "README.md": "one\n2\nthree\n",
            "new/ü\nb.txt": "a\nb\n",
            ".gitignore": "*.log\n",
            "x.log": "",
        },
        cwd=worktree.path,
    )
    (worktree.path / "src/app.py").rename(worktree.path / "src/main.py")
    (worktree.path / "bin").write_bytes(b"\0\1\2")
    (worktree.path / "link").symlink_to("/etc/passwd")
    commit = await git.commit_all(worktree, message="Do it\n\nAll of it", author=AUTHOR)
    assert commit is not None
    assert commit.skipped == ()
    assert owner.git("log", "-1", "--format=%an|%ae|%cn|%s|%P", commit.sha) == (
        f"Ada  agent|ada@example.org|Ada  agent|Do it|{head}"
    )
    assert owner.git("status", "--porcelain", cwd=worktree.path) == ""
    assert await git.commit_all(worktree, message="again", author=AUTHOR) is None
    stat = await git.diff_stat(worktree.repository, "main", "task/1")
    assert {(file.path, file.additions, file.deletions, file.old_path) for file in stat.files} == {
        ("README.md", 1, 1, None),
        ("new/ü\nb.txt", 2, 0, None),
        (".gitignore", 1, 0, None),
        ("src/main.py", 0, 0, "src/app.py"),
        ("bin", None, None, None),
        ("link", 1, 0, None),
    }
    assert (stat.files_changed, stat.additions, stat.deletions, stat.truncated) == (6, 5, 1, False)
    shown = await git.diff(worktree.repository, "main", "task/1")
    assert "+2\n" in shown.text
    assert not shown.truncated
    short = await git.diff(worktree.repository, "main", "task/1", max_bytes=20)
    assert (len(short.text), short.truncated) == (20, True)
    few = await git.diff_stat(worktree.repository, "main", "task/1", max_files=2)
    assert (len(few.files), few.files_changed, few.truncated) == (2, 6, True)

    owner.git("checkout", "--quiet", "--detach")
    merged = await git.merge(worktree.repository, branch="task/1", into="main", author=AUTHOR)
    assert not merged.updated_checkout
    assert owner.git("rev-parse", "main") == merged.sha
    assert owner.git("log", "-1", "--format=%P", "main").split() == [head, commit.sha]
    assert await git.is_merged(worktree.repository, branch="task/1", into="main")
    again = await git.merge(worktree.repository, branch="task/1", into="main", author=AUTHOR)
    assert (again.sha, again.already) == (merged.sha, True)
    assert await git.remove_worktree(
        worktree.repository, root=tmp_path / "worktrees", name="task-1"
    )
    assert not worktree.path.exists()
    assert await git.delete_branch(worktree.repository, "task/1")
    assert not await git.delete_branch(worktree.repository, "task/1")
    assert not await git.remove_worktree(
        worktree.repository, root=tmp_path / "worktrees", name="task-1"
    )


async def test_every_kind_of_change_is_committed(owner: Any, tmp_path: Path) -> None:
    owner.commit({"file": "f", "folder/a": "a", "gone": "g", "mode": "#!/bin/sh\n", "pipe": "p"})
    worktree = await make_worktree(owner, tmp_path)
    path = worktree.path
    (path / "file").unlink()
    owner.write({"file/inside": "now a folder"}, cwd=path)
    (path / "folder/a").unlink()
    (path / "folder").rmdir()
    (path / "folder").write_text("now a file")
    (path / "gone").unlink()
    (path / "mode").chmod(0o755)
    (path / "pipe").unlink()
    os.mkfifo(path / "pipe")
    commit = await git.commit_all(worktree, message="m", author=AUTHOR)
    assert commit is not None
    listed = owner.git("ls-tree", "-r", commit.sha).splitlines()
    modes = {line.split("\t")[1]: line.split()[0] for line in listed}
    assert modes == {
        "README.md": "100644",
        "src/app.py": "100644",
        "file/inside": "100644",
        "folder": "100644",
        "mode": "100755",
    }


async def test_what_the_agent_committed_itself_is_kept(owner: Any, tmp_path: Path) -> None:
    worktree = await make_worktree(owner, tmp_path)
    owner.write({"a": "1"}, cwd=worktree.path)
    owner.git("add", "a", cwd=worktree.path)
    owner.git("commit", "--quiet", "-m", "by the agent", cwd=worktree.path)
    own = owner.git("rev-parse", "task/1")
    owner.write({"b": "2"}, cwd=worktree.path)
    commit = await git.commit_all(worktree, message="the rest", author=AUTHOR)
    assert commit is not None
    assert owner.git("rev-parse", f"{commit.sha}^") == own
    owner.git("checkout", "--quiet", "-b", "elsewhere", cwd=worktree.path)
    with pytest.raises(git.WorktreeMovedError):
        await git.commit_all(worktree, message="m", author=AUTHOR)


async def test_nested_repositories_and_giants_stay_out(owner: Any, tmp_path: Path) -> None:
    worktree = await make_worktree(owner, tmp_path)
    for name in ("nested", "staged", "deep/er", "README.md"):
        if name == "README.md":
            (worktree.path / name).unlink()
        nested = worktree.path / name
        nested.mkdir(parents=True)
        owner.git("init", "--quiet", cwd=nested)
        owner.write({"inside": "x"}, cwd=nested)
        owner.git("add", "--all", cwd=nested)
        owner.git("commit", "--quiet", "-m", "inside", cwd=nested)
    (worktree.path / "empty").mkdir()
    owner.git("init", "--quiet", cwd=worktree.path / "empty")
    owner.git("add", "staged", cwd=worktree.path)
    owner.write({"good": "1", "giant": "x" * 1001}, cwd=worktree.path)
    commit = await git.commit_all(worktree, message="m", author=AUTHOR, max_file_bytes=1000)
    assert commit is not None
    listed = owner.git("ls-tree", "-r", commit.sha)
    assert "160000" not in listed
    names = {line.split("\t")[1] for line in listed.splitlines()}
    assert names == {"src/app.py", "good"}
    assert {"nested/", "staged", "deep/er/", "giant"} <= set(commit.skipped)


async def test_a_worktree_is_made_once_and_found_again(owner: Any, tmp_path: Path) -> None:
    first = await make_worktree(owner, tmp_path)
    owner.write({"work": "in progress"}, cwd=first.path)
    assert await make_worktree(owner, tmp_path) == first
    assert (first.path / "work").exists()
    assert await git.get_worktree(first.repository, first.path) == first
    # Removed by hand: it is made again, on the same branch.
    for path in sorted(first.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    first.path.rmdir()
    assert (await make_worktree(owner, tmp_path)).path == first.path
    checkouts = await git.list_worktrees(first.repository)
    assert [(c.path, c.branch) for c in checkouts] == [
        (owner.path, "main"),
        (first.path, "task/1"),
    ]


async def test_a_worktree_takes_nobody_elses_place(owner: Any, tmp_path: Path) -> None:
    repository = await git.get_repository(owner.path)
    root = tmp_path / "worktrees"
    root.mkdir()
    (root / "taken").mkdir()
    (root / "taken" / "file").touch()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()

    async def attempt(name: str, branch: str = "b", base: str = "main") -> git.Worktree:
        return await git.ensure_worktree(repository, root=root, name=name, branch=branch, base=base)

    with pytest.raises(git.WorktreeConflictError):
        await attempt("taken")
    with pytest.raises(git.WorktreeConflictError, match="checked out at"):
        await attempt("x", branch="main")
    with pytest.raises(git.UnknownRevisionError):
        await attempt("x", base="nowhere")
    for name in ("link", "..", ".", "a/b", "", "-x", "/tmp", "a\0b", "x" * 101, ".git"):  # noqa: S108  # a name
        with pytest.raises(git.InvalidNameError):
            await attempt(name)
        with pytest.raises(git.InvalidNameError):
            await git.remove_worktree(repository, root=root, name=name)
    with pytest.raises(git.WorktreeMovedError):
        await git.remove_worktree(repository, root=root, name="taken")
    assert (root / "taken" / "file").exists()
    for base in ("--upload-pack=x", "main..b", "main^{tree}", "HEAD@{1}", ":/begin", "-1"):
        with pytest.raises(git.InvalidNameError):
            await attempt("x", base=base)
    assert [c.path for c in await git.list_worktrees(repository)] == [owner.path]


async def test_a_root_behind_a_link_is_resolved_first(owner: Any, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "worktrees").symlink_to(tmp_path / "disk")
    worktree = await make_worktree(owner, tmp_path)
    assert worktree.path == tmp_path / "disk" / "task-1"
    assert await make_worktree(owner, tmp_path) == worktree


async def diverge(owner: Any, tmp_path: Path) -> git.Worktree:
    worktree = await make_worktree(owner, tmp_path)
    owner.write({"README.md": "ONE\ntwo\nthree\n", "task.txt": "t"}, cwd=worktree.path)
    assert await git.commit_all(worktree, message="task", author=AUTHOR)
    return worktree


def everything(owner: Any) -> tuple[str, ...]:
    return (
        owner.git("for-each-ref"),
        owner.git("status", "--porcelain=v2", "--branch", "--untracked-files=all"),
        *(
            f"{path}={path.read_bytes()!r}"
            for path in sorted(owner.path.glob("*"))
            if path.is_file()
        ),
    )


async def test_a_conflict_changes_nothing_and_names_the_files(owner: Any, tmp_path: Path) -> None:
    worktree = await diverge(owner, tmp_path)
    owner.commit({"README.md": "eins\ntwo\nthree\n"})
    before = everything(owner)
    with pytest.raises(git.MergeConflictError) as caught:
        await git.merge(worktree.repository, branch="task/1", into="main", author=AUTHOR)
    assert caught.value.files == ["README.md"]
    assert everything(owner) == before


async def test_a_clean_checkout_of_the_target_is_brought_along(owner: Any, tmp_path: Path) -> None:
    worktree = await diverge(owner, tmp_path)
    owner.commit({"README.md": "one\ntwo\nthree\nfour\n"})
    owner.write({"notes.txt": "not known to git"})
    merge = await git.merge(worktree.repository, branch="task/1", into="main", author=AUTHOR)
    assert merge.updated_checkout
    assert (owner.path / "README.md").read_text() == "ONE\ntwo\nthree\nfour\n"
    assert (owner.path / "task.txt").read_text() == "t"
    assert owner.git("status", "--porcelain") == "?? notes.txt"
    assert owner.git("rev-parse", "HEAD") == merge.sha


@pytest.mark.parametrize("how", ["changed", "staged", "deleted", "merging", "in the way"])
async def test_a_dirty_checkout_of_the_target_is_left_as_it_is(
    owner: Any, tmp_path: Path, how: str
) -> None:
    worktree = await diverge(owner, tmp_path)
    if how == "changed":
        owner.write({"src/app.py": "mine\n"})
    elif how == "staged":
        owner.write({"mine": "mine\n"})
        owner.git("add", "mine")
    elif how == "deleted":
        (owner.path / "src/app.py").unlink()
    elif how == "merging":
        (owner.path / ".git/MERGE_HEAD").write_text(owner.git("rev-parse", "HEAD") + "\n")
    else:
        owner.write({"task.txt": "mine, and git does not know it"})
    before = everything(owner)
    with pytest.raises(git.TargetDirtyError):
        await git.merge(worktree.repository, branch="task/1", into="main", author=AUTHOR)
    assert everything(owner) == before


async def test_of_many_merges_at_once_each_counts_or_says_no(owner: Any, tmp_path: Path) -> None:
    repository = await git.get_repository(owner.path)
    owner.git("checkout", "--quiet", "--detach")
    for number in range(5):
        worktree = await make_worktree(owner, tmp_path, branch=f"task/{number}")
        owner.write({f"file-{number}": "x"}, cwd=worktree.path)
        assert await git.commit_all(worktree, message="m", author=AUTHOR)
    results = await asyncio.gather(
        *(
            git.merge(repository, branch=f"task/{number}", into="main", author=AUTHOR)
            for number in range(5)
        ),
        return_exceptions=True,
    )
    for number, result in enumerate(results):
        merged = await git.is_merged(repository, branch=f"task/{number}", into="main")
        assert merged == isinstance(result, git.Merge)
        assert isinstance(result, git.Merge | git.TargetMovedError)
    assert any(isinstance(result, git.Merge) for result in results)


async def test_unrelated_and_unknown_branches_are_refused(owner: Any) -> None:
    repository = await git.get_repository(owner.path)
    owner.git("checkout", "--quiet", "--orphan", "other")
    owner.commit({"x": "x"})
    with pytest.raises(git.UnknownRevisionError, match="history"):
        await git.merge(repository, branch="other", into="main", author=AUTHOR)
    with pytest.raises(git.UnknownRevisionError):
        await git.merge(repository, branch="missing", into="main", author=AUTHOR)
    assert await git.find_merge_base(repository, "main", "other") is None


async def test_what_is_no_repository(owner: Any, tmp_path: Path) -> None:
    for path in (tmp_path, owner.path / "src", tmp_path / "missing", owner.path / "README.md"):
        assert not await git.is_repository(path)
    assert await git.is_repository(owner.path)
    empty = tmp_path / "empty"
    empty.mkdir()
    owner.git("init", "--quiet", "--bare", "--initial-branch=trunk", cwd=empty)
    assert await git.probe(empty) == git.Probe("trunk", None)
    (owner.path / ".git/config").write_text("[broken")
    with pytest.raises(git.GitError):
        await git.get_repository(owner.path)


async def test_a_worktree_is_a_repository_too(owner: Any, tmp_path: Path) -> None:
    worktree = await make_worktree(owner, tmp_path)
    found = await git.get_repository(worktree.path)
    assert found.git_dir == worktree.repository.git_dir


async def test_clone_and_fetch(owner: Any, tmp_path: Path) -> None:
    owner.git("branch", "feature")
    target = tmp_path / "clones" / "one"
    repository = await git.clone(str(owner.path), target, allow_local=True)
    assert await git.probe(target) == git.Probe("main", owner.git("rev-parse", "main"))
    worktree = await git.ensure_worktree(
        repository, root=tmp_path / "w", name="t", branch="task/1", base="main"
    )
    owner.write({"x": "x"}, cwd=worktree.path)
    assert await git.commit_all(worktree, message="m", author=AUTHOR)
    ours = await git.get_branch_commit(repository, "task/1")
    news = owner.commit({"news": "n"})
    owner.git("branch", "-D", "feature")
    await git.fetch(repository, url=str(owner.path), allow_local=True)
    assert await git.get_commit(repository, "refs/remotes/origin/main") == news
    assert await git.get_branch_commit(repository, "task/1") == ours
    with pytest.raises(git.NotARepositoryError):
        await git.clone(str(owner.path), target, allow_local=True)
    with pytest.raises(git.GitCommandError):
        await git.clone(str(tmp_path / "missing"), tmp_path / "clones" / "two", allow_local=True)
    assert sorted(path.name for path in (tmp_path / "clones").iterdir()) == ["one"]
    with pytest.raises(git.InvalidNameError):
        await git.clone(str(owner.path), tmp_path / "clones" / "three")


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch /tmp/x",
        "ext::sh -c id",
        "fd::17",
        "file:///etc",
        "/etc",
        "../up",
        "-oProxyCommand=id:x",
        "ssh://-oProxyCommand=id/x",
        "ftp://host/x",
        "https://",
        "https://host/\nx",
        "http::https://host/x",
        "http://[::1",
        "",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(git.InvalidNameError):
        git.check_url(url, allow_local=False)


def test_addresses_that_are_taken() -> None:
    for url in ("https://host/a/b.git", "ssh://git@host:22/a", "git@host:a/b.git", "git://h/x"):
        assert git.check_url(url, allow_local=False) == url


def test_branch_names(owner: Any) -> None:
    for name in ("task/1", "a", "ü/ö", "a.b", "feature-x", "v1.0", "a@b"):
        assert git.valid_branch_name(name), name
    bad = ["", "-x", "--upload-pack=x", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b"]
    bad += ["/a", "a/", "a//b", "a.lock", "a.lock/b", ".a", "a/.b", "a.", "@", "a@{b", "HEAD", "\0"]
    bad += ["a\n", "\x7f", "\ud800", "x" * 201, "refs/heads/x", "0" * 40, "a" * 64]
    for name in bad:
        assert not git.valid_branch_name(name), name


@settings(max_examples=60, deadline=None)
@given(name=st.text(alphabet="a-/.@{~^:\\ lock\x01é*[?", min_size=1, max_size=12))
def test_a_name_that_is_valid_here_is_valid_for_git(name: str) -> None:
    theirs = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False)
    if git.valid_branch_name(name):
        assert theirs.returncode == 0
    elif theirs.returncode == 0:
        assert name.startswith(("-", ".")) or name in {"@", "HEAD"}
