"""Strawberry's ASGI application with streams that can be resumed and clients that are bounded."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final, cast

from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import MissingQueryError
from strawberry.http import GraphQLRequestData, GraphQLRequestProtocol
from strawberry.http.streaming import HTTPStreamTransport
from strawberry.schema.base import BaseSchema
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult, SubscriptionExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType

from subscriptions.delivery import Delivery
from subscriptions.transports.limits import TransportLimits
from subscriptions.transports.sse import (
    EventStreamResponse,
    EventStreamTransport,
    event_stream_body,
)
from subscriptions.transports.websocket import TransportWSHandler, connection_params

ContextGetter = Callable[[Request | WebSocket, Response | WebSocket], Awaitable[Any]]
OnConnect = Callable[[Any, Mapping[str, Any]], Awaitable[dict[str, object] | None]]
OperationContext = Callable[[Any], Awaitable[Any]]

NEEDS_STREAM: Final = (
    "A subscription needs a stream: a WebSocket (graphql-transport-ws),"
    " or a request with Accept: text/event-stream."
)


_NOTHING: Final[UnsetType] = UNSET
_STREAM_TRANSPORTS: Final[Mapping[str, type[HTTPStreamTransport]]] = {
    GRAPHQL_SSE_PROTOCOL: EventStreamTransport
}


class DragomanGraphQL(GraphQL[Any, Any]):
    """GraphQL over HTTP, graphql-transport-ws and server-sent events.

    It is made to be combined: a class that limits requests goes before it in the bases.

    Args:
        schema: the schema.
        context_getter: makes the context of a request or of a WebSocket connection.
        on_connect: called with a connection's context and the payload of its `connection_init`,
            before it is acknowledged; returns the payload of `connection_ack`. An error whose
            `code` is `UNAUTHENTICATED`, `FORBIDDEN`, `LIMIT_EXCEEDED`, `RATE_LIMITED` or
            `UNAVAILABLE` refuses the connection.
        operation_context: makes the context of one operation on a WebSocket from that of its
            connection, so that nothing cached for one operation outlives it.
        limits: times and counts.
        observe: told of each stream that opens (1) or closes (-1), with `websocket` or `sse`.
        options: everything else that Strawberry's application takes.

    Attributes:
        connections: WebSockets and event streams that are open now.
    """

    graphql_transport_ws_handler_class = TransportWSHandler
    stream_transport_classes_by_protocol = _STREAM_TRANSPORTS

    def __init__(
        self,
        schema: BaseSchema,
        *,
        context_getter: ContextGetter | None = None,
        on_connect: OnConnect | None = None,
        operation_context: OperationContext | None = None,
        limits: TransportLimits | None = None,
        observe: Callable[[str, int], None] = lambda _transport, _change: None,
        **options: Any,
    ) -> None:
        self._observe = observe
        self.transport_limits = limits or TransportLimits()
        self.connections = 0
        self._context_getter = context_getter
        self._on_connect = on_connect
        self._operation_context = operation_context
        super().__init__(
            schema,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            connection_init_wait_timeout=timedelta(seconds=self.transport_limits.init_timeout),
            max_subscriptions_per_connection=self.transport_limits.operations_per_connection,
            **options,
        )

    async def get_context(
        self, request: Request | WebSocket, response: Response | WebSocket
    ) -> Any:
        """The context of a request or connection."""
        if self._context_getter is None:
            return await super().get_context(request, response)
        return await self._context_getter(request, response)

    async def get_operation_context(self, connection_context: Any) -> Any:
        """The context of one operation on a WebSocket."""
        if self._operation_context is None:
            return connection_context
        return await self._operation_context(connection_context)

    async def on_ws_connect(self, context: Any) -> UnsetType | dict[str, object] | None:
        """What is said to a client that has introduced itself."""
        if self._on_connect is None:
            return _NOTHING
        answer = await self._on_connect(context, connection_params.get())
        return _NOTHING if answer is None else answer

    async def run(self, request: Any, context: Any = UNSET, root_value: Any = UNSET) -> Any:
        """Serve a request, or a WebSocket to its end."""
        if not self.is_websocket_request(request):
            return await super().run(request, context, root_value)
        if self._is_full():
            await request.send_denial_response(PlainTextResponse("Too many connections", 503))
            return request
        with self._counted("websocket"):
            return await super().run(request, context, root_value)

    async def execute_single(
        self,
        request: Request,  # noqa: ARG002 - Strawberry's signature
        request_adapter: AsyncHTTPRequestAdapter,
        sub_response: Response,  # noqa: ARG002 - Strawberry's signature
        context: Any,
        root_value: Any,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        """Execute a query or mutation; Strawberry would run a subscription as a query."""
        allowed = OperationType.from_http(request_adapter.method) - {OperationType.SUBSCRIPTION}
        if request_adapter.method == "GET" and not self.allow_queries_via_get:
            allowed -= {OperationType.QUERY}
        try:
            return await self.schema.execute(
                request_data.query,
                root_value=root_value,
                variable_values=request_data.variables,
                context_value=context,
                operation_name=request_data.operation_name,
                allowed_operation_types=allowed,
                operation_extensions=request_data.extensions,
            )
        except InvalidOperationTypeError as error:
            if error.operation_type is OperationType.SUBSCRIPTION:
                raise HTTPException(406, NEEDS_STREAM) from None
            reason = error.as_http_error_reason(request_adapter.method)
            raise HTTPException(400, reason) from None
        except CannotGetOperationTypeError as error:
            raise HTTPException(400, error.as_http_error_reason()) from None
        except MissingQueryError:
            raise HTTPException(400, "No GraphQL query found in the request") from None

    async def _create_streaming_response(
        self,
        request: Request,
        result: SubscriptionExecutionResult,
        protocol: GraphQLRequestProtocol,
        sub_response: Response,
    ) -> Response:
        if self._is_full():
            raise HTTPException(503, "Too many connections")
        transport = cast("EventStreamTransport", self._get_stream_transport(protocol))
        body = event_stream_body(
            cast("AsyncGenerator[Any, None]", result),
            transport=transport,
            delivery=Delivery(last_event_id=request.headers.get("last-event-id") or None),
            process=lambda value: self.process_result(request, value),
            encode_json=self.encode_json_string,
            heartbeat=self.transport_limits.heartbeat,
        )
        return EventStreamResponse(
            body,
            headers={**sub_response.headers, **transport.headers},
            status_code=sub_response.status_code or 200,
            limits=self.transport_limits,
            counted=partial(self._counted, "sse"),
        )

    @contextmanager
    def _counted(self, transport: str) -> Iterator[None]:
        self.connections += 1
        self._observe(transport, 1)
        try:
            yield
        finally:
            self.connections -= 1
            self._observe(transport, -1)

    def _is_full(self) -> bool:
        return self.connections >= self.transport_limits.connections
