"""Variables coerced by functions made once per document.

Only values of exactly the expected classes are accepted. For anything else `Unusual` is raised and
the reference executor answers, so that error texts are graphql-core's own.
"""

from collections.abc import Callable, Mapping
from typing import Any

from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLFloat,
    GraphQLID,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
    OperationDefinitionNode,
    Undefined,
)
from graphql.execution.get_variable_signature import get_variable_signature
from graphql.execution.values import input_is_nested_too_deeply
from graphql.type import GraphQLInputField, is_required_input_field
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_literal

from compiler.values import Bail

Coercer = Callable[[Any], Any]

MAX_INT = 2**31 - 1
MIN_INT = -(2**31)
MAX_EXACT_FLOAT = 2**53


class Unusual(Bail):
    """A value that graphql-core has to judge."""


def variables_coercer(
    schema: GraphQLSchema, operation: OperationDefinitionNode
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The function that coerces the variables of an operation.

    It raises Unusual where a value has to be judged by graphql-core.

    Raises:
        Unusual: the operation's own definitions have to be.
    """
    steps: list[tuple[str, Coercer, Callable[[], Any] | None, bool]] = []
    for definition in operation.variable_definitions or ():
        signature = get_variable_signature(schema, definition)
        if not isinstance(signature, tuple):
            raise Unusual("a variable of no input type")
        default = None
        if signature.default is not None:
            default = _default(signature.default.literal, signature.type)
        required = isinstance(signature.type, GraphQLNonNull)
        steps.append((signature.name, coercer(signature.type), default, required))

    def coerce(given: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, coerce_one, default, required in steps:
            value = given.get(name, Undefined)
            if value is not Undefined:
                values[name] = coerce_one(value)
            elif default is not None:
                values[name] = default()
            elif required:
                raise Unusual(f"${name} is missing")
        return values

    return coerce


def _default(literal: Any, type_: GraphQLInputType) -> Callable[[], Any]:
    """Each execution gets its own default, because a resolver may change it."""

    def make() -> Any:
        return coerce_input_literal(literal, type_)

    if make() is Undefined:
        raise Unusual("an invalid default value")
    return make


def coercer(type_: GraphQLInputType) -> Coercer:
    """The function that coerces values of one input type; it raises Unusual (see the module)."""
    builder = _Builder()
    coerce = builder.of(type_)
    if not builder.has_recursion:
        return coerce

    def coerce_bounded(value: Any) -> Any:
        if input_is_nested_too_deeply(value, type_):
            raise Unusual("nested too deep")
        return coerce(value)

    return coerce_bounded


class _Builder:
    """Makes the coercers of one type and of all types inside it."""

    def __init__(self) -> None:
        self.has_recursion = False
        self._objects: dict[GraphQLInputObjectType, list[Coercer]] = {}

    def of(self, type_: GraphQLInputType) -> Coercer:
        """The coercer of a type that may allow null."""
        if isinstance(type_, GraphQLNonNull):
            return self._nullable(type_.of_type)
        inner = self._nullable(type_)
        return lambda value: None if value is None else inner(value)

    def _nullable(self, type_: Any) -> Coercer:
        """The function for a type without its null: it refuses null."""
        if isinstance(type_, GraphQLList):
            return _list(self.of(type_.of_type))
        if isinstance(type_, GraphQLInputObjectType):
            return self._input_object(type_)
        if isinstance(type_, GraphQLEnumType):
            return _enum(type_)
        return _BUILT_IN.get(type_) or _scalar(type_)

    def _input_object(self, type_: GraphQLInputObjectType) -> Coercer:
        made = self._objects.get(type_)
        if made is None:
            made = self._objects[type_] = []
            fields = [self._field(name, field) for name, field in type_.fields.items()]
            made.append(_input_object(type_, fields))
            return made[0]
        if made:
            return made[0]
        self.has_recursion = True
        return _Later(made)

    def _field(self, name: str, field: GraphQLInputField) -> "_InputField":
        required = is_required_input_field(field)
        default = Undefined if required else coerce_default_value(field)
        return name, field.out_name or name, self.of(field.type), default, required


class _Later:
    """The coercer of an input object inside itself, which is made when it is used."""

    def __init__(self, made: list[Coercer]) -> None:
        self._made = made

    def __call__(self, value: Any) -> Any:
        return self._made[0](value)


_InputField = tuple[str, str, Coercer, Any, bool]


def _list(item: Coercer) -> Coercer:
    def coerce(value: Any) -> list[Any]:
        if type(value) is not list:
            raise Unusual("not a list")
        return [item(entry) for entry in value]

    return coerce


def _string(value: Any) -> str:
    if type(value) is not str:
        raise Unusual("not a text")
    return value


def _int(value: Any) -> int:
    if type(value) is not int or not MIN_INT <= value <= MAX_INT:
        raise Unusual("not an Int")
    return value


def _id(value: Any) -> str:
    if type(value) is int:
        return str(value)
    return _string(value)


def _float(value: Any) -> float:
    if type(value) is float and -float("inf") < value < float("inf"):
        return value
    if type(value) is int and -MAX_EXACT_FLOAT <= value <= MAX_EXACT_FLOAT:
        return float(value)
    raise Unusual("not a Float")


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Unusual("not a Boolean")
    return value


_BUILT_IN: dict[Any, Coercer] = {
    GraphQLString: _string,
    GraphQLID: _id,
    GraphQLInt: _int,
    GraphQLFloat: _float,
    GraphQLBoolean: _boolean,
}


def _enum(type_: GraphQLEnumType) -> Coercer:
    table = {name: type_.coerce_input_value(name) for name in type_.values}

    def coerce(value: Any) -> Any:
        if type(value) is not str or value not in table:
            raise Unusual("not a name of the enum")
        return table[value]

    return coerce


def _scalar(type_: GraphQLScalarType) -> Coercer:
    parse = type_.coerce_input_value

    def coerce(value: Any) -> Any:
        if value is None:
            raise Unusual("null")
        try:
            parsed = parse(value)
        except Exception as error:  # an application's parser raises what it likes
            raise Unusual(f"not a {type_.name}") from error
        if parsed is Undefined:
            raise Unusual(f"not a {type_.name}")
        return parsed

    return coerce


def _input_object(type_: GraphQLInputObjectType, fields: list[_InputField]) -> Coercer:
    names = frozenset(type_.fields)
    build = type_.out_type

    def coerce(value: Any) -> Any:
        if type(value) is not dict or not names.issuperset(value):
            raise Unusual("not the input object")
        coerced: dict[str, Any] = {}
        for name, out_name, coerce_one, default, required in fields:
            entry = value.get(name, Undefined)
            if entry is not Undefined:
                coerced[out_name] = coerce_one(entry)
            elif required:
                raise Unusual(f"{name} is missing")
            elif default is not Undefined:
                coerced[out_name] = default
        if type_.is_one_of and (len(value) != 1 or None in coerced.values() or len(coerced) != 1):
            raise Unusual("not exactly one field")
        return build(coerced)

    return coerce
