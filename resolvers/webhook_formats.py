"""How a webhook's deliveries look and when they are tried: one format for each language.

The native one follows Standard Webhooks 1.0.0 (standard-webhooks/standard-webhooks,
spec/standard-webhooks.md): identical bytes and the same ``webhook-id`` at every attempt.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

import orjson

from models import Delivery, Event, Webhook, Workspace
from resolvers.errors import InvalidError

USER_AGENT = "Dragoman-Webhooks/1"
SECRET_PREFIX = "whsec_"  # noqa: S105  # of Standard Webhooks
SECRET_BYTES = range(24, 65)
EVENT_FILTER = re.compile(r"[a-z_]{1,30}\.(?:[a-z_]{1,30}|\*)", re.ASCII)
MINUTE, HOUR = 60.0, 3600.0


class Ordering(StrEnum):
    """What a delivery waits for."""

    STRICT = "STRICT"
    """Every earlier one of its webhook is settled."""
    ENTITY = "ENTITY"
    """Every earlier one about the same thing is settled."""
    FIRST_ATTEMPTS = "FIRST_ATTEMPTS"
    """First attempts begin in order; one that failed or takes long holds back nothing."""


@dataclass(frozen=True, slots=True)
class WebhookPolicy:
    """When deliveries are tried, and what their failure leads to.

    ``schedule`` holds the pauses after the first, second … failed attempt, seconds, each
    lengthened by up to ``jitter`` of itself; behind the last one the delivery is given up.
    ``timeout`` is for one attempt, seconds. After ``disable_after`` deliveries that were given up
    in a row the webhook is disabled. ``backlog`` bounds how many deliveries wait at once (the log
    itself keeps the rest), ``at_once`` how many are under way.
    """

    schedule: Sequence[float]
    ordering: Ordering
    timeout: float = 15.0
    jitter: float = 0.2
    disable_after: int = 1
    backlog: int = 100
    at_once: int = 8


@dataclass(frozen=True, slots=True)
class Message:
    """An event on its way: all that its request is made of."""

    webhook: Webhook
    delivery: Delivery
    event: Event
    workspace: Workspace
    secrets: Sequence[str]
    """Newest first; a second one while it still signs; none where the webhook has none."""
    sent_at: datetime
    task: Mapping[str, Any] | None = None
    """The task's snapshot after the event, where the event is about a task or a run of one."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A POST to make."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class WebhookFormat(Protocol):
    """One language's webhooks."""

    policy: WebhookPolicy

    def check_filter(self, names: Sequence[str]) -> list[str]:
        """The accepted event names of a new webhook; raises InvalidError (``eventTypes``)."""

    def check_secret(self, secret: str | None) -> str | None:
        """The secret to use: the given one, a made one, or none; raises InvalidError."""

    def name_of(self, event: Event) -> str | None:
        """What the language calls an event; None for one it never delivers."""

    def render(self, message: Message) -> OutgoingRequest:
        """The request of an attempt: the same bytes at every attempt."""


def matches(name: str, filters: Collection[str]) -> bool:
    """Whether an event's name is wanted: itself, its kind (``task.*``), or everything (``*``)."""
    return name in filters or "*" in filters or f"{name.partition('.')[0]}.*" in filters


class NativeWebhooks:
    """Standard Webhooks: strictly in order, for three days and a half.

    The body is ``{type, timestamp, data}``; ``data`` has ``workspace_id``, ``seq`` and ``epoch``
    (the place in the log), ``actor``, and the event's own payload under snake_case names.
    """

    policy = WebhookPolicy(
        schedule=(5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR,
                  24 * HOUR),
        ordering=Ordering.STRICT,
        at_once=1,
    )  # fmt: skip

    def check_filter(self, names: Sequence[str]) -> list[str]:
        """Types such as ``task.created``, kinds such as ``task.*``, or ``*``."""
        for name in names:
            if name != "*" and EVENT_FILTER.fullmatch(name) is None:
                raise InvalidError(
                    "eventTypes must be types such as task.created, task.* or *",
                    field="eventTypes",
                )
        return list(dict.fromkeys(names))

    def check_secret(self, secret: str | None) -> str | None:
        """``whsec_`` and 24 to 64 bytes in base64; made when absent."""
        if secret is None:
            return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not secret.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
            raise InvalidError("secret must be whsec_ and 24 to 64 bytes in base64", field="secret")
        return secret

    def name_of(self, event: Event) -> str | None:
        """Its type."""
        return event.type

    def render(self, message: Message) -> OutgoingRequest:
        """See the class."""
        event, delivery = message.event, message.delivery
        body = orjson.dumps(
            {
                "type": event.type,
                "timestamp": timestamp(event.at),
                "data": {
                    **event.payload,
                    "workspace_id": event.stream_id,
                    "epoch": event.epoch,
                    "seq": event.seq,
                    "actor": {
                        "type": event.actor_type,
                        "id": event.actor_id,
                        "name": event.actor_name,
                    },
                },
            }
        )
        sent = str(int(message.sent_at.timestamp()))
        signed = f"{delivery.id}.{sent}.".encode() + body
        signatures = [f"v1,{_signature(secret, signed)}" for secret in message.secrets]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": delivery.id,
            "webhook-timestamp": sent,
            "webhook-signature": " ".join(signatures),
        }
        return OutgoingRequest(message.webhook.url, headers, body)


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def hexadecimal_signature(secret: str, body: bytes) -> str:
    """``sha256=`` and the HMAC-SHA256 of the body in small hexadecimal digits."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with ``Z``, to the microsecond."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
