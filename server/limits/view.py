"""Strawberry's ASGI application with every refusal in GraphQL's own shape."""

import json
from collections.abc import AsyncGenerator, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from json import JSONDecodeError
from typing import Any, TypeVar, cast

import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException, StarletteRequestAdapter
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from strawberry.asgi import ASGIWebSocketAdapter, GraphQL
from strawberry.exceptions import MissingQueryError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.exceptions import NonJsonMessageReceived, WebSocketDisconnected
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult, SubscriptionExecutionResult
from strawberry.types.graphql import OperationType

from server.limits.concurrency import ConcurrencyLimiter
from server.limits.http import (
    REQUEST_SCOPE_KEY,
    GraphQLRequest,
    RequestRefusedError,
    parse_json,
)
from server.limits.schema import LimitedSchema

Context = TypeVar("Context")
RootValue = TypeVar("RootValue")

COST_HEADER = "X-Query-Cost"
COST_LIMIT_HEADER = "X-Query-Cost-Limit"
STATUS_BY_CODE = {
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}
_HELD_SCOPE_KEY = "dragoman.graphql_held"


class _RequestAdapter(StarletteRequestAdapter):
    @property
    def graphql_request(self) -> GraphQLRequest | None:
        """What `GraphQLGuard` has parsed already."""
        parsed = self._request.scope.get(REQUEST_SCOPE_KEY)
        return parsed if isinstance(parsed, GraphQLRequest) else None


class _WebSocketAdapter(ASGIWebSocketAdapter):
    """Passes only messages that have the protocol's form: the handlers take that for granted."""

    async def iter_json(
        self, *, ignore_parsing_errors: bool = False
    ) -> AsyncGenerator[object, None]:
        async for message in super().iter_json(ignore_parsing_errors=ignore_parsing_errors):
            if not _is_well_formed(message):
                raise NonJsonMessageReceived
            yield message

    async def send_json(self, message: Mapping[str, object]) -> None:
        try:
            await self.ws.send_text(self.view.encode_json_string(message))
        except WebSocketDisconnect as error:  # the client left while this was made
            raise WebSocketDisconnected from error


class LimitedGraphQL(GraphQL[Context, RootValue]):
    """Strawberry's `GraphQL` application for a `LimitedSchema`; wrap it in `GraphQLGuard`.

    With a `limiter`, each query and mutation over HTTP holds a turn of `principal_key(context)`
    while it runs; with a `stream_limiter`, each HTTP stream holds one of those until it ends.
    HTTP streams carry subscriptions only. GET serves the IDE alone unless `allow_queries_via_get`.
    """

    request_adapter_class = _RequestAdapter
    websocket_adapter_class = _WebSocketAdapter

    def __init__(
        self,
        schema: LimitedSchema,
        *,
        limiter: ConcurrencyLimiter | None = None,
        stream_limiter: ConcurrencyLimiter | None = None,
        principal_key: Callable[[Any], Hashable] = lambda _context: None,
        allow_queries_via_get: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(schema, allow_queries_via_get=allow_queries_via_get, **options)
        self.renderer = schema.renderer
        self.limiter = limiter
        self.stream_limiter = stream_limiter
        self.principal_key = principal_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve HTTP and WebSocket."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        async with AsyncExitStack() as held:
            scope[_HELD_SCOPE_KEY] = held
            response = await self._respond(Request(scope, receive))
            await response(scope, receive, send)

    async def parse_http_body(
        self, request: AsyncHTTPRequestAdapter
    ) -> GraphQLRequestData | list[GraphQLRequestData]:
        """The request that the guard has parsed; a GET is read from its address."""
        parsed = request.graphql_request if isinstance(request, _RequestAdapter) else None
        if parsed is None:
            return await super().parse_http_body(request)
        transport = self._get_stream_transport_from_headers(request.headers)
        return GraphQLRequestData(
            query=parsed.query,
            variables=parsed.variables,
            operation_name=parsed.operation_name,
            extensions=parsed.extensions,
            protocol=transport.protocol if transport else "http",
        )

    async def execute_operation(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,
        request_data: GraphQLRequestData | list[GraphQLRequestData],
        context: Context,
        root_value: RootValue | None,
        sub_response: Response,
    ) -> ExecutionResult | list[ExecutionResult] | SubscriptionExecutionResult:
        """Execute in turn with the caller's other operations."""
        if isinstance(request_data, GraphQLRequestData) and request_data.protocol != "http":
            held: AsyncExitStack = request.scope[_HELD_SCOPE_KEY]
            await held.enter_async_context(self._turn(self.stream_limiter, context))
            stream = await self.schema.stream(
                request_data.query,
                variable_values=request_data.variables,
                context_value=context,
                root_value=root_value,
                operation_name=request_data.operation_name,
                operation_extensions=request_data.extensions,
                allowed_operation_types=(OperationType.SUBSCRIPTION,),
            )
            return cast("SubscriptionExecutionResult", stream)
        async with self._turn(self.limiter, context):
            return await super().execute_operation(
                request=request,
                request_adapter=request_adapter,
                request_data=request_data,
                sub_response=sub_response,
                context=context,
                root_value=root_value,
            )

    async def execute_single(
        self,
        request: Request,  # noqa: ARG002  # Strawberry's signature
        request_adapter: AsyncHTTPRequestAdapter,
        sub_response: Response,  # noqa: ARG002  # Strawberry's signature
        context: Context,
        root_value: RootValue | None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        """Execute one query or mutation; a subscription needs a stream to be sent on."""
        try:
            return await self.schema.execute(
                request_data.query,
                root_value=root_value,
                variable_values=request_data.variables,
                context_value=context,
                operation_name=request_data.operation_name,
                allowed_operation_types=self._allowed_operations(request_adapter.method),
                operation_extensions=request_data.extensions,
            )
        except CannotGetOperationTypeError as error:
            raise RequestRefusedError(400, error.as_http_error_reason()) from None
        except InvalidOperationTypeError as error:
            raise _wrong_method(error.operation_type) from None
        except MissingQueryError:
            raise RequestRefusedError(400, "The request has no GraphQL document.") from None

    def create_response(
        self,
        response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse],
        sub_response: Response,
    ) -> Response:
        """Repeat the price of the operation in headers, for clients that do not read bodies."""
        response = super().create_response(response_data, sub_response)
        extensions = response_data.get("extensions") if isinstance(response_data, dict) else None
        cost = (extensions or {}).get("cost")
        if isinstance(cost, dict):
            response.headers[COST_HEADER] = str(cost["requested"])
            response.headers[COST_LIMIT_HEADER] = str(cost["limit"])
        return response

    def decode_json(self, data: str | bytes) -> object:
        """Strict JSON (see `parse_json`)."""
        try:
            return parse_json(data)
        except RequestRefusedError as refusal:
            # The one exception that Strawberry's transports expect.
            raise JSONDecodeError(str(refusal), "", 0) from None

    def encode_json(self, data: object) -> str | bytes:
        """JSON in UTF-8."""
        try:
            return orjson.dumps(data)
        except TypeError:
            # Integers beyond 64 bits and lone surrogates out of a JSON scalar: rare, not an error.
            return json.dumps(data, separators=(",", ":"))

    async def _respond(self, request: Request) -> Response:
        try:
            return await self.run(request)
        except RequestRefusedError as refusal:
            return refusal.response()
        except HTTPException as error:
            return RequestRefusedError(error.status_code, error.reason).response()
        except Exception as error:  # noqa: BLE001  # whatever it is, the client sees it rendered
            return self._failure(error)

    def _failure(self, error: Exception) -> Response:
        """The answer to an error outside of every operation, such as while authenticating."""
        wrapped = GraphQLError(str(error), original_error=error)
        (shown,) = self.renderer.render([wrapped], None)
        extensions = shown.extensions or {}
        retry_after = extensions.get("retryAfter")
        return Response(
            orjson.dumps({"errors": [shown.formatted]}),
            status_code=STATUS_BY_CODE.get(extensions["code"], 400),
            headers={} if retry_after is None else {"Retry-After": str(retry_after)},
            media_type="application/json",
        )

    def _turn(
        self, limiter: ConcurrencyLimiter | None, context: Context
    ) -> AbstractAsyncContextManager[None]:
        return nullcontext() if limiter is None else limiter.turn(self.principal_key(context))

    def _allowed_operations(self, method: str) -> set[OperationType]:
        if method == "POST":
            return {OperationType.QUERY, OperationType.MUTATION}
        return {OperationType.QUERY} if self.allow_queries_via_get else set()


def _wrong_method(operation_type: OperationType) -> RequestRefusedError:
    if operation_type is OperationType.SUBSCRIPTION:
        return RequestRefusedError(
            406, "A subscription needs a stream: a WebSocket, or Accept: text/event-stream."
        )
    what = {OperationType.QUERY: "A query", OperationType.MUTATION: "A mutation"}[operation_type]
    return RequestRefusedError(405, f"{what} must be sent by POST.", headers={"Allow": "POST"})


def _is_well_formed(message: object) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return False
    if not isinstance(message.get("id", ""), str):
        return False
    payload = message.get("payload")
    if message["type"] not in {"subscribe", "start"}:
        return payload is None or isinstance(payload, dict)
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )
