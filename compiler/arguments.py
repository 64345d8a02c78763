"""Arguments of fields: graphql-core's values out of a document, then Strawberry's for resolvers."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from typing import Any

from graphql import (
    FieldNode,
    GraphQLArgument,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    ListValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
)
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_literal
from strawberry import Schema
from strawberry.relay.types import GlobalID
from strawberry.types.arguments import StrawberryArgument, _is_leaf_type, convert_argument
from strawberry.types.base import (
    StrawberryList,
    StrawberryMaybe,
    StrawberryOptional,
    has_object_definition,
)
from strawberry.types.lazy_type import LazyType

from compiler.literals import Variables, is_immutable, literal
from compiler.values import Bail

Converter = Callable[[Any], Any]
MISSING_ARGUMENT: Any = object()


@dataclass(frozen=True, slots=True)
class ArgumentSource:
    """Where the value of one argument comes from: a constant, a variable, or a function of all."""

    name: str
    constant: Any = MISSING_ARGUMENT
    variable: str | None = None
    default: Any = Undefined
    non_null: bool = False
    compute: Callable[[Variables], Any] | None = None

    def value(self, variables: Variables) -> Any:
        """graphql-core's value; Undefined where the argument is not given.

        Raises:
            Bail: graphql-core has to say what is wrong.
        """
        if self.constant is not MISSING_ARGUMENT:
            return self.constant
        if self.compute is not None:
            return self.compute(variables)
        assert self.variable is not None  # noqa: S101  # one of the three is set
        value = variables.get(self.variable, Undefined)
        if value is Undefined:
            return self.default
        if value is None and self.non_null:
            raise Bail(f"null for {self.name}")
        return value


def argument_sources(field: GraphQLField, node: FieldNode) -> list[ArgumentSource]:
    """The sources of all arguments that a field may get, in the order of the schema.

    Raises:
        Bail: graphql-core has to say what is wrong.
    """
    nodes = {argument.name.value: argument.value for argument in node.arguments or ()}
    found = [_source(name, arg, nodes.get(name)) for name, arg in field.args.items()]
    return [source for source in found if source is not None]


def _source(name: str, arg: GraphQLArgument, node: ValueNode | None) -> ArgumentSource | None:
    out_name = arg.out_name or name
    if node is None:
        if is_required_argument(arg):
            raise Bail(f"{name} is required")
        default = coerce_default_value(arg)
        return None if default is Undefined else ArgumentSource(out_name, constant=default)
    if isinstance(node, VariableNode):
        return ArgumentSource(
            out_name,
            variable=node.name.value,
            default=MISSING_REQUIRED if is_required_argument(arg) else coerce_default_value(arg),
            non_null=is_non_null_type(arg.type),
        )
    has_variables = _has_variables(node)
    if not has_variables:
        value = coerce_input_literal(node, arg.type)
        if value is Undefined:
            raise Bail(f"{name} is invalid")
        if is_immutable(value):
            return ArgumentSource(out_name, constant=value)
    elif _has_variables_in_scalars(node, arg.type):
        raise Bail("variables inside the literal of an application's scalar")

    read = literal(node, arg.type)

    def compute(variables: Variables) -> Any:
        value = read(variables)
        if value is Undefined:
            raise Bail(f"{name} is invalid")
        return value

    return ArgumentSource(out_name, compute=compute)


class _Required:
    """Stands as the default of a required argument, whose variable must be there."""


MISSING_REQUIRED: Any = _Required()


def _has_variables(node: ValueNode) -> bool:
    if isinstance(node, VariableNode):
        return True
    if isinstance(node, ListValueNode):
        return any(_has_variables(value) for value in node.values)
    if isinstance(node, ObjectValueNode):
        return any(_has_variables(field.value) for field in node.fields)
    return False


def _has_variables_in_scalars(node: ValueNode, type_: GraphQLInputType) -> bool:
    """Whether the literal of an application's scalar has variables inside.

    It would need the variables' sources, which are not kept here.
    """
    if isinstance(node, VariableNode):
        return False
    inner = get_nullable_type(type_)
    if is_list_type(inner):
        items = node.values if isinstance(node, ListValueNode) else (node,)
        return any(_has_variables_in_scalars(item, inner.of_type) for item in items)
    if isinstance(node, ObjectValueNode) and isinstance(inner, GraphQLInputObjectType):
        return any(
            _has_variables_in_scalars(field.value, inner.fields[field.name.value].type)
            for field in node.fields
        )
    return _has_variables(node)


def converter(schema: Schema, type_: Any) -> Converter | None:
    """The function from graphql-core's value to what Strawberry gives a resolver.

    None where both are the same and cannot be changed by a resolver.
    """
    registry = schema.schema_converter.scalar_registry
    if isinstance(type_, StrawberryMaybe):
        return _generic(schema, type_)
    if isinstance(type_, StrawberryOptional):
        return converter(schema, type_.of_type)
    if isinstance(type_, StrawberryList):
        return _list_converter(schema, type_)
    if type_ is not GlobalID and _is_leaf_type(type_, registry):
        return None
    if isinstance(type_, LazyType):
        return converter(schema, type_.resolve_type())
    return _generic(schema, type_)


def _list_converter(schema: Schema, type_: StrawberryList) -> Converter:
    item = converter(schema, type_.of_type)
    if item is not None:
        return _generic(schema, type_)
    return lambda value: None if value is None else list(value)


def _generic(schema: Schema, type_: Any) -> Converter:
    registry = schema.schema_converter.scalar_registry
    if has_object_definition(type_):
        definition = type_.__strawberry_definition__
        if definition.from_input is None and definition.is_input:
            return _input_converter(schema, type_, definition)

    def convert(value: Any) -> Any:
        return convert_argument(value, type_, registry, schema.config)

    return convert


def _input_converter(schema: Schema, type_: Any, definition: Any) -> Converter:
    """`strawberry.types.arguments.convert_argument` for one input type, prepared."""
    names = schema.config.name_converter
    absent = {
        field.python_name: None
        for field in definition.fields
        if field.default_value is MISSING and field.default_factory is MISSING
    }
    steps: list[tuple[str, str, Any]] = [
        (
            names.from_field(field),
            field.python_name,
            field.resolve_type(type_definition=definition),
        )
        for field in definition.fields
    ]
    converters: dict[str, tuple[str, Converter | None]] | None = None

    def convert(value: Any) -> Any:
        nonlocal converters
        if value is None:
            return None
        if converters is None:  # not earlier: an input type may contain itself
            converters = {
                name: (python_name, converter(schema, inner)) for name, python_name, inner in steps
            }
        arguments: dict[str, Any] = dict(absent)
        for name, entry in value.items():
            python_name, inner = converters[name]
            arguments[python_name] = entry if inner is None else inner(entry)
        return type_(**arguments)

    return convert


@dataclass(frozen=True, slots=True)
class Arguments:
    """All arguments of one field of a plan: functions of the coerced variables.

    `fixed` makes what all calls of an execution may share; None where each call needs its own.
    """

    sources: tuple[ArgumentSource, ...]
    converters: tuple[tuple[str, str, Converter | None], ...]

    @property
    def is_shared(self) -> bool:
        """Whether all calls of an execution may get the same values."""
        return all(convert is None for _, _, convert in self.converters)

    @property
    def is_constant(self) -> bool:
        """Whether all executions may get the same values."""
        return self.is_shared and all(
            source.constant is not MISSING_ARGUMENT and is_immutable(source.constant)
            for source in self.sources
        )

    def values(self, variables: Variables) -> dict[str, Any]:
        """graphql-core's values by argument name.

        Raises:
            Bail: graphql-core has to say what is wrong.
        """
        values: dict[str, Any] = {}
        for source in self.sources:
            value = source.value(variables)
            if value is MISSING_REQUIRED:
                raise Bail(f"{source.name} is required")
            if value is not Undefined:
                values[source.name] = value
        return values

    def keywords(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The resolver's keyword arguments out of graphql-core's values."""
        return {
            python_name: values[name] if convert is None else convert(values[name])
            for name, python_name, convert in self.converters
            if name in values
        }


def compile_arguments(
    schema: Schema, field: GraphQLField, node: FieldNode, strawberry_field: Any, *, convert: bool
) -> Arguments | None:
    """The arguments of a field of a document; None where it gets none.

    Args:
        schema: whose names and scalars to use.
        field: graphql-core's definition.
        node: the first of the field's nodes.
        strawberry_field: Strawberry's definition.
        convert: whether the resolver gets Strawberry's values (else graphql-core's).

    Raises:
        Bail: graphql-core has to say what is wrong.
    """
    sources = tuple(argument_sources(field, node))
    if not sources:
        return None
    if not convert:
        return Arguments(sources, tuple((source.name, source.name, None) for source in sources))
    arguments: list[StrawberryArgument] = strawberry_field.arguments
    from_argument = schema.config.name_converter.from_argument
    return Arguments(
        sources,
        tuple(
            (from_argument(argument), argument.python_name, converter(schema, argument.type))
            for argument in arguments
        ),
    )
