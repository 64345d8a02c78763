"""JSON Schemas that clients bring: what they allow, and that none of them takes long."""

import time
from typing import Any

import pytest

from resolvers.json_schema import violation

COMMON: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$id": "https://example.org/tree",
    "definitions": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z]+$"},
                "children": {"type": "array", "items": {"$ref": "#/definitions/node"}},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/definitions/node",
}


def doubling(levels: int) -> dict[str, Any]:
    """A schema of a few lines that asks for 2 ** levels checks of the same value."""
    steps = {"a0": {"type": "object"}} | {
        f"a{level}": {"allOf": [{"$ref": f"#/$defs/a{level - 1}"}] * 2}
        for level in range(1, levels + 1)
    }
    return {"$defs": steps, "$ref": f"#/$defs/a{levels}"}


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else {}


def test_what_a_schema_allows() -> None:
    tree = {"name": "a", "children": [{"name": "b"}, {"name": "c", "children": []}]}
    assert violation(tree, COMMON) is None
    assert violation({"name": "A"}, COMMON) is not None
    assert violation({"name": "a", "x": 1}, COMMON) is not None
    assert violation({}, doubling(5)) is None
    many = [{"id": number, "tags": ["a", "b"]} for number in range(2_000)]
    items = {"properties": {"id": {"type": "integer"}, "tags": {"items": {"enum": ["a", "b"]}}}}
    assert violation(many, {"type": "array", "items": items}) is None


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param(doubling(60), {}, id="doubling"),
        pytest.param({"$ref": "#"}, {}, id="itself"),
        pytest.param(
            {"properties": {"a": {"allOf": [{"$ref": "#"}] * 3}}}, nested(100), id="with the value"
        ),
        pytest.param({"pattern": "[01]*1[01]{20000}x"}, "01" * 30_000, id="large pattern"),
        pytest.param(
            {"allOf": [{"pattern": f"[01]*1[01]{{200}}{n}x"} for n in range(50)]},
            "01" * 30_000,
            id="many patterns",
        ),
        pytest.param(
            {"items": {"enum": list(range(9_000))}}, list(range(9_000)), id="many choices"
        ),
        pytest.param({"$ref": "file:///etc/passwd"}, {}, id="a file"),
        pytest.param({"$ref": "http://127.0.0.1:9/"}, {}, id="another machine"),
        pytest.param({"$ref": "#anchor", "$anchor": "anchor"}, {}, id="an anchor"),
        pytest.param({"$dynamicRef": "#x", "$dynamicAnchor": "x"}, {}, id="dynamic"),
    ],
)
def test_a_costly_schema_is_refused_at_once(schema: dict[str, Any], value: Any) -> None:
    began = time.process_time()
    assert violation(value, schema) is not None
    assert time.process_time() - began < 2
