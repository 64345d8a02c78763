"""Keys in the schema: everything but their secrets."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from models import Agent as AgentRow
from models import User as UserRow
from models import Workspace as WorkspaceRow
from models.enums import Dialect, KeyKind
from resolvers import loading
from schema.context import Info
from schema.reading import follow, link
from schema.user import User

if TYPE_CHECKING:
    from schema.agent import Agent
    from schema.workspace import Workspace


@strawberry.type(description="A bearer token: who it stands for, and what it is limited to.")
class Token:
    """See models.ApiKey."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    name: str = strawberry.field(description="What it is for, in words.")
    prefix: str = strawberry.field(description="The first 12 characters of its secret.")
    kind: KeyKind = strawberry.field(description="Where it comes from.")
    user_id: strawberry.ID | None = strawberry.field(description="The user it stands for.")
    agent_id: strawberry.ID | None = strawberry.field(description="Or the agent.")
    workspace_id: strawberry.ID | None = strawberry.field(
        description="The only workspace it opens; null for all its holder sees."
    )
    dialect: Dialect | None = strawberry.field(
        description="The legacy API it belongs to; null for a native one."
    )
    scopes: list[str] = strawberry.field(
        description="What it is limited to: task:read, task:write, run:execute, admin, *; "
        "empty for no limit."
    )
    expires_at: datetime | None = strawberry.field(description="When it ends; null for never.")
    sliding_seconds: int | None = strawberry.field(
        description="Each use puts its end this many seconds off; null if its end is fixed."
    )
    last_used_at: datetime | None = strawberry.field(
        description="When it was last used, to the minute."
    )
    revoked_at: datetime | None = strawberry.field(description="When it was revoked.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @strawberry.field(description="The user it stands for.", metadata=link(UserRow, "user_id"))
    async def user(self, info: Info) -> User | None:
        found: Any = await follow(info, UserRow, self.user_id)
        return found

    @strawberry.field(description="The agent it stands for.", metadata=link(AgentRow, "agent_id"))
    async def agent(self, info: Info) -> Annotated["Agent", strawberry.lazy("schema.agent")] | None:
        found: Any = await follow(info, AgentRow, self.agent_id)
        return found

    @strawberry.field(description="The only workspace it opens, if you see that.")
    async def workspace(
        self, info: Info
    ) -> Annotated["Workspace", strawberry.lazy("schema.workspace")] | None:
        if self.workspace_id is None:
            return None
        if info.context.authenticated().role_in(self.workspace_id) is None:
            return None
        found: Any = await loading.load_by_id(info.context, WorkspaceRow, self.workspace_id)
        return None if found is None or found.deleted_at is not None else found
