"""Every way into the schema: documents that walk all its fields, and all places for a value."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
    is_object_type,
)

from tests.support.schema_documents import (
    core_schema,
    document,
    leaves,
    operation,
    root_field,
    selection,
)
from tests.support.tenants import Tenant

ENTRIES = {
    "Workspace": ("Query.workspace", "workspace"),
    "Task": ("Query.task", "task"),
    "Run": ("Query.run", "run finished"),
    "Story": ("Query.story", "story"),
    "Sprint": ("Query.sprint", "sprint"),
    "Agent": ("Query.agent", "agent"),
    "User": ("Query.user", "user viewer"),
    "Webhook": ("Query.webhook", "webhook"),
    "Viewer": ("Query.viewer", None),
}
"""Where the walk begins: a root field, and which of the tenant's own things it shows."""


@dataclass(frozen=True)
class Visit:
    """A document with the variables that lead to a tenant's own things."""

    name: str
    document: str
    variables: dict[str, Any]


def visits(tenant: Tenant, *, depth: int = 2) -> Iterator[Visit]:
    """From every kind of thing on every path, this many objects below its own objects and lists."""
    for type_name, (root, kind) in ENTRIES.items():
        type_ = core_schema().type_map[type_name]
        assert isinstance(type_, GraphQLObjectType)
        variables = {} if kind is None else {"id": tenant.ids[kind]}
        yield Visit(type_name, operation(root, f"{{ __typename {leaves(type_)} }}"), variables)
        for name, field in type_.fields.items():
            inner = get_named_type(field.type)
            if is_leaf_type(inner):
                continue
            page = "(first: 20)" if "first" in field.args else ""
            # A list is an envelope more; without one, the third step makes documents too long.
            deep = depth if inner.name.endswith("Connection") else min(depth, 2)
            chosen = f"{{ {name}{page} {selection(inner, deep)} }}"
            yield Visit(f"{type_name}.{name}", operation(root, chosen), variables)


def node_visits(tenant: Tenant) -> Iterator[Visit]:
    """Every id of the tenant through ``node``."""
    for kind, identifier in tenant.ids.items():
        yield Visit(f"node {kind}", document("Query.node", 0), {"id": identifier})


@dataclass(frozen=True)
class Door:
    """A field that takes arguments, reached as a tenant: root fields and those of own objects."""

    name: str
    document: str
    variables: dict[str, Any]
    field: GraphQLField


def doors(tenant: Tenant) -> Iterator[Door]:
    """Fields with arguments below the roots, each behind the tenant's own thing."""
    for type_name, (root, kind) in ENTRIES.items():
        type_ = core_schema().type_map[type_name]
        assert isinstance(type_, GraphQLObjectType)
        for name, field in type_.fields.items():
            if field.args:
                yield _door(tenant, root, kind, f"{type_name}.{name}", field)


def _door(tenant: Tenant, root: str, kind: str | None, name: str, field: GraphQLField) -> Door:
    type_name, _, root_name = root.partition(".")
    declared = [f"${argument}: {given.type}" for argument, given in field.args.items()]
    given = ", ".join(f"{argument}: ${argument}" for argument in field.args)
    at = ""
    if kind is not None:
        at = f'(id: "{tenant.ids[kind]}")'
    chosen = selection(get_named_type(field.type), 1)
    below = f"{name.partition('.')[2]}({given}) {chosen}"
    text = f"{type_name.lower()} ({', '.join(declared)}) {{ {root_name}{at} {{ {below} }} }}"
    return Door(name, text, {}, field)


def root_door(call: str, variables: dict[str, Any]) -> Door:
    """A root field with the variables of one of its calls."""
    name = call.partition(":")[0]
    return Door(call, document(name), variables, root_field(name))


def readable_coordinates() -> set[str]:
    """``Type.field`` of everything below Query, without what only mutations return."""
    found: set[str] = set()
    waiting = [core_schema().query_type]
    seen = set()
    while waiting:
        type_ = waiting.pop()
        if type_ is None or type_.name in seen:
            continue
        seen.add(type_.name)
        for name, field in type_.fields.items():
            found.add(f"{type_.name}.{name}")
            inner = get_named_type(field.type)
            if is_object_type(inner):
                waiting.append(inner)
    return found
