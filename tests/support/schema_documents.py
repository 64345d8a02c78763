"""GraphQL documents made from the schema: every argument a variable, selections to a depth."""

from collections.abc import Collection, Iterator
from functools import cache

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_object_type,
    is_required_argument,
)

from schema.root import build_schema

PAGE = 3
"""Items asked for in nested lists."""


@cache
def core_schema() -> GraphQLSchema:
    """The schema as graphql-core sees it."""
    schema: GraphQLSchema = build_schema()._schema
    return schema


def root_names() -> list[str]:
    """All root fields, such as ``Query.task``."""
    core = core_schema()
    roots = (core.query_type, core.mutation_type, core.subscription_type)
    return [f"{root.name}.{name}" for root in roots if root is not None for name in root.fields]


def root_field(name: str) -> GraphQLField:
    """The definition of a root field, such as ``Query.task``."""
    type_name, _, field_name = name.partition(".")
    type_ = core_schema().type_map[type_name]
    assert is_object_type(type_)
    return type_.fields[field_name]


@cache
def document(name: str, depth: int = 1) -> str:
    """An operation of one root field, with a variable for each of its arguments.

    Args:
        name: such as ``Query.task``.
        depth: how many objects deep to select below the root's own object.
    """
    chosen = selection(get_named_type(root_field(name).type), depth)
    return operation(name, chosen)


def operation(name: str, chosen: str) -> str:
    """An operation of one root field with a given selection set."""
    type_name, _, field_name = name.partition(".")
    arguments = root_field(name).args
    variables = ", ".join(f"${argument}: {given.type}" for argument, given in arguments.items())
    given = ", ".join(f"{argument}: ${argument}" for argument in arguments)
    if not arguments:
        return f"{type_name.lower()} {{ {field_name} {chosen} }}"
    return f"{type_name.lower()} ({variables}) {{ {field_name}({given}) {chosen} }}"


def selection(type_: GraphQLNamedType, depth: int) -> str:
    """A selection set of all leaves of a type, and of its objects ``depth`` further down.

    Envelopes (connections, edges, payloads' entities) count as objects too. Fields that need
    arguments are left out; fields with ``first`` get a small page.
    """
    if is_leaf_type(type_):
        return ""
    if isinstance(type_, GraphQLUnionType | GraphQLInterfaceType):
        parts = [
            f"... on {member.name} {{ {' '.join(_member(type_, member, depth))} }}"
            for member in _types(type_)
        ]
        return f"{{ __typename {' '.join(parts)} }}"
    assert isinstance(type_, GraphQLObjectType)
    return f"{{ __typename {' '.join(_fields(type_, depth))} }}"


def leaves(type_: GraphQLObjectType) -> str:
    """The leaves of a type, without braces."""
    return " ".join(_fields(type_, 0))


def _fields(type_: GraphQLObjectType, depth: int) -> Iterator[str]:
    for name, field in type_.fields.items():
        if any(is_required_argument(argument) for argument in field.args.values()):
            continue
        inner = get_named_type(field.type)
        page = f"(first: {PAGE})" if "first" in field.args else ""
        if is_leaf_type(inner):
            yield f"{name}{page}"
        elif depth > 0:
            yield f"{name}{page} {selection(inner, depth - 1)}"


def _types(
    type_: GraphQLUnionType | GraphQLInterfaceType,
) -> Collection[GraphQLObjectType]:
    return core_schema().get_possible_types(type_)


def _member(
    abstract: GraphQLUnionType | GraphQLInterfaceType, member: GraphQLObjectType, depth: int
) -> Iterator[str]:
    """A member's fields; of a union those that clash with another member's have an alias."""
    for part in _fields(member, depth):
        name = part.partition("(")[0].partition(" ")[0]
        own = str(member.fields[name].type)
        others = [m.fields[name].type for m in _types(abstract) if name in m.fields]
        if all(str(other) == own for other in others):
            yield part
        elif isinstance(abstract, GraphQLUnionType):
            yield f"{member.name[0].lower()}{member.name[1:]}_{part}: {part}"
