"""What happens to a workspace later: updates, archiving and completing, deletion."""

from typing import Any

import sqlalchemy as sa

from models import ApiKey, Counter, Membership, Run, Workspace, table_of
from models.enums import Permission, WorkspaceStatus
from models.event import SITE_STREAM
from models.lifecycle import RUN_EXECUTING, RUN_LIVE
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError
from resolvers.keys import wake_holder
from resolvers.operation import operation, step
from resolvers.task_access import check_version
from resolvers.task_runs import RUN, end_run
from resolvers.validation import UNSET, Unset
from resolvers.workspace_fields import checked_fields, confine_local_path, refuse_taken_slug
from resolvers.workspaces import lock_workspace

KEY = table_of(ApiKey).c
MEMBER = table_of(Membership).c
STEERS_RUNS = frozenset({"local_path", "default_branch", "max_concurrent", "pull_mode", "limits"})
"""Fields that decide where and how runs execute: a manager's, not every writer's."""

_STATUS_EVENTS = {
    WorkspaceStatus.ACTIVE: "workspace.reopened",
    WorkspaceStatus.ARCHIVED: "workspace.archived",
    WorkspaceStatus.COMPLETED: "workspace.completed",
}


async def update_workspace(
    ctx: Context,
    *,
    workspace_id: str,
    expected_version: int | None = None,
    local_path: str | Unset | None = UNSET,
    **fields: Any,
) -> Workspace:
    """Change fields of a workspace; what is not given stays, None clears.

    Args:
        ctx: needs ``write``; for fields that steer runs (``local_path``, ``default_branch``,
            ``max_concurrent``, ``pull_mode``, ``limits``) ``manage_queues``.
        workspace_id: which.
        expected_version: refuse with CONFLICT unless the workspace is at this version.
        local_path: as in ``create_workspace``; not while a run executes.
        fields: all others of ``create_workspace``; ``settings`` and ``limits`` are merged at every
            depth, where a null removes its key.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: archived, another version, the slug is taken, a run executes.
    """
    changes = dict(fields)
    if local_path is None:
        changes["local_path"] = None
    elif not isinstance(local_path, Unset):
        await _claim_local_path(ctx, workspace_id=workspace_id, expected_version=expected_version)
        changes["local_path"] = confine_local_path(ctx, local_path)
        facts = await ctx.services.git.probe(changes["local_path"])
        if facts.default_branch is not None:
            changes.setdefault("default_branch", facts.default_branch)
    return await _settle_update(
        ctx, workspace_id=workspace_id, expected_version=expected_version, changes=changes
    )


@step
async def _claim_local_path(
    ctx: Context, *, workspace_id: str, expected_version: int | None
) -> None:
    """Refuse before anything is looked at on the disk."""
    workspace = await lock_workspace(
        ctx, workspace_id=workspace_id, permission=Permission.MANAGE_QUEUES
    )
    check_version(workspace.version, expected_version)
    _refuse_archived(workspace)


@operation
async def _settle_update(
    ctx: Context, *, workspace_id: str, expected_version: int | None, changes: dict[str, Any]
) -> Workspace:
    if "slug" in changes:
        await _compare_slugs_alone(ctx)
    workspace = await lock_workspace(ctx, workspace_id=workspace_id, permission=Permission.WRITE)
    if STEERS_RUNS & changes.keys():
        ctx.require(Permission.MANAGE_QUEUES, workspace_id)
    check_version(workspace.version, expected_version)
    _refuse_archived(workspace)
    path = {"local_path": changes.pop("local_path")} if "local_path" in changes else {}
    values = {**checked_fields(ctx, changes, workspace=workspace), **path}
    values = {name: value for name, value in values.items() if getattr(workspace, name) != value}
    if not values:
        return workspace
    if "slug" in values:
        await refuse_taken_slug(ctx, values["slug"])
    if "local_path" in values:
        await _refuse_while_executing(ctx, workspace_id)
    return await change_workspace(ctx, workspace, "workspace.updated", **values)


async def _compare_slugs_alone(ctx: Context) -> None:
    """Wait for creations and renamings under way: slugs are compared one at a time."""
    counter = table_of(Counter).c
    await ctx.transaction.rows(
        sa.select(counter.value)
        .where(counter.scope == SITE_STREAM, counter.name == "workspace")
        .with_for_update()
    )


async def change_workspace(
    ctx: Context,
    workspace: Workspace,
    event: str,
    *,
    on_site: bool = False,
    extra: dict[str, Any] | None = None,
    **changes: Any,
) -> Workspace:
    """Write a change of a workspace: version, time and events in one place.

    Args:
        ctx: in an operation that holds the workspace.
        workspace: as it is.
        event: what happened.
        on_site: whether the site's log tells it too.
        extra: further facts of the event.
        changes: new column values.
    """
    after = await ctx.transaction.update_by_id(
        Workspace, workspace.id, updated_at=ctx.now, version=workspace.version + 1, **changes
    )
    facts: dict[str, Any] = {"changed": sorted(changes), **(extra or {})}
    if after.status != workspace.status:
        facts["from_status"] = workspace.status
    ctx.emit(event, after, workspace_id=workspace.id, **facts)
    if on_site:
        ctx.emit(event, after, workspace_id=None, **facts)
    return after


def _refuse_archived(workspace: Workspace) -> None:
    if workspace.status == WorkspaceStatus.ARCHIVED:
        raise ConflictError(
            "The workspace is archived and takes no changes", status=workspace.status
        )


async def _refuse_while_executing(ctx: Context, workspace_id: str) -> None:
    run_id = await ctx.transaction.scalar(
        sa.select(RUN.id)
        .where(
            RUN.workspace_id == workspace_id,
            RUN.managed.is_(True),
            RUN.status.in_(sorted(RUN_EXECUTING)),
        )
        .limit(1)
    )
    if run_id is not None:
        raise ConflictError("A run is executing; stop it first", run_id=run_id)


@operation
async def set_workspace_status(
    ctx: Context, *, workspace_id: str, status: str, expected_version: int | None = None
) -> Workspace:
    """Archive or complete a workspace, or open it again; repeating changes nothing.

    Only an ACTIVE workspace takes changes below it. Waiting runs wait until it is active again.

    Args:
        ctx: needs ``manage_queues``.
        workspace_id: which.
        status: ACTIVE, ARCHIVED or COMPLETED.
        expected_version: refuse with CONFLICT unless the workspace is at this version.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: another version, or a managed run executes.
    """
    wanted = check.word(status, WorkspaceStatus, field="status")
    workspace = await lock_workspace(
        ctx, workspace_id=workspace_id, permission=Permission.MANAGE_QUEUES
    )
    check_version(workspace.version, expected_version)
    if workspace.status == wanted:
        return workspace
    if wanted != WorkspaceStatus.ACTIVE:
        await _refuse_while_executing(ctx, workspace_id)
    else:
        ctx.after_commit(ctx.services.dispatcher.wake)
    archived_at = ctx.now if wanted == WorkspaceStatus.ARCHIVED else None
    return await change_workspace(
        ctx,
        workspace,
        _STATUS_EVENTS[wanted],
        on_site=True,
        status=wanted,
        archived_at=archived_at,
    )


@operation
async def delete_workspace(
    ctx: Context, *, workspace_id: str, force: bool = False, expected_version: int | None = None
) -> Workspace:
    """Delete a workspace softly: it and all below it are gone from every list and look-up.

    Waiting runs are cancelled, keys bound to it are revoked; its slug is free again, its number
    is not reused.

    Args:
        ctx: needs ``admin`` in the workspace.
        workspace_id: which.
        force: also while runs execute, which are then stopped; otherwise that is a CONFLICT.
        expected_version: refuse with CONFLICT unless the workspace is at this version.

    Raises:
        NotFoundError, ForbiddenError, ConflictError.
    """
    workspace = await lock_workspace(ctx, workspace_id=workspace_id, permission=Permission.ADMIN)
    check_version(workspace.version, expected_version)
    if not force:
        await _refuse_while_executing(ctx, workspace_id)
    for run in await _live_runs(ctx, workspace_id):
        await end_run(ctx, run, reason="workspace_deleted")
    await _close_to_holders(ctx, workspace_id)
    return await change_workspace(
        ctx, workspace, "workspace.deleted", on_site=True, deleted_at=ctx.now
    )


async def _live_runs(ctx: Context, workspace_id: str) -> list[Run]:
    return await ctx.transaction.records(
        Run,
        select_all(Run)
        .where(
            RUN.workspace_id == workspace_id,
            RUN.managed.is_(True),
            RUN.status.in_(sorted(RUN_LIVE)),
        )
        .order_by(RUN.created_at, RUN.id)
        .with_for_update(),
    )


async def _close_to_holders(ctx: Context, workspace_id: str) -> None:
    """Revoke the keys bound to a workspace; wake their holders and the members."""
    keys = await ctx.transaction.rows(
        sa.update(table_of(ApiKey))
        .where(KEY.workspace_id == workspace_id, KEY.revoked_at.is_(None))
        .values(revoked_at=ctx.now)
        .returning(KEY.user_id, KEY.agent_id)
    )
    members = await ctx.transaction.scalars(
        sa.select(MEMBER.user_id).where(MEMBER.workspace_id == workspace_id)
    )
    for user_id, agent_id in {(row.user_id, row.agent_id) for row in keys}:
        wake_holder(ctx, user_id=user_id, agent_id=agent_id)
    for user_id in members:
        wake_holder(ctx, user_id=user_id)
