"""The repositories a workspace's agents may use, beside the one it runs tasks in."""

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from models import Repository, table_of
from models.enums import Permission
from models.transaction import select_all
from resolvers import validation as check
from resolvers.belongings import Deletion, get_belonging
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidError, LimitExceededError
from resolvers.loading import loader
from resolvers.operation import operation, step
from resolvers.validation import Unset
from resolvers.workspace_fields import URL_LENGTH, check_repository_url, confine_local_path
from resolvers.workspaces import get_workspace, lock_workspace, require_active

REPOSITORY = table_of(Repository).c
NAME_LENGTH = 100
AGENT_NAME_LENGTH = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_OWNER_AND_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")


async def get_repository(
    ctx: Context, *, repository_id: str, permission: Permission = Permission.READ
) -> Repository:
    """A repository of a workspace the principal may see; locked inside an operation.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError.
        ConflictError: a change is asked for below an inactive workspace.
    """
    return await get_belonging(ctx, Repository, entity_id=repository_id, permission=permission)


async def list_repositories(ctx: Context, *, workspace_id: str) -> list[Repository]:
    """All repositories of a workspace, by name: at most 100.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError.
    """
    await get_workspace(ctx, workspace_id=workspace_id)
    return await repositories_of(ctx, workspace_id)


async def repositories_of(ctx: Context, workspace_id: str) -> list[Repository]:
    """The same for workspaces that were read as visible ones; batched over a page."""

    async def load(ids: Sequence[str]) -> Sequence[list[Repository]]:
        records = await (await ctx.reader()).records(
            Repository,
            select_all(Repository)
            .where(REPOSITORY.workspace_id.in_(ids))
            .order_by(REPOSITORY.name, REPOSITORY.id),
        )
        found: dict[str, list[Repository]] = {key: [] for key in ids}
        for record in records:
            found[record.workspace_id].append(record)
        return [found[key] for key in ids]

    return await loader(ctx, "repositories_of", load).load(workspace_id)


async def create_repository(
    ctx: Context,
    *,
    workspace_id: str,
    name: str,
    path: str = "",
    url: str = "",
    description: str = "",
    access_agents: Sequence[str] = (),
) -> Repository:
    """Tell a workspace's agents of a repository.

    Args:
        ctx: needs ``write`` in the workspace.
        workspace_id: whose.
        name: 1 to 100 characters ``[A-Za-z0-9._-]``, unique in the workspace.
        path: ``owner/name``, an address that git can clone from, or an absolute path on the
            server's disk, for which the rules of a workspace's local path hold; may be empty.
        url: an address that git can clone from; may be empty.
        description: free text.
        access_agents: names of the agents that may use it, up to 100; none for all.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: the name is taken, or the workspace is not active.
        LimitExceededError: the workspace has 100 repositories.
    """
    fields = {"name": name, "path": path, "url": url, "description": description,
              "access_agents": access_agents}  # fmt: skip
    if path.strip().startswith("/"):
        await _claim_creation(ctx, workspace_id=workspace_id)
        fields["path"] = await _local(ctx, path.strip())
    return await _insert(ctx, workspace_id=workspace_id, fields=fields)


@step
async def _claim_creation(ctx: Context, *, workspace_id: str) -> None:
    """Refuse before anything is looked at on the disk."""
    workspace = await lock_workspace(ctx, workspace_id=workspace_id, permission=Permission.WRITE)
    require_active(workspace.status)


async def _local(ctx: Context, path: str) -> str:
    real = confine_local_path(ctx, path, field="path")
    if len(real) > URL_LENGTH:
        raise InvalidError(f"path is longer than {URL_LENGTH} characters", field="path")
    await ctx.services.git.probe(real)
    return real


@operation
async def _insert(ctx: Context, *, workspace_id: str, fields: dict[str, Any]) -> Repository:
    workspace = await lock_workspace(ctx, workspace_id=workspace_id, permission=Permission.WRITE)
    require_active(workspace.status)
    values = _checked(ctx, fields)
    await _refuse_taken(ctx, workspace_id, values["name"])
    count = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(REPOSITORY.workspace_id == workspace_id)
    )
    if count >= ctx.limits.list_items:
        raise LimitExceededError(
            "The workspace has its maximum of repositories", limit=ctx.limits.list_items
        )
    now = ctx.now
    repository = await ctx.transaction.insert(
        Repository, workspace_id=workspace_id, created_at=now, updated_at=now, **values
    )
    ctx.emit("repository.created", repository, workspace_id=workspace_id)
    return repository


async def update_repository(ctx: Context, *, repository_id: str, **fields: Any) -> Repository:
    """Change a repository's entry; what is not given stays.

    Args:
        ctx: needs ``write`` in the workspace.
        repository_id: which.
        fields: as in :func:`create_repository`; None empties all but the name.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: the name is taken, or the workspace is not active.
    """
    given = {name: value for name, value in fields.items() if not isinstance(value, Unset)}
    path = (given.get("path") or "").strip()
    if path.startswith("/"):
        await _claim_update(ctx, repository_id=repository_id)
        given["path"] = await _local(ctx, path)
    return await _settle_update(ctx, repository_id=repository_id, fields=given)


@step
async def _claim_update(ctx: Context, *, repository_id: str) -> None:
    await get_repository(ctx, repository_id=repository_id, permission=Permission.WRITE)


@operation
async def _settle_update(ctx: Context, *, repository_id: str, fields: dict[str, Any]) -> Repository:
    before = await get_repository(ctx, repository_id=repository_id, permission=Permission.WRITE)
    values = _checked(ctx, fields)
    changes = {name: value for name, value in values.items() if getattr(before, name) != value}
    if not changes:
        return before
    if "name" in changes:
        await lock_workspace(ctx, workspace_id=before.workspace_id, permission=Permission.WRITE)
        await _refuse_taken(ctx, before.workspace_id, changes["name"])
    after = await ctx.transaction.update_by_id(Repository, before.id, updated_at=ctx.now, **changes)
    ctx.emit("repository.updated", after, workspace_id=after.workspace_id, changed=sorted(changes))
    return after


@operation
async def delete_repository(ctx: Context, *, repository_id: str) -> Deletion:
    """Take a repository's entry away; nothing on disk or elsewhere is touched.

    Raises:
        NotFoundError, ForbiddenError, ConflictError: as :func:`get_repository`.
    """
    before = await get_repository(ctx, repository_id=repository_id, permission=Permission.WRITE)
    await ctx.transaction.execute(sa.delete(table_of(Repository)).where(REPOSITORY.id == before.id))
    ctx.emit("repository.deleted", before, workspace_id=before.workspace_id)
    return Deletion(before.id, before.workspace_id)


async def _refuse_taken(ctx: Context, workspace_id: str, name: str) -> None:
    taken = await ctx.transaction.scalar(
        sa.select(REPOSITORY.id).where(
            REPOSITORY.workspace_id == workspace_id, REPOSITORY.name == name
        )
    )
    if taken is not None:
        raise ConflictError(f"The name {name} is taken", field="name")


def _checked(ctx: Context, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _checked_field(ctx, name, value) for name, value in fields.items()}


def _checked_field(ctx: Context, name: str, value: Any) -> Any:
    match name:
        case "name":
            return _name(value)
        case "path":
            return _path(value)
        case "url":
            return check_repository_url(value, field="url") or ""
        case "description":
            return check.text(value or "", field=name, maximum=ctx.limits.description)
        case "access_agents":
            return check.lines(
                value or [],
                field="accessAgents",
                maximum_items=ctx.limits.list_items,
                maximum=AGENT_NAME_LENGTH,
            )
    raise TypeError(f"a repository has no field {name} to set")


def _name(value: str | None) -> str:
    name = check.line(value or "", field="name", maximum=NAME_LENGTH)
    if _NAME.fullmatch(name) is None:
        raise InvalidError("name must match [A-Za-z0-9._-] and begin with a letter, a digit or _",
                           field="name")  # fmt: skip
    return name


def _path(value: str | None) -> str:
    path = check.optional_line(value, field="path", maximum=URL_LENGTH) or ""
    if path.startswith("/") or not path or _OWNER_AND_NAME.fullmatch(path):
        return path  # an absolute one was confined before
    try:
        return check_repository_url(path, field="path") or ""
    except InvalidError:
        raise InvalidError(
            "path must be owner/name, an address git can clone from, or an absolute path",
            field="path",
        ) from None
