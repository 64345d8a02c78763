"""Workspaces: create, look up, change, archive, delete, and who belongs to them."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from models import EventStream, Membership, Workspace, new_id, table_of
from models.enums import Permission, Role, Workflow, WorkspaceStatus
from models.event import SITE_STREAM
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from resolvers.operation import operation

WORKSPACE = table_of(Workspace).c
URL_LENGTH = 2048
_REPOSITORY_URL = re.compile(
    r"(?:https?://[^\s/@]+/\S+|ssh://\S+|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^\s:]\S*)"
)
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
SLUG_LENGTH = 100


async def get_workspace(
    ctx: Context, *, workspace_id: str, permission: Permission = Permission.READ
) -> Workspace:
    """A workspace the principal may see.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError: see ``Context.require``.
    """
    ctx.require(permission, workspace_id)
    reader = await ctx.reader()
    workspace = await reader.find(
        Workspace, WORKSPACE.id == workspace_id, WORKSPACE.deleted_at.is_(None)
    )
    if workspace is None:
        raise NotFoundError("Workspace", workspace_id)
    return workspace


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
    description: str = "",
    local_path: str | None = None,
    repository_url: str | None = None,
    max_concurrent: int = 4,
    workflow: str = Workflow.KANBAN,
    language: str = "en",
) -> Workspace:
    """Create a workspace; its creator becomes its admin.

    Args:
        ctx: needs ``write`` on the whole site.
        name: 1 to 255 characters, need not be unique.
        slug: unique short name ``[a-z0-9._-]``; made from the name when absent.
        description: free text.
        local_path: absolute path of a git repository on the server's disk. The site owner may
            name any; others only under the operator's repository roots.
        repository_url: where the repository can be cloned from (https, ssh or ``user@host:path``).
        max_concurrent: how many runs may execute at once, 1 to 100.
        workflow: how the team works.
        language: BCP 47 tag.

    Raises:
        ForbiddenError: the principal may not create workspaces or not use this path.
        InvalidError: an argument cannot be accepted.
        ConflictError: the slug is taken.
    """
    ctx.require_site(Permission.WRITE)
    default_branch = None
    if local_path is not None:
        local_path = confine_local_path(ctx, local_path)
        default_branch = (await ctx.services.git.probe(local_path)).default_branch
    return await _insert_workspace(
        ctx,
        name=check.line(name, field="name", maximum=ctx.limits.name),
        slug=slug,
        description=check.text(description, field="description", maximum=ctx.limits.description),
        local_path=local_path,
        default_branch=default_branch,
        repository_url=check_repository_url(repository_url),
        max_concurrent=check.integer(max_concurrent, field="maxConcurrent", minimum=1, maximum=100),
        workflow=check.word(workflow, Workflow, field="workflow"),
        language=check.line(language, field="language", maximum=35),
    )


@operation
async def _insert_workspace(
    ctx: Context, *, name: str, slug: str | None, **values: Any
) -> Workspace:
    principal, now, tx = ctx.authenticated(), ctx.now, ctx.transaction
    number = await tx.next_number(SITE_STREAM, "workspace")
    if slug is not None:
        chosen = check.line(slug, field="slug", maximum=SLUG_LENGTH)
        if _SLUG.fullmatch(chosen) is None:
            raise InvalidError("slug must match [a-z0-9._-]", field="slug")
        if await _slug_taken(ctx, chosen):
            raise ConflictError(f"The slug {chosen} is taken", field="slug")
    else:
        chosen = slugify(name) or "workspace"
        if await _slug_taken(ctx, chosen):
            chosen = f"{chosen[: SLUG_LENGTH - 12]}-{number}"
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


async def _slug_taken(ctx: Context, slug: str) -> bool:
    found = await ctx.transaction.scalar(
        sa.select(WORKSPACE.id).where(WORKSPACE.slug == slug, WORKSPACE.deleted_at.is_(None))
    )
    return found is not None


def slugify(name: str) -> str:
    """A short name from a long one: ASCII letters and digits, words joined by ``-``."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:SLUG_LENGTH].strip("-")


def check_repository_url(url: str | None) -> str | None:
    """A repository address git can clone from, or None.

    Raises:
        InvalidError: another scheme (``ext::`` would run programs), or no address at all.
    """
    address = check.optional_line(url, field="repositoryUrl", maximum=URL_LENGTH)
    if address is not None and _REPOSITORY_URL.fullmatch(address) is None:
        raise InvalidError(
            "repositoryUrl must be an https, http or ssh address or user@host:path",
            field="repositoryUrl",
        )
    return address


def confine_local_path(ctx: Context, path: str) -> str:
    """The real path of a local repository, if the principal may use it.

    Links are resolved before the check, so a link inside an allowed root leads nowhere else.

    Raises:
        InvalidError: not absolute, or not a directory.
        ForbiddenError: outside the operator's repository roots, for anyone but the site owner.
    """
    given = check.text(path, field="localPath", maximum=4096, minimum=1)
    if not given.startswith("/") or any(ord(c) < 32 for c in given):  # noqa: PLR2004  # ASCII controls
        raise InvalidError("localPath must be an absolute path", field="localPath")
    real = Path(given).resolve()
    principal, trust = ctx.authenticated(), ctx.services.trust
    allowed = (
        principal.is_site_owner
        or principal.kind == "system"
        or trust.allow_local_repositories
        or any(real.is_relative_to(Path(root).resolve()) for root in trust.repository_roots)
    )
    if not allowed:
        raise ForbiddenError(
            "This path is outside the repository roots that the operator allows",
            field="localPath",
        )
    if not real.is_dir():
        raise InvalidError("localPath is not a directory on the server", field="localPath")
    return str(real)
