"""The GraphQL endpoint: schema, limits, transports, authentication and idempotency put together."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from graphql import FieldNode, OperationDefinitionNode
from graphql import OperationType as GraphQLOperationType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from strawberry.extensions import SchemaExtension

from resolvers.context import Services
from resolvers.errors import UnauthenticatedError
from resolvers.principal import Principal
from schema.context import GraphQLContext
from schema.root import Mutation, Query, Subscription, schema_config
from server.authentication import Authenticator, bearer_token, token_of
from server.limits.concurrency import ConcurrencyLimiter, ConcurrencyLimits
from server.limits.cost import CostRules
from server.limits.document import DocumentLimits
from server.limits.http import GraphQLGuard, OriginGuard, OriginPolicy
from server.limits.operation import find_operation
from server.limits.schema import LimitedSchema
from server.limits.view import LimitedGraphQL
from server.logs import bind_operation, request_id_of
from server.settings import Settings
from subscriptions.hub import Hub
from subscriptions.transports.asgi import DragomanGraphQL
from subscriptions.transports.limits import TransportLimits

log = structlog.get_logger("dragoman.graphql")


@dataclass(slots=True)
class Connection:
    """A WebSocket connection: each of its operations gets a context of its own."""

    request_id: str
    connection_params: Mapping[str, Any] | None = None
    token: str | None = None
    state: dict[str, Any] = field(default_factory=dict)


class OperationLifecycle(SchemaExtension):
    """Names the operation in the log, prepares its idempotency, and gives its snapshot back."""

    async def on_operation(self) -> AsyncIterator[None]:
        """Around the whole operation."""
        execution = self.execution_context
        ctx: GraphQLContext = execution.context
        key = (execution.operation_extensions or {}).get("idempotencyKey")
        if key is not None and ctx.idempotency_key is None:
            ctx.idempotency_key = str(key)
        bind_operation(execution.operation_name or None)
        yield
        await ctx.close()

    def on_execute(self) -> Any:
        """Before the first resolver."""
        execution = self.execution_context
        ctx: GraphQLContext = execution.context
        document = execution.graphql_document
        if ctx.idempotency_key is not None and document is not None:
            operation = find_operation(document, execution.operation_name)
            if operation is not None and operation.operation == GraphQLOperationType.MUTATION:
                ctx.request_hash = _fingerprint(execution.query or "", execution)
                ctx.mutations_expected = _number_of_fields(operation)
        yield


def _fingerprint(query: str, execution: Any) -> str:
    parts = [query, execution.operation_name, execution.variables or {}]
    return hashlib.sha256(
        orjson.dumps(parts, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    ).hexdigest()


def _number_of_fields(operation: OperationDefinitionNode) -> int | None:
    """How many root fields run, where that is plain to see: no fragments, no directives."""
    selections = operation.selection_set.selections
    if all(isinstance(node, FieldNode) and not node.directives for node in selections):
        return len(selections)
    return None


def build_schema(settings: Settings) -> LimitedSchema:
    """The schema under the limits of the settings."""
    return LimitedSchema(
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
        extensions=[OperationLifecycle],
    )


def _log_internal_error(error: BaseException, *, error_id: str, path: Any = None) -> None:
    log.error("internal error", error_id=error_id, path=path, exc_info=error)


class GraphQLApp(LimitedGraphQL[Any, Any], DragomanGraphQL):
    """Limited requests over resumable transports."""


@dataclass(slots=True)
class ContextFactory:
    """Makes the contexts of requests, of WebSocket connections and of their operations."""

    services: Services
    hub: Hub
    authenticator: Authenticator

    async def of_request(
        self, request: Request | WebSocket, _response: Response | WebSocket
    ) -> GraphQLContext | Connection:
        """The context of an HTTP request, or what is known of a connection at its handshake."""
        request_id = request_id_of(request.scope)
        token = token_of(request.headers)
        if isinstance(request, WebSocket):
            return Connection(request_id, token=token, state=request.scope["state"])
        ctx = await self._make(token, request_id, request.scope["state"])
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
        await self.of_operation(connection)
        return None

    async def of_operation(self, connection: Connection) -> GraphQLContext:
        """The context of one operation of a connection."""
        return await self._make(connection.token, connection.request_id, connection.state)

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


def graphql_app(
    settings: Settings,
    services: Services,
    *,
    hub: Hub,
    authenticator: Authenticator,
    schema: LimitedSchema | None = None,
) -> ASGIApp:
    """The ASGI application at ``/graphql``."""
    contexts = ContextFactory(services, hub, authenticator)
    limits = TransportLimits(operations_per_connection=settings.max_subscriptions)
    app = GraphQLApp(
        schema or build_schema(settings),
        limiter=ConcurrencyLimiter(ConcurrencyLimits(running=settings.max_concurrent_operations)),
        stream_limiter=ConcurrencyLimiter(
            ConcurrencyLimits(
                running=settings.max_streams, waiting=0, total_running=limits.connections
            )
        ),
        principal_key=_principal_key,
        context_getter=contexts.of_request,
        on_connect=contexts.on_connect,
        operation_context=contexts.of_operation,
        limits=limits,
        graphql_ide=None,
    )
    guarded = GraphQLGuard(app, max_body_bytes=settings.max_body_bytes)
    policy = OriginPolicy(settings.allowed_origins)
    return OriginGuard(guarded, policy=policy, safe_methods_too=True)


def _principal_key(context: Any) -> str:
    principal = getattr(context, "principal", None)
    return principal.key if principal else "anonymous"
