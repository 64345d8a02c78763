"""Webhooks of a workspace: create, look up, change, delete. Deliveries have their own module.

Whoever sets one up sends the board's contents elsewhere, and addresses often hold secrets; so even
looking at webhooks takes ``write``, and agents may not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from models import Delivery, EventStream, Webhook, table_of
from models.enums import DeliveryStatus, Dialect, Permission
from models.transaction import select_all
from resolvers import validation as check
from resolvers.belongings import Deletion, get_belonging
from resolvers.context import Context
from resolvers.errors import ForbiddenError, InvalidError, LimitExceededError
from resolvers.operation import operation, step
from resolvers.paging import Order, Page, PageArguments, read_page
from resolvers.stamps import restore_entity, restores
from resolvers.task_access import check_version
from resolvers.validation import UNSET, Unset
from resolvers.webhook_formats import NativeWebhooks, WebhookFormat
from resolvers.workspaces import get_workspace, lock_workspace, require_active

WEBHOOK = table_of(Webhook).c
DELIVERY = table_of(Delivery).c
STREAM = table_of(EventStream).c
URL_LENGTH = 2_048
DESCRIPTION_LENGTH = 500
FILTERS_MAX = 100
FILTER_LENGTH = 60
OVERLAP_SECONDS = 86_400
OVERLAP_SECONDS_MAX = 7 * 86_400
NATIVE = NativeWebhooks()


@dataclass(frozen=True, slots=True)
class SecretShown:
    """A webhook and its new secret, shown this once: a replay has None in its place."""

    webhook: Webhook
    secret: str | None

    def to_stamp(self) -> dict[str, Any]:
        """What an idempotency record keeps: never the secret."""
        return {
            "kind": "webhook_secret",
            "id": self.webhook.id,
            "workspace_id": self.webhook.workspace_id,
        }


@restores("webhook_secret")
async def _restore_secret_shown(ctx: Context, stamp: dict[str, Any]) -> SecretShown:
    return SecretShown(await restore_entity(ctx, "Webhook", stamp["id"]), None)


def format_of(ctx: Context, dialect: str | None) -> WebhookFormat:
    """How webhooks of a dialect (None: native) are delivered; the native way for unknown ones."""
    return NATIVE if dialect is None else ctx.services.webhook_formats.get(dialect, NATIVE)


def _refuse_agents(ctx: Context) -> None:
    if ctx.authenticated().kind == "agent":
        raise ForbiddenError("Agents have no business with webhooks")


# --- looking ---


async def get_webhook(ctx: Context, *, webhook_id: str) -> Webhook:
    """A webhook of a workspace the principal may write in; locked inside an operation.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError.
        ConflictError: inside an operation, below an inactive workspace.
    """
    permission = Permission.WRITE if ctx.in_transaction else Permission.READ
    webhook = await get_belonging(ctx, Webhook, entity_id=webhook_id, permission=permission)
    ctx.require(Permission.WRITE, str(webhook.workspace_id), kind="Webhook")
    _refuse_agents(ctx)
    return webhook


async def list_webhooks(
    ctx: Context,
    *,
    workspace_id: str,
    dialect: str | None = None,
    page: PageArguments | None = None,
) -> Page[Webhook]:
    """A page of a workspace's webhooks, oldest first: all, or those of one dialect.

    Raises:
        NotFoundError, ForbiddenError, UnauthenticatedError, InvalidError.
    """
    await get_workspace(ctx, workspace_id=workspace_id, permission=Permission.WRITE)
    _refuse_agents(ctx)
    statement = select_all(Webhook).where(WEBHOOK.workspace_id == workspace_id)
    if dialect is not None:
        statement = statement.where(WEBHOOK.dialect == dialect)
    order = [Order(WEBHOOK.created_at), Order(WEBHOOK.id)]
    return await read_page(ctx, Webhook, statement, order=order, page=page or PageArguments())


# --- changing ---


async def create_webhook(
    ctx: Context,
    *,
    workspace_id: str,
    url: str,
    event_types: Sequence[str],
    description: str = "",
    dialect: str | None = None,
    secret: str | None = None,
) -> SecretShown:
    """Have events of a workspace delivered from now on.

    Args:
        ctx: needs ``write`` in the workspace; not for agents.
        workspace_id: whose events.
        url: http or https, up to 2,048 characters, without user and password. An address of this
            machine or a private network is refused unless the operator allows it.
        event_types: 1 to 100 names in the dialect's words; natively types such as
            ``task.created``, ``task.*`` or ``*``.
        description: for people, up to 500 characters.
        dialect: in which language; None for native.
        secret: what signs deliveries; made when absent, where the language has one.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: the workspace is not active.
        LimitExceededError: it has 50 webhooks.
    """
    if dialect is not None:
        dialect = check.word(dialect, Dialect, field="dialect")
    form = format_of(ctx, dialect)
    await _claim_creation(ctx, workspace_id=workspace_id)
    values = {
        "url": await _checked_url(ctx, url),
        "event_types": _checked_filter(form, event_types),
        "description": _checked_description(description),
        "dialect": dialect,
    }
    return await _insert(
        ctx, workspace_id=workspace_id, values=values, secret=form.check_secret(secret)
    )


@step
async def _claim_creation(ctx: Context, *, workspace_id: str) -> None:
    """Refuse before anything is looked up outside."""
    _refuse_agents(ctx)
    workspace = await get_workspace(ctx, workspace_id=workspace_id, permission=Permission.WRITE)
    require_active(workspace.status)


@operation
async def _insert(
    ctx: Context, *, workspace_id: str, values: dict[str, Any], secret: str | None
) -> SecretShown:
    workspace = await lock_workspace(ctx, workspace_id=workspace_id, permission=Permission.WRITE)
    require_active(workspace.status)
    maximum = ctx.limits.webhooks_per_workspace
    count = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(WEBHOOK.workspace_id == workspace_id)
    )
    if count >= maximum:
        raise LimitExceededError("The workspace has its maximum of webhooks", limit=maximum)
    webhook = await ctx.transaction.insert(
        Webhook,
        workspace_id=workspace_id,
        secrets_encrypted=_sealed(ctx, secret),
        read_seq=await ctx.transaction.scalar(
            sa.select(STREAM.seq).where(STREAM.id == workspace_id)
        ),
        created_by=ctx.authenticated().user_id,
        created_at=ctx.now,
        updated_at=ctx.now,
        **values,
    )
    ctx.emit("webhook.created", webhook, workspace_id=workspace_id)
    return SecretShown(webhook, secret)


async def update_webhook(
    ctx: Context,
    *,
    webhook_id: str,
    url: str | Unset | None = UNSET,
    event_types: Sequence[str] | Unset | None = UNSET,
    description: str | Unset | None = UNSET,
    is_active: bool | Unset | None = UNSET,
    skip_missed: bool = False,
    expected_version: int | None = None,
) -> Webhook:
    """Change a webhook; what is not given stays.

    An inactive one keeps its place in the log and goes on from there when it is active again, or
    from the log's present end.

    Args:
        ctx: as for :func:`create_webhook`.
        webhook_id: which.
        url: as in :func:`create_webhook`.
        event_types: as there.
        description: as there; None empties it.
        is_active: whether it delivers.
        skip_missed: when it becomes active: whether to leave out what it has not delivered yet.
        expected_version: refuse with CONFLICT unless the webhook is at this version.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        ConflictError: another version, or the workspace is not active.
    """
    changes: dict[str, Any] = {}
    if not isinstance(url, Unset):
        await _claim_update(ctx, webhook_id=webhook_id)
        changes["url"] = await _checked_url(ctx, url or "")
    if not isinstance(description, Unset):
        changes["description"] = _checked_description(description or "")
    if is_active is None:
        raise InvalidError("isActive must not be null", field="isActive")
    if not isinstance(is_active, Unset):
        changes["is_active"] = is_active
    return await _settle_update(
        ctx,
        webhook_id=webhook_id,
        changes=changes,
        event_types=event_types,
        skip_missed=skip_missed,
        expected_version=expected_version,
    )


@step
async def _claim_update(ctx: Context, *, webhook_id: str) -> None:
    await get_webhook(ctx, webhook_id=webhook_id)


@operation
async def _settle_update(
    ctx: Context,
    *,
    webhook_id: str,
    changes: dict[str, Any],
    event_types: Sequence[str] | Unset | None,
    skip_missed: bool,
    expected_version: int | None,
) -> Webhook:
    webhook = await get_webhook(ctx, webhook_id=webhook_id)
    check_version(webhook.version, expected_version)
    if not isinstance(event_types, Unset):
        changes["event_types"] = _checked_filter(format_of(ctx, webhook.dialect), event_types or [])
    changes = {name: value for name, value in changes.items() if getattr(webhook, name) != value}
    if not changes:
        return webhook
    if "is_active" not in changes:
        return await change_webhook(ctx, webhook, "webhook.updated", **changes)
    if not changes["is_active"]:
        return await change_webhook(
            ctx, webhook, "webhook.disabled", disabled_reason="OFF", **changes
        )
    missed = await _place_of_return(ctx, webhook, skip_missed=skip_missed)
    return await change_webhook(
        ctx, webhook, "webhook.enabled", disabled_reason=None, failures=0, **missed, **changes
    )


async def _place_of_return(ctx: Context, webhook: Webhook, *, skip_missed: bool) -> dict[str, Any]:
    """Where an inactive webhook goes on: where it stopped, or at the first event there still is."""
    stream = await ctx.transaction.find_by_id(EventStream, str(webhook.workspace_id))
    assert stream is not None  # noqa: S101  # every workspace has one
    if skip_missed:
        await _drop_pending(ctx, webhook)
        return {"read_seq": stream.seq}
    return {"read_seq": max(webhook.read_seq, stream.floor)}


async def _drop_pending(ctx: Context, webhook: Webhook) -> None:
    """Give up what a webhook has not delivered yet."""
    await ctx.transaction.execute(
        sa.update(table_of(Delivery))
        .where(DELIVERY.webhook_id == webhook.id, DELIVERY.status == DeliveryStatus.PENDING)
        .values(
            status=DeliveryStatus.FAILED,
            next_attempt_at=None,
            lease_owner=None,
            lease_expires_at=None,
            lease_token=DELIVERY.lease_token + 1,
        )
    )


@operation
async def delete_webhook(ctx: Context, *, webhook_id: str) -> Deletion:
    """Delete a webhook and its deliveries; nothing more is sent.

    Raises:
        NotFoundError, ForbiddenError, ConflictError: as :func:`get_webhook`.
    """
    webhook = await get_webhook(ctx, webhook_id=webhook_id)
    await ctx.transaction.delete_by_id(Webhook, webhook.id)
    ctx.emit("webhook.deleted", webhook, workspace_id=webhook.workspace_id)
    return Deletion(webhook.id, str(webhook.workspace_id))


@operation
async def rotate_webhook_secret(
    ctx: Context,
    *,
    webhook_id: str,
    overlap_seconds: int = OVERLAP_SECONDS,
    secret: str | None = None,
) -> SecretShown:
    """Give a webhook a new secret; the previous one signs too for a while.

    Args:
        ctx: as for :func:`create_webhook`.
        webhook_id: which.
        overlap_seconds: how long, 0 to 604,800.
        secret: the new one; made when absent.

    Raises:
        NotFoundError, ForbiddenError, ConflictError, InvalidError.
    """
    overlap = check.integer(
        overlap_seconds, field="overlapSeconds", minimum=0, maximum=OVERLAP_SECONDS_MAX
    )
    webhook = await get_webhook(ctx, webhook_id=webhook_id)
    new = format_of(ctx, webhook.dialect).check_secret(secret)
    previous = webhook.secrets_encrypted[:1] if overlap else []
    after = await change_webhook(
        ctx,
        webhook,
        "webhook.secret_rotated",
        secrets_encrypted=[*_sealed(ctx, new), *previous],
        previous_secret_until=ctx.now + timedelta(seconds=overlap) if previous else None,
    )
    return SecretShown(after, new)


async def change_webhook(ctx: Context, webhook: Webhook, event: str, **changes: Any) -> Webhook:
    """Write a change of a webhook: version, time and event in one place."""
    after = await ctx.transaction.update_by_id(
        Webhook, webhook.id, updated_at=ctx.now, version=webhook.version + 1, **changes
    )
    facts: dict[str, Any] = {"changed": sorted(changes)}
    if after.read_seq > webhook.read_seq:
        facts["missed_events"] = after.read_seq - webhook.read_seq
    ctx.emit(event, after, workspace_id=webhook.workspace_id, **facts)
    return after


# --- checks ---


def _sealed(ctx: Context, secret: str | None) -> list[str]:
    return [] if secret is None else [ctx.services.secrets.encrypt(secret).decode("ascii")]


def secrets_of(ctx: Context, webhook: Webhook) -> list[str]:
    """What signs a webhook's deliveries now, newest first.

    Raises:
        UnavailableError: the key that encrypted one is missing.
    """
    until = webhook.previous_secret_until
    count = 2 if until is not None and until > ctx.now else 1
    sealed = webhook.secrets_encrypted[:count]
    return [ctx.services.secrets.decrypt(secret.encode("ascii")) for secret in sealed]


async def _checked_url(ctx: Context, url: str) -> str:
    address = check.line(url, field="url", maximum=URL_LENGTH)
    try:
        parts = urlsplit(address)
        absolute = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not close
        absolute = False
    if not absolute or " " in address:
        raise InvalidError("url must be an absolute http or https address", field="url")
    if parts.username is not None or parts.password is not None:
        raise InvalidError("url must not hold a user or password", field="url")
    refusal = await ctx.services.outbound.refusal(address)
    if refusal is not None:
        raise InvalidError(f"url cannot be used: {refusal}", field="url")
    return address


def _checked_filter(form: WebhookFormat, names: Sequence[str]) -> list[str]:
    listed = check.lines(
        names, field="eventTypes", maximum_items=FILTERS_MAX, maximum=FILTER_LENGTH, unique=False
    )
    if not listed:
        raise InvalidError("eventTypes must not be empty", field="eventTypes")
    return form.check_filter(listed)


def _checked_description(description: str) -> str:
    return check.text(description, field="description", maximum=DESCRIPTION_LENGTH)
