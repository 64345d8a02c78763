"""Python source that completes values: leaves, lists, objects and abstract types."""

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

from graphql import GraphQLList, GraphQLNonNull, get_named_type, is_leaf_type
from graphql.execution import default_type_resolver
from strawberry.schema.types.base_scalars import (
    DateDefinition,
    DateTimeDefinition,
    TimeDefinition,
)

from compiler.plan import PlanField, PlanObject
from compiler.values import (
    KINDS,
    asks_each,
    enum_table,
    exact_test,
    leaf_serializer,
    listed,
    listed_or_null,
    not_plain,
    not_plain_or_null,
    untyped,
)

# The serializers of these never answer null, so their common case is written out.
_DIRECT = {
    definition.name: (definition.serialize, definition.origin)
    for definition in (DateDefinition, DateTimeDefinition, TimeDefinition)
}


class ValueWriter(ABC):
    """Collects functions in `body` and what they refer to in `names`.

    Names in the source: see `compiler.codegen`; `q` is the place of a value itself, `i` the info
    of its field.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {
            "T": KINDS,
            "INF": float("inf"),
            "listed": listed,
            "listed_or_null": listed_or_null,
            "not_plain": not_plain,
            "not_plain_or_null": not_plain_or_null,
            "untyped": untyped,
        }
        self.body: list[str] = []
        self._constants: dict[int, str] = {}
        self._tables: dict[str, dict[Any, str] | None] = {}
        self._objects: dict[int, str] = {}
        self._abstracts: dict[int, str] = {}
        self._lists: dict[tuple[int, int], str] = {}

    @abstractmethod
    def object_function(self, made: PlanObject, *, uniform: bool) -> str:
        """Define the function of an object; its name.

        It takes the object, then its place (where anything below needs it) and the info of its
        field (where the type is checked with one); all three where `uniform`.
        """

    def constant(self, value: Any) -> str:
        """The name of a value in the source."""
        name = self._constants.get(id(value))
        if name is None:
            name = self._constants[id(value)] = f"C{len(self._constants)}"
            self.names[name] = value
        return name

    def define(self, signature: str, lines: list[str]) -> None:
        """Begin a function."""
        self.body.append(f"def {signature}:")
        self.indent(lines)

    def indent(self, lines: list[str]) -> None:
        """Go on with the function that was begun last."""
        self.body.extend("    " + line for line in lines)

    def info_line(self, part: PlanField) -> str:
        """The statement that makes a field's raw info, out of its parent's place."""
        return f"i{part.number} = RAW(R, {self.constant(part.facts)}, p)"

    def completion(self, part: PlanField, x: str, *, has_info: bool = False) -> list[str]:
        """Statements that complete the value in a variable.

        For leaves with an exact test the first statement is that test, the rest its block.
        """
        assert part.definition is not None  # noqa: S101  # __typename is not completed
        assert part.facts is not None  # noqa: S101  # __typename is not completed
        type_: Any = part.definition.type
        nullable = not isinstance(type_, GraphQLNonNull)
        inner = type_ if nullable else type_.of_type
        if is_leaf_type(inner):
            return self._leaf_lines(inner, x, nullable=nullable)
        lines = [self.info_line(part)] if part.completes_with_info and not has_info else []
        place = f"(p, {self.constant(part.facts.step)})" if _places(part) else "None"
        return [*lines, f"{x} = {self._expression(part, type_, x, place, f'i{part.number}')}"]

    # Leaves

    def _leaf_lines(self, leaf: Any, x: str, *, nullable: bool) -> list[str]:
        test = exact_test(leaf)
        if test is None:
            return [f"{x} = {self._leaf_expression(leaf, x, nullable=nullable)}"]
        or_null = f" and {x} is not None" if nullable else ""
        serialize = self._serializer(leaf, nullable=nullable)
        return [f"if not ({test.format(x=x)}){or_null}:", f"    {x} = {serialize}({x})"]

    def _leaf_expression(self, leaf: Any, x: str, *, nullable: bool) -> str:
        serialized = f"{self._serializer(leaf, nullable=nullable)}({x})"
        test = exact_test(leaf)
        if test is not None:
            or_null = f" or {x} is None" if nullable else ""
            return f"{x} if {test.format(x=x)}{or_null} else {serialized}"
        table = self._table(leaf)
        if table is not None:
            found = f"{self.constant(table)}.get({x}) or {serialized}"
            return f"None if {x} is None else {found}" if nullable else found
        coerce, origin = _DIRECT.get(leaf.name, (None, None))
        if coerce is not None and leaf.coerce_output_value is coerce:
            test = f"type({x}) is {self.constant(origin)}"
            text = f"{x}.isoformat()"
            if origin is datetime:
                text = f"({x} if {x}.tzinfo is Z else {text})"
            return f"{text} if {test} else {serialized}"
        return serialized

    def _table(self, leaf: Any) -> dict[Any, str] | None:
        if leaf.name not in self._tables:
            self._tables[leaf.name] = enum_table(leaf)
        return self._tables[leaf.name]

    def _serializer(self, leaf: Any, *, nullable: bool) -> str:
        name = f"s{int(nullable)}_{leaf.name}"
        if name not in self.names:
            self.names[name] = leaf_serializer(leaf, nullable=nullable)
        return name

    # Lists and objects

    def _expression(self, part: PlanField, type_: Any, x: str, place: str, info: str) -> str:
        """An expression that completes `x` as a type."""
        nullable = not isinstance(type_, GraphQLNonNull)
        inner = type_ if nullable else type_.of_type
        if isinstance(inner, GraphQLList):
            name = self._list_function(part, inner, nullable=nullable)
            return f"{name}({x}, {place}, {info if part.completes_with_info else 'None'})"
        if is_leaf_type(inner):
            return self._leaf_expression(inner, x, nullable=nullable)
        function, arguments = self._object_call(part, place, info)
        otherwise = "not_plain_or_null" if nullable else "not_plain"
        rest = "".join(f", {argument}" for argument in arguments)
        return f"{function}({x}{rest}) if not T[type({x})] else {otherwise}({x}, {function}{rest})"

    def _list_function(self, part: PlanField, type_: Any, *, nullable: bool) -> str:
        depth = str(type_.of_type).count("[")
        name = self._lists.get((part.number, depth))
        if name is not None:
            return name
        name = self._lists[part.number, depth] = f"l{part.number}_{depth}"
        has_places = _places(part)
        item = self._expression(part, type_.of_type, "y", "(q, j)" if has_places else "None", "i")
        items = "for j, y in enumerate(x)" if has_places else "for y in x"
        lines = ["if type(x) is not list:", "    x = listed(x)"]
        if nullable:
            lines[1] = "    x = listed_or_null(x)"
            lines.append("    if x is None: return None")
        self.define(f"{name}(x, q, i)", [*lines, f"return [{item} {items}]"])
        return name

    def _object_call(self, part: PlanField, place: str, info: str) -> tuple[str, list[str]]:
        """The function that completes one object, and its arguments after the value."""
        if part.is_abstract:
            return self._abstract_function(part), [place, info]
        (made,) = part.objects.values()
        arguments = [place] if made.needs_place else []
        if asks_each(made.type.is_type_of):
            arguments.append(info)
        return self._object_name(made, uniform=False), arguments

    def _object_name(self, made: PlanObject, *, uniform: bool) -> str:
        name = self._objects.get(made.number)
        if name is None:
            name = self._objects[made.number] = self.object_function(made, uniform=uniform)
        return name

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
            f"{made.type.name!r}: {self._object_name(made, uniform=True)}"
            for made in part.objects.values()
        )
        lines = [
            f"k = {resolve}(x, i, {self.constant(abstract)})",
            f"f = {{{functions}}}.get(k) if type(k) is str else None",
            f"if f is None: untyped(k, {abstract.name!r})",
            "return f(x, q, i)",
        ]
        self.define(f"{name}(x, q, i)", lines)
        return name


def _places(part: PlanField) -> bool:
    """Whether the objects of a field have to know their place."""
    return any(made.needs_place for made in part.objects.values())
