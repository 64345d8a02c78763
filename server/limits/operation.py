"""The gate every GraphQL operation passes: size, counts, validity, introspection, cost.

Knows graphql-core only, so that any executor may stand behind it.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import DocumentNode, GraphQLError, GraphQLSchema, OperationDefinitionNode

from server.limits.cost import Cost, CostModel, CostRules
from server.limits.document import (
    DocumentLimits,
    parse_document,
    set_complexity_budget,
    survey_document,
    validate_document,
)
from server.limits.errors import client_error

# Costs remembered per document: enough for the page sizes clients really use.
MAX_COSTS_PER_DOCUMENT = 32


@dataclass(slots=True)
class CheckedDocument:
    """One document text with all that was found out about it so far."""

    text: str
    document: DocumentNode
    introspects: bool = False
    errors: tuple[GraphQLError, ...] | None = None  # None: not validated yet
    cost_variables: tuple[str, ...] = ()
    costs: dict[Hashable, Cost] = field(default_factory=dict)
    known: dict[str | None, Any] = field(default_factory=dict)
    """What is kept about its operations by the name asked for (see ``server.plain``)."""


class DocumentCache:
    """Least recently used documents, bounded in number and in tokens (about 500 bytes each)."""

    def __init__(self, *, documents: int, tokens: int) -> None:
        self.max_documents = documents
        self.max_tokens = tokens
        self.tokens = 0
        self._entries: OrderedDict[str, CheckedDocument] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, text: str) -> CheckedDocument | None:
        """The entry for exactly this text, made the most recent; None when there is none."""
        entry = self._entries.get(text)
        if entry is not None:
            self._entries.move_to_end(text)
        return entry

    def add(self, entry: CheckedDocument) -> None:
        """Keep an entry, at the price of the least recent ones."""
        self._forget(self._entries.pop(entry.text, None))
        self._entries[entry.text] = entry
        self.tokens += entry.document.token_count
        while len(self._entries) > self.max_documents or self.tokens > self.max_tokens:
            self._forget(self._entries.popitem(last=False)[1])

    def _forget(self, entry: CheckedDocument | None) -> None:
        if entry is not None:
            self.tokens -= entry.document.token_count


class OperationGuard:
    """Checks operations against one schema. Made once per process; used from one event loop.

    `introspection` answers for all, or per request when it is a function of the request's context.
    Accepted and refused documents have caches of their own, so that a flood of bad ones cannot
    drive out the documents of real clients.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        *,
        limits: DocumentLimits | None = None,
        cost_rules: CostRules | None = None,
        introspection: bool | Callable[[Any], bool] = True,
        cached_documents: int = 512,
        cached_tokens: int = 100_000,
    ) -> None:
        self.schema = schema
        self.limits = limits or DocumentLimits()
        self.cost_model = CostModel(schema, cost_rules)
        self.introspection = introspection
        self.hide_suggestions = introspection is not True
        self.accepted = DocumentCache(documents=cached_documents, tokens=cached_tokens)
        self.refused = DocumentCache(
            documents=max(1, cached_documents // 8), tokens=max(1, cached_tokens // 8)
        )
        set_complexity_budget(self.limits.complexity_budget)

    def parse(self, text: object) -> CheckedDocument:
        """The parsed document, from the cache where possible; not validated yet.

        Raises:
            GraphQLError: with code LIMIT_EXCEEDED or INVALID.
        """
        if isinstance(text, str):
            known = self.accepted.find(text) or self.refused.find(text)
            if known is not None:
                return known
        document = parse_document(text, self.limits)
        return CheckedDocument(str(text), document)

    def validate(self, checked: CheckedDocument, context: object = None) -> list[GraphQLError]:
        """Every reason to refuse the document for this request; none means it may be executed."""
        if checked.errors is None:
            checked.errors = self._examine(checked)
            (self.refused if checked.errors else self.accepted).add(checked)
        if not checked.errors and checked.introspects and not self._may_introspect(context):
            return [client_error("Introspection is switched off here.", code="FORBIDDEN")]
        return list(checked.errors)

    def cost(
        self,
        checked: CheckedDocument,
        operation_name: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Cost | None:
        """The cost of one operation of a valid document; None when it has no such operation."""
        operation = find_operation(checked.document, operation_name)
        if operation is None:
            return None
        given = variables if isinstance(variables, Mapping) else {}
        key = (operation_name, *(_cost_key(given, name) for name in checked.cost_variables))
        cost = checked.costs.get(key)
        if cost is None:
            cost = self.cost_model.cost_of(checked.document, operation, given)
            if len(checked.costs) >= MAX_COSTS_PER_DOCUMENT:
                checked.costs.clear()
            checked.costs[key] = cost
        return cost

    def _examine(self, checked: CheckedDocument) -> tuple[GraphQLError, ...]:
        try:
            checked.introspects = survey_document(checked.document, self.limits).introspects
        except GraphQLError as error:
            return (error.with_traceback(None),)
        errors = validate_document(
            self.schema,
            checked.document,
            self.limits,
            hide_suggestions=self.hide_suggestions,
        )
        if not errors:
            checked.cost_variables = self.cost_model.relevant_variables(checked.document)
        return tuple(errors)

    def _may_introspect(self, context: object) -> bool:
        allowed = self.introspection
        return allowed if isinstance(allowed, bool) else allowed(context)


def find_operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode | None:
    """The operation of this name, or the first one when no name is given."""
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode) and (
            name is None or (definition.name is not None and definition.name.value == name)
        ):
            return definition
    return None


def _cost_key(variables: Mapping[str, Any], name: str) -> Hashable:
    """What a variable means to the cost, told apart by type (`True` equals 1 in Python)."""
    if name not in variables:
        return "omitted"
    value = variables[name]
    if isinstance(value, bool | int | float):
        return type(value), value
    return (type(value),)
