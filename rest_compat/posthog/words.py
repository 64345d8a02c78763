"""The vocabulary of PostHog Tasks, from canonical words and back; nothing is missing either way."""

import re
from datetime import UTC, datetime

from models.enums import Executor, RunStatus

RUN_STATUS: dict[RunStatus, str] = {
    RunStatus.QUEUED: "queued",
    RunStatus.RUNNING: "in_progress",
    RunStatus.AWAITING_INPUT: "in_progress",
    RunStatus.PAUSED: "queued",
    RunStatus.COMPLETED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}
_STATUS_RUN = {
    "not_started": RunStatus.QUEUED,
    "queued": RunStatus.QUEUED,
    "in_progress": RunStatus.RUNNING,
    "completed": RunStatus.COMPLETED,
    "failed": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
}
RUN_STATUSES = tuple(_STATUS_RUN)
FINAL = frozenset({"completed", "failed", "cancelled"})
ENVIRONMENTS = ("local", "cloud")
ORIGINS = (
    "onboarding", "error_tracking", "eval_clusters", "user_created", "automation", "slack",
    "support_queue", "session_summaries", "posthog_ai", "signal_report", "signals_scout",
    "support_reply", "hogdesk", "experiments", "review_hog", "image_builder", "loop",
    "mcp_analytics", "workflow",
)  # fmt: skip
ARTIFACT_TYPES = (
    "plan", "context", "reference", "output", "artifact", "tree_snapshot", "user_attachment",
    "skill_bundle",
)  # fmt: skip
ADAPTERS = {"claude": Executor.CLAUDE_CODE, "codex": Executor.CODEX}
PROVIDERS = {"claude": "anthropic", "codex": "openai"}


def status_word(status: str) -> str:
    """A run's status in PostHog's words."""
    return RUN_STATUS[RunStatus(status)]


def status_from(word: str, current: str | None = None) -> RunStatus:
    """The canonical status of a word; the present one where that is shown by the same word."""
    if current is not None and status_word(current) == word:
        return RunStatus(current)
    return _STATUS_RUN[word]


def statuses_shown_as(word: str) -> list[RunStatus]:
    """All canonical statuses that are shown by a word."""
    return [status for status, shown in RUN_STATUS.items() if shown == word]


def slug_prefix(project_name: str) -> str:
    """The beginning of a project's task slugs: its capitals, else its first letters."""
    letters = re.sub(r"[^A-Za-z0-9]", "", project_name)
    capitals = [letter for letter in letters if letter.isupper()]
    if len(capitals) >= 3:  # noqa: PLR2004  # a prefix has three letters
        return "".join(capitals[:3])
    return letters[:3].upper() or "TSK"


def task_number(number: int) -> int:
    """A task's number; PostHog's first task is number 0."""
    return number - 1


def number_in(search: str) -> int | None:
    """The canonical number of the task whose number or slug a search ends in, if it does."""
    digits = search.strip().rpartition("-")[2]
    if digits.isdecimal() and digits.isascii() and len(digits) <= 9:  # noqa: PLR2004  # fits an integer
        return int(digits) + 1
    return None


def moment(value: datetime | None) -> str | None:
    """A moment as PostHog writes it: UTC, microseconds, ``Z``."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
