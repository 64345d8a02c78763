"""The GraphQL endpoint: schema, limits, transports, authentication and idempotency put together."""

import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import structlog
from graphql import FieldNode, OperationDefinitionNode
from graphql import OperationType as GraphQLOperationType
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.extensions import SchemaExtension

from compiler import CompiledSchema, Options, Shadow
from compiler.extensions import obstacle
from models.errors import DatabaseUnavailableError
from resolvers.authentication import bearer_token
from resolvers.context import Services
from resolvers.errors import UnauthenticatedError
from resolvers.principal import Principal
from schema.context import GraphQLContext
from schema.root import Mutation, Query, Subscription, schema_config
from server.authentication import Authenticator, token_of
from server.connections import Connection, LimitedWSHandler
from server.direct import DirectGraphQL
from server.limits.concurrency import ConcurrencyLimiter, ConcurrencyLimits
from server.limits.cost import CostRules
from server.limits.document import DocumentLimits
from server.limits.extension import LimitsExtension
from server.limits.http import GraphQLGuard, OriginGuard, OriginPolicy
from server.limits.operation import find_operation
from server.limits.schema import LimitedSchema
from server.limits.view import LimitedGraphQL
from server.logs import bind_operation
from server.metrics import Metrics
from server.plain import PlainGraphQL
from server.request_log import request_id_of
from server.settings import Settings
from subscriptions.hub import Hub
from subscriptions.transports.asgi import DragomanGraphQL
from subscriptions.transports.limits import TransportLimits

log = structlog.get_logger("dragoman.graphql")

CORS_REQUEST_HEADERS = ("Idempotency-Key", "Last-Event-ID", "X-Request-ID")
CORS_ANSWER_HEADERS = ("Retry-After", "X-Query-Cost", "X-Query-Cost-Limit", "X-Request-ID")
CORS_SECONDS = 600
_TEXTS = re.compile(r'"""(?:.|\n)*?"""|"(?:[^"\\\n]|\\.)*"')
"""Texts in a document: they are a client's, and no log needs them."""
CONNECTION = "graphql_connection"
"""Where a WebSocket's connection stands in its scope's state."""


class OperationLifecycle(SchemaExtension):
    """Names the operation in the log, prepares its idempotency, gives its snapshot back, counts."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    async def on_operation(self) -> AsyncIterator[None]:
        """Around the whole operation."""
        execution = self.execution_context
        ctx: GraphQLContext = execution.context
        key = (execution.operation_extensions or {}).get("idempotencyKey")
        if key is not None and ctx.idempotency_key is None:
            ctx.idempotency_key = str(key)
        bind_operation(execution.operation_name or None)
        began = time.perf_counter()
        yield
        await ctx.close()
        self._count(time.perf_counter() - began)

    def on_execute(self) -> Iterator[None]:
        """Before the first resolver."""
        operation = self._operation()
        ctx: GraphQLContext = self.execution_context.context
        if (
            ctx.idempotency_key is not None
            and operation is not None
            and operation.operation == GraphQLOperationType.MUTATION
        ):
            ctx.request_hash = _fingerprint(self.execution_context)
            ctx.mutations_expected = _number_of_fields(operation)
        yield

    def _operation(self) -> OperationDefinitionNode | None:
        execution = self.execution_context
        if execution.graphql_document is None:
            return None
        return find_operation(execution.graphql_document, execution.operation_name)

    def _count(self, seconds: float) -> None:
        operation = self._operation()
        if operation is None:
            return
        selections = operation.selection_set.selections
        first = selections[0] if selections else None
        result = self.execution_context.result
        errors = getattr(result, "errors", None)
        code = str((errors[0].extensions or {}).get("code", "INTERNAL")) if errors else None
        self._metrics.graphql_operation(
            kind=operation.operation.value,
            root_field=first.name.value if isinstance(first, FieldNode) else "fragment",
            code=code,
            seconds=seconds,
        )


def _fingerprint(execution: Any) -> str:
    parts = [execution.query, execution.operation_name, execution.variables or {}]
    return hashlib.sha256(
        orjson.dumps(parts, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    ).hexdigest()


def _number_of_fields(operation: OperationDefinitionNode) -> int | None:
    """How many root fields run, where that is plain to see: no fragments, no directives."""
    selections = operation.selection_set.selections
    if all(isinstance(node, FieldNode) and not node.directives for node in selections):
        return len(selections)
    return None


class BoardSchema(CompiledSchema, LimitedSchema):
    """The schema behind its limits, with documents compiled where they can be."""


def build_schema(settings: Settings, metrics: Metrics) -> BoardSchema:
    """The schema under the limits of the settings; its operations are counted."""
    schema = BoardSchema(
        Query,
        mutation=Mutation,
        subscription=Subscription,
        config=schema_config(),
        limits=DocumentLimits(
            document_bytes=settings.max_document_bytes,
            tokens=settings.max_document_tokens,
            depth=settings.max_depth,
            aliases=settings.max_aliases,
            directives_total=settings.max_directives,
        ),
        cost_rules=CostRules(
            limit=settings.max_cost,
            default_page=settings.page_size,
            max_page=settings.max_page_size,
        ),
        introspection=settings.introspection,
        log=_log_internal_error,
        error_id=lambda context: getattr(context, "request_id", "") or "unknown",
        extensions=[lambda: OperationLifecycle(metrics)],
    )
    if settings.compile:
        schema.compile_documents(
            Options(
                hooks_run_elsewhere=True,
                observe=metrics.graphql_execution,
                pass_through=(TimeoutError, DatabaseUnavailableError),
                shadow=_shadow(settings.compile_shadow, metrics),
            )
        )
    return schema


def _shadow(share: float, metrics: Metrics) -> Shadow | None:
    """Compares a share of the compiled answers with graphql-core's; none where it is 0."""

    def tell(how: str, document: str) -> None:
        metrics.graphql_compared(how)
        if how != "equal":
            text = _TEXTS.sub('""', document)[:4_000]
            log.error("compiled answer not confirmed", how=how, document=text)

    return Shadow(share, tell) if share else None


def _log_internal_error(error: BaseException, *, error_id: str, path: Any = None) -> None:
    log.error("internal error", error_id=error_id, path=path, exc_info=error)


def root_fields() -> list[str]:
    """The names of all root fields: the labels metrics may have."""
    config = schema_config()
    return [
        config.name_converter.get_graphql_name(field)
        for root in (Query, Mutation, Subscription)
        for field in root.__strawberry_definition__.fields  # type: ignore[union-attr]  # set by the decorator
    ]


class GraphQLApp(LimitedGraphQL[Any, Any], DragomanGraphQL):
    """Limited requests over resumable transports."""

    graphql_transport_ws_handler_class = LimitedWSHandler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a connection; what a connection held is given back at its end."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            connection: Connection | None = scope.get("state", {}).pop(CONNECTION, None)
            if connection is not None and connection.held is not None:
                await connection.held.__aexit__(None, None, None)


@dataclass(frozen=True, slots=True)
class Turns:
    """How much of the server one caller may use at a time, over whatever transport."""

    requests: ConcurrencyLimiter
    streams: ConcurrencyLimiter


def make_turns(settings: Settings) -> Turns:
    """The turns of a server with these settings."""
    most_streams = TransportLimits().connections
    return Turns(
        ConcurrencyLimiter(ConcurrencyLimits(running=settings.max_concurrent_operations)),
        ConcurrencyLimiter(
            ConcurrencyLimits(running=settings.max_streams, waiting=0, total_running=most_streams)
        ),
    )


@dataclass(slots=True)
class ContextFactory:
    """Makes the contexts of requests, of WebSocket connections and of their operations."""

    services: Services
    hub: Hub
    authenticator: Authenticator
    streams: ConcurrencyLimiter

    async def of_request(
        self, request: Request | WebSocket, _response: Response | WebSocket
    ) -> GraphQLContext | Connection:
        """The context of an HTTP request, or what is known of a connection at its handshake."""
        request_id = request_id_of(request.scope)
        token = token_of(request.headers)
        address = request.client.host if request.client else ""
        if isinstance(request, WebSocket):
            connection = Connection(
                request_id, token=token, address=address, state=request.scope["state"]
            )
            request.scope["state"][CONNECTION] = connection
            return connection
        ctx = await self._make(token, request_id, request.scope["state"])
        ctx.client_address = address
        ctx.idempotency_key = request.headers.get("idempotency-key")
        return ctx

    async def on_connect(
        self, connection: Connection, params: Mapping[str, Any]
    ) -> dict[str, object] | None:
        """Authenticate a connection; a token of ``connection_init`` wins over a header's."""
        given = params.get("authorization", params.get("Authorization"))
        if given is not None and not isinstance(given, str):
            raise UnauthenticatedError("authorization must be a text")
        connection.token = bearer_token(given) or connection.token
        connection.caller = _principal_key(await self.of_operation(connection))
        turn = self.streams.turn(connection.caller)
        await turn.__aenter__()
        connection.held = turn
        return None

    async def of_operation(self, connection: Connection) -> GraphQLContext:
        """The context of one operation of a connection."""
        ctx = await self._make(connection.token, connection.request_id, connection.state)
        ctx.client_address = connection.address
        return ctx

    async def _make(
        self, token: str | None, request_id: str, state: dict[str, Any]
    ) -> GraphQLContext:
        async def authenticate() -> Principal | None:
            return None if token is None else await self.authenticator.principal(token)

        principal = await authenticate()
        if principal is not None:
            state["principal_id"] = principal.key
        return GraphQLContext(
            self.services,
            principal,
            request_id=request_id,
            hub=self.hub,
            reauthenticate=authenticate,
        )

    def of_known(self, principal: Principal, request_id: str, address: str) -> GraphQLContext:
        """The context of a plain HTTP request, no stream, whose token has just been looked up."""
        ctx = GraphQLContext(self.services, principal, request_id=request_id, hub=self.hub)
        ctx.client_address = address
        return ctx


def graphql_app(
    settings: Settings,
    services: Services,
    *,
    hub: Hub,
    authenticator: Authenticator,
    metrics: Metrics,
    turns: Turns,
) -> tuple[ASGIApp, PlainGraphQL | None]:
    """The ASGI application at ``/graphql``, and what answers plain requests where that is on."""
    limits = TransportLimits(operations_per_connection=settings.max_subscriptions)
    streams = turns.streams
    contexts = ContextFactory(services, hub, authenticator, streams)
    schema = build_schema(settings, metrics)
    app = GraphQLApp(
        schema,
        limiter=turns.requests,
        stream_limiter=streams,
        principal_key=_principal_key,
        context_getter=contexts.of_request,
        on_connect=contexts.on_connect,
        operation_context=contexts.of_operation,
        limits=limits,
        observe=partial(_count_streams, metrics),
        graphql_ide=None,
    )
    guarded: ASGIApp = GraphQLGuard(app, max_body_bytes=settings.max_body_bytes)
    plain = None
    if schema.compiled is not None and _is_told_all(schema):
        plain = PlainGraphQL(
            schema=schema,
            executor=schema.compiled,
            known=authenticator.known,
            context=contexts.of_known,
            limiter=turns.requests,
            metrics=metrics,
            max_body_bytes=settings.max_body_bytes,
        )
        guarded = DirectGraphQL(guarded, plain)
    policy = OriginPolicy(settings.allowed_origins)
    front: ASGIApp = OriginGuard(guarded, policy=policy, safe_methods_too=True)
    if settings.allowed_origins:
        # Outside of the guard: it answers the browsers' questions before the request itself.
        front = CORSMiddleware(
            front,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", *CORS_REQUEST_HEADERS],
            expose_headers=CORS_ANSWER_HEADERS,
            max_age=CORS_SECONDS,
        )
    return front, plain


def _is_told_all(schema: BoardSchema) -> bool:
    """Whether the short way does all that the schema's extensions do."""
    known = frozenset({OperationLifecycle, LimitsExtension})
    return obstacle(schema, compatible=known, hooks_run_elsewhere=False) is None


def _count_streams(metrics: Metrics, transport: str, change: int) -> None:
    if change > 0:
        metrics.subscriber_opened(transport)
    else:
        metrics.subscriber_closed(transport)


def _principal_key(context: Any) -> str:
    principal = getattr(context, "principal", None)
    return principal.key if principal else "anonymous"
