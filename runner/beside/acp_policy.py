"""What an agent may do without asking anybody."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_READING = {"read", "search"}
_WITH_FILES = {*_READING, "edit", "delete", "move"}


class Policy:
    """The permission mode, applied to one tool call that the agent wants permission for.

    ``full`` permits everything. ``read`` permits thinking, and reading files inside the worktree.
    ``edits`` permits changing them too, where the call names them. The rest is refused.
    ``ask`` permits what ``edits`` does; a person decides on the rest.
    """

    def __init__(self, permissions: str, worktree: Path) -> None:
        self._permissions = permissions
        self._worktree = worktree.resolve()

    def decide(self, call: dict[str, Any]) -> bool | None:
        """Whether the call is permitted; None: ask somebody."""
        if self._permissions == "full" or self._is_harmless(call):
            return True
        return None if self._permissions == "ask" else False

    def _is_harmless(self, call: dict[str, Any]) -> bool:
        if call.get("kind") == "think":
            return True
        paths = list(_paths(call))
        kinds = _READING if self._permissions == "read" else _WITH_FILES
        return call.get("kind") in kinds and bool(paths) and all(map(self._is_inside, paths))

    def _is_inside(self, path: str) -> bool:
        try:
            return (self._worktree / path).resolve().is_relative_to(self._worktree)
        except (OSError, ValueError, RuntimeError):
            return False


def _paths(call: dict[str, Any]) -> Iterator[str]:
    """The files a call names; an unreadable one becomes a path outside."""
    for member in ("locations", "content"):
        entries = call.get(member)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and "path" in entry:
                yield entry["path"] if isinstance(entry["path"], str) else "/"
