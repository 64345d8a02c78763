"""What a GraphQL document may weigh, enforced from the cheapest check to the dearest."""

from dataclasses import dataclass, fields

import graphql.validation.rules.overlapping_fields_can_be_merged as merging
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
    specified_rules,
    validate,
)
from graphql.language.ast import DirectiveNode
from graphql.language.parser import MAX_NESTING_DEPTH
from graphql.validation.validate import ValidationAbortedError
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from server.limits.errors import client_error, limit_exceeded

VALIDATION_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)
INTROSPECTION_FIELDS = frozenset({"__schema", "__type"})

# graphql-core tells these refusals apart by their texts only; the tests pin them.
_TOKENS_TEXT = "tokens. Parsing aborted."
_NESTING_TEXT = "nested too deeply"
_COMPLEXITY_TEXT = "Validation aborted."


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLimits:
    """Upper bounds for one document. All are counts but `document_bytes` (UTF-8 bytes).

    Fields and aliases are counted per operation as they unfold through fragments; directives as
    they are written. `depth` is the number of fields on the longest path, the leaf included;
    below `__schema` and `__type`, `introspection_depth` holds instead, wide enough for the query
    that tools send. `complexity_budget` bounds graphql-core's search for conflicting fields.
    """

    document_bytes: int = 32_768
    tokens: int = 2_000
    depth: int = 12
    introspection_depth: int = 20
    aliases: int = 30
    fields: int = 2_000
    directives_per_location: int = 5
    directives_total: int = 50
    mutation_root_fields: int = 10
    complexity_budget: int = 20_000
    validation_errors: int = 20

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be at least 1")


@dataclass(frozen=True, slots=True)
class Survey:
    """What the pre-pass learned beside that no limit is exceeded."""

    introspects: bool


def set_complexity_budget(budget: int) -> None:
    """Bound the search for conflicting fields, for every validation in this process."""
    merging.MAX_COMPLEXITY_BUDGET = budget


def parse_document(text: object, limits: DocumentLimits) -> DocumentNode:
    """Parse after checking the size.

    Raises:
        GraphQLError: with code LIMIT_EXCEEDED or INVALID.
    """
    if not isinstance(text, str):
        raise client_error("The query must be a string.", code="INVALID")
    _check_bytes(text, limits)
    try:
        return parse(text, max_tokens=limits.tokens)
    except GraphQLSyntaxError as error:
        raise _explained(error, limits) from None


def validate_document(
    schema: GraphQLSchema,
    document: DocumentNode,
    limits: DocumentLimits,
    *,
    hide_suggestions: bool = True,
) -> list[GraphQLError]:
    """The errors of a document that passed `survey_document`, at most `validation_errors` + 1.

    The caller has called `set_complexity_budget` before.
    """
    errors = validate(
        schema,
        document,
        VALIDATION_RULES,
        max_errors=limits.validation_errors,
        hide_suggestions=hide_suggestions,
    )
    return [_explained_abort(error, limits) for error in errors]


def survey_document(document: DocumentNode, limits: DocumentLimits) -> Survey:
    """Count the document, stopping at the first limit exceeded.

    Takes time in proportion to the length of the document, however its fragments are knotted:
    each is counted once. A cycle counts as nothing here; validation refuses it.

    Raises:
        GraphQLError: with code LIMIT_EXCEEDED.
    """
    return _Surveyor(document, limits).survey()


def _check_bytes(text: str, limits: DocumentLimits) -> None:
    size = len(text)
    if size <= limits.document_bytes and not text.isascii():
        size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.document_bytes:
        raise limit_exceeded(
            f"The document has {size} bytes; at most {limits.document_bytes} are allowed.",
            name="documentBytes",
            value=size,
            maximum=limits.document_bytes,
        )


def _explained(error: GraphQLSyntaxError, limits: DocumentLimits) -> GraphQLError:
    if error.message.endswith(_TOKENS_TEXT):
        return limit_exceeded(
            f"The document has more than {limits.tokens} tokens.",
            name="tokens",
            value=limits.tokens + 1,
            maximum=limits.tokens,
        )
    if _NESTING_TEXT in error.message:
        return limit_exceeded(
            f"The document nests more than {MAX_NESTING_DEPTH} levels.",
            name="nesting",
            value=MAX_NESTING_DEPTH + 1,
            maximum=MAX_NESTING_DEPTH,
        )
    return client_error(error.message, code="INVALID", like=error)


def _explained_abort(error: GraphQLError, limits: DocumentLimits) -> GraphQLError:
    if isinstance(error, ValidationAbortedError) and error.message == _COMPLEXITY_TEXT:
        return limit_exceeded(
            "The document selects the same fields too many times to be compared.",
            name="complexity",
            value=limits.complexity_budget + 1,
            maximum=limits.complexity_budget,
        )
    return error


@dataclass(slots=True)
class _Totals:
    """Counts below one definition, the fragments it spreads included once they are added."""

    depth: int = 0
    introspection_depth: int = 0
    aliases: int = 0
    fields: int = 0
    root_fields: int = 0


@dataclass(frozen=True, slots=True)
class _Spread:
    fragment: str
    depth: int
    at_root: bool


class _Surveyor:
    def __init__(self, document: DocumentNode, limits: DocumentLimits) -> None:
        self.limits = limits
        self.introspects = False
        self.directives = 0
        self.operations: list[OperationDefinitionNode] = []
        self.fragments: dict[str, FragmentDefinitionNode] = {}
        for definition in document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                self.operations.append(definition)
            elif isinstance(definition, FragmentDefinitionNode):
                self.fragments[definition.name.value] = definition
        self.totals: dict[str, _Totals] = {}
        self.spreads: dict[str, list[_Spread]] = {}

    def survey(self) -> Survey:
        for name, fragment in self.fragments.items():
            self._count_directives(fragment.directives)
            condition = fragment.type_condition.name.value
            self.totals[name], self.spreads[name] = self._walk(
                fragment.selection_set, introspection=condition.startswith("__")
            )
        self._add_up_fragments()
        for operation in self.operations:
            self._survey_operation(operation)
        return Survey(introspects=self.introspects)

    def _survey_operation(self, operation: OperationDefinitionNode) -> None:
        self._count_directives(operation.directives)
        for variable in operation.variable_definitions or ():
            self._count_directives(variable.directives)
        totals, spreads = self._walk(operation.selection_set, introspection=False)
        self._add_spreads(totals, spreads)
        maximum = self.limits.mutation_root_fields
        if operation.operation is OperationType.MUTATION and totals.root_fields > maximum:
            self._refuse("fields at the root of a mutation", "mutationRootFields", totals, maximum)

    def _walk(
        self, selection_set: SelectionSetNode, *, introspection: bool
    ) -> tuple[_Totals, list[_Spread]]:
        """Count one definition by itself, and list the fragments it spreads."""
        totals, spreads = _Totals(), list[_Spread]()
        stack = [(selection_set, 0, introspection, True)]
        while stack:
            current, depth, inside, at_root = stack.pop()
            for selection in current.selections:
                self._count_directives(selection.directives)
                if isinstance(selection, FieldNode):
                    below = inside or selection.name.value in INTROSPECTION_FIELDS
                    self._count_field(totals, selection, depth + 1, inside=below, root=at_root)
                    if selection.selection_set:
                        stack.append((selection.selection_set, depth + 1, below, False))
                elif isinstance(selection, FragmentSpreadNode):
                    spreads.append(_Spread(selection.name.value, depth, at_root))
                elif nested := getattr(selection, "selection_set", None):
                    stack.append((nested, depth, inside, at_root))
        return totals, spreads

    def _count_field(
        self, totals: _Totals, field: FieldNode, depth: int, *, inside: bool, root: bool
    ) -> None:
        totals.fields += 1
        totals.root_fields += root
        totals.aliases += field.alias is not None
        if inside:
            self.introspects = True
            totals.introspection_depth = max(totals.introspection_depth, depth)
        else:
            totals.depth = max(totals.depth, depth)
        self._check(totals)

    def _count_directives(self, directives: tuple[DirectiveNode, ...] | None) -> None:
        if not directives:
            return
        here, maximum = len(directives), self.limits.directives_per_location
        if here > maximum:
            raise limit_exceeded(
                f"One place has {here} directives; at most {maximum} are allowed.",
                name="directivesPerLocation",
                value=here,
                maximum=maximum,
            )
        self.directives += here
        if self.directives > self.limits.directives_total:
            raise limit_exceeded(
                f"The document has more than {self.limits.directives_total} directives.",
                name="directivesTotal",
                value=self.directives,
                maximum=self.limits.directives_total,
            )

    def _add_up_fragments(self) -> None:
        """Complete the totals of every fragment, those it spreads first, without recursion."""
        done: set[str] = set()
        for root in self.fragments:
            if root in done:
                continue
            path = [(root, iter(self.spreads[root]))]
            on_path = {root}
            while path:
                name, remaining = path[-1]
                following = next(
                    (
                        spread.fragment
                        for spread in remaining
                        if spread.fragment in self.fragments
                        and spread.fragment not in done
                        and spread.fragment not in on_path
                    ),
                    None,
                )
                if following is not None:
                    path.append((following, iter(self.spreads[following])))
                    on_path.add(following)
                    continue
                path.pop()
                on_path.remove(name)
                usable = [s for s in self.spreads[name] if s.fragment in done]
                self._add_spreads(self.totals[name], usable)
                done.add(name)

    def _add_spreads(self, totals: _Totals, spreads: list[_Spread]) -> None:
        for spread in spreads:
            added = self.totals.get(spread.fragment)
            if added is None:
                continue
            totals.fields += added.fields
            totals.aliases += added.aliases
            if spread.at_root:
                totals.root_fields += added.root_fields
            if added.depth:
                totals.depth = max(totals.depth, spread.depth + added.depth)
            if added.introspection_depth:
                totals.introspection_depth = max(
                    totals.introspection_depth, spread.depth + added.introspection_depth
                )
            self._check(totals)

    def _check(self, totals: _Totals) -> None:
        limits = self.limits
        if totals.depth > limits.depth:
            self._refuse("levels", "depth", totals, limits.depth)
        if totals.introspection_depth > limits.introspection_depth:
            maximum = limits.introspection_depth
            self._refuse("levels of introspection", "introspectionDepth", totals, maximum)
        if totals.aliases > limits.aliases:
            self._refuse("aliases", "aliases", totals, limits.aliases)
        if totals.fields > limits.fields:
            self._refuse("fields", "fields", totals, limits.fields)

    def _refuse(self, what: str, name: str, totals: _Totals, maximum: int) -> None:
        value = {
            "depth": totals.depth,
            "introspectionDepth": totals.introspection_depth,
            "aliases": totals.aliases,
            "fields": totals.fields,
            "mutationRootFields": totals.root_fields,
        }[name]
        raise limit_exceeded(
            f"The document has at least {value} {what}; at most {maximum} are allowed.",
            name=name,
            value=value,
            maximum=maximum,
        )
