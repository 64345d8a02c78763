"""Plain GraphQL requests: from a body to the bytes of an answer, past Strawberry's view.

Strawberry's view and lifecycle cost more than a small query does. A request that is plain in every
respect (JSON by POST, no idempotency key, no stream, a document that has been checked, priced and
compiled before, a principal who is known and has a turn) is answered by what is here, under the
same checks. Anything else goes to the unmodified application, as if nobody had looked.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from graphql import FieldNode, GraphQLError, OperationDefinitionNode, OperationType

from compiler import CompiledExecutor, Outcome
from compiler.execute import Compiled
from compiler.outcome import to_json
from resolvers.authentication import hash_secret
from resolvers.principal import Principal
from schema.context import GraphQLContext
from server.limits.concurrency import ConcurrencyLimiter
from server.limits.cost import Cost
from server.limits.http import RequestRefusedError, parse_graphql_body
from server.limits.operation import CheckedDocument, find_operation
from server.limits.schema import LimitedSchema
from server.logs import bind, operation_label
from server.metrics import Metrics
from server.request_log import RequestTeller

_JSON = frozenset({b"application/json", b"application/json; charset=utf-8"})
_UNUSUAL = frozenset({b"idempotency-key", b"content-encoding", b"transfer-encoding"})
_BEARER = b"Bearer "


@dataclass(frozen=True, slots=True)
class PlainHead:
    """What counts of the headers of a POST that has nothing special about it.

    ``digest`` is the token's hash.
    """

    digest: str
    request_id: bytes | None


def plain_head(
    headers: Iterable[tuple[bytes, bytes]], *, unusual: frozenset[bytes] = frozenset()
) -> PlainHead | None:
    """What counts of a POST's headers, names in lower case; None where there is more to them.

    Args:
        headers: all of them.
        unusual: names of further headers that the caller leaves to others.
    """
    token = request_id = None
    is_json = False
    for name, value in headers:
        if name == b"authorization":
            if token is not None or not value.startswith(_BEARER):
                return None
            token = value[len(_BEARER) :]
        elif name == b"content-type":
            if is_json or value.lower() not in _JSON:
                return None
            is_json = True
        elif name == b"x-request-id":
            request_id = request_id or value
        elif (
            name in _UNUSUAL
            or name in unusual
            or (name == b"accept" and (b"stream" in value or b"mult" in value))
        ):
            return None
    if not token or not is_json:
        return None
    return PlainHead(hash_secret(token.decode("latin-1")), request_id)


class _Known:
    """One operation of a checked document, with what is the same in each of its requests."""

    __slots__ = ("cost", "is_mutation", "kind", "label", "name", "root_field", "waits")

    def __init__(self, operation: OperationDefinitionNode) -> None:
        self.name: str | None = operation.name.value if operation.name else None
        self.label = operation_label(self.name)
        self.is_mutation = operation.operation is OperationType.MUTATION
        self.kind: str = operation.operation.value
        first = operation.selection_set.selections[0]
        self.root_field = first.name.value if isinstance(first, FieldNode) else "fragment"
        self.cost: Cost | None = None
        self.waits = True


@dataclass(slots=True)
class PlainOperation:
    """One request whose every part has been found ready.

    ``known.waits`` may be set by who runs it: whether the last run had to wait for anything.
    """

    known: _Known
    checked: CheckedDocument
    compiled: Compiled
    variables: dict[str, Any]
    cost: Cost


class PlainGraphQL:
    """Finds and runs what plain requests ask.

    Args:
        schema: with limits and renderer.
        executor: the schema's own, so that plans and counts are shared.
        known: the principal of a token, by its hash, if that was looked up a moment ago.
        context: makes a request's context: principal, request id, address of the client.
        limiter: turns of callers; who runs an operation takes one.
        metrics: told of each operation.
        max_body_bytes: longer bodies are not plain.
    """

    def __init__(
        self,
        *,
        schema: LimitedSchema,
        executor: CompiledExecutor,
        known: Callable[[str], Principal | None],
        context: Callable[[Principal, str, str], GraphQLContext],
        limiter: ConcurrencyLimiter,
        metrics: Metrics,
        max_body_bytes: int,
    ) -> None:
        self.known = known
        self.context = context
        self.limiter = limiter
        self.teller = RequestTeller(metrics)
        self._guard = schema.guard
        self._renderer = schema.renderer
        self._executor = executor
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    def find(self, body: bytes) -> PlainOperation | None:
        """The operation that a whole body asks for, if its document is compiled."""
        if len(body) > self._max_body_bytes:
            return None
        try:
            request = parse_graphql_body(body)
        except RequestRefusedError:
            return None
        checked = self._guard.accepted.find(request.query)
        if checked is None or checked.introspects or request.extensions is not None:
            return None
        known = checked.known.get(request.operation_name) or _know(checked, request.operation_name)
        if known is None:
            return None
        variables = request.variables or {}
        compiled = self._executor.ready(
            request.query, operation_name=known.name, variables=variables
        )
        cost = known.cost or self._cost(checked, known, variables)
        if compiled is None or cost is None or cost.refusal is not None:
            return None
        return PlainOperation(known, checked, compiled, variables, cost)

    def _cost(
        self, checked: CheckedDocument, known: _Known, variables: dict[str, Any]
    ) -> Cost | None:
        cost = self._guard.cost(checked, known.name, variables)
        if not checked.cost_variables:
            known.cost = cost
        return cost

    async def run(self, operation: PlainOperation, ctx: GraphQLContext) -> bytes | None:
        """The body of the answer; None where graphql-core has to answer, from the start."""
        known = operation.known
        bind({"request_id": ctx.request_id, "operation": known.label})
        began = time.perf_counter()
        try:
            try:
                outcome = await self._executor.run(
                    operation.compiled,
                    operation.checked.document,
                    operation_name=known.name,
                    variables=operation.variables,
                    context=ctx,
                    for_json=True,
                )
            finally:
                await ctx.close()
        except Exception as error:  # noqa: BLE001  # as Strawberry does: whatever it is, it is rendered
            outcome = Outcome(errors=[GraphQLError(str(error), original_error=error)])
        if not outcome.is_answer:
            return None
        errors = self._renderer.render(outcome.errors, ctx) if outcome.errors else None
        self._metrics.graphql_operation(
            kind=known.kind,
            root_field=known.root_field,
            code=str((errors[0].extensions or {}).get("code", "INTERNAL")) if errors else None,
            seconds=time.perf_counter() - began,
        )
        parts = [b'{"data":', to_json(outcome.data)]
        if errors:
            parts += b',"errors":', to_json([error.formatted for error in errors])
        cost = operation.cost
        parts.append(
            b',"extensions":{"cost":{"requested":%d,"limit":%d}}}' % (cost.requested, cost.limit)
        )
        return b"".join(parts)


def _know(checked: CheckedDocument, name: str | None) -> _Known | None:
    operation = find_operation(checked.document, name)
    if operation is None:
        return None
    known = checked.known[name] = _Known(operation)
    return known
