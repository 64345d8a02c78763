"""Idempotency stamps of results: each kind knows how to come back.

A retry shows things as they are now, so it shows them only to who may still see them.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import models
from models.enums import Permission
from resolvers.context import Context
from resolvers.errors import ConflictError

Restorer = Callable[[Context, dict[str, Any]], Awaitable[Any]]
_RESTORERS: dict[str, Restorer] = {}
_FOR_LEAVERS: set[str] = set()


def restores(kind: str, *, for_leavers: bool = False) -> Callable[[Restorer], Restorer]:
    """Declare how a result whose stamp has this ``kind`` is rendered again.

    Args:
        kind: of the stamp, which names its workspace as ``workspace_id`` where it has one.
        for_leavers: whether also to who does not see that workspace any more, because the
            operation itself may have been that person's leaving.
    """

    def register(restorer: Restorer) -> Restorer:
        _RESTORERS[kind] = restorer
        if for_leavers:
            _FOR_LEAVERS.add(kind)
        return restorer

    return register


async def restore(ctx: Context, stamp: Any) -> Any:
    """What an operation returned, from its stamp: entities as they are now.

    Raises:
        ConflictError: the entity is gone meanwhile.
        NotFoundError: its workspace is not visible any more.
    """
    if stamp is None:
        return None
    if "entity" in stamp:
        return await restore_entity(ctx, stamp["entity"], stamp["id"])
    kind, workspace_id = stamp["kind"], stamp.get("workspace_id")
    if workspace_id is not None and kind not in _FOR_LEAVERS:
        ctx.require(Permission.READ, workspace_id)
    return await _RESTORERS[kind](ctx, stamp)


async def restore_entity(ctx: Context, entity: str, entity_id: str) -> Any:
    """An entity by the name of its model and its id, deleted ones too.

    Raises:
        ConflictError: its row is gone.
        NotFoundError: its workspace is not visible any more.
    """
    model: Any = getattr(models, entity)
    found = await (await ctx.reader()).find(model, models.table_of(model).c.id == entity_id)
    if found is None:
        raise ConflictError(f"The {entity.lower()} of this request is gone meanwhile")
    workspace_id = found.id if model is models.Workspace else getattr(found, "workspace_id", None)
    if workspace_id is not None:
        ctx.require(Permission.READ, workspace_id, kind=entity)
    return found
