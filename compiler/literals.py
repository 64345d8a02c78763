"""Literals of input objects with variables inside, prepared.

graphql-core goes through the nodes and the type's fields again for each request. What it would give
is the same here; what is not an object of variables, constants and such objects is left to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from graphql import (
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    ListValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
    get_nullable_type,
    is_non_null_type,
    is_required_input_field,
)
from graphql.execution.values import VariableValues
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_literal

Variables = Mapping[str, Any]
Read = Callable[[Variables], Any]
"""A value out of the coerced variables; Undefined where it is invalid."""


def literal(node: ValueNode, type_: GraphQLInputType) -> Read:
    """What reads a literal that has variables inside."""
    prepared = _prepared(node, type_)
    if prepared is not None:
        return prepared
    return lambda variables: coerce_input_literal(node, type_, VariableValues({}, dict(variables)))


def is_immutable(value: object) -> bool:
    """Whether all requests may get the same."""
    return value is None or isinstance(value, str | int | float | bool | Enum)


def _prepared(node: ValueNode, type_: GraphQLInputType) -> Read | None:
    inner = get_nullable_type(type_)
    if not isinstance(node, ObjectValueNode) or not isinstance(inner, GraphQLInputObjectType):
        return None
    nodes = {field.name.value: field.value for field in node.fields}
    if inner.is_one_of or not nodes.keys() <= inner.fields.keys():
        return None
    fixed: dict[str, Any] = {}
    steps: list[tuple[str, Read]] = []
    for name, field in inner.fields.items():
        read = _field(nodes.get(name), field)
        if read is None:
            return None
        if not isinstance(read, _Constant):
            steps.append((field.out_name or name, read))
        elif read.value is not ABSENT:
            fixed[field.out_name or name] = read.value
    return _object(inner, fixed, steps)


def _object(
    type_: GraphQLInputObjectType, fixed: dict[str, Any], steps: list[tuple[str, Read]]
) -> Read:
    def read(variables: Variables) -> Any:
        found = dict(fixed)
        for name, read_field in steps:
            value = read_field(variables)
            if value is Undefined:
                return Undefined
            if value is not ABSENT:
                found[name] = value
        return type_.out_type(found)

    return read


class _Absent:
    """Stands for a field that is not given and has no default."""


ABSENT: Any = _Absent()


@dataclass(frozen=True, slots=True)
class _Constant:
    """The value of a field that is the same for all requests."""

    value: Any


def _field(node: ValueNode | None, field: GraphQLInputField) -> Read | _Constant | None:
    is_required, non_null = is_required_input_field(field), is_non_null_type(field.type)
    default = Undefined if is_required else coerce_default_value(field)
    if default is Undefined and not is_required:
        default = ABSENT
    elif default is not Undefined and not is_immutable(default):
        return None
    if node is None:
        return (lambda _: Undefined) if default is Undefined else _Constant(default)
    if isinstance(node, VariableNode):
        name = node.name.value

        def read(variables: Variables) -> Any:
            value = variables.get(name, default)
            return Undefined if value is None and non_null else value

        return read
    if isinstance(node, ObjectValueNode):
        return _prepared(node, field.type)
    if isinstance(node, ListValueNode):
        return None
    constant = coerce_input_literal(node, field.type)
    return _Constant(constant) if is_immutable(constant) else None
