"""Recorders for what operations tell the outside; nothing here stands in for a database."""

from collections.abc import Iterable
from typing import Any

from resolvers.errors import InvalidError
from resolvers.ports import NewPullRequest, Place, PullRequest
from runner.board_git import BoardGit


class RecordingWakeUps:
    """Remembers who was woken."""

    def __init__(self) -> None:
        self.event_logs: list[str] = []
        self.runs: list[str] = []
        self.principals: list[str] = []

    def events(self, stream_ids: Iterable[str]) -> None:
        self.event_logs.extend(stream_ids)

    def run_output(self, run_id: str) -> None:
        self.runs.append(run_id)

    def principal(self, principal_key: str) -> None:
        self.principals.append(principal_key)


class RecordingDispatcher:
    """Remembers what was asked for."""

    def __init__(self) -> None:
        self.wakes = 0
        self.stopped: list[str] = []
        self.told: list[str] = []

    def wake(self) -> None:
        self.wakes += 1

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)

    def deliver(self, run_id: str) -> None:
        self.told.append(run_id)


class GitWithoutNetwork(BoardGit):
    """Local repositories are real; whatever is pushed arrives nowhere."""

    async def find_remote(self, place: Place) -> str | None:
        return f"https://forge.test/team/{place.workspace_id}"

    async def push(self, *_: Any, **__: Any) -> str:
        return "0" * 40


class ForgeWithoutNetwork:
    """Every repository has one pull request, open for ever."""

    host = "forge.test"

    def find_repository(self, url: str) -> str | None:
        return "/".join(url.split("/")[-2:])

    async def open(self, wanted: NewPullRequest, **_: Any) -> PullRequest:
        return PullRequest(
            url=f"https://forge.test/{wanted.repository}/pull/1",
            number=1,
            state="open",
            branch=wanted.branch,
            head="0" * 40,
            base=wanted.base,
            draft=wanted.draft,
            merge_commit=None,
        )

    async def merge(self, *_: Any, **__: Any) -> str:
        return "0" * 40


class _NoGit:
    async def probe(self, path: str) -> Any:
        raise InvalidError(f"{path} is not a git repository", field="localPath")

    async def diff(self, path: str, **_: Any) -> Any:
        raise InvalidError(f"{path} is not a git repository", field="localPath")

    async def merge(self, path: str, **_: Any) -> Any:
        raise InvalidError(f"{path} is not a git repository", field="localPath")

    def check_branch_name(self, name: str) -> None:
        if name.startswith("-") or ".." in name or " " in name:
            raise ValueError("git would not take this branch name")


def no_git() -> Any:
    """Git for tests that have no repository: refuses like the real one does."""
    return _NoGit()
