"""Changing JSON objects part by part."""

from collections.abc import Mapping
from typing import Any

from resolvers import validation as check


def merged(
    current: Mapping[str, Any], changes: Any, *, field: str, maximum_bytes: int
) -> dict[str, Any]:
    """An object with changes merged in at every depth; a key whose new value is null is removed.

    Raises:
        InvalidError: ``changes`` is no JSON object, or the result is too large.
    """
    checked = check.json_object(changes, field=field, maximum_bytes=maximum_bytes)
    return check.json_object(_merge(current, checked), field=field, maximum_bytes=maximum_bytes)


def _merge(current: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(current)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = _merge(before if isinstance(before, dict) else {}, value)
        else:
            result[key] = value
    return result
