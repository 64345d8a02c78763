"""A Strawberry server as tutorials build it: SQLModel's ORM, a DataLoader per relation, aiosqlite.

Over the peers' tables (environment: DB, SYNCHRONOUS, PORT). No authentication, no limits.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import sqlalchemy as sa
import strawberry
import uvicorn
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import JSON, Column, Field, SQLModel, col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.applications import Starlette
from starlette.routing import Route
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader

engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ['DB']}")


@sa.event.listens_for(engine.sync_engine, "connect")
def configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA synchronous = {os.environ.get('SYNCHRONOUS', 'NORMAL')}")
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.close()


def session() -> AsyncSession:
    return AsyncSession(engine, expire_on_commit=False)


def _words(name: str, words: str) -> Any:
    return strawberry.enum(Enum(name, {word: word for word in words.split()}, type=str))


TaskStatus = _words("TaskStatus", "TODO IN_PROGRESS REVIEW DONE")
Priority = _words("Priority", "LOW NORMAL HIGH URGENT")
AgentStatus = _words("AgentStatus", "IDLE BUSY OFFLINE")
RunStatus = _words("RunStatus", "QUEUED RUNNING SUCCEEDED FAILED")


class WorkspaceRow(SQLModel, table=True):
    __tablename__ = "workspace"
    id: int = Field(primary_key=True)
    name: str


class StoryRow(SQLModel, table=True):
    __tablename__ = "story"
    id: int = Field(primary_key=True)
    workspace_id: int
    title: str


class AgentRow(SQLModel, table=True):
    __tablename__ = "agent"
    id: int = Field(primary_key=True)
    workspace_id: int
    name: str
    status: str


class TaskRow(SQLModel, table=True):
    __tablename__ = "task"
    id: int = Field(primary_key=True)
    workspace_id: int
    story_id: int | None
    agent_id: int | None
    title: str
    description: str
    status: str
    priority: str
    position: int
    labels: list[str] = Field(sa_column=Column(JSON))
    estimate: float | None
    branch: str | None
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None


class RunRow(SQLModel, table=True):
    __tablename__ = "run"
    id: int = Field(primary_key=True)
    task_id: int
    status: str
    progress: float
    started_at: datetime
    finished_at: datetime | None


class EventRow(SQLModel, table=True):
    __tablename__ = "event"
    id: int | None = Field(default=None, primary_key=True)
    task_id: int
    workspace_id: int
    kind: str
    payload: str
    created_at: datetime


@strawberry.type
class Story:
    id: strawberry.ID
    title: str


@strawberry.type
class Agent:
    id: strawberry.ID
    name: str
    status: AgentStatus


@strawberry.type
class Run:
    id: strawberry.ID
    status: RunStatus
    progress: float
    started_at: datetime
    finished_at: datetime | None


@strawberry.type
class Task:
    id: strawberry.ID
    title: str
    description: str
    status: TaskStatus
    priority: Priority
    position: int
    labels: list[str]
    estimate: float | None
    branch: str | None
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    story_id: strawberry.Private[int | None]
    agent_id: strawberry.Private[int | None]

    @strawberry.field
    async def story(self, info: strawberry.Info) -> Story | None:
        if self.story_id is None:
            return None
        return await info.context["stories"].load(self.story_id)

    @strawberry.field
    async def agent(self, info: strawberry.Info) -> Agent | None:
        if self.agent_id is None:
            return None
        return await info.context["agents"].load(self.agent_id)

    @strawberry.field
    async def latest_run(self, info: strawberry.Info) -> Run | None:
        return await info.context["latest"].load(int(self.id))

    @strawberry.field
    async def runs(self, last: int = 10) -> list[Run]:
        statement = (
            select(RunRow)
            .where(RunRow.task_id == int(self.id))
            .order_by(col(RunRow.id).desc())
            .limit(last)
        )
        async with session() as database:
            return [_run(row) for row in (await database.exec(statement)).all()]


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class TaskConnection:
    workspace_id: strawberry.Private[int]
    page_info: PageInfo
    nodes: list[Task]

    @strawberry.field
    async def total_count(self) -> int:
        count = select(func.count()).where(TaskRow.workspace_id == self.workspace_id)
        async with session() as database:
            return (await database.exec(count)).one()


@strawberry.type
class Workspace:
    id: strawberry.ID
    name: str

    @strawberry.field
    async def tasks(self, first: int = 50) -> TaskConnection:
        statement = (
            select(TaskRow)
            .where(TaskRow.workspace_id == int(self.id))
            .order_by(col(TaskRow.position), col(TaskRow.id))
            .limit(first + 1)
        )
        async with session() as database:
            rows = (await database.exec(statement)).all()
        nodes = [_task(row) for row in rows[:first]]
        cursor = str(nodes[-1].id) if nodes else None
        page_info = PageInfo(has_next_page=len(rows) > first, end_cursor=cursor)
        return TaskConnection(workspace_id=int(self.id), page_info=page_info, nodes=nodes)


def _id(number: int) -> strawberry.ID:
    return strawberry.ID(str(number))


def _run(row: RunRow) -> Run:
    return Run(
        id=_id(row.id),
        status=RunStatus(row.status),
        progress=row.progress,
        started_at=_utc(row.started_at),
        finished_at=_utc(row.finished_at),
    )


def _task(row: TaskRow) -> Task:
    return Task(
        id=_id(row.id),
        title=row.title,
        description=row.description,
        status=TaskStatus(row.status),
        priority=Priority(row.priority),
        position=row.position,
        labels=row.labels,
        estimate=row.estimate,
        branch=row.branch,
        created_at=_utc(row.created_at),
        updated_at=_utc(row.updated_at),
        due_at=_utc(row.due_at),
        story_id=row.story_id,
        agent_id=row.agent_id,
    )


def _utc(moment: Any) -> Any:
    return None if moment is None else moment.replace(tzinfo=UTC)


@strawberry.type
class Query:
    @strawberry.field
    async def workspace(self, id: strawberry.ID) -> Workspace | None:
        async with session() as database:
            row = await database.get(WorkspaceRow, int(id))
        return Workspace(id=_id(row.id), name=row.name) if row else None

    @strawberry.field
    async def task(self, id: strawberry.ID) -> Task | None:
        async with session() as database:
            row = await database.get(TaskRow, int(id))
        return _task(row) if row else None


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def update_task_status(self, id: strawberry.ID, status: TaskStatus) -> Task | None:
        async with session() as database:
            row = await database.get(TaskRow, int(id))
            if row is None:
                return None
            now = datetime.now(UTC)
            row.status, row.updated_at = status.value, now
            database.add(row)
            database.add(
                EventRow(
                    task_id=row.id,
                    workspace_id=row.workspace_id,
                    kind="STATUS",
                    payload=status.value,
                    created_at=now,
                )
            )
            await database.commit()
            return _task(row)


def _by_id(model: Any, shape: Callable[[Any], Any]) -> DataLoader[int, Any]:
    async def load(ids: list[int]) -> list[Any]:
        async with session() as database:
            rows = (await database.exec(select(model).where(col(model.id).in_(ids)))).all()
        found = {row.id: shape(row) for row in rows}
        return [found.get(number) for number in ids]

    return DataLoader(load_fn=load)


async def _latest(task_ids: list[int]) -> list[Run | None]:
    newest = (
        select(func.max(RunRow.id))
        .where(col(RunRow.task_id).in_(task_ids))
        .group_by(RunRow.task_id)
    )
    async with session() as database:
        rows = (await database.exec(select(RunRow).where(col(RunRow.id).in_(newest)))).all()
    found = {row.task_id: _run(row) for row in rows}
    return [found.get(number) for number in task_ids]


class Endpoint(GraphQL[Any, Any]):
    async def get_context(self, request: Any, response: Any) -> Any:
        return {
            "request": request,
            "response": response,
            "stories": _by_id(StoryRow, lambda row: Story(id=_id(row.id), title=row.title)),
            "agents": _by_id(
                AgentRow,
                lambda row: Agent(id=_id(row.id), name=row.name, status=AgentStatus(row.status)),
            ),
            "latest": DataLoader(load_fn=_latest),
        }


app = Starlette(routes=[Route("/graphql", Endpoint(strawberry.Schema(Query, Mutation)))])

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False, log_level="warning")
