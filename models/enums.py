"""The canonical vocabularies. Each dialect translates at its own edge and nowhere else."""

from enum import StrEnum


class TaskStatus(StrEnum):
    """Where a task stands. ``archived_at`` and ``deleted_at`` are separate facts."""

    BACKLOG = "BACKLOG"
    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    PAUSED = "PAUSED"
    BLOCKED = "BLOCKED"
    REVIEW = "REVIEW"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class RunStatus(StrEnum):
    """Where a run stands; the last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    AWAITING_INPUT = "AWAITING_INPUT"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class RunKind(StrEnum):
    """What a run executes."""

    TASK = "TASK"
    """Works on a task and moves it over the board."""
    PHASE = "PHASE"
    """One phase of a task, which stays where it is on the board."""
    REFINE = "REFINE"
    """Rewrites a task's text, in a folder of its own that is thrown away."""
    COMMAND = "COMMAND"


class QueueClass(StrEnum):
    """The three queues; a higher one is drained first."""

    HIGH = "HIGH"
    NORMAL = "NORMAL"
    LOW = "LOW"


class RunHold(StrEnum):
    """What a waiting run waits for."""

    WORKSPACE_CLOSED = "WORKSPACE_CLOSED"
    EXECUTOR_MISSING = "EXECUTOR_MISSING"
    QUEUE_PAUSED = "QUEUE_PAUSED"
    DEPENDENCIES = "DEPENDENCIES"
    BUDGET = "BUDGET"
    TASK_RUNNING = "TASK_RUNNING"
    WORKSPACE_LIMIT = "WORKSPACE_LIMIT"
    TURN = "TURN"


class Executor(StrEnum):
    """Programs that can execute a run."""

    CLAUDE_CODE = "CLAUDE_CODE"
    CODEX = "CODEX"
    GEMINI = "GEMINI"
    OPENCODE = "OPENCODE"
    CURSOR = "CURSOR"
    KIRO = "KIRO"
    KILO = "KILO"
    IFLOW = "IFLOW"
    ANTIGRAVITY = "ANTIGRAVITY"
    CUSTOM = "CUSTOM"


class TaskPriority(StrEnum):
    """Buckets of the stored level 0..10; see ``PRIORITY_LEVELS``."""

    NONE = "NONE"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    URGENT = "URGENT"


PRIORITY_LEVELS: dict[TaskPriority, range] = {
    TaskPriority.NONE: range(1),
    TaskPriority.LOW: range(1, 2),
    TaskPriority.MEDIUM: range(2, 3),
    TaskPriority.HIGH: range(3, 4),
    TaskPriority.URGENT: range(4, 11),
}
PRIORITY_LEVEL_MAX = 10
_PRIORITIES = [priority for priority, levels in PRIORITY_LEVELS.items() for _ in levels]


def priority_of(level: int) -> TaskPriority:
    """The bucket of a stored priority level 0..10."""
    return _PRIORITIES[level]


def level_of(priority: TaskPriority, current: int | None = None) -> int:
    """The level a bucket is stored as; the current one where it is in that bucket already.

    Writing back the word that was read therefore changes nothing.
    """
    levels = PRIORITY_LEVELS[priority]
    return current if current is not None and current in levels else levels.start


class TaskType(StrEnum):
    """What kind of work a task is."""

    FEATURE = "FEATURE"
    BUG = "BUG"
    CHORE = "CHORE"
    RESEARCH = "RESEARCH"
    DOCS = "DOCS"
    INFRA = "INFRA"
    CONTENT = "CONTENT"
    STRATEGY = "STRATEGY"
    TASK = "TASK"


class TaskCategory(StrEnum):
    """What a task may do to the world."""

    READ_ONLY = "READ_ONLY"
    MUTATING = "MUTATING"
    DESTRUCTIVE = "DESTRUCTIVE"


class ReviewVerdict(StrEnum):
    """What a reviewer said."""

    APPROVE = "APPROVE"
    NEEDS_CHANGES = "NEEDS_CHANGES"
    ERROR = "ERROR"


class DependencyKind(StrEnum):
    """When a dependency counts as met."""

    BLOCKS = "BLOCKS"
    """The other task is completed."""
    COMPLETION = "COMPLETION"
    """The other task is completed or failed."""
    FAILURE = "FAILURE"
    """The other task failed."""


class ContextPhase(StrEnum):
    """Which prompt a context entry belongs to."""

    IMPLEMENT = "IMPLEMENT"
    CHECK = "CHECK"
    FIX = "FIX"


class WorkspaceStatus(StrEnum):
    """Only an active workspace takes changes below it."""

    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"
    COMPLETED = "COMPLETED"


class Workflow(StrEnum):
    """How a team works in a workspace."""

    SCRUM = "SCRUM"
    KANBAN = "KANBAN"
    CHECKLIST = "CHECKLIST"


class Role(StrEnum):
    """What a user may do, in one workspace or (a user's own role) in all."""

    VIEWER = "VIEWER"
    DEVELOPER = "DEVELOPER"
    MANAGER = "MANAGER"
    ADMIN = "ADMIN"


class Permission(StrEnum):
    """What an operation asks for."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"
    MANAGE_QUEUES = "manage_queues"
    ADMIN = "admin"


class UserKind(StrEnum):
    """A person, or a program that acts under its own name."""

    PERSON = "PERSON"
    SERVICE = "SERVICE"


class UserTier(StrEnum):
    """Which rate limits apply to a user."""

    STANDARD = "STANDARD"
    PREMIUM = "PREMIUM"


class KeyKind(StrEnum):
    """Where an API key comes from."""

    PERSONAL = "PERSONAL"
    SESSION = "SESSION"
    AGENT = "AGENT"


class Dialect(StrEnum):
    """The legacy languages; a key without one is native."""

    VIBAN = "VIBAN"
    VIBEN = "VIBEN"
    TOBAN = "TOBAN"
    CLAUDE_CLI_WEB_UI = "CLAUDE_CLI_WEB_UI"
    POSTHOG = "POSTHOG"


class StoryStatus(StrEnum):
    """Where a story stands."""

    OPEN = "OPEN"
    READY = "READY"
    IN_PROGRESS = "IN_PROGRESS"
    DONE = "DONE"


class SprintStatus(StrEnum):
    """Steps of a sprint, in order; a review may go back to active."""

    PLANNING = "PLANNING"
    ACTIVE = "ACTIVE"
    REVIEW = "REVIEW"
    RETROSPECTIVE = "RETROSPECTIVE"
    COMPLETED = "COMPLETED"


class AgentStatus(StrEnum):
    """What an agent is doing; ``status_word`` keeps the free text it reported."""

    IDLE = "IDLE"
    STARTING = "STARTING"
    ACTIVE = "ACTIVE"
    WORKING = "WORKING"
    STALLED = "STALLED"
    FAILED = "FAILED"
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"


class ExecutionMode(StrEnum):
    """Where an agent's model credential comes from."""

    LOCAL = "LOCAL"
    BYOK = "BYOK"


class DevicePlatform(StrEnum):
    """Whose push service a device listens to."""

    IOS = "IOS"
    ANDROID = "ANDROID"
    WEB = "WEB"


class ArtifactStatus(StrEnum):
    """Whether an artifact's bytes are there."""

    PENDING = "PENDING"
    READY = "READY"


class DeliveryStatus(StrEnum):
    """Where a webhook delivery stands."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
