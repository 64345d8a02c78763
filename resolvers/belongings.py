"""Things that belong to a workspace and have an id: looked up, locked and let go of alike."""

from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlmodel import SQLModel

from models import Workspace, table_of
from models.enums import Permission
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.stamps import restores
from resolvers.task_access import record_from
from resolvers.workspaces import require_active

M = TypeVar("M", bound=SQLModel)
WORKSPACE = table_of(Workspace).c


@dataclass(frozen=True, slots=True)
class Deletion:
    """What is left of something that was deleted for good."""

    id: str
    workspace_id: str

    def to_stamp(self) -> dict[str, Any]:
        """For a retried request, which must not fail because the row is gone."""
        return {"kind": "deletion", "id": self.id, "workspace_id": self.workspace_id}


@restores("deletion")
async def _restore_deletion(_ctx: Context, stamp: dict[str, Any]) -> Deletion:
    return Deletion(stamp["id"], stamp["workspace_id"])


async def get_belonging(
    ctx: Context, model: type[M], *, entity_id: str, permission: Permission = Permission.READ
) -> M:
    """A story, sprint or agent the principal may see; inside an operation its row is locked.

    Raises:
        NotFoundError: unknown, or of a workspace the principal cannot see.
        ForbiddenError: the permission is missing.
        ConflictError: something other than reading is asked for below an inactive workspace.
    """
    ctx.authenticated()
    table, kind = table_of(model), model.__name__
    if not check.is_id(entity_id):
        raise NotFoundError(kind)
    statement = (
        sa.select(*table.c, WORKSPACE.status.label("workspace_status"))
        .join(table_of(Workspace), WORKSPACE.id == table.c.workspace_id)
        .where(table.c.id == entity_id, WORKSPACE.deleted_at.is_(None))
    )
    if ctx.in_transaction:
        statement = statement.with_for_update(of=table, key_share=True)
    row = await (await ctx.reader()).first(statement)
    if row is None:
        raise NotFoundError(kind)
    ctx.require(permission, row.workspace_id, kind=kind)
    if permission != Permission.READ:
        require_active(row.workspace_status)
    found: M = record_from(model, row)
    return found


async def detach(
    ctx: Context, model: type[SQLModel], field: str, *conditions: sa.ColumnElement[bool]
) -> dict[str, Any]:
    """Set a field of all rows that meet the conditions to null, counting it as a change of each.

    Returns:
        Facts for the event of what they were detached from: how many rows, and the ids of the
        first 100.
    """
    table = table_of(model)
    ids = await ctx.transaction.scalars(
        sa.update(table)
        .where(*conditions)
        .values({field: None, "version": table.c.version + 1, "updated_at": ctx.now})
        .returning(table.c.id)
    )
    name = model.__name__.lower()
    if not ids:
        return {}
    return {f"{name}_count": len(ids), f"{name}_ids": sorted(ids)[: ctx.limits.list_items]}
