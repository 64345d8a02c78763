"""Prepared literals of input objects give what graphql-core gives, with whichever variables."""

from itertools import product
from typing import Any, cast

import pytest
from graphql import GraphQLInputObjectType, Undefined, build_schema, parse_value
from graphql.execution.values import VariableValues
from graphql.utilities.coerce_input_value import coerce_input_literal

from compiler.literals import _prepared, literal

SCHEMA = build_schema("""
    enum Color { RED GREEN }
    input Inner { n: Int = 7 needed: String! list: [Int!] }
    input Outer { a: Int! b: String = "b" c: Color d: Inner e: Boolean! = true inner: Inner! }
    input One @oneOf { a: Int b: Int }
    input Listed { tags: [Int] = [1] a: Int }
    type Query { f(outer: Outer, one: One, listed: Listed): Int }
""")
LITERALS = [
    ("Outer", "{a: $x, inner: {needed: $y}}", True),
    ("Outer", "{a: 1, b: $y, c: RED, e: $x, inner: {needed: $y, n: $x}}", True),
    ("Outer", "{a: $x, c: $y, d: null, inner: $y}", True),
    ("Outer", "{a: $x, d: {needed: $y, list: $x}, inner: {needed: null}}", False),
    ("Outer", "{b: $y, inner: {needed: $y}}", True),
    ("Outer", "{a: $x, unknown: 1}", False),
    ("Outer", '{a: "text", b: $y, inner: {needed: $y}}', False),
    ("Outer", "{a: $x, d: {needed: $y, list: [1, $x]}, inner: {needed: $y}}", False),
    ("One", "{a: $x}", False),
    ("Listed", "{a: $x}", False),
    ("Listed", "$x", False),
]
VALUES: list[Any] = [None, 1, "text", Undefined]


@pytest.mark.parametrize(("type_", "text", "is_prepared"), LITERALS)
def test_a_literal_has_graphql_cores_value(type_: str, text: str, *, is_prepared: bool) -> None:
    node, kind = parse_value(text), cast("GraphQLInputObjectType", SCHEMA.type_map[type_])
    assert (_prepared(node, kind) is not None) == is_prepared
    read = literal(node, kind)
    for x, y in product(VALUES, VALUES):
        given = {name: v for name, v in (("x", x), ("y", y)) if v is not Undefined}
        expected = coerce_input_literal(node, kind, VariableValues({}, given))
        assert read(given) == expected
        assert read(given) is not read(given) or expected in (None, Undefined, *VALUES)
