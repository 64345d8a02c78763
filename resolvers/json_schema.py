"""JSON Schema: what is wrong with a value."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

MESSAGE_LENGTH = 500
STEPS_MAX = 100_000
PATTERN_BYTES = 64 * 1024
"""How large a compiled pattern may be; the time of a match is this times the text's length."""

_HERE = ("not", "if", "then", "else")
_HERE_LISTS = ("allOf", "anyOf", "oneOf")
_HERE_NAMED = ("dependentSchemas", "dependencies")
_BELOW = (
    "items", "contains", "additionalItems", "additionalProperties", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_BELOW_LISTS = ("items", "prefixItems")
_UNCOUNTED = ("$dynamicRef", "$recursiveRef")


class _TooCostly(Exception):  # noqa: N818  # not an error, an answer
    pass


def violation(value: Any, schema: dict[str, Any]) -> str | None:
    """What is wrong with a value, in words; None when the schema allows it.

    A schema that is none allows nothing; neither does one that would be checked for too long:
    references multiply, so that a few lines can ask for years. References to other documents are
    not followed, and patterns run on an engine that does not backtrack.
    """
    import jsonschema_rs

    try:
        _count_steps(schema, value)
        jsonschema_rs.validator_for(
            schema,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES),
            offline=True,
        ).validate(value)
    except _TooCostly:
        return "The schema takes too long to check"
    except (ValueError, jsonschema_rs.ValidationError) as error:
        return str(getattr(error, "message", error))[:MESSAGE_LENGTH]
    return None


def _count_steps(schema: dict[str, Any], value: Any) -> None:
    """Walk a schema over a value, at least as far as any validator does.

    Raises:
        _TooCostly: after ``STEPS_MAX`` steps, or at a reference that is not a pointer into the
            schema itself, whose cost cannot be told.
    """
    waiting, steps = [(schema, value)], 0
    while waiting:
        node, at = waiting.pop()
        if not isinstance(node, dict):
            continue
        steps += 1 + _extra_steps(node, at)
        if steps > STEPS_MAX:
            raise _TooCostly
        waiting += ((inner, at) for inner in _schemas_here(schema, node))
        below = list(at.values()) if isinstance(at, dict) else at if isinstance(at, list) else ()
        for inner in _schemas_below(node):
            if steps + len(waiting) + len(below) > STEPS_MAX:
                raise _TooCostly
            waiting += ((inner, child) for child in below)
        for name, inner in _members(node, "properties"):
            if isinstance(at, dict) and name in at:
                waiting.append((inner, at[name]))


def _extra_steps(node: dict[str, Any], at: Any) -> int:
    alternatives = node.get("enum")
    steps = len(alternatives) if isinstance(alternatives, list) else 0
    if "pattern" in node and isinstance(at, str):
        steps += len(at)
    patterns = node.get("patternProperties")
    if isinstance(patterns, dict) and isinstance(at, dict):
        steps += len(patterns) * sum(map(len, at))
    return steps


def _schemas_here(root: dict[str, Any], node: dict[str, Any]) -> Iterator[Any]:
    """The schemas that a schema applies to the same value."""
    if any(name in node for name in _UNCOUNTED) or ("$id" in node and node is not root):
        raise _TooCostly
    if "$ref" in node:
        yield _referred(root, node["$ref"])
    for name in _HERE:
        yield node.get(name)
    for name in _HERE_LISTS:
        yield from _listed(node, name)
    for name in _HERE_NAMED:
        yield from (inner for _, inner in _members(node, name))


def _schemas_below(node: dict[str, Any]) -> Iterator[Any]:
    """The schemas that a schema may apply to any member or item; those of ``properties`` apart."""
    for name in _BELOW:
        if isinstance(node.get(name), dict):
            yield node[name]
    for name in _BELOW_LISTS:
        yield from _listed(node, name)
    yield from (inner for _, inner in _members(node, "patternProperties"))


def _listed(node: dict[str, Any], name: str) -> list[Any]:
    found = node.get(name)
    return found if isinstance(found, list) else []


def _members(node: dict[str, Any], name: str) -> list[tuple[str, Any]]:
    found = node.get(name)
    return list(found.items()) if isinstance(found, dict) else []


def _referred(root: dict[str, Any], reference: Any) -> Any:
    """What a JSON pointer into the schema leads to; None where it leads nowhere."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise _TooCostly
    found: Any = root
    for part in unquote(reference).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = found[int(name)] if name.isdecimal() and int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, dict) else None
    return found
