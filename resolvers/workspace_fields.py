"""Checks of the fields of a workspace, for everything that creates or changes one."""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from models import Workspace, table_of
from models.enums import Workflow
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, ForbiddenError, InvalidError
from resolvers.merging import merged
from resolvers.validation import Unset

WORKSPACE = table_of(Workspace).c
URL_LENGTH = 2048
PATH_LENGTH = 4096
SLUG_LENGTH = 100
CONCURRENT_MAX = 100
# None of the parts begins with "-": git must not take an address for an option.
_REPOSITORY_URL = re.compile(
    r"https?://[^\s/@]+/\S+"
    r"|ssh://(?:[A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?/\S+"
    r"|[A-Za-z0-9._][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^\s:-]\S*"
)
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NOT_NULL = frozenset({"name", "slug", "language", "workflow", "max_concurrent", "pull_mode"})
_PUBLIC_NAMES = {
    "default_branch": "defaultBranch",
    "repository_url": "repositoryUrl",
    "agent_type": "agentType",
    "github_organization": "githubOrganization",
    "github_login": "githubLogin",
    "max_concurrent": "maxConcurrent",
    "pull_mode": "pullMode",
}


def checked_fields(
    ctx: Context, fields: Mapping[str, Any], *, workspace: Workspace | None = None
) -> dict[str, Any]:
    """Checked column values for the given fields; ``settings`` and ``limits`` are merged.

    ``local_path`` needs a look at the disk and is checked by :func:`confine_local_path`.

    Raises:
        InvalidError: a value cannot be accepted.
    """
    return {
        name: _checked_field(ctx, workspace, name, value)
        for name, value in fields.items()
        if not isinstance(value, Unset)
    }


def _checked_field(ctx: Context, workspace: Workspace | None, name: str, value: Any) -> Any:  # noqa: C901, PLR0912  # a flat table of fields
    field = _PUBLIC_NAMES.get(name, name)
    if value is None and name in _NOT_NULL:
        raise InvalidError(f"{field} must not be null", field=field)
    match name:
        case "name":
            return check.line(value, field=field, maximum=ctx.limits.name)
        case "slug":
            return check_slug(value)
        case "description":
            return check.text(value or "", field=field, maximum=ctx.limits.description)
        case "spec":
            return check.optional_text(value, field=field, maximum=ctx.limits.description)
        case "language":
            return check.line(value, field=field, maximum=35)
        case "workflow":
            return check.word(value, Workflow, field=field)
        case "repository_url":
            return check_repository_url(value, field=field)
        case "default_branch":
            return _branch(ctx, value, field=field)
        case "agent_type":
            return check.optional_line(value, field=field, maximum=100)
        case "github_organization" | "github_login":
            return _account(value, field=field)
        case "max_concurrent":
            return check.integer(value, field=field, minimum=1, maximum=CONCURRENT_MAX)
        case "pull_mode":
            return bool(value)
        case "settings" | "limits":
            current = getattr(workspace, name) if workspace is not None else {}
            return merged(
                current, value, field=field, maximum_bytes=ctx.limits.json_bytes
            ) if value is not None else {}  # fmt: skip
    raise TypeError(f"a workspace has no field {name} to set")


def _branch(ctx: Context, value: str | None, *, field: str) -> str | None:
    branch = check.optional_line(value, field=field, maximum=255)
    if branch is None:
        return None
    try:
        ctx.services.git.check_branch_name(branch)
    except ValueError as error:
        raise InvalidError(f"{field}: {error}", field=field) from error
    return branch


def _account(value: str | None, *, field: str) -> str | None:
    name = check.optional_line(value, field=field, maximum=100)
    if name is not None and _ACCOUNT.fullmatch(name) is None:
        raise InvalidError(f"{field} must be an account name [A-Za-z0-9._-]", field=field)
    return name


def check_slug(slug: str) -> str:
    """A short name for addresses.

    Raises:
        InvalidError: not 1 to 100 characters ``[a-z0-9._-]``, letter or digit at both ends.
    """
    chosen = check.line(slug, field="slug", maximum=SLUG_LENGTH)
    if _SLUG.fullmatch(chosen) is None:
        raise InvalidError("slug must match [a-z0-9._-]", field="slug")
    return chosen


async def refuse_taken_slug(ctx: Context, slug: str) -> None:
    """Refuse a slug that another live workspace has.

    Raises:
        ConflictError: it is taken.
    """
    if await is_slug_taken(ctx, slug):
        raise ConflictError(f"The slug {slug} is taken", field="slug")


async def is_slug_taken(ctx: Context, slug: str) -> bool:
    """Whether a live workspace has this slug."""
    found = await ctx.transaction.scalar(
        sa.select(WORKSPACE.id).where(WORKSPACE.slug == slug, WORKSPACE.deleted_at.is_(None))
    )
    return found is not None


def slugify(name: str) -> str:
    """A short name from a long one: ASCII letters and digits, words joined by ``-``."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:SLUG_LENGTH].strip("-")


def check_repository_url(url: str | None, *, field: str = "repositoryUrl") -> str | None:
    """A repository address git can clone from, or None.

    Raises:
        InvalidError: another scheme (``ext::`` would run programs), or no address at all.
    """
    address = check.optional_line(url, field=field, maximum=URL_LENGTH)
    if address is not None and _REPOSITORY_URL.fullmatch(address) is None:
        raise InvalidError(
            f"{field} must be an https, http or ssh address or user@host:path", field=field
        )
    return address


def confine_local_path(ctx: Context, path: str, *, field: str = "localPath") -> str:
    """The real path of a local repository, if the principal may use it.

    Links are resolved before the check, so a link inside an allowed root leads nowhere else.

    Raises:
        InvalidError: not absolute, or not a directory.
        ForbiddenError: outside the operator's repository roots, for anyone but the site owner.
    """
    given = check.text(path, field=field, maximum=PATH_LENGTH, minimum=1)
    if not given.startswith("/") or any(ord(c) < 32 for c in given):  # noqa: PLR2004  # ASCII controls
        raise InvalidError(f"{field} must be an absolute path", field=field)
    real = _real_path(given, field=field)
    principal, trust = ctx.authenticated(), ctx.services.trust
    allowed = (
        principal.is_site_owner
        or principal.kind == "system"
        or trust.allow_local_repositories
        or any(real.is_relative_to(Path(root).resolve()) for root in trust.repository_roots)
    )
    if not allowed:
        raise ForbiddenError(
            "This path is outside the repository roots that the operator allows", field=field
        )
    if not _is_directory(real):
        raise InvalidError(f"{field} is not a directory on the server", field=field)
    return str(real)


def _real_path(given: str, *, field: str) -> Path:
    try:
        return Path(given).resolve()
    except (OSError, RuntimeError):  # a loop of links is a RuntimeError
        raise InvalidError(f"{field} leads nowhere", field=field) from None


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
