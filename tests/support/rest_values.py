"""Places for values in the requests of an OpenAPI document, and hostile values for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tests.support.rest import METHODS

RAW_VALUES = (
    "null", "true", "0", "-1", "1.5", "1e999", "-1e999", "NaN", "Infinity", "9223372036854775808",
    "1" + "0" * 400, '""', '" "', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"x\\r\\ny: z"',
    '"../../etc/passwd"', '"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"',
    '"😀ж\\u202e\\u0085\\u2028"', '"' + "x" * 3_000 + '"', "[]", "{}", "[null]", '[{"a": []}]',
    '{"\\u0000": 1}', '{"\\ud800": "\\ud800"}', '{"$ref": "file:///etc/passwd"}',
    '{"a": "\\u0000"}', "[" * 60 + "]" * 60, "[" * 400 + "]" * 400, '{"a":' * 60 + "1" + "}" * 60,
    '"00000000-0000-0000-0000-000000000000"',
)  # fmt: skip
"""JSON, or nearly: values as they stand in a body."""
RAW_BODIES = (
    b"", b" ", b"null", b"[]", b"1", b'"x"', b"{", b"}", b"{]", b'{"a":1,"a":2}', b"\xff\xfe{}",
    b"\xef\xbb\xbf{}", b"\x00", b"{}\x00", b"{} {}", b'{"\\ud800":1}', b"NaN", b"[1e999]",
    b"[" * 5_000, b'{"a":' * 5_000, b"[" * 2_000 + b"]" * 2_000, b'{"a":"\xed\xa0\x80"}',
    b"--x\r\n", b"a=1&b=2", b'{"a":' + b"9" * 5_000 + b"}",
)  # fmt: skip
"""Whole bodies."""
SEGMENTS = (
    "%00", "%2F", "%2e%2e", "..", ".", "%", "%zz", "%ff", "%ED%A0%80", "a%0d%0ab", "-1", "0",
    "99999999999", "9" * 400, "@current", "null", "None", "%F0%9F%98%80", "x" * 2_000, "%20", "٣",
    "ffffffff-ffff-ffff-ffff-ffffffffffff", "FFFFFFFF-FFFF-4FFF-8FFF-FFFFFFFFFFFF", "'--", "%25s",
)  # fmt: skip
"""Segments of paths, as they are sent."""
QUERY_VALUES = (
    "", "%00", "%ff", "-1", "0", "1.5", "1e999", "NaN", "9" * 400, "9223372036854775808", "٣",
    "%2B", "null", "true", "x" * 3_000, "%F0%9F%98%80", "%ED%A0%80", "a,b,,",
    "0001-01-01T00:00:00%2B23:59",
    "9999-12-31T23:59:59-23:59", "2026-01-01", "%25", "_", "'--", "%5B%5D", "00000000", "*",
)  # fmt: skip
QUERIES = ("&&&", "=", "?", "%", "a" * 5_000, "a=1&" * 101, "limit=1&limit=2", ";", "%00=%00")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a document."""

    name: str
    method: str
    path: str
    query: tuple[str, ...]
    body: Mapping[str, Any] | None
    """The schema of its JSON body."""
    components: Mapping[str, Any]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names in its path."""
        parts = (part.partition("}")[0] for part in self.path.split("{")[1:])
        return tuple(parts)


def operations_of(document: Mapping[str, Any]) -> list[Operation]:
    """All operations of an OpenAPI document."""
    found = []
    for path, item in document["paths"].items():
        for method in sorted(METHODS & item.keys()):
            told = item[method]
            body = told.get("requestBody", {}).get("content", {}).get("application/json", {})
            names = [p["name"] for p in told.get("parameters", ()) if p["in"] == "query"]
            found.append(
                Operation(
                    told["operationId"],
                    method.upper(),
                    path,
                    tuple(names),
                    body.get("schema"),
                    document["components"]["schemas"],
                )
            )
    return found


def example(operation: Operation, schema: Mapping[str, Any] | None = None) -> Any:
    """A value that a schema allows, with all its members."""
    given = _resolved(operation, operation.body if schema is None else schema)
    if "enum" in given:
        return given["enum"][0]
    if "const" in given:
        return given["const"]
    match given.get("type"):
        case "object":
            members = given.get("properties", {})
            return {name: example(operation, inner) for name, inner in members.items()}
        case "array":
            return [example(operation, given.get("items", {}))]
        case "integer" | "number":
            return given.get("minimum", 1)
        case "boolean":
            return False
        case "null":
            return None
    if given.get("format") == "uuid":
        return "00000000-0000-4000-8000-000000000000"
    return "text"


def _resolved(operation: Operation, schema: Mapping[str, Any] | None) -> Mapping[str, Any]:
    given: Mapping[str, Any] = schema or {}
    if "$ref" in given:
        name = given["$ref"].rpartition("/")[2]
        return _resolved(operation, operation.components[name])
    for word in ("anyOf", "oneOf", "allOf"):
        if word in given:
            return _resolved(operation, given[word][0])
    return given


Place = tuple[str | int, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every member and item of a value, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*at, name)
            yield from places(inner, (*at, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield (*at, index)
            yield from places(inner, (*at, index))


_MARK = "\u2603 here \u2603"


def with_raw(value: Any, place: Place, raw: str, *, alone: bool = False) -> bytes:
    """JSON of a value with a text in one place, as it stands; ``alone`` leaves out its siblings."""
    marked = _replaced(value, place, alone=alone)
    return orjson.dumps(marked).replace(orjson.dumps(_MARK), raw.encode("utf-8", "surrogatepass"))


def _replaced(value: Any, place: Sequence[str | int], *, alone: bool) -> Any:
    if not place:
        return _MARK
    first, *rest = place
    changed = _replaced(value[first], rest, alone=alone)
    if isinstance(value, dict):
        return {first: changed} if alone else {**value, first: changed}
    return [changed if index == first else item for index, item in enumerate(value)]
