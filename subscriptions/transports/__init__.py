"""How streams reach clients: graphql-transport-ws and server-sent events."""

from subscriptions.transports.asgi import DragomanGraphQL
from subscriptions.transports.limits import TransportLimits

__all__ = ["DragomanGraphQL", "TransportLimits"]
