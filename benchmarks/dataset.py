"""The board every candidate serves: 20 workspaces, 10,000 tasks, 20,000 runs; the same each time.

Rows are numbered from 1, per kind. How they are stored and spelled is a candidate's own matter.
Texts contain letters beyond ASCII, quotes and backslashes; times have microseconds.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

WORKSPACES, TASKS, RUNS = 20, 10_000, 20_000
STORIES_EACH, AGENTS_EACH = 25, 10
TASK_STATUS = ("TODO", "IN_PROGRESS", "REVIEW", "DONE")
PRIORITY = ("LOW", "NORMAL", "HIGH", "URGENT")
AGENT_STATUS = ("IDLE", "BUSY", "OFFLINE")
RUN_STATUS = ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_WORDS = (
    "agent",
    "board",
    "café",
    "“draft”",
    '"merge"',
    "back\\slash",
    "naïve",
    "plan",
    "queue",
    "render",
    "retry",
    "review",
    "schema",
    "stream",
    "task",
    "token",
)
_LABELS = ("api", "bug", "docs", "feature", "speed", "ui")


@dataclass(frozen=True, slots=True)
class Workspace:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Story:
    id: int
    workspace: int
    title: str


@dataclass(frozen=True, slots=True)
class Agent:
    id: int
    workspace: int
    name: str
    status: str


@dataclass(frozen=True, slots=True)
class Task:
    id: int
    workspace: int
    story: int | None
    agent: int | None
    title: str
    description: str
    status: str
    priority: str
    position: int
    labels: tuple[str, ...]
    estimate: float | None
    branch: str | None
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Run:
    """``progress`` has three decimals."""

    id: int
    task: int
    status: str
    progress: float
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Dataset:
    workspaces: list[Workspace]
    stories: list[Story]
    agents: list[Agent]
    tasks: list[Task]
    runs: list[Run]


@cache
def dataset() -> Dataset:
    """All rows; task ``i`` stands in workspace ``(i - 1) % 20 + 1`` at place ``(i - 1) // 20``."""
    dice = random.Random(20_260_101)

    def text(words: int) -> str:
        return " ".join(dice.choices(_WORDS, k=words))

    def moment() -> datetime:
        return EPOCH + timedelta(
            seconds=dice.randrange(10_000_000), microseconds=dice.randrange(1, 1_000_000)
        )

    def task(number: int) -> Task:
        workspace = (number - 1) % WORKSPACES + 1
        story = dice.randrange(STORIES_EACH + 1)
        agent = dice.randrange(AGENTS_EACH + 2)
        return Task(
            id=number,
            workspace=workspace,
            story=(workspace - 1) * STORIES_EACH + story if story else None,
            agent=(workspace - 1) * AGENTS_EACH + agent - 1 if agent > 1 else None,
            title=text(7),
            description=text(25),
            status=dice.choice(TASK_STATUS),
            priority=dice.choice(PRIORITY),
            position=(number - 1) // WORKSPACES,
            labels=tuple(dice.sample(_LABELS, dice.randrange(4))),
            estimate=dice.choice((None, 0.5, 1.5, 3.0, 8.25)),
            branch=f"task/{number}" if dice.random() < 1 / 2 else None,
            created_at=moment(),
            updated_at=moment(),
            due_at=moment() if dice.random() < 1 / 2 else None,
        )

    def run(number: int) -> Run:
        return Run(
            id=number,
            task=dice.randrange(TASKS) + 1,
            status=dice.choice(RUN_STATUS),
            progress=dice.randrange(1000) / 1000,
            started_at=moment(),
            finished_at=moment() if dice.random() < 1 / 2 else None,
        )

    return Dataset(
        workspaces=[Workspace(i, f"Workspace {i}") for i in range(1, WORKSPACES + 1)],
        stories=[
            Story(i, (i - 1) // STORIES_EACH + 1, text(6))
            for i in range(1, WORKSPACES * STORIES_EACH + 1)
        ],
        agents=[
            Agent(i, (i - 1) // AGENTS_EACH + 1, f"agent-{i}", dice.choice(AGENT_STATUS))
            for i in range(1, WORKSPACES * AGENTS_EACH + 1)
        ],
        tasks=[task(i) for i in range(1, TASKS + 1)],
        runs=[run(i) for i in range(1, RUNS + 1)],
    )
