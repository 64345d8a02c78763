"""Users as others see them."""

from datetime import datetime

import strawberry

from models.enums import Role, UserKind
from schema.node import Node


@strawberry.type(description="A person or a service account.")
class User(Node):
    """What everybody who shares a workspace with a user may see."""

    name: str = strawberry.field(description="Unique name, for logging in.")
    full_name: str | None = strawberry.field(description="Name for people.")
    avatar_url: str | None = strawberry.field(description="Address of a picture.")
    kind: UserKind = strawberry.field(description="A person or a service account.")
    role: Role | None = strawberry.field(description="Role in all workspaces, if any.")
    is_site_owner: bool = strawberry.field(description="Whether the whole site is theirs.")
    is_active: bool = strawberry.field(description="Whether they may log in.")
    created_at: datetime = strawberry.field(description="When the account was made.")
