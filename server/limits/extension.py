"""The operation guard as a Strawberry schema extension."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.types.execution import ParseOptions
from strawberry.types.graphql import OperationType

from server.limits.cost import Cost
from server.limits.errors import client_error
from server.limits.operation import CheckedDocument, OperationGuard

# Strawberry's parser gives up before the first token when told that no source is short enough.
_PARSE_NOTHING = cast("ParseOptions", {"max_source_length": 0})
_ERROR_PARTS = (
    "message",
    "nodes",
    "source",
    "positions",
    "locations",
    "path",
    "original_error",
    "cause",
    "extensions",
)


class LimitsExtension(SchemaExtension):
    """Runs the guard in Strawberry's own steps: parse, validate, then the price of the operation.

    One instance belongs to one operation: give Strawberry `limits_extension(guard)`, a factory.
    Reports the price as `extensions.cost`, except on every event of a subscription.
    """

    def __init__(self, guard: OperationGuard) -> None:
        super().__init__()
        self.guard = guard
        self.checked: CheckedDocument | None = None
        self.cost: Cost | None = None

    def on_parse(self) -> Iterator[None]:
        """Take the document from the guard, or make Strawberry's parser refuse as the guard did.

        A hook must not raise: over a stream, Strawberry would take that for a crash.
        """
        context = self.execution_context
        try:
            self.checked = self.guard.parse(context.query)
        except GraphQLError as refusal:
            context.parse_options = _PARSE_NOTHING
            yield
            for error in context.pre_execution_errors or ():
                _make_equal(error, refusal)
            return
        context.graphql_document = self.checked.document
        yield

    def on_validate(self) -> Iterator[None]:
        """Answer for Strawberry's validation, and refuse what costs too much."""
        context = self.execution_context
        if self.checked is not None:
            errors = self.guard.validate(self.checked, context.context)
            context.pre_execution_errors = errors or self._price(self.checked)
        yield

    def get_results(self) -> dict[str, Any]:
        """The member `cost` of the result's extensions."""
        if self.cost is None or self._is_subscription():
            return {}
        return {"cost": {"requested": self.cost.requested, "limit": self.cost.limit}}

    def _price(self, checked: CheckedDocument) -> list[GraphQLError]:
        context = self.execution_context
        # A WebSocket client may send anything as variables; the executor expects a mapping.
        if not isinstance(context.variables, Mapping | None):
            return [client_error("The variables must be an object.", code="INVALID")]
        self.cost = self.guard.cost(checked, context.operation_name, context.variables)
        refusal = self.cost.refusal if self.cost else None
        return [refusal] if refusal else []

    def _is_subscription(self) -> bool:
        return self.execution_context.operation_type is OperationType.SUBSCRIPTION


def limits_extension(guard: OperationGuard) -> Callable[[], SchemaExtension]:
    """The factory to put into a schema's `extensions`, last, so that its word is the final one."""
    return lambda: LimitsExtension(guard)


def _make_equal(error: GraphQLError, refusal: GraphQLError) -> None:
    """Strawberry has taken its own error into the result already: change that one in place."""
    for part in _ERROR_PARTS:
        setattr(error, part, getattr(refusal, part))
    error.__cause__ = error.__context__ = None
