"""Refusals that come before an operation: each language renders them like an operation's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from resolvers.errors import OperationError


class Kind(StrEnum):
    """What is wrong with a request as such."""

    NO_ROUTE = "NO_ROUTE"
    METHOD = "METHOD"
    MEDIA_TYPE = "MEDIA_TYPE"
    MALFORMED = "MALFORMED"
    TOO_LARGE = "TOO_LARGE"
    TOO_SLOW = "TOO_SLOW"
    FOREIGN_ORIGIN = "FOREIGN_ORIGIN"
    INTERNAL = "INTERNAL"


CODES = {
    Kind.NO_ROUTE: "NOT_FOUND",
    Kind.TOO_LARGE: "LIMIT_EXCEEDED",
    Kind.FOREIGN_ORIGIN: "FORBIDDEN",
    Kind.INTERNAL: "INTERNAL",
}


class Refusal(OperationError):  # noqa: N818  # named like what it is everywhere here
    """A request that no operation sees. ``code`` is the nearest one of an operation's."""

    def __init__(self, kind: Kind, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.kind = kind
        self.code = CODES.get(kind, "INVALID")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a body or a query.

    ``path`` leads to it (names and list indices; empty for the whole), ``kind`` is pydantic's word
    (``missing``, ``string_too_long`` …), ``facts`` are its numbers and words (``max_length`` …).
    """

    path: tuple[str | int, ...]
    kind: str
    message: str
    facts: dict[str, Any] = field(default_factory=dict)
    given: Any = None


class BadShape(OperationError):  # noqa: N818  # as above
    """A body or query that does not have the documented shape; in the order of its fields."""

    code = "INVALID"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("The request does not have the documented shape")
        self.problems = problems
