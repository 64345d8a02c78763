"""Short ids, as some REST languages show them, and what they stand for."""

from typing import Any

import sqlalchemy as sa

from models import Run, Task, Webhook, table_of
from models.base import PUBLIC_ID_LENGTH
from resolvers.context import Context
from resolvers.errors import NotFoundError


async def task_id_of(ctx: Context, public_id: str) -> str:
    """The id of the task with this short id; who may see it is asked by what uses the id.

    Raises:
        NotFoundError: there is none.
    """
    return await _id_of(ctx, Task, public_id)


async def run_id_of(ctx: Context, public_id: str) -> str:
    """The id of the run with this short id; otherwise like :func:`task_id_of`."""
    return await _id_of(ctx, Run, public_id)


async def webhook_id_of(ctx: Context, public_id: str) -> str:
    """The id of the webhook with this short id; otherwise like :func:`task_id_of`."""
    return await _id_of(ctx, Webhook, public_id)


async def _id_of(ctx: Context, model: Any, public_id: str) -> str:
    ctx.authenticated()
    table = table_of(model)
    found: str | None = None
    if len(public_id) == PUBLIC_ID_LENGTH and public_id.isascii() and public_id.isalnum():
        found = await (await ctx.reader()).scalar(
            sa.select(table.c.id).where(table.c.public_id == public_id)
        )
    if found is None:
        raise NotFoundError(model.__name__)
    return found
