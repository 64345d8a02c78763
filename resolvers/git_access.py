"""How a workspace's repository is reached and prepared: credentials, and the setup of worktrees."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from models import GitCredential, Workspace, table_of
from models.enums import Permission
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ForbiddenError, InvalidError, LimitExceededError
from resolvers.operation import operation
from resolvers.ports import Secret
from resolvers.workspace_changes import change_workspace
from resolvers.workspaces import get_workspace, lock_workspace, require_active

CREDENTIAL = table_of(GitCredential).c
HOSTS_MAX = 20
SECRET_MAX = 10_000
COPY_MAX = 100
COMMANDS_MAX = 20
WORDS_MAX = 100
_HOST = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])"
    r"(?::[1-9][0-9]{0,4})?"
)


@dataclass(frozen=True, slots=True)
class GitAccess:
    """That there is a credential for a host; its secret is shown to nobody."""

    host: str
    username: str
    updated_at: datetime


async def list_git_access(ctx: Context, *, workspace_id: str) -> list[GitAccess]:
    """The hosts a workspace has a credential for, by name: at most 20.

    Raises:
        NotFoundError, ForbiddenError: needs ``manage_queues``.
    """
    await get_workspace(ctx, workspace_id=workspace_id, permission=Permission.MANAGE_QUEUES)
    rows = await (await ctx.reader()).rows(
        sa.select(CREDENTIAL.host, CREDENTIAL.username, CREDENTIAL.updated_at)
        .where(CREDENTIAL.workspace_id == workspace_id)
        .order_by(CREDENTIAL.host)
    )
    return [GitAccess(row.host, row.username, row.updated_at) for row in rows]


@operation
async def set_git_access(
    ctx: Context, *, workspace_id: str, host: str, username: str, secret: str
) -> Workspace:
    """Keep the credential for a host, encrypted; it replaces the one there was.

    It is used for git (clone, fetch, push) over https with that host, and for pull requests where
    the host is the forge's.

    Args:
        ctx: needs ``manage_queues``.
        workspace_id: whose repositories.
        host: as in addresses, such as ``github.com`` or ``git.example.org:8443``.
        username: what the host wants; for tokens often any word.
        secret: password or token, up to 10,000 characters on one line.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, ConflictError (workspace not active),
        LimitExceededError (20 hosts).
    """
    workspace = await _locked(ctx, workspace_id)
    wanted = check_host(host)
    name = check.line(username, field="username", maximum=255)
    hidden = check.line(secret, field="secret", maximum=SECRET_MAX)
    known = await ctx.transaction.scalars(
        sa.select(CREDENTIAL.host).where(CREDENTIAL.workspace_id == workspace_id)
    )
    if wanted not in known and len(known) >= HOSTS_MAX:
        raise LimitExceededError(
            f"A workspace has credentials for at most {HOSTS_MAX} hosts", limit=HOSTS_MAX
        )
    await _delete(ctx, workspace_id, wanted)
    await ctx.transaction.insert_many(
        GitCredential,
        [
            {
                "workspace_id": workspace_id,
                "host": wanted,
                "username": name,
                "secret_encrypted": ctx.services.secrets.encrypt(hidden),
                "updated_by": ctx.authenticated().user_id,
                "updated_at": ctx.now,
            }
        ],
    )
    return await _changed(ctx, workspace, wanted)


@operation
async def remove_git_access(ctx: Context, *, workspace_id: str, host: str) -> Workspace:
    """Forget the credential for a host; without one, nothing changes.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, ConflictError.
    """
    workspace = await _locked(ctx, workspace_id)
    wanted = check_host(host)
    if not await _delete(ctx, workspace_id, wanted):
        return workspace
    return await _changed(ctx, workspace, wanted)


async def _locked(ctx: Context, workspace_id: str) -> Workspace:
    workspace = await lock_workspace(
        ctx, workspace_id=workspace_id, permission=Permission.MANAGE_QUEUES
    )
    require_active(workspace.status)
    return workspace


async def _delete(ctx: Context, workspace_id: str, host: str) -> int:
    return await ctx.transaction.execute(
        sa.delete(table_of(GitCredential)).where(
            CREDENTIAL.workspace_id == workspace_id, CREDENTIAL.host == host
        )
    )


async def _changed(ctx: Context, workspace: Workspace, host: str) -> Workspace:
    ctx.emit("workspace.git_access_changed", workspace, workspace_id=workspace.id, host=host)
    return workspace


def check_host(host: str) -> str:
    """A host with or without a port, in small letters.

    Raises:
        InvalidError: an address, a path, or no host at all.
    """
    found = check.line(host, field="host", maximum=255).lower()
    if _HOST.fullmatch(found) is None:
        raise InvalidError("host must be a name such as github.com, or name:port", field="host")
    return found


async def find_secret(ctx: Context, *, workspace_id: str, host: str) -> Secret | None:
    """The credential for a host, in the clear; for the system's own use.

    Raises:
        UnavailableError: no key of the server's fits.
    """
    rows = await (await ctx.reader()).records(
        GitCredential,
        select_all(GitCredential).where(
            CREDENTIAL.workspace_id == workspace_id, CREDENTIAL.host == host.lower()
        ),
    )
    if not rows:
        return None
    secret = ctx.services.secrets.decrypt(rows[0].secret_encrypted)
    return Secret(rows[0].host, rows[0].username, secret)


@operation
async def set_worktree_setup(
    ctx: Context,
    *,
    workspace_id: str,
    copy: Sequence[str] = (),
    commands: Sequence[Sequence[str]] = (),
) -> Workspace:
    """Say how new worktrees of a workspace are prepared, after what the operator's settings say.

    Args:
        ctx: the site owner's: commands run as the server's user.
        workspace_id: which.
        copy: files or folders of the main checkout that git does not keep, as paths or patterns
            below it; up to 100. Only with a local path.
        commands: argument lists that are run one after the other in each new worktree; up to 20 of
            100 words.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, ConflictError.
    """
    workspace = await _locked(ctx, workspace_id)
    principal = ctx.authenticated()
    if not principal.is_site_owner and principal.kind != "system":
        raise ForbiddenError("Only the site owner may say which commands prepare a worktree")
    setup: dict[str, Any] = {
        "copy": [check_pattern(pattern) for pattern in _few(copy, COPY_MAX, "copy")],
        "commands": [_command(command) for command in _few(commands, COMMANDS_MAX, "commands")],
    }
    value = setup if any(setup.values()) else None
    if value == workspace.worktree_setup:
        return workspace
    return await change_workspace(ctx, workspace, "workspace.updated", worktree_setup=value)


def _few(items: Sequence[Any], maximum: int, field: str) -> Sequence[Any]:
    if len(items) > maximum:
        raise InvalidError(f"{field} must have at most {maximum} items", field=field)
    return items


def _command(words: Sequence[str]) -> list[str]:
    if not words or not words[0].strip():
        raise InvalidError("commands must each begin with a program", field="commands")
    return [
        check.text(word, field="commands", maximum=4096)
        for word in _few(words, WORDS_MAX, "commands")
    ]


def check_pattern(pattern: str) -> str:
    """A path or pattern below a folder.

    Raises:
        InvalidError: absolute, with ``..`` or a backslash in it, or about ``.git``.
    """
    found = check.line(pattern, field="copy", maximum=1024)
    parts = found.split("/")
    if found.startswith(("/", "~")) or "\\" in found or {"..", ".git"} & set(parts):
        raise InvalidError(
            "copy must be paths below the checkout, with / between their parts and no ..",
            field="copy",
        )
    return found
