"""All places where a client puts a value: arguments and the fields of input objects below them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    get_named_type,
    is_input_object_type,
    is_scalar_type,
)


@dataclass(frozen=True)
class Slot:
    """A place in the arguments of a field where a client puts a value.

    ``path`` leads to it through input objects; ``type_name`` is its scalar.
    """

    path: tuple[str, ...]
    type_name: str
    is_list: bool

    def put(self, variables: dict[str, Any], value: Any) -> dict[str, Any]:
        """The variables with a value here; the rest stays."""
        return _put(variables, self.path, [value] if self.is_list else value)

    def put_many(self, variables: dict[str, Any], values: list[Any]) -> dict[str, Any]:
        """The same with a whole list."""
        return _put(variables, self.path, values)

    def __str__(self) -> str:
        return ".".join(self.path)


def _put(variables: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    head, *rest = path
    if not rest:
        return {**variables, head: value}
    inner = variables.get(head)
    if rest[0] == "*":  # a list of input objects: one object
        first = inner[0] if inner else {}
        return {**variables, head: [_put(first, tuple(rest[1:]), value)]}
    return {**variables, head: _put(inner or {}, tuple(rest), value)}


def slots(field: GraphQLField) -> Iterator[Slot]:
    """All places in the arguments of a field."""
    for name, argument in field.args.items():
        yield from _slots((name,), argument.type)


def _slots(path: tuple[str, ...], type_: GraphQLInputType) -> Iterator[Slot]:
    inner = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
    is_list = isinstance(inner, GraphQLList)
    named = get_named_type(type_)
    if is_input_object_type(named):
        below = (*path, "*") if is_list else path
        for name, member in named.fields.items():
            yield from _slots((*below, name), member.type)
    elif is_scalar_type(named):
        yield Slot(path, named.name, is_list)
