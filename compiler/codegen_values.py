"""Python source that completes values: leaves, lists, objects and abstract types."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from graphql import GraphQLList, GraphQLNonNull, GraphQLObjectType, get_named_type, is_leaf_type
from graphql.execution import default_type_resolver
from strawberry.schema.types.base_scalars import (
    DateDefinition,
    DateTimeDefinition,
    TimeDefinition,
)

from compiler.plan import PlanField, PlanObject
from compiler.values import (
    KINDS,
    Known,
    an_object,
    an_object_or_null,
    asks_each,
    enum_table,
    exact_test,
    leaf_serializer,
    listed,
    listed_or_null,
    untyped,
)

MAX_INLINE = 5
"""How deep objects are written into one function: Python nests only so many loops."""

# The serializers of these never answer null, so their common case is written out.
_DIRECT = {
    definition.name: (definition.serialize, definition.origin)
    for definition in (DateDefinition, DateTimeDefinition, TimeDefinition)
}


@dataclass(slots=True)
class Function:
    """A function while it is being written.

    Attributes:
        levels: numbers of the objects in it that have awaited fields.
        uses_zone: whether it has moments.
        depth: how many objects around the present place are written into it.
    """

    levels: list[int] = field(default_factory=list)
    uses_zone: bool = False
    depth: int = 0

    def around(self, body: Sequence[str]) -> list[str]:
        """The body with what the function needs before and after it."""
        lists = [f"D{number} = []; O{number} = []; P{number} = []" for number in self.levels]
        told = [
            f"if D{number}: R.begun.append((L{number}, D{number}, O{number}, P{number}))"
            for number in self.levels
        ]
        return [*(["Z = R.spelled_zone"] if self.uses_zone else []), *lists, *body, *told]


class ValueWriter(ABC):
    """Collects functions in `body` and what they refer to in `names`.

    Names in the source: see `compiler.codegen`. A value in the variable `x` has its items in
    `x_`, its list in `lx`, its place in `qx`, and the index of an item in `jx`.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {
            "T": KINDS,
            "listed": listed,
            "listed_or_null": listed_or_null,
            "an_object": an_object,
            "an_object_or_null": an_object_or_null,
            "untyped": untyped,
        }
        self.body: list[str] = []
        self._constants: dict[int, str] = {}
        self._tables: dict[tuple[str, bool], dict[Any, str | None] | None] = {}
        self._known: dict[str, Known] = {}
        self._objects: dict[int, str] = {}
        self._abstracts: dict[int, str] = {}

    @abstractmethod
    def object_lines(self, made: PlanObject, x: str, inside: Function) -> list[str]:
        """Statements that put the answer for an object in a variable into `d…` of its number."""

    def constant(self, value: Any) -> str:
        """The name of a value in the source."""
        name = self._constants.get(id(value))
        if name is None:
            name = self._constants[id(value)] = f"C{len(self._constants)}"
            self.names[name] = value
        return name

    def define(self, signature: str, lines: Sequence[str]) -> None:
        """Write a function."""
        self.body += [f"def {signature}:", *deeper(lines)]

    def info_line(self, part: PlanField, p: str) -> str:
        """The statement that makes a field's raw info, out of its parent's place."""
        return f"i{part.number} = RAW(R, {self.constant(part.facts)}, {p})"

    def completion(
        self, part: PlanField, x: str, p: str, inside: Function, *, has_info: bool = False
    ) -> list[str]:
        """Statements that complete the value of a field in a variable.

        Args:
            part: the field.
            x: the variable.
            p: the variable with the place of its parent.
            inside: the function.
            has_info: whether the field's info is there already.
        """
        assert part.definition is not None  # noqa: S101  # __typename is not completed
        assert part.facts is not None  # noqa: S101  # __typename is not completed
        lines = [self.info_line(part, p)] if part.completes_with_info and not has_info else []
        place = f"({p}, {self.constant(part.facts.step)})" if has_places(part) else "None"
        return [*lines, *self._lines(part, part.definition.type, x, place, inside)]

    def _lines(
        self, part: PlanField, type_: Any, x: str, place: str, inside: Function
    ) -> list[str]:
        """Statements that complete `x` as a type."""
        nullable = not isinstance(type_, GraphQLNonNull)
        inner = type_ if nullable else type_.of_type
        if is_leaf_type(inner):
            quick, slow = self.leaf(inner, x, inside, nullable=nullable)
            return [*quick, *deeper(slow)] if quick else slow
        if isinstance(inner, GraphQLList):
            unless, otherwise = f"type({x}) is not list", "listed"
            lines = self._list_lines(part, inner.of_type, x, place, inside)
        elif part.is_abstract:
            unless, otherwise = f"T[type({x})]", "an_object"
            lines = [f"{x} = {self._abstract_function(part)}(R, {x}, {place}, i{part.number})"]
        else:
            (made,) = part.objects.values()
            asks = asks_each(made.type.is_type_of)
            unless, otherwise = f"T[type({x})]", "an_object"
            if not asks:
                known = self.constant(self._known_of(made.type))
                unless, otherwise = f"type({x}) not in {known}", f"{known}.judge"
            if asks or inside.depth >= MAX_INLINE:
                info = f"i{part.number}" if asks else "None"
                lines = [f"{x} = {self._object_function(made)}(R, {x}, {place}, {info})"]
            else:
                lines = self._inline(made, x, place, inside)
        if not nullable:
            return [f"if {unless}: {x} = {otherwise}({x})", *lines]
        check = f"if {x} is not None and {unless}: {x} = {otherwise}_or_null({x})"
        return [check, f"if {x} is not None:", *deeper(lines)]

    # Leaves

    def leaf(
        self, leaf: Any, x: str, inside: Function, *, nullable: bool
    ) -> tuple[list[str], list[str]]:
        """Statements that complete a leaf: what finds the usual values, then the block for others.

        The first are empty where nothing is usual.
        """
        serialize = f"{x} = {self._serializer(leaf, nullable=nullable)}({x})"
        unless_null = f"{x} is not None and " if nullable else ""
        test = exact_test(leaf)
        if test is not None:
            return [f"if {unless_null}not ({test.format(x=x)}):"], [serialize]
        table = self._table(leaf, nullable=nullable)
        if table is not None:
            found = f"{x} = {self.constant(table)}[{x}]"
            return ["try:", f"    {found}", "except KeyError:"], [serialize]
        coerce, origin = _DIRECT.get(leaf.name, (None, None))
        if coerce is None or leaf.coerce_output_value is not coerce:
            return [], [serialize]
        is_moment = origin is datetime
        inside.uses_zone |= is_moment
        spell = f"{x} = {x}.isoformat()"
        return [
            f"if type({x}) is {self.constant(origin)}:",
            f"    if {x}.tzinfo is not Z: {spell}" if is_moment else f"    {spell}",
            f"elif {x} is not None:" if nullable else "else:",
        ], [serialize]

    def _table(self, leaf: Any, *, nullable: bool) -> dict[Any, str | None] | None:
        key = (leaf.name, nullable)
        if key not in self._tables:
            table = enum_table(leaf)
            self._tables[key] = {**table, None: None} if table and nullable else table
        return self._tables[key]

    def _serializer(self, leaf: Any, *, nullable: bool) -> str:
        name = f"s{int(nullable)}_{leaf.name}"
        if name not in self.names:
            self.names[name] = leaf_serializer(leaf, nullable=nullable)
        return name

    # Lists and objects

    def _list_lines(
        self, part: PlanField, type_: Any, x: str, place: str, inside: Function
    ) -> list[str]:
        item = f"{x}_"
        begin, item_place = [f"for {item} in {x}:"], "None"
        if has_places(part):
            begin = [f"q{x} = {place}", f"for j{x}, {item} in enumerate({x}):"]
            item_place = f"(q{x}, j{x})"
        body = [*self._lines(part, type_, item, item_place, inside), f"l{x}.append({item})"]
        return [f"l{x} = []", *begin, *deeper(body), f"{x} = l{x}"]

    def _inline(self, made: PlanObject, x: str, place: str, inside: Function) -> list[str]:
        inside.depth += 1
        lines = self.object_lines(made, x, inside)
        inside.depth -= 1
        placed = [f"p{made.number} = {place}"] if made.needs_place else []
        return [*placed, *lines, f"{x} = d{made.number}"]

    def _object_function(self, made: PlanObject) -> str:
        """Define the function that completes an object that is none of the exceptional kinds."""
        name = self._objects.get(made.number)
        if name is None:
            name = self._objects[made.number] = f"f{made.number}"
            inside = Function()
            body = [*self._type_check(made), *self.object_lines(made, "o", inside)]
            lines = [*inside.around(body), f"return d{made.number}"]
            self.define(f"{name}(R, o, p{made.number}, i)", lines)
        return name

    def _type_check(self, made: PlanObject) -> list[str]:
        test = made.type.is_type_of
        if not asks_each(test):
            known = self.constant(self._known_of(made.type))
            return [f"if type(o) not in {known}: {known}.judge(o)"]
        return [
            f"k = {self.constant(test)}(o, i)",
            f"if k is not True: untyped(k, {made.type.name!r})",
        ]

    def _known_of(self, type_: GraphQLObjectType) -> Known:
        known = self._known.get(type_.name)
        if known is None:
            known = self._known[type_.name] = Known(type_.name, type_.is_type_of)
        return known

    def _abstract_function(self, part: PlanField) -> str:
        """Define the function that finds an object's type and completes it as that."""
        name = self._abstracts.get(part.number)
        if name is not None:
            return name
        assert part.definition is not None  # noqa: S101  # __typename is not completed
        name = self._abstracts[part.number] = f"t{part.number}"
        abstract: Any = get_named_type(part.definition.type)
        resolve = self.constant(abstract.resolve_type or default_type_resolver)
        functions = ", ".join(
            f"{made.type.name!r}: {self._object_function(made)}" for made in part.objects.values()
        )
        lines = [
            f"k = {resolve}(o, i, {self.constant(abstract)})",
            f"f = {{{functions}}}.get(k) if type(k) is str else None",
            f"if f is None: untyped(k, {abstract.name!r})",
            "return f(R, o, p, i)",
        ]
        self.define(f"{name}(R, o, p, i)", lines)
        return name


def deeper(lines: Sequence[str]) -> list[str]:
    """The lines as a block."""
    return ["    " + line for line in lines]


def has_places(part: PlanField) -> bool:
    """Whether the objects of a field have to know their place."""
    return any(made.needs_place for made in part.objects.values())
