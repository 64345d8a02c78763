"""Pull requests against a stand-in for GitHub over real git: opened, merged, refused."""

import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models import Task
from models.enums import TaskStatus
from resolvers.context import Context, Services
from resolvers.errors import ConflictError, ForbiddenError, InvalidError, UnavailableError
from resolvers.git_access import set_git_access
from resolvers.operation import operation
from resolvers.pull_requests import create_pull_request
from resolvers.task_access import get_task
from resolvers.task_lifecycle import approve_task
from resolvers.tasks import create_task
from runner.board_git import BoardGit
from runner.forge import GitHubForge
from runner.forge_transports import ApiTransport, GhTransport, Transport
from tests.resolvers.conftest import Board, make_board
from tests.support.board import git, make_repository
from tests.support.git_http import SECRET, USERNAME, a_git_server
from tests.support.github import GitHubStandIn

NAME = "acme/project"
FAKE_GH = """#!{python} -IS
import json, os, sys, urllib.error, urllib.request
options, (path,) = sys.argv[2:-1], sys.argv[-1:]
given = dict(option.lstrip("-").partition("=")[::2] for option in options)
assert sys.argv[1] == "api" and "include" in given, sys.argv
body = sys.stdin.buffer.read() if given.get("input") == "-" else None
request = urllib.request.Request(
    "http://" + given["hostname"] + "/api/" + path, data=body, method=given["method"],
    headers={{"Authorization": "token " + os.environ.get("GH_ENTERPRISE_TOKEN", "none")}},
)
try:
    answer = urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(request)
except urllib.error.HTTPError as error:
    answer = error
print(f"HTTP/1.1 {{answer.status}} Some Words\\r\\nContent-Type: application/json\\r\\n\\r")
sys.stdout.write(answer.read().decode())
sys.exit(0 if answer.status < 300 else 1)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A local repository with a branch ``work`` one commit ahead."""
    folder = make_repository(tmp_path / "project")
    git(folder, "checkout", "-q", "-b", "work")
    (folder / "new.txt").write_text("new\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "work")
    git(folder, "checkout", "-q", "main")
    return folder


@pytest.fixture
def github(project: Path, tmp_path: Path) -> Iterator[GitHubStandIn]:
    root = tmp_path / "remote"
    (root / "acme").mkdir(parents=True)
    git(root, "clone", "-q", "--bare", "--single-branch", str(project), f"{NAME}.git")
    with a_git_server(root) as server:
        found = GitHubStandIn(server, NAME)
        server.api = found
        yield found


@pytest.fixture(params=["api", "gh"])
def transport(request: pytest.FixtureRequest, github: GitHubStandIn, tmp_path: Path) -> Transport:
    if request.param == "api":
        return ApiTransport(f"http://{github.server.host}/api")
    program = tmp_path / "gh"
    program.write_text(FAKE_GH.format(python=sys.executable))
    program.chmod(0o755)
    return GhTransport(github.server.host, str(program))


@pytest.fixture
async def board(
    services: Services, transport: Transport, github: GitHubStandIn, project: Path
) -> AsyncIterator[Board]:
    forge = GitHubForge(transport, github.server.host)
    made = await make_board(
        replace(services, git=BoardGit(), forge=forge),
        local_path=str(project),
        repository_url=github.server.url(f"{NAME}.git"),
    )
    await set_git_access(
        made.context("manager"),
        workspace_id=made.id,
        host=github.server.host,
        username=USERNAME,
        secret=SECRET,
    )
    yield made
    await made.close()


@operation
async def _put(ctx: Context, *, task_id: str, **values: Any) -> None:
    await ctx.transaction.update_by_id(Task, task_id, **values)


async def a_task(board: Board, project: Path, **values: Any) -> str:
    task = await create_task(
        board.context(),
        workspace_id=board.id,
        title="Say more",
        description="Body text",
        acceptance_criteria=["it is said"],
    )
    facts = {
        "status": TaskStatus.REVIEW,
        "branch": "work",
        "base_branch": "main",
        "commit_sha": git(project, "rev-parse", "work"),
    }
    await _put(board.context(), task_id=task.id, **{**facts, **values})
    return task.id


async def test_a_pull_request_is_opened_recorded_and_used_again(
    board: Board, github: GitHubStandIn, project: Path
) -> None:
    task_id, head = await a_task(board, project), await board.head()
    task = await create_pull_request(board.context(), task_id=task_id)
    assert task.pull_request_url == f"http://{github.server.host}/{NAME}/pull/1"
    assert task.pull_request_at is not None
    assert task.status == TaskStatus.REVIEW
    assert await board.types_since(head) == ["task.pull_request_opened"]
    assert github.git("rev-parse", "work") == git(project, "rev-parse", "work")
    (pull,) = github.pulls
    assert (pull["title"], pull["head"]["ref"], pull["base"]["ref"], pull["draft"]) == (
        "Say more", "work", "main", False,
    )  # fmt: skip
    assert pull["body"] == ("Body text\n\n## Acceptance criteria\n\n- it is said\n\n---\nTask #1")
    again = await create_pull_request(board.context(), task_id=task_id, title="Other")
    assert again == task or again.version == task.version
    # Somebody opened it between our look and our request.
    github.blind_once = True
    await _put(board.context(), task_id=task_id, pull_request_url=None)
    found = await create_pull_request(board.context(), task_id=task_id)
    assert found.pull_request_url == task.pull_request_url
    assert len(github.pulls) == 1
    assert SECRET not in repr([event.payload for event in await board.events()])


async def test_an_approval_merges_the_pull_request(
    board: Board, github: GitHubStandIn, project: Path
) -> None:
    task_id = await a_task(board, project)
    await create_pull_request(board.context(), task_id=task_id)
    before = git(project, "rev-parse", "main")
    task = await approve_task(board.context(), task_id=task_id, merge=True)
    assert task.status == TaskStatus.COMPLETED
    assert task.merge_commit == github.git("rev-parse", "main")
    assert github.git("log", "-1", "--format=%s", "main") == "Say more (#1)"
    assert git(project, "rev-parse", "main") == before  # the checkout is its owner's


async def test_an_approval_that_was_interrupted_after_the_merge_is_settled_by_the_next(
    board: Board, github: GitHubStandIn, project: Path
) -> None:
    task_id = await a_task(board, project)
    await create_pull_request(board.context(), task_id=task_id)
    first = await approve_task(board.context(), task_id=task_id, merge=True)
    await _put(board.context(), task_id=task_id, status=TaskStatus.REVIEW, merge_commit=None)
    head = github.git("rev-parse", "main")
    again = await approve_task(board.context(), task_id=task_id, merge=True)
    assert again.merge_commit == first.merge_commit == head == github.git("rev-parse", "main")


async def test_conflicts_and_refusals_keep_the_task_in_review_with_github_s_words(
    board: Board, github: GitHubStandIn, project: Path
) -> None:
    task_id = await a_task(board, project)
    await create_pull_request(board.context(), task_id=task_id)
    (project / "new.txt").write_text("theirs\n")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "theirs")
    git(project, "push", "-q", str(github.server.root / f"{NAME}.git"), "main")
    with pytest.raises(ConflictError, match="Merge conflict between base and head"):
        await approve_task(board.context(), task_id=task_id, merge=True)
    for status, error in (
        ((403, {"message": "Resource not accessible"}), ConflictError),
        ((404, {"message": "Not Found"}), ConflictError),
        ((500, {"message": "oops"}), UnavailableError),
        ((200, {"unexpected": True}), UnavailableError),
        ((301, {"message": "Moved"}), UnavailableError),
    ):
        github.broken = status
        with pytest.raises(error):
            await approve_task(board.context(), task_id=task_id, merge=True)
    github.broken = None
    for change, words in (({"draft": True}, "a draft"), ({"state": "closed"}, "closed")):
        github.pulls[0] |= change
        with pytest.raises(ConflictError, match=words):
            await approve_task(board.context(), task_id=task_id, merge=True)
    task = await get_task(board.context(), task_id=task_id)
    assert (task.status, task.merge_commit) == (TaskStatus.REVIEW, None)


@pytest.mark.parametrize(
    "url",
    [
        "http://{host}/acme/other/pull/1",
        "http://evil.test/acme/project/pull/1",
        "http://{host}/acme/project/pull/1/../2",
        "http://{host}/acme/project/issues/1",
        "anything",
    ],
)
async def test_only_a_pull_request_of_this_repository_is_merged(
    board: Board, github: GitHubStandIn, project: Path, url: str
) -> None:
    task_id = await a_task(board, project, pull_request_url=url.format(host=github.server.host))
    with pytest.raises(ConflictError, match="is no pull request of acme/project"):
        await approve_task(board.context(), task_id=task_id, merge=True)
    assert github.asked == []


async def test_a_pull_request_of_another_branch_is_not_merged(
    board: Board, github: GitHubStandIn, project: Path
) -> None:
    task_id = await a_task(board, project)
    task = await create_pull_request(board.context(), task_id=task_id)
    git(project, "branch", "other", "work")
    other = await a_task(board, project, branch="other", pull_request_url=task.pull_request_url)
    with pytest.raises(ConflictError, match="is of the branch work"):
        await approve_task(board.context(), task_id=other, merge=True)


async def test_what_has_no_changes_no_forge_or_no_right_is_refused(
    board: Board, github: GitHubStandIn, project: Path
) -> None:
    with pytest.raises(ConflictError, match="no changes"):
        await create_pull_request(
            board.context(), task_id=await a_task(board, project, commit_sha=None)
        )
    with pytest.raises(ConflictError, match="COMPLETED"):
        await create_pull_request(
            board.context(), task_id=await a_task(board, project, status=TaskStatus.COMPLETED)
        )
    with pytest.raises(ForbiddenError):
        await create_pull_request(board.context("viewer"), task_id=await a_task(board, project))
    await set_git_access(
        board.context("manager"),
        workspace_id=board.id,
        host=github.server.host,
        username=USERNAME,
        secret="expired",
    )
    with pytest.raises(ConflictError, match="Authentication failed"):
        await create_pull_request(board.context(), task_id=await a_task(board, project))
    assert github.pulls == []


async def test_a_remote_that_moved_on_is_not_overwritten(
    board: Board, github: GitHubStandIn, project: Path
) -> None:
    git(project, "checkout", "-q", "-b", "theirs")
    git(project, "commit", "-q", "--allow-empty", "-m", "theirs")
    git(project, "push", "-q", str(github.server.root / f"{NAME}.git"), "theirs:work")
    with pytest.raises(ConflictError, match="other commits"):
        await create_pull_request(board.context(), task_id=await a_task(board, project))
    assert github.pulls == []


async def test_a_forge_that_is_away_is_told_so(
    services: Services, project: Path, tmp_path: Path
) -> None:
    with a_git_server(tmp_path) as gone:
        host = gone.host
    forge = GitHubForge(ApiTransport(f"http://{host}/api", "server's own"), host)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await forge.merge(
            f"http://{host}/a/b/pull/1", repository="a/b", branch="x", title="x", token=None
        )
    missing = GitHubForge(GhTransport(host, str(tmp_path / "no-gh")), host)
    with pytest.raises(UnavailableError, match="cannot be started"):
        await missing.merge(
            f"http://{host}/a/b/pull/1", repository="a/b", branch="x", title="x", token=None
        )


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/acme/project.git", "acme/project"),
        ("https://github.com/acme/project", "acme/project"),
        ("ssh://git@github.com:22/acme/project.git", "acme/project"),
        ("git@github.com:acme/project.git", "acme/project"),
        ("https://github.com.evil.test/acme/project", None),
        ("https://github.com/acme", None),
        ("https://github.com/acme/project/more", None),
        ("https://github.com/acme/../project", None),
        ("https://example.org/acme/project", None),
        ("/srv/git/acme/project", None),
    ],
)
def test_repositories_of_the_forge(url: str, name: str | None) -> None:
    assert GitHubForge(ApiTransport("https://api.github.com")).find_repository(url) == name


async def test_a_local_repository_s_own_remote_is_used(
    services: Services, github: GitHubStandIn, project: Path
) -> None:
    forge = GitHubForge(ApiTransport(f"http://{github.server.host}/api"), github.server.host)
    board = await make_board(
        replace(services, git=BoardGit(), forge=forge),
        local_path=str(project),
        repository_url=None,
    )
    task_id = await a_task(board, project)
    with pytest.raises(InvalidError, match="has no remote"):
        await create_pull_request(board.context(), task_id=task_id)
    git(project, "remote", "add", "origin", "https://elsewhere.test/a/b")
    with pytest.raises(InvalidError, match="is not on 127"):
        await create_pull_request(board.context(), task_id=task_id)
    git(project, "remote", "set-url", "origin", github.server.url(NAME + ".git"))
    with pytest.raises(ConflictError, match="could not read Username"):
        await create_pull_request(board.context(), task_id=task_id)
    await board.close()
