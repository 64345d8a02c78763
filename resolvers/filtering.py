"""Parts of filters that lists share: bounded values, and search in texts."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import InvalidError

SEARCH_LENGTH = 500


def bounded(ctx: Context, name: str, values: Collection[Any]) -> list[Any]:
    """The values of a filter, if there are not too many and each can be compared.

    Raises:
        InvalidError: more than 100, or a text no database takes.
    """
    maximum = ctx.limits.list_items
    if len(values) > maximum:
        raise InvalidError(
            f"At most {maximum} values may be given for {name}", field=name, limit=maximum
        )
    return [
        check.text(v, field=name, maximum=ctx.limits.short_text) if isinstance(v, str) else v
        for v in values
    ]


def comparable(value: Any, name: str) -> Any:
    """A filter's value as the database compares it; moments have a time zone.

    Raises:
        InvalidError: a moment that cannot be stored.
    """
    return check.moment(value, field=name) if isinstance(value, datetime) else value


def text_search(
    words: str, *texts: sa.ColumnElement[Any], number: sa.ColumnElement[int]
) -> sa.ColumnElement[bool]:
    """SQL: one of the texts contains the words, or the number is the one they spell (``#12``).

    Raises:
        InvalidError: more than 500 characters.
    """
    found = text_contains(words, *texts)
    named = number_in(words)
    return found if named is None else sa.or_(found, number == named)


def number_in(words: str) -> int | None:
    """The number that words such as ``#12`` or ``12`` spell, or None."""
    digits = words.removeprefix("#")
    if digits.isdecimal() and digits.isascii() and len(digits) <= 9:  # noqa: PLR2004  # fits an integer
        return int(digits)
    return None


def text_contains(words: str, *texts: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """SQL: one of the texts contains the words, in any case.

    Both spellings are compared where that matters: SQLite folds the case of ASCII letters only.

    Raises:
        InvalidError: more than 500 characters.
    """
    text = check.text(words, field="search", maximum=SEARCH_LENGTH)
    as_given, folded = (f"%{escape_like(spelling)}%" for spelling in (text, text.lower()))
    found = [sa.func.lower(column).like(folded, escape="\\") for column in texts]
    if not text.isascii():
        found += [column.like(as_given, escape="\\") for column in texts]
    return sa.or_(*found)


def escape_like(text: str) -> str:
    """The text as a part of a LIKE pattern whose escape is a backslash."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
