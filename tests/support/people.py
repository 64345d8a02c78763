"""Contexts of users as they are now, with whatever key a test wants them to hold."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from models import Membership, User, table_of
from models.transaction import select_all
from resolvers.authentication import user_principal
from resolvers.context import Services
from resolvers.principal import Principal

AsUser = Callable[..., Awaitable[Any]]


async def principal_of(services: Services, user: User, **changes: Any) -> Principal:
    """A user's principal by their rows, with a key that differs in the things given."""
    async with services.database.read() as reader:
        row = await reader.find_by_id(User, user.id)
        assert row is not None
        memberships = await reader.rows(
            select_all(Membership).where(table_of(Membership).c.user_id == user.id)
        )
    return replace(user_principal(row, memberships=memberships), **changes)
