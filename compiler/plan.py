"""A plan: what one operation of a document asks for, field by field and type by type.

Fields are collected by graphql-core's own functions, so that merging, order, fragments and type
conditions are its own; @skip and @include are folded in, which is why the values of their
variables belong to the key of a plan.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    BooleanValueNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
)
from graphql.execution.collect_fields import (
    FieldDetails,
    FragmentDetails,
    collect_fields,
    collect_subfields,
)
from graphql.execution.values import VariableValues
from strawberry import Schema

from compiler.arguments import Arguments, compile_arguments
from compiler.fields import FieldCall, FieldClass, classify
from compiler.info import FieldFacts
from compiler.selection import (
    NOTHING,
    Carried,
    Selection,
    combine,
    merge,
    possible_types,
    python_name,
    shared,
)
from compiler.values import Bail, asks_each

INTROSPECTION = frozenset({"__schema", "__type"})
CONDITIONS = frozenset({"skip", "include"})


class Unsupported(Bail):
    """The document stays with graphql-core."""


@dataclass(slots=True, eq=False)
class PlanField:
    """One response key of an object. `call` is None for `__typename`."""

    number: int
    key: str
    call: FieldCall | None
    definition: GraphQLField | None
    facts: FieldFacts | None
    details: list[FieldDetails]
    arguments: Arguments | None
    objects: dict[str, "PlanObject"]

    @property
    def is_abstract(self) -> bool:
        """Whether the value's type is found out at run time."""
        return self.definition is not None and is_abstract_type(
            get_named_type(self.definition.type)
        )

    @property
    def completes_with_info(self) -> bool:
        """Whether completing a value asks for its type, with an info."""
        return self.is_abstract or any(
            asks_each(part.type.is_type_of) for part in self.objects.values()
        )

    @property
    def needs_place(self) -> bool:
        """Whether calling or completing needs to know the parent's place in the response."""
        wants_info = self.call is not None and self.call.wants_info
        return (
            wants_info
            or self.completes_with_info
            or any(part.needs_place for part in self.objects.values())
        )


@dataclass(slots=True, eq=False)
class PlanObject:
    """The fields requested of a value of one type."""

    number: int
    type: GraphQLObjectType
    fields: list[PlanField]
    needs_place: bool = False
    selection: Selection = NOTHING


@dataclass(slots=True, eq=False)
class Plan:
    """One operation with its conditions decided."""

    operation: OperationDefinitionNode
    fragments: dict[str, FragmentDefinitionNode]
    root: PlanObject
    fields: list[PlanField]

    @property
    def depends_on_viewer(self) -> bool:
        """Whether an answer may depend on the context, so that two callers may not share it."""
        return any(
            part.call is not None and (part.call.wants_info or part.call.is_async)
            for part in self.fields
        )


@dataclass(slots=True)
class Survey:
    """What the text of an operation says without its variables."""

    operation: OperationDefinitionNode
    fragments: dict[str, FragmentDefinitionNode]
    conditions: tuple[tuple[str, Any], ...] = ()

    def flags(self, variables: Mapping[str, Any]) -> tuple[bool | None, ...]:
        """The values of the variables in @skip and @include; None for one that is not given.

        Raises:
            Unsupported: one is not a Boolean.
        """
        values = tuple(variables.get(name, default) for name, default in self.conditions)
        for value in values:
            if type(value) is not bool and value is not None:
                raise Unsupported("a condition that is not a Boolean")
        return values


def survey(document: DocumentNode, operation_name: str | None) -> Survey:
    """Find the operation and what stands against compiling it.

    Raises:
        Unsupported: something does.
    """
    found: list[OperationDefinitionNode] = []
    fragments: dict[str, FragmentDefinitionNode] = {}
    for definition in document.definitions:
        if isinstance(definition, FragmentDefinitionNode):
            if definition.variable_definitions:
                raise Unsupported("fragment variables")
            fragments[definition.name.value] = definition
        elif isinstance(definition, OperationDefinitionNode) and (
            operation_name is None
            or (definition.name is not None and definition.name.value == operation_name)
        ):
            found.append(definition)
    if len(found) != 1:
        raise Unsupported("no operation, or several")
    operation = found[0]
    if operation.directives:
        raise Unsupported("directives on the operation")
    names = _conditions(operation.selection_set, fragments)
    defaults: dict[str, Any] = {
        node.variable.name.value: node.default_value.value
        for node in operation.variable_definitions or ()
        if isinstance(node.default_value, BooleanValueNode)
    }
    return Survey(operation, fragments, tuple((name, defaults.get(name)) for name in names))


def _conditions(
    root: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]
) -> list[str]:
    """The variables of all @skip and @include below a selection set, in order.

    Raises:
        Unsupported: there are other directives or introspection.
    """
    names: dict[str, None] = {}
    visited: set[str] = set()
    stack = [root]
    while stack:
        for node in stack.pop().selections:
            names.update(dict.fromkeys(_variables_of_conditions(node)))
            if isinstance(node, FragmentSpreadNode):
                name = node.name.value
                if name not in visited and name in fragments:
                    visited.add(name)
                    stack.append(fragments[name].selection_set)
            elif isinstance(node, FieldNode) and node.name.value in INTROSPECTION:
                raise Unsupported("introspection")
            elif isinstance(node, FieldNode | InlineFragmentNode) and node.selection_set:
                stack.append(node.selection_set)
    return list(names)


def _variables_of_conditions(node: Any) -> Iterator[str]:
    for directive in node.directives or ():
        if directive.name.value not in CONDITIONS:
            raise Unsupported(f"@{directive.name.value}")
        for argument in directive.arguments or ():
            if isinstance(argument.value, VariableNode):
                yield argument.value.name.value


class Planner:
    """Makes plans for one schema; remembers how its fields are called."""

    def __init__(self, schema: Schema, *, max_fields: int) -> None:
        self.strawberry = schema
        self.schema: GraphQLSchema = schema._schema  # noqa: SLF001  # the only way to it
        self.max_fields = max_fields
        self._calls: dict[tuple[str, str], FieldCall] = {}

    def plan(self, found: Survey, flags: Sequence[bool | None]) -> Plan:
        """The plan of an operation for given values of its conditions.

        Raises:
            Bail: graphql-core has to answer.
        """
        given = {
            name: value
            for (name, _), value in zip(found.conditions, flags, strict=True)
            if value is not None
        }
        builder = _PlanBuilder(self, found, VariableValues({}, given))
        try:
            return builder.build()
        except GraphQLError as error:
            raise Unsupported(error.message) from error

    def call(self, parent: GraphQLObjectType, name: str) -> FieldCall:
        """How to call a field."""
        key = (parent.name, name)
        found = self._calls.get(key)
        if found is None:
            found = self._calls[key] = classify(self.strawberry, parent, name)
        return found


class _PlanBuilder:
    def __init__(self, planner: Planner, found: Survey, values: VariableValues) -> None:
        self.planner = planner
        self.found = found
        self.values = values
        self.details = {name: FragmentDetails(node) for name, node in found.fragments.items()}
        self.fields: list[PlanField] = []
        self.objects = 0

    def build(self) -> Plan:
        operation = self.found.operation
        root_type = self.planner.schema.get_root_type(operation.operation)
        if root_type is None:
            raise Unsupported("no such kind of operation")
        collected = collect_fields(
            self.planner.schema, self.details, self.values, root_type, operation
        )
        root = self._object(root_type, collected.grouped_field_set)
        return Plan(operation, self.found.fragments, root, self.fields)

    def _object(
        self,
        type_: GraphQLObjectType,
        groups: Mapping[str, list[FieldDetails]],
        *,
        carries: bool = False,
    ) -> PlanObject:
        self.objects += 1
        made = PlanObject(self.objects, type_, [])
        made.fields = [
            self._field(type_, key, details, carries=carries) for key, details in groups.items()
        ]
        made.needs_place = any(part.needs_place for part in made.fields)
        made.selection = self._selection(made)
        return made

    def _selection(self, made: PlanObject) -> Selection:
        below: dict[str, list[Selection]] = {}
        for part in made.fields:
            name = python_name(made.type, part.details[0].node.name.value)
            if name is not None and part.facts is not None:
                below.setdefault(name, []).append(part.facts.selection)
        return Selection({name: merge(inner) for name, inner in below.items()})

    def _field(
        self,
        parent: GraphQLObjectType,
        key: str,
        details: list[FieldDetails],
        *,
        carries: bool,
    ) -> PlanField:
        node = details[0].node
        name = node.name.value
        number = len(self.fields)
        if number >= self.planner.max_fields:
            raise Unsupported("too many fields")
        if name == "__typename":
            made = PlanField(number, key, None, None, None, details, None, {})
            self.fields.append(made)
            return made
        if name not in parent.fields:
            raise Unsupported(f"no field {name}")
        call = self.planner.call(parent, name)
        if carries and call.from_parent is not None:
            call = call.from_parent
        definition = call.definition
        arguments = compile_arguments(
            self.planner.strawberry,
            definition,
            node,
            call.strawberry,
            convert=call.kind is not FieldClass.WRAPPED,
        )
        made = PlanField(number, key, call, definition, None, details, arguments, {})
        self.fields.append(made)
        self._complete(made, parent)
        return made

    def _complete(self, made: PlanField, parent: GraphQLObjectType) -> None:
        assert made.definition is not None  # noqa: S101  # the caller has set it
        named = get_named_type(made.definition.type)
        carries = made.call is not None and made.call.carries
        for possible in possible_types(self.planner.schema, named):
            collected = collect_subfields(
                self.planner.schema,
                self.details,
                self.values,
                self.found.operation,
                possible,
                made.details,
            )
            made.objects[possible.name] = self._object(
                possible, collected.grouped_field_set, carries=carries
            )
        parts = {name: part.selection for name, part in made.objects.items()}
        selection = shared(combine(parts, abstract=made.is_abstract))
        made.facts = FieldFacts(
            field_nodes=[entry.node for entry in made.details],
            parent_type=parent,
            return_type=made.definition.type,
            response_key=made.key,
            selection=selection,
            carried=_carried(made.objects.values(), selection),
        )


def _carried(objects: Iterable[PlanObject], selection: Selection) -> tuple[Carried, ...]:
    """The fields of objects that are taken from these themselves; aliases of one are one."""
    found: dict[str, Carried] = {}
    for part in (part for made in objects for part in made.fields):
        if part.call is not None and part.call.carried is not None:
            assert part.call.strawberry is not None  # noqa: S101  # its metadata says so
            name = part.call.strawberry.python_name
            below = selection.below(name)
            found[name] = Carried(name, part.call.carried, part.call.definition.type, below)
    return tuple(found.values())
