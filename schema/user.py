"""Users in the schema: as others see them, with details for themselves and site admins."""

from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from models.enums import Role, UserKind, UserTier
from resolvers.viewing import knows_details_of
from schema.context import Info
from schema.node import Node

FOR_FEW = "null unless it is your own or you administer the site."


@strawberry.type(description="A person or a service account.")
class User(Node):
    """What everybody who shares a workspace with a user may see, and a little more."""

    name: str = strawberry.field(description="Unique name, for logging in.")
    full_name: str | None = strawberry.field(description="Name for people.")
    avatar_url: str | None = strawberry.field(description="Address of a picture.")
    kind: UserKind = strawberry.field(description="A person or a service account.")
    role: Role | None = strawberry.field(description="Role in all workspaces, if any.")
    is_site_owner: bool = strawberry.field(description="Whether the whole site is theirs.")
    is_active: bool = strawberry.field(description="Whether they may log in.")
    created_at: datetime = strawberry.field(description="When the account was made.")
    version: int = strawberry.field(description="Counts changes; see expectedVersion.")

    @strawberry.field(description=f"E-mail address; {FOR_FEW}")
    def email(self, info: Info) -> str | None:
        return _detail(info, self, "email")

    @strawberry.field(description=f"Settings of their own: a JSON object; {FOR_FEW}")
    def preferences(self, info: Info) -> JSON | None:
        return _detail(info, self, "preferences")

    @strawberry.field(description=f"Which rate limits apply; {FOR_FEW}")
    def tier(self, info: Info) -> UserTier | None:
        return _detail(info, self, "tier")

    @strawberry.field(description=f"When they last logged in with a password; {FOR_FEW}")
    def last_login_at(self, info: Info) -> datetime | None:
        return _detail(info, self, "last_login_at")


def _detail(info: Info, user: User, name: str) -> Any:
    row: Any = user
    return getattr(row, name) if knows_details_of(info.context, row.id) else None
