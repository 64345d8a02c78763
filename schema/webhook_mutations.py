"""Webhooks: root queries and mutations."""

from typing import Annotated, Any

import strawberry

from resolvers import webhook_history, webhooks
from schema.common import (
    INPUT,
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connection,
    fields_of,
    log_cursor,
    mutate,
    or_none,
    page_arguments,
)
from schema.context import Info
from schema.webhook import CreateWebhookInput, UpdateWebhookInput, Webhook, WebhookDelivery

WebhookId = Annotated[strawberry.ID, strawberry.argument(description="The webhook's id.")]
SECRET = (
    "What signs its deliveries. It is shown this once; null where the request was sent again "  # noqa: S105  # a description
    "under its idempotency key."
)


@strawberry.type(description="A webhook after a mutation.")
class WebhookPayload:
    """What updateWebhook returns."""

    webhook: Webhook = strawberry.field(description="The webhook as it is now.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.webhook.workspace_id)


@strawberry.type(description="A webhook with a new secret.")
class WebhookSecretPayload(WebhookPayload):
    """What createWebhook and rotateWebhookSecret return."""

    secret: str | None = strawberry.field(description=SECRET)


@strawberry.type(description="A webhook that is gone.")
class DeleteWebhookPayload:
    """What deleteWebhook returns."""

    workspace_id: strawberry.Private[str]
    webhook_id: strawberry.ID = strawberry.field(description="The id it had.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type(description="A delivery after a mutation.")
class RedeliverPayload:
    """What redeliver returns."""

    workspace_id: strawberry.Private[str]
    delivery: WebhookDelivery = strawberry.field(description="The delivery as it is now.")

    @strawberry.field(description="Subscribe after this cursor to miss nothing that follows.")
    async def cursor(self, info: Info) -> str:
        return await log_cursor(info.context, self.workspace_id)


@strawberry.type
class WebhookQuery:
    """Root fields about webhooks."""

    @strawberry.field(
        description="A webhook by its id; null when there is none you may see. Takes the right to "
        "write in its workspace; not for agents."
    )
    async def webhook(self, info: Info, id: WebhookId) -> Webhook | None:
        found: Any = await or_none(webhooks.get_webhook(info.context, webhook_id=id))
        return found

    @strawberry.field(
        description="Webhooks of a workspace, oldest first. Takes the right to write there; not "
        "for agents.",
        metadata=PAGED,
    )
    async def webhooks(
        self,
        info: Info,
        workspace_id: Annotated[strawberry.ID, strawberry.argument(description="Which workspace.")],
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Webhook]:
        page = await webhooks.list_webhooks(
            info.context,
            workspace_id=workspace_id,
            page=page_arguments(first, after, last, before),
        )
        return connection(page)


@strawberry.type
class WebhookMutation:
    """Root mutations of webhooks."""

    @strawberry.mutation(
        description="Have events of a workspace delivered from now on, signed as Standard Webhooks "
        "says, in order, tried again for three days and a half. Takes the right to write in the "
        "workspace; not for agents."
    )
    async def create_webhook(
        self, info: Info, input: Annotated[CreateWebhookInput, INPUT]
    ) -> WebhookSecretPayload:
        values = fields_of(input)
        return await _secret(info, lambda ctx: webhooks.create_webhook(ctx, **values))

    @strawberry.mutation(description="Change a webhook, switch it off or on.")
    async def update_webhook(
        self, info: Info, input: Annotated[UpdateWebhookInput, INPUT]
    ) -> WebhookPayload:
        values = fields_of(input, leave_out=frozenset({"id"}))
        webhook: Any = await mutate(
            info, lambda ctx: webhooks.update_webhook(ctx, webhook_id=input.id, **values)
        )
        return WebhookPayload(webhook=webhook)

    @strawberry.mutation(description="Delete a webhook and its deliveries.")
    async def delete_webhook(self, info: Info, id: WebhookId) -> DeleteWebhookPayload:
        gone = await mutate(info, lambda ctx: webhooks.delete_webhook(ctx, webhook_id=id))
        return DeleteWebhookPayload(
            workspace_id=gone.workspace_id, webhook_id=strawberry.ID(gone.id)
        )

    @strawberry.mutation(
        description="Give a webhook a new secret; for a while the previous one signs, too."
    )
    async def rotate_webhook_secret(
        self,
        info: Info,
        id: WebhookId,
        overlap_seconds: Annotated[
            int,
            strawberry.argument(
                description="How long both sign: 0 to 604,800 seconds; a day if absent."
            ),
        ] = webhooks.OVERLAP_SECONDS,
    ) -> WebhookSecretPayload:
        return await _secret(
            info,
            lambda ctx: webhooks.rotate_webhook_secret(
                ctx, webhook_id=id, overlap_seconds=overlap_seconds
            ),
        )

    @strawberry.mutation(
        description="Send a settled delivery once more: one attempt, under the same id, out of "
        "order."
    )
    async def redeliver(
        self,
        info: Info,
        delivery_id: Annotated[strawberry.ID, strawberry.argument(description="Which.")],
    ) -> RedeliverPayload:
        delivery: Any = await mutate(
            info, lambda ctx: webhook_history.redeliver(ctx, delivery_id=delivery_id)
        )
        return RedeliverPayload(workspace_id=delivery.stream_id, delivery=delivery)


async def _secret(info: Info, run: Any) -> WebhookSecretPayload:
    shown: webhooks.SecretShown = await mutate(info, run)
    webhook: Any = shown.webhook
    return WebhookSecretPayload(webhook=webhook, secret=shown.secret)
