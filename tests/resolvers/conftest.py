"""A board with people on it, and ways to look at what operations left behind."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import sqlalchemy as sa

from models import Event, EventStream, Task, TaskTotal, User, Workspace, table_of, utcnow
from models.database import Database
from models.enums import Role
from models.transaction import select_all
from resolvers.context import Context, Services
from resolvers.ports import Trust
from resolvers.principal import Principal
from resolvers.workspaces import create_workspace
from tests.support.fakes import RecordingDispatcher, RecordingWakeUps, no_git
from tests.support.fixtures import MakeContext
from tests.support.people import AsUser, principal_of

EVENT, STREAM, TASK, TOTAL = (table_of(m).c for m in (Event, EventStream, Task, TaskTotal))


@dataclass
class Board:
    """A workspace, its people's contexts, and what its log and counters say."""

    services: Services
    workspace: Workspace
    users: dict[str, User]
    contexts: list[Context] = field(default_factory=list)

    async def close(self) -> None:
        """Give all snapshots back."""
        for context in self.contexts:
            await context.release()

    def _opened(self, principal: Principal) -> Context:
        self.contexts.append(Context(self.services, principal))
        return self.contexts[-1]

    @property
    def id(self) -> str:
        return self.workspace.id

    def context(self, name: str = "developer") -> Context:
        """The context of the owner, manager, developer, viewer or stranger."""
        user = self.users[name]
        if name == "owner":
            return self._opened(
                Principal(kind="user", id=user.id, name=user.name, is_site_owner=True)
            )
        roles = {"manager": Role.MANAGER, "developer": Role.DEVELOPER, "viewer": Role.VIEWER}
        memberships = {self.id: roles[name]} if name in roles else {}
        return self._opened(
            Principal(kind="user", id=user.id, name=user.name, memberships=memberships)
        )

    def agent_context(self, agent: Any) -> Context:
        """The context of an agent's own key."""
        return self._opened(
            Principal(kind="agent", id=agent.id, name=agent.name, workspace_id=self.id)
        )

    async def rows(self, statement: sa.Executable) -> Any:
        async with self.services.database.read() as reader:
            return await reader.rows(statement)

    async def events(self) -> list[Event]:
        """The whole log, oldest first; checked to be without a gap."""
        async with self.services.database.read() as reader:
            found = await reader.records(
                Event, select_all(Event).where(EVENT.stream_id == self.id).order_by(EVENT.seq)
            )
            head = await reader.scalar(sa.select(STREAM.seq).where(STREAM.id == self.id))
        assert [event.seq for event in found] == list(range(1, head + 1))
        return found

    async def types_since(self, seq: int) -> list[str]:
        return [event.type for event in await self.events() if event.seq > seq]

    async def head(self) -> int:
        return len(await self.events())

    async def check_totals(self) -> None:
        """The kept totals are what a COUNT says."""
        archived = TASK.archived_at.is_not(None)
        counted = {
            (row[0], bool(row[1])): row[2]
            for row in await self.rows(
                sa.select(TASK.status, archived, sa.func.count())
                .where(TASK.workspace_id == self.id, TASK.deleted_at.is_(None))
                .group_by(TASK.status, archived)
            )
        }
        kept = {
            (row.status, row.archived): row.total
            for row in await self.rows(
                sa.select(TOTAL.status, TOTAL.archived, TOTAL.total).where(
                    TOTAL.workspace_id == self.id
                )
            )
            if row.total
        }
        assert kept == counted


async def make_board(services: Services, **workspace: Any) -> Board:
    """A new workspace with a person for each role."""
    users: dict[str, User] = {}
    for name in ("owner", "manager", "developer", "viewer", "stranger"):
        async with services.database.write() as transaction:
            number = await transaction.next_number("site", "user")
            users[name] = await transaction.insert(
                User,
                number=number,
                name=f"{name}-{number}",
                is_site_owner=name == "owner",
                created_at=utcnow(),
                updated_at=utcnow(),
            )
    owner = Context(
        services, Principal(kind="user", id=users["owner"].id, name="owner", is_site_owner=True)
    )
    given = {"name": "Board", "repository_url": "https://git.example.org/board.git", **workspace}
    created = await create_workspace(owner, **given)
    from models import Membership

    for name, role in (
        ("manager", Role.MANAGER),
        ("developer", Role.DEVELOPER),
        ("viewer", Role.VIEWER),
    ):
        async with services.database.write() as transaction:
            await transaction.insert(
                Membership,
                workspace_id=created.id,
                user_id=users[name].id,
                role=role,
                created_at=utcnow(),
                updated_at=utcnow(),
            )
    return Board(services, created, users)


def offline_services(database: Database) -> Services:
    """Services on a database, for tests that run their own loop."""
    from server.security import ArgonPasswords, FernetBox

    return Services(
        database=database,
        wakeups=RecordingWakeUps(),
        dispatcher=RecordingDispatcher(),
        clock=utcnow,
        passwords=ArgonPasswords(fast=True),
        secrets=FernetBox.generate(),
        git=no_git(),
        trust=Trust(executors={"CUSTOM": object(), "CODEX": object()}),
    )


@pytest.fixture
def board_services(services: Services) -> Services:
    """Services of a server with an executor."""
    return replace(services, trust=Trust(executors={"CUSTOM": object(), "CODEX": object()}))


@pytest.fixture
async def board(board_services: Services) -> AsyncIterator[Board]:
    """A fresh board."""
    opened = await make_board(board_services)
    yield opened
    await opened.close()


@pytest.fixture
def dev(board: Board) -> Context:
    """A developer of the board."""
    return board.context("developer")


@pytest.fixture
def as_user(services: Services, as_principal: MakeContext) -> AsUser:
    """A context for a user as they are now, with a key that differs in the things given."""

    async def make(user: User, **changes: Any) -> Context:
        return as_principal(await principal_of(services, user, **changes))

    return make
