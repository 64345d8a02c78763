"""What an operation may cost, known before it runs.

An object costs 1 (or its field's weight), a leaf nothing, and what stands below a page is paid for
every row asked for. The sum is an upper bound: rows that turn out missing, selections that merge
with an equal one, and the other members of a union are paid for as well.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graphql import (
    ArgumentNode,
    BooleanValueNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLArgument,
    GraphQLField,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLSchema,
    IntValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    Undefined,
    ValueNode,
    VariableNode,
    get_named_type,
    is_interface_type,
    is_leaf_type,
    is_list_type,
    is_object_type,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter

from server.limits.document import INTROSPECTION_FIELDS
from server.limits.errors import ClientError, client_error

# More digits than this are beyond every page size, and int() of thousands of digits is slow.
_MAX_INTEGER_DIGITS = 10
_UNREADABLE = object()
_CONDITION = frozenset({"if"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRules:
    """How cost is counted.

    `limit` is the most one operation may cost; `default_page` is what a page without `first` or
    `last` returns; larger pages than `max_page` count as that, since resolvers refuse them.
    `list_size` is the length assumed of a list without paging. `weights` maps "Type.field" to the
    price of one object (or leaf) of that field and wins over `metadata={"cost": …}`, the
    field's own word. Other metadata read: `page_size_arguments`, `max_page_size`, `list_size`.
    """

    limit: int = 20_000
    default_page: int = 50
    max_page: int = 100
    list_size: int = 10
    object_weight: int = 1
    mutation_weight: int = 10
    introspection: int = 1_000
    weights: Mapping[str, int] = field(default_factory=dict)
    page_arguments: tuple[str, ...] = ("first", "last")


@dataclass(frozen=True, slots=True)
class Cost:
    """What an operation asks for, and the most it may ask for."""

    requested: int
    limit: int

    @property
    def refusal(self) -> ClientError | None:
        """The error to answer with, or None when the operation may run."""
        if self.requested <= self.limit:
            return None
        return client_error(
            f"The operation would cost {self.requested}; at most {self.limit} is allowed. "
            "Ask for smaller pages or fewer nested lists.",
            code="COST_EXCEEDED",
            details={"requested": self.requested, "max": self.limit},
        )


class _Sum(NamedTuple):
    """`fixed + per_row * n`, where n is the number of rows of the enclosing connection."""

    fixed: int
    per_row: int

    def at(self, rows: int) -> int:
        return self.fixed + self.per_row * rows


@dataclass(frozen=True, slots=True)
class _FieldRule:
    weight: int
    named_type: GraphQLNamedType
    is_list: bool
    page_arguments: Mapping[str, int | None]  # with the page each stands for when omitted
    max_page: int
    list_size: int | None


class CostModel:
    """Prices the operations of one schema. Reads the schema once; safe to share."""

    def __init__(self, schema: GraphQLSchema, rules: CostRules | None = None) -> None:
        self.schema = schema
        self.rules = rules or CostRules()
        self._rules_by_field: dict[tuple[str, str], _FieldRule] = {}
        for type_ in schema.type_map.values():
            if is_object_type(type_) or is_interface_type(type_):
                for name, definition in type_.fields.items():
                    rule = self._read_rule(type_, name, definition)
                    self._rules_by_field[type_.name, name] = rule
        self.page_argument_names = frozenset(
            name for rule in self._rules_by_field.values() for name in rule.page_arguments
        )

    def cost_of(
        self,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: Mapping[str, Any] | None = None,
    ) -> Cost:
        """The cost of an operation of a *valid* document.

        Variables of a wrong type count as omitted: refusing them is the executor's work.
        """
        requested = _Pricing(self, document, operation, variables or {}).price()
        return Cost(requested=requested, limit=self.rules.limit)

    def relevant_variables(self, document: DocumentNode) -> tuple[str, ...]:
        """The variables whose values can change the cost of this document, sorted."""
        return tuple(sorted(set(_relevant_variables(document, self.page_argument_names))))

    def rule_for(self, type_: GraphQLNamedType, field_name: str) -> _FieldRule | None:
        """How a field is priced; None for meta fields and unknown ones."""
        return self._rules_by_field.get((type_.name, field_name))

    def _read_rule(
        self, type_: GraphQLNamedType, name: str, definition: GraphQLField
    ) -> _FieldRule:
        rules = self.rules
        metadata = _metadata(definition)
        named_type = get_named_type(definition.type)
        page_names = metadata.get("page_size_arguments", rules.page_arguments)
        weight = rules.weights.get(f"{type_.name}.{name}", metadata.get("cost"))
        if weight is None:
            weight = self._default_weight(type_, name, named_type)
        inner = definition.type
        if isinstance(inner, GraphQLNonNull):
            inner = inner.of_type
        return _FieldRule(
            weight=int(weight),
            named_type=named_type,
            is_list=is_list_type(inner),
            page_arguments={
                argument: _default_of(definition.args[argument])
                for argument in page_names
                if argument in definition.args
            },
            max_page=int(metadata.get("max_page_size", rules.max_page)),
            list_size=metadata.get("list_size"),
        )

    def _default_weight(
        self, type_: GraphQLNamedType, name: str, named_type: GraphQLNamedType
    ) -> int:
        if type_ is self.schema.mutation_type:
            return self.rules.mutation_weight
        if is_leaf_type(named_type) or named_type.name == "PageInfo":
            return 0
        # An edge is the envelope of its node, which is paid for; `nodes` must not be cheaper.
        if name == "edges" and named_type.name.endswith("Edge"):
            return 0
        return self.rules.object_weight


class _Pricing:
    """One walk over one operation. Each fragment is priced once."""

    def __init__(
        self,
        model: CostModel,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: Mapping[str, Any],
    ) -> None:
        self.model = model
        self.operation = operation
        self.variables = variables
        self.defaults = {
            definition.variable.name.value: definition.default_value
            for definition in operation.variable_definitions or ()
            if definition.default_value is not None
        }
        self.fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self.priced: dict[str, _Sum] = {}

    def price(self) -> int:
        root = self.model.schema.get_root_type(self.operation.operation)
        if root is None:
            return 0
        return self._selections(self.operation.selection_set, root).at(self.model.rules.list_size)

    def _selections(self, selection_set: SelectionSetNode, type_: GraphQLNamedType) -> _Sum:
        fixed = per_row = 0
        for selection in selection_set.selections:
            if self._is_left_out(selection):
                continue
            added = self._selection(selection, type_)
            fixed += added.fixed
            per_row += added.per_row
        return _Sum(fixed, per_row)

    def _selection(self, selection: SelectionNode, type_: GraphQLNamedType) -> _Sum:
        if isinstance(selection, FieldNode):
            return self._field(selection, type_)
        if isinstance(selection, FragmentSpreadNode):
            return self._fragment(selection.name.value)
        condition = getattr(selection, "type_condition", None)
        if condition is not None:
            type_ = self.model.schema.get_type(condition.name.value) or type_
        nested = getattr(selection, "selection_set", None)
        return self._selections(nested, type_) if nested else _Sum(0, 0)

    def _fragment(self, name: str) -> _Sum:
        known = self.priced.get(name)
        if known is not None:
            return known
        fragment = self.fragments.get(name)
        type_ = fragment and self.model.schema.get_type(fragment.type_condition.name.value)
        if not fragment or not type_:
            return _Sum(0, 0)
        self.priced[name] = _Sum(0, 0)  # a cycle, were one to pass validation, ends here
        self.priced[name] = self._selections(fragment.selection_set, type_)
        return self.priced[name]

    def _field(self, node: FieldNode, type_: GraphQLNamedType) -> _Sum:
        name = node.name.value
        if name in INTROSPECTION_FIELDS:
            return _Sum(self.model.rules.introspection, 0)
        rule = self.model.rule_for(type_, name)
        if rule is None:
            return _Sum(0, 0)
        below = _Sum(0, 0)
        if node.selection_set:
            below = self._selections(node.selection_set, rule.named_type)
        assumed = self.model.rules.list_size
        if rule.page_arguments:
            page = self._page(node, rule)
            if rule.is_list:
                return _Sum(page * (rule.weight + below.at(assumed)), 0)
            return _Sum(rule.weight + below.at(page), 0)
        each = rule.weight + below.at(assumed)
        if not rule.is_list or is_leaf_type(rule.named_type):
            return _Sum(each, 0)
        if rule.list_size is not None:
            return _Sum(rule.list_size * each, 0)
        return _Sum(0, each)

    def _page(self, node: FieldNode, rule: _FieldRule) -> int:
        """Rows asked for: the largest page argument given, else the default page."""
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        sizes = [
            size
            for name, default in rule.page_arguments.items()
            if (size := self._integer(given.get(name), default)) is not None
        ]
        page = max(sizes) if sizes else self.model.rules.default_page
        return max(0, min(page, rule.max_page))

    def _integer(self, node: ValueNode | None, default: int | None) -> int | None:
        if node is None:
            return default
        value = self._value(node)
        if value is Undefined:
            return default
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _is_left_out(self, selection: SelectionNode) -> bool:
        for directive in selection.directives or ():
            name = directive.name.value
            if name in {"skip", "include"}:
                for argument in directive.arguments or ():
                    if argument.name.value == "if" and self._value(argument.value) is (
                        name == "skip"
                    ):
                        return True
        return False

    def _value(self, node: ValueNode) -> Any:
        """The Python value of a literal or variable; Undefined for a variable not given."""
        if isinstance(node, VariableNode):
            name = node.name.value
            if name in self.variables:
                return self.variables[name]
            default = self.defaults.get(name)
            return Undefined if default is None else _literal(default)
        return _literal(node)


def _literal(node: ValueNode) -> Any:
    if isinstance(node, IntValueNode):
        text = node.value
        if len(text) <= _MAX_INTEGER_DIGITS:
            return int(text)
        return -(10**_MAX_INTEGER_DIGITS) if text.startswith("-") else 10**_MAX_INTEGER_DIGITS
    return node.value if isinstance(node, BooleanValueNode) else _UNREADABLE


def _metadata(definition: GraphQLField) -> Mapping[Any, Any]:
    strawberry_field = (definition.extensions or {}).get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return getattr(strawberry_field, "metadata", None) or {}


def _default_of(argument: GraphQLArgument) -> int | None:
    value = argument.default_value
    if value is Undefined and argument.default is not None:
        literal = argument.default.literal
        value = argument.default.value if literal is None else _literal(literal)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _relevant_variables(document: DocumentNode, page_arguments: frozenset[str]) -> Iterator[str]:
    stack: list[SelectionSetNode] = [
        definition.selection_set
        for definition in document.definitions
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode)
    ]
    while stack:
        for selection in stack.pop().selections:
            if nested := getattr(selection, "selection_set", None):
                stack.append(nested)
            for directive in selection.directives or ():
                yield from _variables_among(directive.arguments, _CONDITION)
            if isinstance(selection, FieldNode):
                yield from _variables_among(selection.arguments, page_arguments)


def _variables_among(
    arguments: Iterable[ArgumentNode] | None, names: frozenset[str]
) -> Iterator[str]:
    for argument in arguments or ():
        if argument.name.value in names and isinstance(argument.value, VariableNode):
            yield argument.value.name.value
