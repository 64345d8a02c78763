"""Short ids, as some REST languages show them, and what they stand for."""

from functools import cache
from typing import Any

import sqlalchemy as sa

from models import Run, Task, Webhook, table_of
from models.base import PUBLIC_ID_LENGTH
from models.prepared import Prepared
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
    found: list[Any] = []
    if len(public_id) == PUBLIC_ID_LENGTH and public_id.isascii() and public_id.isalnum():
        found = await (await ctx.reader()).fetch(_by_public_id(model), public_id)
    if not found:
        raise NotFoundError(model.__name__)
    return str(found[0].id)


@cache
def _by_public_id(model: Any) -> Prepared[Any]:
    table = table_of(model)
    statement = sa.select(table.c.id).where(table.c.public_id == sa.bindparam("public_id"))
    return Prepared(model, ["id"], ["public_id"], lambda _dialect: statement)
