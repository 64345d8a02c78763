"""Inputs of mutations of users, keys and log-ins."""

import strawberry
from strawberry.scalars import JSON

from models.enums import Dialect, Role, UserKind, UserTier


@strawberry.input(description="A user to create.")
class CreateUserInput:
    """See resolvers.users.create_user."""

    name: str = strawberry.field(
        description="1 to 100 characters [A-Za-z0-9._@+-], unique in any case; it never changes."
    )
    kind: UserKind = strawberry.field(
        default=UserKind.PERSON, description="A person or a service account."
    )
    role: Role | None = strawberry.field(
        default=None, description="Role in all workspaces; null for none but where a member."
    )
    email: str | None = strawberry.field(default=None, description="One address.")
    full_name: str | None = strawberry.field(
        default=None, description="Name for people, up to 200 characters."
    )
    avatar_url: str | None = strawberry.field(
        default=None, description="http or https address of a picture."
    )
    password: str | None = strawberry.field(
        default=None, description="8 to 200 characters; without one, there are only tokens."
    )


@strawberry.input(description="Changes of a user; absent fields stay, null clears.")
class UpdateUserInput:
    """See resolvers.users.update_user."""

    id: strawberry.ID = strawberry.field(description="The user's id.")
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with CONFLICT unless it is at this version."
    )
    full_name: str | None = strawberry.field(
        default=strawberry.UNSET, description="Name for people, up to 200 characters."
    )
    avatar_url: str | None = strawberry.field(
        default=strawberry.UNSET, description="http or https address of a picture."
    )
    email: str | None = strawberry.field(default=strawberry.UNSET, description="One address.")
    preferences: JSON | None = strawberry.field(
        default=strawberry.UNSET,
        description="A JSON object, merged at every depth; a null removes its key. At most 64 KiB.",
    )
    role: Role | None = strawberry.field(
        default=strawberry.UNSET, description="Role in all workspaces; for site admins to change."
    )
    is_active: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="false ends all log-ins and refuses new ones; for site admins to change. "
        "Cannot be cleared.",
    )
    tier: UserTier | None = strawberry.field(
        default=strawberry.UNSET,
        description="Which rate limits apply; for site admins to change. Cannot be cleared.",
    )


@strawberry.input(description="Preferences to merge in.")
class SetPreferencesInput:
    """See resolvers.users.set_preferences."""

    preferences: JSON = strawberry.field(
        description="A JSON object, merged at every depth; a null removes its key. At most 64 KiB."
    )
    user_id: strawberry.ID | None = strawberry.field(
        default=None, description="Whose; absent: your own."
    )


@strawberry.input(description="A new password.")
class ChangePasswordInput:
    """See resolvers.passwords.change_password."""

    new_password: str = strawberry.field(description="8 to 200 characters.")
    current_password: str | None = strawberry.field(
        default=None, description="Needed for your own, if there is one."
    )
    user_id: strawberry.ID | None = strawberry.field(
        default=None, description="Whose; absent: your own."
    )


@strawberry.input(description="A token to create.")
class CreateTokenInput:
    """See resolvers.tokens.create_token."""

    user_id: strawberry.ID | None = strawberry.field(
        default=None, description="Whose; absent: your own."
    )
    agent_id: strawberry.ID | None = strawberry.field(
        default=None, description="Or an agent's; it opens the agent's workspace only."
    )
    workspace_id: strawberry.ID | None = strawberry.field(
        default=None, description="The only workspace it is to open; absent: all its holder sees."
    )
    dialect: Dialect | None = strawberry.field(
        default=None, description="The legacy API it belongs to; TOBAN needs a workspace."
    )
    scopes: list[str] = strawberry.field(
        default_factory=list,
        description="What to limit it to: task:read, task:write, run:execute, admin, *; none for "
        "no limit. A limited token makes only tokens with the same or narrower limits.",
    )
    name: str = strawberry.field(default="", description="What it is for, up to 200 characters.")
    expires_in: int | None = strawberry.field(
        default=None, description="Lifetime in seconds, 60 to 315,360,000; absent: for ever."
    )
    sliding: bool = strawberry.field(
        default=False, description="Whether each use starts the lifetime anew."
    )


@strawberry.input(description="Name and password.")
class LogInInput:
    """See resolvers.sessions.log_in."""

    name: str = strawberry.field(description="In any case, up to 100 characters.")
    password: str = strawberry.field(description="Up to 200 characters.")
