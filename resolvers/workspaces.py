"""Workspaces: create and look up. Changes, lists, members and repositories have their own modules.

Everything here is below tasks, runs and the rest: it imports none of them.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from models import EventStream, Membership, Workspace, new_id, table_of
from models.base import column_names
from models.commands import Command
from models.enums import Permission, Role, Workflow, WorkspaceStatus
from models.event import SITE_STREAM
from models.prepared import DialectName, Prepared, one_of
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, LimitExceededError, NotFoundError, OperationError
from resolvers.loading import STATEMENTS_KEPT, Columns, columns_to_read
from resolvers.operation import operation
from resolvers.workspace_fields import (
    SLUG_LENGTH,
    checked_fields,
    confine_local_path,
    is_slug_taken,
    refuse_taken_slug,
    slugify,
)

WORKSPACE = table_of(Workspace).c


async def get_workspace(
    ctx: Context,
    *,
    workspace_id: str,
    permission: Permission = Permission.READ,
    columns: Columns = None,
) -> Workspace:
    """A workspace the principal may see; inside an operation it is read whole.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError: see ``Context.require``.
    """
    ctx.require(permission, workspace_id)
    if ctx.in_transaction:
        return await _get_live(ctx, workspace_id, LIVE_WORKSPACE)
    if not check.is_id(workspace_id):
        raise NotFoundError("Workspace")
    found = await (await ctx.reader()).fetch(_live_workspace(columns), workspace_id)
    if not found:
        raise NotFoundError("Workspace")
    ctx.live_workspaces.add(workspace_id)
    return found[0]


async def require_workspace(ctx: Context, *, workspace_id: str) -> None:
    """Make sure that a workspace is live and that the principal may read in it.

    One that was read in this snapshot is not read again.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError: see ``Context.require``.
    """
    if ctx.in_transaction or workspace_id not in ctx.live_workspaces:
        await get_workspace(ctx, workspace_id=workspace_id)
    else:
        ctx.require(Permission.READ, workspace_id)


async def refused_workspaces(ctx: Context, ids: Iterable[str]) -> dict[str, OperationError]:
    """Those of some workspaces that are not live or not to be read, with the refusal for each.

    Those that were read in this snapshot are not read again; the others in one statement.
    """
    refused: dict[str, OperationError] = {}
    unknown = []
    for workspace_id in dict.fromkeys(ids):
        try:
            ctx.require(Permission.READ, workspace_id)
        except OperationError as error:
            refused[workspace_id] = error
        else:
            if ctx.in_transaction or workspace_id not in ctx.live_workspaces:
                unknown.append(workspace_id)
    possible = [workspace_id for workspace_id in unknown if check.is_id(workspace_id)]
    live: set[str] = set()
    if possible:
        live = {found.id for found in await (await ctx.reader()).fetch(_LIVE, possible)}
        ctx.live_workspaces |= live
    refused.update((key, NotFoundError("Workspace")) for key in unknown if key not in live)
    return refused


def _live_ones(dialect: DialectName) -> sa.Select[Any]:
    return sa.select(WORKSPACE.id).where(
        one_of(dialect, WORKSPACE.id, "ids"), WORKSPACE.deleted_at.is_(None)
    )


_LIVE = Prepared(Workspace, ["id"], ["ids"], _live_ones)


@lru_cache(maxsize=STATEMENTS_KEPT)
def _live_workspace(columns: Columns) -> Prepared[Workspace]:
    def build(_dialect: DialectName) -> sa.Select[Any]:
        return sa.select(*columns_to_read(Workspace, columns)).where(
            WORKSPACE.id == sa.bindparam("workspace_id"), WORKSPACE.deleted_at.is_(None)
        )

    return Prepared(Workspace, columns or column_names(Workspace), ["workspace_id"], build)


async def lock_workspace(ctx: Context, *, workspace_id: str, permission: Permission) -> Workspace:
    """Inside an operation: a workspace the principal may change, held until the commit.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError: see ``Context.require``.
    """
    ctx.require(permission, workspace_id)
    return await _get_live(ctx, workspace_id, LOCKED_WORKSPACE)


async def _get_live(ctx: Context, workspace_id: str, command: Command) -> Workspace:
    if not check.is_id(workspace_id):
        raise NotFoundError("Workspace")
    found = await ctx.transaction.run_records(Workspace, command, {"workspace_id": workspace_id})
    if not found:
        raise NotFoundError("Workspace")
    return found[0]


def _live_with_all() -> sa.Select[Any]:
    return select_all(Workspace).where(
        WORKSPACE.id == sa.bindparam("workspace_id"), WORKSPACE.deleted_at.is_(None)
    )


LIVE_WORKSPACE = Command(lambda _dialect: _live_with_all(), model=Workspace)
# The weaker lock: rows that refer to the workspace can still be inserted meanwhile.
LOCKED_WORKSPACE = Command(
    lambda _dialect: _live_with_all().with_for_update(key_share=True), model=Workspace
)


async def get_active_workspace(
    ctx: Context, *, workspace_id: str, permission: Permission = Permission.WRITE
) -> Workspace:
    """A workspace that takes changes.

    Raises:
        ConflictError: it is archived or completed; and what :func:`get_workspace` raises.
    """
    workspace = await get_workspace(ctx, workspace_id=workspace_id, permission=permission)
    require_active(workspace.status)
    return workspace


def require_active(status: str) -> None:
    """Refuse changes below a workspace that is archived or completed."""
    if status != WorkspaceStatus.ACTIVE:
        raise ConflictError(
            f"The workspace is {status.lower()} and takes no changes", status=status
        )


async def create_workspace(
    ctx: Context,
    *,
    name: str,
    slug: str | None = None,
    local_path: str | None = None,
    max_concurrent: int = 4,
    workflow: str = Workflow.KANBAN,
    language: str = "en",
    **fields: Any,
) -> Workspace:
    """Create a workspace; its creator becomes its admin.

    Args:
        ctx: needs ``write`` on the whole site.
        name: 1 to 255 characters, need not be unique.
        slug: unique short name ``[a-z0-9._-]``; made from the name when absent.
        local_path: absolute path of a git repository on the server's disk. The site owner may
            name any; others only under the operator's repository roots.
        max_concurrent: how many runs may execute at once, 1 to 100.
        workflow: how the team works.
        language: BCP 47 tag.
        fields: ``description``, ``repository_url`` (https, ssh or ``user@host:path``),
            ``default_branch`` (by default what the local repository has checked out), ``spec``,
            ``settings``, ``limits``, ``agent_type``, ``github_organization``, ``github_login``,
            ``pull_mode``.

    Raises:
        ForbiddenError: the principal may not create workspaces or not use this path.
        InvalidError: an argument cannot be accepted.
        ConflictError: the slug is taken.
        LimitExceededError: the site has its maximum of workspaces.
    """
    ctx.require_site(Permission.WRITE)
    given = {
        "name": name,
        "max_concurrent": max_concurrent,
        "workflow": workflow,
        "language": language,
        **({"slug": slug} if slug is not None else {}),
        **fields,
    }
    values = checked_fields(ctx, given)
    if local_path is not None:
        values["local_path"] = confine_local_path(ctx, local_path)
        facts = await ctx.services.git.probe(values["local_path"])
        values["default_branch"] = values.get("default_branch") or facts.default_branch
    return await _insert_workspace(ctx, **values)


@operation
async def _insert_workspace(
    ctx: Context, *, name: str, slug: str | None = None, **values: Any
) -> Workspace:
    principal, now, tx = ctx.authenticated(), ctx.now, ctx.transaction
    # The counter's row is held until the commit, so slugs are compared one creation at a time.
    number = await tx.next_number(SITE_STREAM, "workspace")
    await _refuse_too_many(ctx)
    if slug is not None:
        await refuse_taken_slug(ctx, slug)
        chosen = slug
    else:
        chosen = slugify(name) or "workspace"
        if await is_slug_taken(ctx, chosen):
            chosen = f"{chosen[: SLUG_LENGTH - 12]}-{number}"
            await refuse_taken_slug(ctx, chosen)
    workspace = await tx.insert(
        Workspace,
        id=new_id(),
        number=number,
        slug=chosen,
        name=name,
        created_by=principal.user_id,
        created_at=now,
        updated_at=now,
        **values,
    )
    await tx.insert(EventStream, id=workspace.id)
    if principal.user_id is not None:
        await tx.insert(
            Membership,
            workspace_id=workspace.id,
            user_id=principal.user_id,
            role=Role.ADMIN,
            created_at=now,
            updated_at=now,
        )
        ctx.after_commit(lambda: ctx.services.wakeups.principal(principal.key))
    ctx.emit("workspace.created", workspace, workspace_id=workspace.id)
    ctx.emit("workspace.created", workspace, workspace_id=None)
    return workspace


async def _refuse_too_many(ctx: Context) -> None:
    live = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(WORKSPACE.deleted_at.is_(None))
    )
    if live >= ctx.limits.workspaces:
        raise LimitExceededError(
            "The site has its maximum of workspaces", limit=ctx.limits.workspaces
        )
