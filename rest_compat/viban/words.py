"""Viban's words for ours: total in one direction, and back without changing what was read."""

from models.enums import Executor, RunStatus, TaskStatus

TASK: dict[str, str] = {
    TaskStatus.BACKLOG: "todo",
    TaskStatus.QUEUED: "inprogress",
    TaskStatus.IN_PROGRESS: "inprogress",
    TaskStatus.PAUSED: "inprogress",
    TaskStatus.BLOCKED: "todo",
    TaskStatus.REVIEW: "inreview",
    TaskStatus.COMPLETED: "done",
    TaskStatus.FAILED: "inprogress",  # a card whose agent failed stays where it was
    TaskStatus.CANCELLED: "done",
}
TASK_BACK: dict[str, TaskStatus] = {
    "todo": TaskStatus.BACKLOG,
    "inprogress": TaskStatus.QUEUED,  # which starts a run
    "inreview": TaskStatus.REVIEW,
    "done": TaskStatus.COMPLETED,
}
TASK_STATUSES: dict[str, frozenset[TaskStatus]] = {
    word: frozenset(status for status in TaskStatus if TASK[status] == word) for word in TASK_BACK
}
"""Every status a filter by this word means."""

EXECUTION: dict[str, str] = {
    RunStatus.QUEUED: "pending",
    RunStatus.RUNNING: "running",
    RunStatus.AWAITING_INPUT: "running",
    RunStatus.PAUSED: "pending",
    RunStatus.COMPLETED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}

AGENT: dict[Executor, str] = {
    Executor.CLAUDE_CODE: "claude_code",
    Executor.GEMINI: "gemini_cli",
    Executor.CODEX: "codex",
    Executor.OPENCODE: "opencode",
    Executor.CURSOR: "cursor_agent",
    Executor.KIRO: "kiro",
    Executor.KILO: "kilo",
    Executor.IFLOW: "iflow",
    Executor.ANTIGRAVITY: "antigravity",
    Executor.CUSTOM: "custom",
}
"""The first five are Viban's own; the others are named as they are here."""
AGENT_BACK: dict[str, Executor] = {word: executor for executor, word in AGENT.items()}


def task_status(word: str, current: TaskStatus) -> TaskStatus:
    """The status a word stands for; the present one where that is the same word."""
    return current if TASK[current] == word else TASK_BACK[word]
