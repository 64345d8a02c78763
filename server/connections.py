"""WebSocket connections under the same bounds per caller as HTTP requests."""

from collections.abc import Hashable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

from graphql import GraphQLError, OperationType
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import Operation

from server.limits.concurrency import ConcurrencyLimiter, RateLimitedError
from server.limits.errors import client_error
from server.limits.operation import OperationGuard, find_operation
from subscriptions.transports.websocket import TransportWSHandler


@dataclass(slots=True)
class Connection:
    """What is known of a WebSocket connection; each of its operations gets its own context.

    ``held`` keeps the caller's place among their open streams until the connection ends.
    """

    request_id: str
    connection_params: Mapping[str, Any] | None = None
    token: str | None = None
    address: str = ""
    caller: Hashable = "anonymous"
    state: dict[str, Any] = field(default_factory=dict)
    held: AbstractAsyncContextManager[None] | None = None


class LimitedWSHandler(TransportWSHandler):
    """Queries and mutations over a WebSocket wait for their caller's turn, as those over HTTP do.

    Its view has ``limiter`` and ``guard``; its context is a ``Connection``.
    """

    async def _run(self, operation: Operation[Any, Any], extensions: dict[str, Any] | None) -> None:
        try:
            async with self._turn(operation):
                await super()._run(operation, extensions)
        except RateLimitedError as error:
            refusal = client_error(str(error), code=error.code, details=error.details)
            await self._end_with(operation, refusal)

    def _turn(self, operation: Operation[Any, Any]) -> AbstractAsyncContextManager[None]:
        view = cast("Any", self.view)
        limiter: ConcurrencyLimiter | None = view.limiter
        if limiter is None or _is_subscription(view.schema.guard, operation):
            return nullcontext()
        return limiter.turn(cast("Connection", self.context).caller)


def _is_subscription(guard: OperationGuard, operation: Operation[Any, Any]) -> bool:
    try:
        checked = guard.parse(operation.query)
    except GraphQLError:
        return True  # it is refused in a moment, without any work
    found = find_operation(checked.document, operation.operation_name)
    return found is None or found.operation is OperationType.SUBSCRIPTION
