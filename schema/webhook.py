"""Webhooks and their deliveries in the schema: everything but their secrets."""

from datetime import datetime
from typing import Annotated, Any

import strawberry

from models.enums import DeliveryStatus, Dialect
from resolvers import webhook_history
from schema.common import PAGED, After, Before, Connection, First, Last, connection, page_arguments
from schema.context import Info

EVENT_TYPES = (
    "Which events: types such as task.created, kinds such as task.*, or *; 1 to 100. In the words "
    "of the dialect where there is one."
)


@strawberry.type(description="One attempt to deliver an event.")
class WebhookAttempt:
    """An entry of models.Delivery.attempts."""

    at: datetime = strawberry.field(description="When it ended.")
    status: int | None = strawberry.field(
        description="HTTP status of the answer; null where there was none."
    )
    error: str | None = strawberry.field(description="Why there was no answer, in words.")
    duration_ms: int = strawberry.field(description="How long it took, milliseconds.")
    response: str = strawberry.field(description="The first 500 bytes of the answer's body.")


@strawberry.type(description="One event on its way to one webhook.")
class WebhookDelivery:
    """See models.Delivery."""

    id: strawberry.ID = strawberry.field(description="Its id: the webhook-id of every attempt.")
    webhook_id: strawberry.ID = strawberry.field(description="Where it goes.")
    event_type: str = strawberry.field(description="What happened, such as task.created.")
    seq: int = strawberry.field(description="The event's number in the workspace's log.")
    status: DeliveryStatus = strawberry.field(description="Where it stands.")
    attempt_count: int = strawberry.field(description="How often it was tried.")
    is_redelivery: bool = strawberry.field(description="Whether somebody asked for it once more.")
    next_attempt_at: datetime | None = strawberry.field(description="When it is tried next.")
    delivered_at: datetime | None = strawberry.field(description="When it was accepted.")
    created_at: datetime = strawberry.field(description="When it was read from the log.")

    @strawberry.field(description="The last 20 attempts, oldest first.", metadata={"list_size": 20})
    def attempts(self) -> list[WebhookAttempt]:
        row: Any = self
        return [
            WebhookAttempt(**{**entry, "at": datetime.fromisoformat(entry["at"])})
            for entry in row.attempts
        ]


@strawberry.type(description="Where events of a workspace are delivered to.")
class Webhook:
    """See models.Webhook."""

    id: strawberry.ID = strawberry.field(description="Its id.")
    workspace_id: strawberry.ID = strawberry.field(description="Whose events.")
    dialect: Dialect | None = strawberry.field(
        description="In which legacy API's words; null for Standard Webhooks."
    )
    url: str = strawberry.field(description="Where deliveries go.")
    description: str = strawberry.field(description="For people.")
    event_types: list[str] = strawberry.field(description=EVENT_TYPES)
    is_active: bool = strawberry.field(description="Whether it delivers.")
    disabled_reason: str | None = strawberry.field(
        description="Why it is inactive: OFF (somebody switched it off), GONE (it answered 410) or "
        "FAILING (deliveries were given up)."
    )
    read_seq: int = strawberry.field(
        description="Its place in the workspace's log: events up to it became deliveries, or are "
        "none of its business."
    )
    previous_secret_until: datetime | None = strawberry.field(
        description="Until when the secret before the present one signs, too."
    )
    created_at: datetime = strawberry.field(description="When it was made.")
    updated_at: datetime = strawberry.field(description="When it was last changed.")
    version: int = strawberry.field(description="Counts its changes; see expectedVersion.")

    @strawberry.field(
        description="Its deliveries, newest event first. Settled ones are kept for 30 days.",
        metadata=PAGED,
    )
    async def deliveries(
        self,
        info: Info,
        status: Annotated[
            DeliveryStatus | None, strawberry.argument(description="Only these.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[WebhookDelivery]:
        page = await webhook_history.list_deliveries(
            info.context,
            webhook_id=self.id,
            status=status,
            page=page_arguments(first, after, last, before),
        )
        return connection(page)


@strawberry.input(description="A new webhook.")
class CreateWebhookInput:
    """Arguments of resolvers.webhooks.create_webhook."""

    workspace_id: strawberry.ID = strawberry.field(description="Whose events.")
    url: str = strawberry.field(
        description="http or https, up to 2,048 characters, without user and password. Not this "
        "server's machine or network, unless its operator allows that."
    )
    event_types: list[str] = strawberry.field(description=EVENT_TYPES)
    description: str = strawberry.field(default="", description="For people, up to 500 characters.")
    secret: str | None = strawberry.field(
        default=None,
        description="What signs deliveries: whsec_ and 24 to 64 bytes in base64. Made when absent.",
    )


@strawberry.input(description="Changes of a webhook; what is absent stays.")
class UpdateWebhookInput:
    """Arguments of resolvers.webhooks.update_webhook."""

    id: strawberry.ID = strawberry.field(description="Which.")
    url: str | None = strawberry.field(
        default=strawberry.UNSET, description="As for createWebhook; null is refused."
    )
    event_types: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description=f"{EVENT_TYPES} Null is refused."
    )
    description: str | None = strawberry.field(
        default=strawberry.UNSET, description="For people, up to 500 characters; null empties it."
    )
    is_active: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="Whether it delivers; null is refused. An inactive one keeps its place in the "
        "log and goes on from there when it is active again.",
    )
    skip_missed: bool = strawberry.field(
        default=False,
        description="When it becomes active again: leave out what it has not delivered.",
    )
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with CONFLICT unless it is at this version."
    )
