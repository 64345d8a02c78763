"""Checks of what comes in: each returns the accepted value or raises InvalidError."""

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self, TypeVar

import orjson

from resolvers.errors import InvalidError

E = TypeVar("E", bound=StrEnum)


class Unset:
    """The type of ``UNSET``: an argument that was not given, unlike one given as None."""

    _instance: Self | None = None

    def __new__(cls) -> Self:
        """The one instance."""
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()

_FORBIDDEN = re.compile("[\x00\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ENCODED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL as JSON spells it, unlike a backslash that somebody wrote in front of those letters."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


def text(value: str, *, field: str, maximum: int, minimum: int = 0) -> str:
    """Text of many lines, kept as it is.

    Raises:
        InvalidError: too long or short, or with a NUL or a lone surrogate, which no database keeps.
    """
    if _FORBIDDEN.search(value):
        raise InvalidError(f"{field} contains a NUL or half a surrogate pair", field=field)
    if len(value) > maximum:
        raise InvalidError(
            f"{field} has {len(value)} characters; at most {maximum} are allowed",
            field=field,
            limit=maximum,
        )
    if len(value) < minimum:
        raise InvalidError(f"{field} must not be empty", field=field)
    return value


def optional_text(value: str | None, *, field: str, maximum: int) -> str | None:
    """Like :func:`text`, with None for none."""
    return None if value is None else text(value, field=field, maximum=maximum)


def line(value: str, *, field: str, maximum: int, minimum: int = 1) -> str:
    """A single line, trimmed: a title or a name.

    Raises:
        InvalidError: empty, too long, or with control characters.
    """
    trimmed = value.strip()
    if _CONTROL.search(trimmed) or "\n" in trimmed or "\r" in trimmed:
        raise InvalidError(f"{field} must be one line without control characters", field=field)
    return text(trimmed, field=field, maximum=maximum, minimum=minimum)


def optional_line(value: str | None, *, field: str, maximum: int) -> str | None:
    """Like :func:`line`, with None (and nothing but blanks) for none."""
    if value is None or not value.strip():
        return None
    return line(value, field=field, maximum=maximum)


def lines(
    values: Sequence[str], *, field: str, maximum_items: int, maximum: int, unique: bool = True
) -> list[str]:
    """A list of short lines, in order; duplicates are dropped when ``unique``."""
    if len(values) > maximum_items:
        raise InvalidError(
            f"{field} has {len(values)} items; at most {maximum_items} are allowed",
            field=field,
            limit=maximum_items,
        )
    checked = [line(value, field=field, maximum=maximum) for value in values]
    return list(dict.fromkeys(checked)) if unique else checked


def number(value: float, *, field: str, minimum: float, maximum: float) -> float:
    """A number within bounds."""
    if not minimum <= value <= maximum:
        raise InvalidError(f"{field} must be between {minimum:g} and {maximum:g}", field=field)
    return value


def integer(value: int, *, field: str, minimum: int, maximum: int) -> int:
    """An integer within bounds."""
    return int(number(value, field=field, minimum=minimum, maximum=maximum))


def moment(value: datetime, *, field: str) -> datetime:
    """A moment in UTC; one without a time zone counts as UTC.

    Raises:
        InvalidError: its offset puts it before the year 1 or behind the year 9999.
    """
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC)
    except OverflowError:
        raise InvalidError(f"{field} is not between the years 1 and 9999", field=field) from None


def word(value: str, vocabulary: type[E], *, field: str) -> E:
    """A member of an enumeration, by its value."""
    if isinstance(value, vocabulary):
        return value
    try:
        return vocabulary(value)
    except ValueError:
        allowed = ", ".join(member.value for member in vocabulary)
        raise InvalidError(f"{field} must be one of {allowed}", field=field) from None


def one_of(value: str, allowed: Collection[str], *, field: str) -> str:
    """A value out of a few."""
    if value not in allowed:
        raise InvalidError(f"{field} must be one of {', '.join(sorted(allowed))}", field=field)
    return value


def json_value(value: Any, *, field: str, maximum_bytes: int) -> Any:
    """A JSON value of bounded size, without NULs and lone surrogates in its texts."""
    try:
        encoded = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise InvalidError(f"{field} must be a JSON value", field=field) from None
    if len(encoded) > maximum_bytes:
        raise InvalidError(
            f"{field} takes {len(encoded)} bytes; at most {maximum_bytes} are allowed",
            field=field,
            limit=maximum_bytes,
        )
    if _ENCODED_NUL.search(encoded):
        raise InvalidError(f"{field} contains a NUL", field=field)
    return value


def json_object(value: Any, *, field: str, maximum_bytes: int) -> dict[str, Any]:
    """A JSON object of bounded size."""
    if not isinstance(value, dict):
        raise InvalidError(f"{field} must be a JSON object", field=field)
    checked: dict[str, Any] = json_value(value, field=field, maximum_bytes=maximum_bytes)
    return checked


def is_id(value: str) -> bool:
    """Whether a text has the shape of our ids: a canonical lower-case UUID."""
    return _UUID.fullmatch(value) is not None


def identifier(value: str, *, field: str) -> str:
    """One of our ids.

    Raises:
        InvalidError: another shape; nothing has such an id.
    """
    if not is_id(value):
        raise InvalidError(f"{field} is not an id: it must be a lower-case UUID", field=field)
    return value
