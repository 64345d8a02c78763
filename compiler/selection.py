"""Look-ahead: what a document asks for below a field, as a constant."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphql import (
    FieldNode,
    GraphQLAbstractType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    get_named_type,
    is_abstract_type,
    is_object_type,
)
from graphql.execution.collect_fields import (
    FieldDetails,
    FragmentDetails,
    collect_subfields,
)
from graphql.execution.values import VariableValues

MAX_REMEMBERED = 1_024


class Selection:
    """The fields requested below a field, by their Python names, with what is below those.

    Immutable and hashable: a key for a cache of statements. Aliases of one field are merged. Where
    a field may be of several types, the fields of all of them are merged, and `of_type` has those
    of one.
    """

    __slots__ = ("_fields", "_hash", "_types")

    def __init__(
        self,
        fields: Mapping[str, "Selection"] | None = None,
        *,
        types: Mapping[str, "Selection"] | None = None,
    ) -> None:
        self._fields = dict(fields or {})
        self._types = dict(types or {})
        self._hash = hash((frozenset(self._fields.items()), frozenset(self._types.items())))

    @property
    def names(self) -> frozenset[str]:
        """The Python names of the requested fields."""
        return frozenset(self._fields)

    def below(self, *path: str) -> "Selection":
        """What is requested below a field, or along a path of fields; empty where nothing is."""
        found = self
        for name in path:
            found = found._fields.get(name, NOTHING)
        return found

    def of_type(self, name: str) -> "Selection":
        """The part for values of one GraphQL type, where the field may be of several."""
        return self._types.get(name, NOTHING) if self._types else self

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Selection):
            return NotImplemented
        return self is other or (
            self._hash == other._hash
            and self._fields == other._fields
            and self._types == other._types
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        inside = ", ".join(
            f"{name}{below!r}" if below else name for name, below in sorted(self._fields.items())
        )
        return "{" + inside + "}"


NOTHING = Selection()


@lru_cache(MAX_REMEMBERED)
def shared(selection: Selection) -> Selection:
    """The first of several equal ones: caches find it without looking into it."""
    return selection


def merge(selections: "list[Selection]") -> Selection:
    """One selection that asks for everything that any of them asks for."""
    if len(selections) == 1:
        return selections[0]
    fields: dict[str, list[Selection]] = {}
    types: dict[str, list[Selection]] = {}
    for selection in selections:
        for name, below in selection._fields.items():
            fields.setdefault(name, []).append(below)
        for name, below in selection._types.items():  # noqa: SLF001  # of the same class
            types.setdefault(name, []).append(below)
    return Selection(
        {name: merge(below) for name, below in fields.items()},
        types={name: merge(below) for name, below in types.items()},
    )


def python_name(parent: GraphQLObjectType, field_name: str) -> str | None:
    """The Python name of a field; None for fields that are not the application's."""
    field = parent.fields.get(field_name)
    if field is None:
        return None
    definition = field.extensions.get("strawberry-definition")
    name = getattr(definition, "python_name", None)
    return name if isinstance(name, str) else field_name


def selection_of(info: Any) -> Selection:
    """What is requested below the field whose resolver got this info.

    A constant of the plan when the document runs compiled; else computed once per document and
    values of its Boolean variables, and remembered.

    Args:
        info: `strawberry.Info`, or graphql-core's own.
    """
    raw = getattr(info, "_raw_info", info)
    ready = getattr(raw, "selection", None)
    if isinstance(ready, Selection):
        return ready
    return _REMEMBERED.find(raw)


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A field whose value is taken from the parent, which comes with it.

    Attributes:
        name: the field's Python name: the attribute that has the value.
        metadata: the field's own under `compiler.CARRIED`.
        type: the field's.
        selection: what is requested below it, by all its aliases.
    """

    name: str
    metadata: Any
    type: GraphQLOutputType
    selection: Selection


def carried_of(info: Any) -> tuple[Carried, ...]:
    """With which fields' values the objects have to come that a resolver returns.

    A constant of the plan when the document runs compiled; else, and where the resolver's field
    does not declare `compiler.CARRIES`, there are none.

    Args:
        info: `strawberry.Info`, or graphql-core's own.
    """
    raw = getattr(info, "_raw_info", info)
    carried: tuple[Carried, ...] = getattr(raw, "carried", ())
    return carried


class _Remembered:
    """The least recently used selections of the fallback path."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Any, tuple[list[FieldNode], Any, Selection]] = OrderedDict()

    def find(self, raw: Any) -> Selection:
        values = getattr(raw.variable_values, "coerced", raw.variable_values)
        flags = tuple(item for item in sorted(values.items()) if type(item[1]) is bool)
        nodes: list[FieldNode] = raw.field_nodes
        # By identity: nodes compare by content, which costs more than the selection itself. The
        # entry keeps its nodes alive, so that an identity is never given to another node.
        key = (id(raw.operation), *map(id, nodes), flags, id(raw.schema))
        entry = self._entries.get(key)
        if entry is None:
            selection = shared(_compute(raw, nodes, VariableValues({}, values)))
            self._entries[key] = (nodes, (raw.operation, raw.schema), selection)
            if len(self._entries) > MAX_REMEMBERED:
                self._entries.popitem(last=False)
            return selection
        self._entries.move_to_end(key)
        return entry[2]


_REMEMBERED = _Remembered()


def _compute(raw: Any, nodes: list[FieldNode], values: VariableValues) -> Selection:
    fragments = {name: FragmentDetails(node) for name, node in raw.fragments.items()}
    schema: GraphQLSchema = raw.schema

    def of_types(return_type: Any, details: list[FieldDetails]) -> Selection:
        named = get_named_type(return_type)
        parts: dict[str, Selection] = {}
        for possible in possible_types(schema, named):
            collected = collect_subfields(
                schema, fragments, values, raw.operation, possible, details
            )
            parts[possible.name] = of_fields(possible, collected.grouped_field_set)
        return combine(parts, abstract=is_abstract_type(named))

    def of_fields(parent: GraphQLObjectType, groups: Mapping[str, list[FieldDetails]]) -> Selection:
        below: dict[str, list[Selection]] = {}
        for details in groups.values():
            field_name = details[0].node.name.value
            name = python_name(parent, field_name)
            if name is not None:
                inner = of_types(parent.fields[field_name].type, details)
                below.setdefault(name, []).append(inner)
        return Selection({name: merge(inner) for name, inner in below.items()})

    return of_types(raw.return_type, [FieldDetails(node, None) for node in nodes])


def combine(parts: Mapping[str, Selection], *, abstract: bool) -> Selection:
    """The selection of a field out of those of the types its value may have."""
    if not parts:
        return NOTHING
    merged = merge(list(parts.values()))
    if not abstract:
        return merged
    fields = {name: merged.below(name) for name in merged}
    return Selection(fields, types=parts)


def possible_types(
    schema: GraphQLSchema, named: GraphQLObjectType | GraphQLAbstractType | Any
) -> list[GraphQLObjectType]:
    """The object types that a value of a type may have; none for leaf types."""
    if is_object_type(named):
        return [named]
    return list(schema.get_possible_types(named)) if is_abstract_type(named) else []
