"""Viban's webhooks: its four events, its headers, its schedule."""

from collections.abc import Sequence
from typing import Any

import orjson

from models import Event
from models.enums import RunKind
from resolvers.errors import InvalidError
from resolvers.events import SnapshotView
from resolvers.webhook_formats import (
    Message,
    Ordering,
    OutgoingRequest,
    WebhookPolicy,
    hexadecimal_signature,
)
from rest_compat.viban import shapes

EVENTS = {
    "task.created": "task.created",
    "run.started": "task.started",
    "run.completed": "task.completed",
    "run.failed": "task.failed",
}
"""What Viban calls our events; runs of other kinds than TASK are none of its business."""
SECRET_LENGTH = 255
FAILURES = {
    "time_limit": "timeout",
    "silence": "timeout",
    "no_start": "timeout",
    "not_started": "agent_unavailable",
    "start_failed": "agent_unavailable",
}
"""Viban's code by our reason; ``agent_failed`` for all others."""
DELIVERY_DIGITS = 12


class VibanWebhooks:
    """See contracts: ``X-Viban-…`` headers, five retries, a failing delivery holds back nothing."""

    policy = WebhookPolicy(
        schedule=(1, 5, 30, 120, 600),
        ordering=Ordering.FIRST_ATTEMPTS,
        timeout=10.0,
        disable_after=100,
        backlog=1_000,
    )

    def check_filter(self, names: Sequence[str]) -> list[str]:
        """One to four of the events, each once."""
        if not set(names) <= set(EVENTS.values()):
            known = ", ".join(EVENTS.values())
            raise InvalidError(f"eventTypes must be some of {known}", field="eventTypes")
        if len(set(names)) != len(names):
            raise InvalidError("eventTypes must be unique", field="eventTypes")
        return list(names)

    def check_secret(self, secret: str | None) -> str | None:
        """Any text up to 255 characters; none is made."""
        if secret is not None and not 1 <= len(secret) <= SECRET_LENGTH:
            raise InvalidError(f"secret must have 1 to {SECRET_LENGTH} characters", field="secret")
        return secret

    def name_of(self, event: Event) -> str | None:
        """One of the four, or None."""
        name = EVENTS.get(event.type)
        if event.entity_type == "run":
            run = event.payload["run"]
            is_of_a_task = run.get("task_id") is not None and run.get("kind") == RunKind.TASK
            return name if is_of_a_task else None
        return name

    def render(self, message: Message) -> OutgoingRequest:
        """See the contract, section 6."""
        name = self.name_of(message.event)
        delivery = "evt_" + message.delivery.id.replace("-", "")[:DELIVERY_DIGITS]
        project = shapes.project_id(message.workspace.number)
        body = orjson.dumps(
            {
                "id": delivery,
                "event": name,
                "created_at": shapes.moment(message.event.at),
                "project_id": project,
                "data": _data(message, project),
            }
        )
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Viban-Webhooks/1",
            "X-Viban-Event": str(name),
            "X-Viban-Delivery": delivery,
        }
        if message.secrets:
            headers["X-Viban-Signature"] = hexadecimal_signature(message.secrets[0], body)
        return OutgoingRequest(message.webhook.url, headers, body)


def _data(message: Message, project: str) -> dict[str, Any]:
    # A snapshot's attributes are a record's.
    task: Any = SnapshotView(message.task or {})
    shown = shapes.task(task, project)
    if message.event.entity_type != "run":
        return {"task": shown}
    run: Any = SnapshotView(message.event.payload["run"])
    execution = shapes.execution(run, shown["id"])
    if message.event.type != "run.failed":
        return {"task": shown, "execution": execution}
    code = FAILURES.get(run.reason, "agent_failed")
    if code == "agent_unavailable" and run.worktree_path is None:
        code = "worktree_failed"
    error = {"code": code, "message": run.error or "The agent failed"}
    return {"task": shown, "error": error, "execution": execution}
