"""What became of an execution."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from graphql import GraphQLError


class Reason(StrEnum):
    """Why the reference executor has to answer."""

    DISABLED = "disabled"
    """An extension or setting stands against compiling anything; see `obstacle`."""
    INVALID = "invalid"
    """The document cannot be parsed, or is not valid."""
    FIRST_SIGHT = "first sight"
    """Documents are compiled when they come for the second time."""
    UNSUPPORTED = "unsupported"
    """Introspection, custom directives, too large, and so on."""
    VARIABLES = "variables"
    """A variable is missing, wrong, or of an unusual form."""
    BAILED = "bailed"
    """A resolver failed, or a value needs graphql-core's judgement."""
    RESTING = "resting"
    """Too many executions of this plan have bailed lately."""


@dataclass(slots=True)
class Outcome:
    """An answer, or the reason why there is none and the reference executor has to give it.

    `errors` are those of a mutation; a query with errors is always left to the reference executor.
    """

    data: dict[str, Any] | None = None
    errors: Sequence[GraphQLError] | None = None
    fallback: Reason | None = None
    detail: str = ""

    @property
    def is_answer(self) -> bool:
        """Whether this is an answer."""
        return self.fallback is None

    def body(self) -> bytes:
        """The answer as JSON: `data`, and `errors` where there are any."""
        answer: dict[str, Any] = {"data": self.data}
        if self.errors:
            answer["errors"] = [error.formatted for error in self.errors]
        return to_json(answer)


def to_json(value: Any) -> bytes:
    """JSON in UTF-8."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # Integers beyond 64 bits and lone surrogates out of a JSON scalar: rare, not an error.
        spelled = json.dumps(value, separators=(",", ":"), default=datetime.isoformat)
        return spelled.encode()
