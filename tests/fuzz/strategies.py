"""Values of the schema's input types: mostly right ones, some at the edge, some beyond."""

from datetime import UTC, datetime, timedelta
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    get_named_type,
    is_enum_type,
    is_input_object_type,
)
from hypothesis import strategies as st

INT_MAX = 2**31 - 1

BAD_TEXTS = (
    "", " ", "\x00", "nul\x00inside", "\x1b[31mred", "two\nlines", "\u202eright to left", "\ufffe",
    "x" * 100_001, "😀" * 600, "../../etc/passwd", "/etc/../etc/passwd", "-rf", "--upload-pack=x",
    "a..b", "refs/heads/x.lock", "' OR 1=1 --", "%_\\", "{{7*7}}", "${jndi:x}", "null", "1e999",
    "EARLIEST", "bm90IGEgY3Vyc29y", "W10", "WzEsMl0", "W251bGwsbnVsbF0",
    "A" * 44, "____________________________________________",
)  # fmt: skip
BAD_IDS = (
    "", "\x00", "x" * 10_000, "1", "site", "00000000-0000-0000-0000-000000000000",
    "AAAAAAAA-AAAA-4AAA-8AAA-AAAAAAAAAAAA", "urn:uuid:6f1c1e0e-0000-4000-8000-000000000000",
    "../../x", "' OR 1=1 --", "💥", 0, -1, INT_MAX,
)  # fmt: skip
BAD_INTS = (-(2**31), -1, 0, 1, 101, 1001, 10**6 + 1, INT_MAX)
BAD_FLOATS = (-1.0, -0.0, 1e308, 5e-324, 100.0001)
MOMENTS = (
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00", "2026-01-01T00:00:00",
    "1969-12-31T23:59:59Z", "2024-02-29T12:00:00+05:45", "2026-01-01",
)  # fmt: skip
BAD_MOMENTS = (*MOMENTS, "2026-02-30T00:00:00Z", "yesterday", "", "1e999", "\x00", 0, 1e308, [])
BAD_JSON: tuple[Any, ...] = (
    None, True, 0, 1e308, "text", [], {}, [[]], {"a": "\x00"}, {"a\x00b": 1}, {"a": 2**63},
    {"a": -(2**63)}, {"n": [1] * 101}, ["x"] * 101, {"deep": None}, {"long": "x" * 70_000},
    {"": ""}, {"__proto__": {}}, [{"x": float(2**70)}],
)  # fmt: skip
BAD: dict[str, tuple[Any, ...]] = {
    "String": (*BAD_TEXTS, 5, True, ["a", "b"], {"a": 1}),
    "ID": (*BAD_IDS, 1.5, True, ["a", "b"], {}),
    "Int": (*BAD_INTS, 2**31, 2**63, 1.5, 1e308, "1", True, [1, 2]),
    "Float": (*BAD_FLOATS, "1", True),
    "Boolean": (0, "true", [], {}),
    "DateTime": BAD_MOMENTS,
    "JSON": BAD_JSON,
}
"""By scalar, what clients must be told something precise about (or may even be given)."""

_FIRST = datetime.fromisoformat("1900-01-02")
_LAST = datetime.fromisoformat("2200-01-01")

_words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=6,
)
_moments = st.datetimes(min_value=_FIRST, max_value=_LAST, timezones=st.just(UTC)).map(
    datetime.isoformat
)


def _scalars(ids: list[str], words: list[str]) -> dict[str, st.SearchStrategy[Any]]:
    known, now = st.sampled_from(ids), datetime.now(UTC)
    near = st.integers(-50, 50).map(lambda days: (now + timedelta(days=days)).isoformat())
    return {
        "ID": known | known | known | st.uuids().map(str) | st.sampled_from(BAD_IDS),
        "String": st.sampled_from(words) | _words | _words | st.sampled_from(BAD_TEXTS),
        "Int": st.integers(0, 12) | st.integers(-(2**31), INT_MAX) | st.sampled_from(BAD_INTS),
        "Float": st.floats(0, 100) | st.sampled_from(BAD_FLOATS),
        "Boolean": st.booleans(),
        "DateTime": near | _moments | st.sampled_from(MOMENTS),
        "JSON": _json | st.lists(_json, max_size=3) | st.sampled_from(BAD_JSON),
    }


def arguments(
    field: GraphQLField, *, ids: list[str], words: list[str]
) -> st.SearchStrategy[dict[str, Any]]:
    """Variables for the arguments of a field; required ones are always there.

    Args:
        field: a root field.
        ids: ids of things there are.
        words: texts that occur in them.
    """
    scalars = _scalars(ids, words)
    return _objects({name: given.type for name, given in field.args.items()}, scalars)


def _objects(
    members: dict[str, GraphQLInputType], scalars: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    required, optional = {}, {}
    for name, type_ in members.items():
        wanted = required if isinstance(type_, GraphQLNonNull) else optional
        wanted[name] = _values(type_, scalars)
    return st.fixed_dictionaries(required, optional=optional)


def _values(
    type_: GraphQLInputType, scalars: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    if isinstance(type_, GraphQLNonNull):
        return _present(type_.of_type, scalars)
    return st.none() | _present(type_, scalars)


def _present(
    type_: GraphQLInputType, scalars: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    if isinstance(type_, GraphQLList):
        return st.lists(_values(type_.of_type, scalars), max_size=4)
    named = get_named_type(type_)
    if is_input_object_type(named):
        return _objects({name: field.type for name, field in named.fields.items()}, scalars)
    if is_enum_type(named):
        return st.sampled_from(list(named.values))
    return scalars[named.name]
