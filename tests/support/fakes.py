"""Recorders for what operations tell the outside; nothing here stands in for a database."""

from collections.abc import Iterable
from typing import Any

from resolvers.errors import InvalidError


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

    def wake(self) -> None:
        self.wakes += 1

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)


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
