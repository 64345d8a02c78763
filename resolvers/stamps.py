"""Idempotency stamps of results that are not one entity: each kind knows how to come back."""

from collections.abc import Awaitable, Callable
from typing import Any

import models
from resolvers.context import Context
from resolvers.errors import ConflictError

Restorer = Callable[[Context, dict[str, Any]], Awaitable[Any]]
_RESTORERS: dict[str, Restorer] = {}


def restores(kind: str) -> Callable[[Restorer], Restorer]:
    """Declare how a result whose stamp has this ``kind`` is rendered again."""

    def register(restorer: Restorer) -> Restorer:
        _RESTORERS[kind] = restorer
        return restorer

    return register


async def restore(ctx: Context, stamp: Any) -> Any:
    """What an operation returned, from its stamp: entities as they are now.

    Raises:
        ConflictError: the entity is gone meanwhile.
    """
    if stamp is None:
        return None
    if "entity" in stamp:
        return await restore_entity(ctx, stamp["entity"], stamp["id"])
    return await _RESTORERS[stamp["kind"]](ctx, stamp)


async def restore_entity(ctx: Context, entity: str, entity_id: str) -> Any:
    """An entity by the name of its model and its id, deleted ones too.

    Raises:
        ConflictError: its row is gone.
    """
    model: Any = getattr(models, entity)
    found = await (await ctx.reader()).find(model, models.table_of(model).c.id == entity_id)
    if found is None:
        raise ConflictError(f"The {entity.lower()} of this request is gone meanwhile")
    return found
