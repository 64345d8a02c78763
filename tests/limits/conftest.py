"""A small board of tasks behind the limits, and clients for it."""

import asyncio
import enum
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx2
import pytest
import strawberry
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

from server.limits.concurrency import ConcurrencyLimiter, ConcurrencyLimits
from server.limits.http import GraphQLGuard, OriginGuard, OriginPolicy
from server.limits.schema import LimitedSchema
from server.limits.view import LimitedGraphQL


class OperationError(Exception):
    """Looks like the application's own errors: nothing is shared with them but the form."""

    def __init__(self, message: str, code: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


@strawberry.enum
class Status(enum.Enum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"


@strawberry.type
class Run:
    id: strawberry.ID
    status: Status = Status.QUEUED
    note: str = ""

    @strawberry.field
    def task(self) -> "Task":
        return Task(id=strawberry.ID("t"))


@strawberry.type
class PageInfo:
    has_next_page: bool = False


@strawberry.type
class RunConnection:
    nodes: list[Run]
    page_info: PageInfo
    total_count: int = 0


@strawberry.type
class Task:
    id: strawberry.ID
    title: str = "title"
    labels: list[str] = strawberry.field(default_factory=list)

    @strawberry.field
    def runs(self, first: int | None = None, last: int | None = None) -> RunConnection:
        del last
        rows = [Run(id=strawberry.ID(str(i))) for i in range(min(first or 2, 2))]
        return RunConnection(nodes=rows, page_info=PageInfo())

    @strawberry.field
    def parents(self) -> list["Task"]:
        return [Task(id=strawberry.ID("p"))]

    @strawberry.field(metadata={"list_size": 3})
    def followers(self) -> list["Task"]:
        return []


@strawberry.type
class TaskEdge:
    node: Task
    cursor: str = ""


@strawberry.type
class TaskConnection:
    nodes: list[Task]
    edges: list[TaskEdge]
    page_info: PageInfo
    total_count: int = 0


Item = Annotated[Task | Run, strawberry.union("Item")]


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, name: str = "you") -> str:
        return f"Hello {name}"

    @strawberry.field
    def task(
        self, task_id: Annotated[strawberry.ID | None, strawberry.argument(name="id")] = None
    ) -> Task | None:
        return Task(id=task_id or strawberry.ID("1"))

    @strawberry.field
    def tasks(
        self, first: int | None = None, last: int | None = None, status: Status | None = None
    ) -> TaskConnection:
        del last, status
        rows = [Task(id=strawberry.ID(str(i))) for i in range(min(first or 2, 2))]
        return TaskConnection(
            nodes=rows, edges=[TaskEdge(node=r) for r in rows], page_info=PageInfo()
        )

    @strawberry.field(metadata={"page_size_arguments": ("lines",), "max_page_size": 1000})
    def output(self, lines: int = 20) -> list[Run]:
        return [Run(id=strawberry.ID(str(i))) for i in range(min(lines, 2))]

    @strawberry.field
    def items(self) -> list[Item]:
        return [Task(id=strawberry.ID("1")), Run(id=strawberry.ID("2"))]

    @strawberry.field(metadata={"cost": 250})
    def search(self, text: str) -> list[str]:
        return [text]

    @strawberry.field
    def secret(self) -> str:
        raise RuntimeError("secret path /etc/x")

    @strawberry.field
    def chained(self) -> str:
        raise RuntimeError("outer secret") from KeyError("inner secret")

    @strawberry.field
    def nothing(self) -> str:
        return None  # breaks the promise on purpose

    @strawberry.field
    def broken_status(self) -> Status:
        return "internal word"  # breaks the promise on purpose

    @strawberry.field
    def refused(self) -> str:
        raise OperationError(
            "The task is done", "ILLEGAL_TRANSITION", allowed_from=[Status.QUEUED], retry_after=3
        )

    @strawberry.field
    async def gate(self, info: strawberry.Info) -> str:
        board: Board = info.context["board"]
        board.entered += 1
        board.most = max(board.most, board.limiter.running)
        await board.gate.wait()
        return "open"


@strawberry.type
class Mutation:
    @strawberry.mutation
    def touch(
        self,
        info: strawberry.Info,
        task_id: Annotated[strawberry.ID, strawberry.argument(name="id")],
    ) -> Task:
        info.context["board"].touched += 1
        return Task(id=task_id)


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int = 3) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @strawberry.subscription
    async def held(self, info: strawberry.Info) -> AsyncIterator[int]:
        board: Board = info.context["board"]
        board.entered += 1
        await board.gate.wait()
        yield 1

    @strawberry.subscription
    async def breaks(self) -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("secret of a stream")

    @strawberry.subscription
    async def items(self) -> AsyncIterator[Run]:
        yield Run(id=strawberry.ID("1"))

    @strawberry.subscription
    async def denied(self) -> AsyncIterator[int]:
        raise OperationError("No such task", "NOT_FOUND", field="id")
        yield 1


@dataclass
class Log:
    """The injected error log: what it was told."""

    entries: list[tuple[BaseException, str, Sequence[str | int] | None]] = field(
        default_factory=list
    )

    def __call__(
        self, error: BaseException, *, error_id: str, path: Sequence[str | int] | None
    ) -> None:
        self.entries.append((error, error_id, path))


@dataclass
class Board:
    """One application with everything a test looks at."""

    schema: LimitedSchema
    app: Starlette
    log: Log
    limiter: ConcurrencyLimiter
    streams: ConcurrencyLimiter
    failure: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: int = 0
    most: int = 0
    touched: int = 0

    def client(self, **options: Any) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://board.test", **options)

    async def post(self, query: str, variables: Any = None, **options: Any) -> httpx2.Response:
        async with self.client() as client:
            body = {"query": query, "variables": variables}
            return await client.post("/graphql", json=body, **options)

    async def ask(self, query: str, variables: Any = None, **options: Any) -> dict[str, Any]:
        answer = await self.post(query, variables, **options)
        return answer.json()


MakeBoard = Callable[..., Board]


def build_board(
    *,
    concurrency: ConcurrencyLimits | None = None,
    allowed_origins: Sequence[str] = (),
    max_body_bytes: int = 1_048_576,
    body_seconds: float = 30.0,
    view_options: dict[str, Any] | None = None,
    **schema_options: Any,
) -> Board:
    log = Log()
    schema = LimitedSchema(
        Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[Task, Run],
        log=log,
        **schema_options,
    )
    limiter = ConcurrencyLimiter(concurrency)
    streams = ConcurrencyLimiter(ConcurrencyLimits(running=1, waiting=0))

    class View(LimitedGraphQL[dict[str, Any], None]):
        async def get_context(self, request: Any, response: Any) -> dict[str, Any]:
            if board.failure:
                raise board.failure
            return {"request": request, "response": response, "board": board}

    view = View(
        schema,
        limiter=limiter,
        stream_limiter=streams,
        principal_key=lambda context: context["request"].headers.get("x-user"),
        allowed_origins=allowed_origins,
        **(view_options or {}),
    )
    guarded = OriginGuard(
        GraphQLGuard(view, max_body_bytes=max_body_bytes, body_seconds=body_seconds),
        policy=OriginPolicy(allowed_origins),
        safe_methods_too=True,
    )
    app = Starlette(routes=[Route("/graphql", guarded), WebSocketRoute("/graphql", guarded)])
    board = Board(schema=schema, app=app, log=log, limiter=limiter, streams=streams)
    return board


@pytest.fixture
def make_board() -> MakeBoard:
    return build_board


@pytest.fixture
def board() -> Board:
    return build_board()


def cpu_seconds(work: Callable[[], object], *, rounds: int = 3) -> float:
    """The least processor time of some rounds: what the work costs on a quiet machine."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


@pytest.fixture
def measure() -> Callable[..., float]:
    return cpu_seconds
