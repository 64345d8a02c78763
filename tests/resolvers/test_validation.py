"""Checks of what comes in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolvers import validation as check
from resolvers.errors import InvalidError


@pytest.mark.parametrize("value", [{"a": "x\x00"}, {"\x00": 1}, ["\\\x00"], {"a": ["\ud800"]}])
def test_what_no_database_keeps_is_refused(value: object) -> None:
    with pytest.raises(InvalidError):
        check.json_value(value, field="metadata", maximum_bytes=1000)


@pytest.mark.parametrize("value", [{"a": "\\u0000"}, ["\\\\u0000"], {"\\u0000": "x"}])
def test_what_only_looks_like_a_nul_is_kept(value: object) -> None:
    assert check.json_value(value, field="metadata", maximum_bytes=1000) == value


@given(st.text())
def test_a_nul_is_found_wherever_it_stands(text: str) -> None:
    has_nul, is_utf8 = "\x00" in text, not any("\ud800" <= c <= "\udfff" for c in text)
    try:
        check.json_value([text], field="f", maximum_bytes=10_000)
    except InvalidError:
        assert has_nul or not is_utf8
    else:
        assert not has_nul
        assert is_utf8
        assert json.loads(json.dumps(text)) == text


@pytest.mark.parametrize(
    "value", ["", "x", "A" * 36, "c" * 32, "00000000-0000-4000-8000-00000000000\n", "\x00" * 36]
)
def test_only_canonical_uuids_are_ids(value: str) -> None:
    with pytest.raises(InvalidError, match="lower-case UUID"):
        check.identifier(value, field="id")
