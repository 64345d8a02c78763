# ruff: noqa: A002, ARG002 — resolvers take what a schema gives them
"""The compiler alone: a board page of 100 tasks, plain `schema.execute` against compiled.

No database and no HTTP: what differs is the executor. Both are measured in the same process in
alternating slices; the ratio is the median over the slices. Answers are compared first.
"""

import asyncio
import statistics
import time
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Generic, TypeVar

import orjson
import strawberry
from strawberry.dataloader import DataLoader
from strawberry.extensions import ParserCache, ValidationCache

from benchmarks.report import Section
from compiler import BATCH, CompiledExecutor, Options, selection_of

T = TypeVar("T")

FIELDS = (
    "id title description status priority position labels estimate branch createdAt updatedAt dueAt"
)
RELATIONS = "story { id title } agent { id name status } latestRun { id status progress }"
PAGE = """
query Board($ws: ID!, $first: Int!) { workspace(id: $ws) { id name %(tasks)s(first: $first) {
  totalCount pageInfo { hasNextPage endCursor } nodes { ...T %(relations)s } } } }
fragment T on %(type)s { %(fields)s }
"""
ONE = "query One($id: ID!) { task(id: $id) { ...T %s } } fragment T on Task { %s }"


@strawberry.enum
class Status(Enum):
    BACKLOG = "BACKLOG"
    DONE = "DONE"


class Row:
    """A light row: values by attribute."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


@strawberry.type
class Story:
    id: strawberry.ID
    title: str


@strawberry.type
class Agent:
    id: strawberry.ID
    name: str
    status: Status


@strawberry.type
class Run:
    id: strawberry.ID
    status: Status
    progress: int


@strawberry.type
class Task:
    """Relations are there already: the list's resolver has joined them."""

    id: strawberry.ID
    title: str
    description: str
    status: Status
    priority: Status
    position: float
    labels: list[str]
    estimate: int | None
    branch: str | None
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    story: Story | None
    agent: Agent | None
    latest_run: Run | None


async def batch(parents: list[Any], info: strawberry.Info) -> list[Any]:
    selection_of(info)
    return [getattr(parent, info.python_name.removesuffix("_")) for parent in parents]


@strawberry.type(name="LoadedTask")
class LoadedTask:
    """Relations are asynchronous fields that load through a DataLoader."""

    id: strawberry.ID
    title: str
    description: str
    status: Status
    priority: Status
    position: float
    labels: list[str]
    estimate: int | None
    branch: str | None
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None

    @strawberry.field
    async def story(self, info: strawberry.Info) -> Story | None:
        return await info.context["story"].load(self)

    @strawberry.field
    async def agent(self, info: strawberry.Info) -> Agent | None:
        return await info.context["agent"].load(self)

    @strawberry.field
    async def latest_run(self, info: strawberry.Info) -> Run | None:
        return await info.context["latest_run"].load(self)


@strawberry.type(name="BatchedTask")
class BatchedTask(LoadedTask):
    """The same with batch resolvers beside the loaders."""

    @strawberry.field(metadata={BATCH: batch})
    async def story(self, info: strawberry.Info) -> Story | None:
        return await info.context["story"].load(self)

    @strawberry.field(metadata={BATCH: batch})
    async def agent(self, info: strawberry.Info) -> Agent | None:
        return await info.context["agent"].load(self)

    @strawberry.field(metadata={BATCH: batch})
    async def latest_run(self, info: strawberry.Info) -> Run | None:
        return await info.context["latest_run"].load(self)


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class Connection(Generic[T]):
    rows: strawberry.Private[list[Any]]

    @strawberry.field
    def nodes(self) -> list[T]:
        return self.rows

    @strawberry.field
    def page_info(self) -> PageInfo:
        return PageInfo(has_next_page=True, end_cursor="c")

    @strawberry.field
    async def total_count(self) -> int:
        return 500


@strawberry.type
class Workspace:
    id: strawberry.ID
    name: str

    @strawberry.field
    async def tasks(self, info: strawberry.Info, first: int = 50) -> Connection[Task]:
        return Connection(rows=ROWS[:first])

    @strawberry.field
    async def loaded_tasks(self, info: strawberry.Info, first: int = 50) -> Connection[LoadedTask]:
        return Connection(rows=ROWS[:first])

    @strawberry.field
    async def batched_tasks(
        self, info: strawberry.Info, first: int = 50
    ) -> Connection[BatchedTask]:
        return Connection(rows=ROWS[:first])


@strawberry.type
class Query:
    @strawberry.field
    async def workspace(self, info: strawberry.Info, id: strawberry.ID) -> Workspace | None:
        return Workspace(id=id, name="Café")

    @strawberry.field
    async def task(self, info: strawberry.Info, id: strawberry.ID) -> Task | None:
        return ROWS[int(id)]


def _rows() -> list[Any]:
    now = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    return [
        Row(
            id=str(number),
            title=f"Task “{number}” é",
            description='Line with "quotes" and \\ ' * 5,
            status=Status.BACKLOG,
            priority="DONE",
            position=float(number),
            labels=["a", "b"],
            estimate=number if number % 3 else None,
            branch=None,
            created_at=now,
            updated_at=now,
            due_at=now if number % 2 else None,
            story=Row(id=f"s{number}", title="Story"),
            agent=Row(id="a", name="Agent", status="BACKLOG") if number % 4 else None,
            latest_run=Row(id="r", status="DONE", progress=50),
        )
        for number in range(100)
    ]


ROWS = _rows()


def context() -> dict[str, Any]:
    def loader(name: str) -> DataLoader[Any, Any]:
        async def load(keys: list[Any]) -> list[Any]:
            return [getattr(key, name) for key in keys]

        return DataLoader(load_fn=load)

    return {name: loader(name) for name in ("story", "agent", "latest_run")}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    f"page of 100, {how}": (
        PAGE % {"tasks": tasks, "type": type_, "fields": FIELDS, "relations": RELATIONS},
        {"ws": "1", "first": 100},
    )
    for how, tasks, type_ in (
        ("relations joined", "tasks", "Task"),
        ("relations by DataLoader", "loadedTasks", "LoadedTask"),
        ("relations by batch resolver", "batchedTasks", "BatchedTask"),
    )
} | {"one task": (ONE % (RELATIONS, FIELDS), {"id": "5"})}


async def measure(rounds: int) -> list[list[str]]:
    """One row per case: milliseconds plain, compiled, and their ratio."""
    rows = []
    schema = strawberry.Schema(Query, extensions=[ParserCache, ValidationCache])
    declared = Options(compatible=frozenset([ParserCache, ValidationCache]))
    executor = CompiledExecutor(strawberry.Schema(Query), options=declared)

    async def plain(document: str, variables: dict[str, Any]) -> bytes:
        result = await schema.execute(document, variables, context())
        return orjson.dumps({"data": result.data})

    async def compiled(document: str, variables: dict[str, Any]) -> bytes:
        outcome = await executor.execute(document, variables=variables, context=context())
        return outcome.body()

    for name, case in CASES.items():
        for _ in range(3):
            same = await plain(*case) == await compiled(*case)
        if not same:
            raise SystemExit(f"{name}: the answers differ")
        repeat = 1 if "page" in name else 20
        times: dict[str, list[float]] = {"plain": [], "compiled": []}
        for _ in range(rounds):
            for which, function in (("plain", plain), ("compiled", compiled)):
                begin = time.process_time()
                for _ in range(repeat):
                    await function(*case)
                times[which].append((time.process_time() - begin) / repeat * 1000)
        before, after = (statistics.median(times[which]) for which in ("plain", "compiled"))
        ratio = statistics.median(
            one / two for one, two in zip(times["plain"], times["compiled"], strict=True)
        )
        rows.append([name, f"{before:.3f}", f"{after:.3f}", f"{ratio:.1f} x"])
    return rows


def section(*, quick: bool) -> Section:
    """The cases as a part of the report."""
    return Section(
        "The compiler alone: no database, no HTTP",
        ["document", "schema.execute, ms", "compiled, ms", "better by"],
        asyncio.run(measure(5 if quick else 30)),
    )
