"""Random documents for any schema, driven by its types; most of them are valid."""

import random
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    GraphQLSchema,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    is_interface_type,
    is_object_type,
)

FEATURES = (
    "union",
    "interface",
    "named fragment",
    "inline fragment",
    "variable directive",
    "input object",
    "input object variable",
    "alias",
    "alias merge",
    "list variable",
    "enum variable",
    "default of a variable",
    "nested connection",
    "custom scalar",
    "mutation",
    "__typename",
)


ABSENT: Any = object()
"""No value, which is not null."""


@dataclass
class Document:
    """A request: a text with the variables to send, and what stands in it."""

    text: str
    variables: dict[str, Any]
    features: set[str] = field(default_factory=set)


def _is_one_of(type_: GraphQLInputObjectType) -> bool:
    definition: Any = type_.extensions.get("strawberry-definition")
    return type_.is_one_of or bool(definition is not None and definition.is_one_of)


class DocumentWriter:
    """Writes one random document.

    Args:
        schema: whose types and fields to use.
        rng: decides everything.
        texts: values for ids and texts that mean something to the data.
    """

    def __init__(self, schema: GraphQLSchema, rng: random.Random, texts: list[str]) -> None:
        self.schema = schema
        self.rng = rng
        self.texts = texts
        self.features: set[str] = set()
        self.definitions: list[str] = []
        self.variables: dict[str, Any] = {}
        self.fragments: list[str] = []
        self.aliases = 0
        self.written: dict[tuple[str, str], str] = {}
        self.budget = rng.choice([15, 30, 60])

    def write(self) -> Document:
        is_mutation = self.chance(0.15)
        root = self.schema.mutation_type if is_mutation else self.schema.query_type
        assert root is not None
        if is_mutation:
            self.features.add("mutation")
        selection = self.selection(root, self.rng.choice([3, 4, 5, 6, 7]), is_root=True)
        kind = "mutation" if is_mutation else "query"
        definitions = f"({', '.join(self.definitions)})" if self.definitions else ""
        text = f"{kind} Fuzz{definitions} {selection}\n" + "\n".join(self.fragments)
        if self.chance(0.02):
            self.spoil()
        return Document(text, self.variables, self.features)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def spoil(self) -> None:
        """Send a variable that is wrong, null, missing, or of an unusual form."""
        if self.variables:
            name = self.rng.choice(sorted(self.variables))
            wrong: list[Any] = [None, "x", 2**40, [1], {"a": 1}, True, 1.5]
            if self.chance(0.2):
                del self.variables[name]
            else:
                self.variables[name] = self.rng.choice(wrong)

    # Selections

    def selection(self, type_: Any, depth: int, *, is_root: bool = False) -> str:
        parts: list[str] = []
        fields = getattr(type_, "fields", {})
        count = self.rng.randint(1, 2) if is_root else self.rng.randint(1, 4)
        for name in self.pick(fields, count, depth):
            parts.extend(self.field(type_.name, name, fields[name], depth))
        if is_abstract_type(type_):
            kind = "interface" if is_interface_type(type_) else "union"
            self.features.add(kind)
            possible = self.schema.get_possible_types(type_)
            parts.extend(self.inline(one, depth) for one in possible if self.chance(0.6))
        elif self.chance(0.12) and not is_root:
            parts.append(self.inline(type_, depth))
        if self.chance(0.12):
            parts.append(self.spread(type_, depth))
        if not parts or self.chance(0.15):
            self.features.add("__typename")
            parts.insert(0, "__typename")
        if not is_root:
            self.rng.shuffle(parts)
        return "{ " + " ".join(parts) + " }"

    def pick(self, fields: dict[str, GraphQLField], count: int, depth: int) -> list[str]:
        names = []
        for name, definition in fields.items():
            named = get_named_type(definition.type)
            if not is_composite_type(named):
                names.append(name)
            elif depth > 1 and self.budget > 0:
                weight = 4 if named.name.endswith("Connection") or name in {"nodes", "edges"} else 2
                names.extend([name] * weight)
        return [self.rng.choice(names) for _ in range(count)] if names else []

    def field(self, parent: str, name: str, definition: GraphQLField, depth: int) -> list[str]:
        self.budget -= 1
        named = get_named_type(definition.type)
        is_composite = is_composite_type(named)
        if isinstance(named, GraphQLScalarType) and named.name in {"Money", "JSON", "DateTime"}:
            self.features.add("custom scalar")
        if name == "nodes" and parent.endswith("Connection") and depth <= 4:
            self.features.add("nested connection")
        alias = self.alias(parent, name)
        if alias:
            self.features.add("alias")
            arguments = self.arguments(parent, name, definition)
        else:
            # Without an alias, all selections of a field must agree on its arguments.
            key = (name, ",".join(sorted(definition.args)))
            if key not in self.written:
                self.written[key] = self.arguments(parent, name, definition)
            arguments = self.written[key]
        head = f"{alias}{name}{arguments}"
        if not is_composite:
            return [head + self.directives()]
        lines = [f"{head}{self.directives()} {self.selection(named, depth - 1)}"]
        if self.chance(0.15):
            self.features.add("alias merge")
            lines.append(f"{head} {self.selection(named, depth - 1)}")
        return lines

    def alias(self, _parent: str, _name: str) -> str:
        """A new alias with its colon, for some fields; "" for the others."""
        if not self.chance(0.2):
            return ""
        self.aliases += 1
        return f"a{self.aliases}: "

    def inline(self, type_: Any, depth: int) -> str:
        self.features.add("inline fragment")
        condition = f" on {type_.name}" if is_abstract_type(type_) or self.chance(0.9) else ""
        if is_object_type(type_):
            condition = f" on {type_.name}"
        return f"...{condition}{self.directives()} {self.selection(type_, max(depth - 1, 1))}"

    def spread(self, type_: Any, depth: int) -> str:
        self.features.add("named fragment")
        name = f"F{len(self.fragments)}"
        self.fragments.append("")
        index = len(self.fragments) - 1
        target = type_
        if is_object_type(type_) and type_.interfaces and self.chance(0.3):
            target = self.rng.choice(type_.interfaces)
        body = self.selection(target, max(depth - 1, 1))
        self.fragments[index] = f"fragment {name} on {target.name} {body}"
        again = f" ...{name}" if self.chance(0.2) else ""
        return f"...{name}{self.directives()}{again}"

    def directives(self) -> str:
        if not self.chance(0.08):
            return ""
        kind = self.rng.choice(["skip", "include"])
        if self.chance(0.25):
            return f" @{kind}(if: {self.rng.choice(['true', 'false'])})"
        self.features.add("variable directive")
        name = f"flag{self.rng.randint(0, 2)}"
        if not any(one.startswith(f"${name}:") for one in self.definitions):
            default = " = false" if self.chance(0.3) else ""
            self.definitions.append(f"${name}: Boolean{'' if default else '!'}{default}")
            if not default or self.chance(0.5):
                self.variables[name] = self.chance(0.5)
        return f" @{kind}(if: ${name})"

    # Arguments

    def arguments(self, _parent: str, _name: str, definition: GraphQLField) -> str:
        """What a field of a type is given, in parentheses; "" for nothing."""
        parts = []
        for argument_name, argument in definition.args.items():
            required = isinstance(argument.type, GraphQLNonNull) and (
                argument.default_value is None or argument.default is None
            )
            has_default = argument.default is not None
            if (required and not has_default) or self.chance(0.4):
                parts.append(f"{argument_name}: {self.argument(argument.type)}")
        return f"({', '.join(parts)})" if parts else ""

    def argument(self, type_: Any) -> str:
        named = get_named_type(type_)
        if isinstance(named, GraphQLInputObjectType):
            self.features.add("input object")
        if self.chance(0.5):
            return self.literal(type_)
        return self.variable(type_)

    def variable(self, type_: Any, given: Any = ABSENT) -> str:
        """A new variable with this value, or with a random one or none."""
        name = f"v{len(self.definitions)}"
        named = get_named_type(type_)
        nullable = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
        if isinstance(nullable, GraphQLList):
            self.features.add("list variable")
        if isinstance(named, GraphQLEnumType):
            self.features.add("enum variable")
        if isinstance(named, GraphQLInputObjectType):
            self.features.add("input object variable")
        default = ""
        if given is ABSENT and self.chance(0.25):
            self.features.add("default of a variable")
            default = f" = {self.literal(nullable, constant=True, nulls=False)}"
            self.definitions.append(f"${name}: {nullable}{default}")
        else:
            self.definitions.append(f"${name}: {type_}")
        is_required = isinstance(type_, GraphQLNonNull) and not default
        if given is not ABSENT:
            self.variables[name] = given
        elif is_required or self.chance(0.85):
            needed = GraphQLNonNull(nullable) if isinstance(type_, GraphQLNonNull) else type_
            self.variables[name] = self.value(needed)
        return f"${name}"

    def text(self) -> str:
        return self.rng.choice([*self.texts, "", "é\\u0041"])

    def scalar(self, name: str) -> Any:
        rng = self.rng
        if name == "Int":
            return rng.choice([0, 1, 2, 3, 5, -1, 2**31 - 1])
        if name == "Float":
            return rng.choice([0, 1.5, -2.25, 3, 1e10])
        if name == "Boolean":
            return rng.random() < 0.5
        if name == "ID":
            return rng.choice([*self.texts, 5, "nothing"])
        if name == "DateTime":
            return "2024-02-03T04:05:06+00:00"
        if name == "Money":
            return rng.randint(0, 9)
        if name == "JSON":
            return rng.choice([{"k": [1, None]}, [True], "text", 3])
        return rng.choice([*self.texts, "", 'q"uote', "é"])

    def value(self, type_: Any, depth: int = 0) -> Any:
        """A value to send as a variable."""
        if isinstance(type_, GraphQLNonNull):
            return self.value_of(type_.of_type, depth)
        return None if self.chance(0.12) else self.value_of(type_, depth)

    def value_of(self, type_: Any, depth: int) -> Any:
        if isinstance(type_, GraphQLList):
            return [self.value(type_.of_type, depth) for _ in range(self.rng.randint(0, 3))]
        if isinstance(type_, GraphQLEnumType):
            return self.rng.choice(list(type_.values))
        if isinstance(type_, GraphQLInputObjectType):
            return {
                name: self.value_of(one.type, depth + 1)
                if _is_one_of(type_)
                else self.value(one.type, depth + 1)
                for name, one in self.inputs(type_, depth)
            }
        return self.scalar(type_.name)

    def inputs(self, type_: GraphQLInputObjectType, depth: int) -> list[tuple[str, Any]]:
        if _is_one_of(type_):
            return [self.rng.choice(list(type_.fields.items()))]
        return [
            (name, one)
            for name, one in type_.fields.items()
            if self.chance(0.4 if depth < 2 else 0.0)
            or (isinstance(one.type, GraphQLNonNull) and one.default is None)
        ]

    def literal(
        self, type_: Any, depth: int = 0, *, constant: bool = False, nulls: bool = True
    ) -> str:
        """A value written into the document, sometimes with a variable in it."""
        if isinstance(type_, GraphQLNonNull):
            return self.literal_of(type_.of_type, depth, constant=constant)
        if nulls and self.chance(0.12):
            return "null"
        return self.literal_of(type_, depth, constant=constant)

    def literal_of(self, type_: Any, depth: int, *, constant: bool) -> str:
        if depth and not constant and self.chance(0.15) and not self._is_open(type_):
            return self.variable(GraphQLNonNull(type_))
        if isinstance(type_, GraphQLList):
            items = [
                self.literal(type_.of_type, depth + 1, constant=constant)
                for _ in range(self.rng.randint(0, 3))
            ]
            return f"[{', '.join(items)}]"
        if isinstance(type_, GraphQLEnumType):
            return self.rng.choice(list(type_.values))
        if isinstance(type_, GraphQLInputObjectType):
            write = self.literal_of if _is_one_of(type_) else self.literal
            entries = [
                f"{name}: {write(one.type, depth + 1, constant=constant)}"
                for name, one in self.inputs(type_, depth)
            ]
            return "{" + ", ".join(entries) + "}"
        return self._printed(self.scalar(type_.name))

    @staticmethod
    def _is_open(type_: Any) -> bool:
        return get_named_type(type_).name == "JSON"

    def _printed(self, value: Any) -> str:
        if value is None:
            return "null"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        if isinstance(value, list):
            return f"[{', '.join(map(self._printed, value))}]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k}: {self._printed(v)}" for k, v in value.items()) + "}"
        return repr(value)
