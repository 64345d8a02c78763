"""Errors as clients see them: a code from a fixed list, details in camelCase, nothing internal."""

import enum
import logging
import math
import re
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from graphql import GraphQLError, GraphQLSyntaxError
from graphql.execution import values as core_values
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError

logger = logging.getLogger(__name__)

MAX_MESSAGE_CHARACTERS = 1_000
MAX_LOGGED_PER_RESULT = 5
_MAX_DETAIL_NESTING = 4
_MAX_JSON_INTEGER = 2**53 - 1
_STRAWBERRY_REFUSALS = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)
_SUGGESTION = re.compile(r"\s*Did you mean\b.*\Z", re.DOTALL)


class ClientError(GraphQLError):
    """An error ready to be sent: it carries no cause, no traceback and no document nodes."""


class InternalErrorLog(Protocol):
    """Receives each unexpected exception once, before the client is told only its id."""

    def __call__(
        self, error: BaseException, *, error_id: str, path: Sequence[str | int] | None
    ) -> None:
        """Record `error`, met at response `path`, under the id shown to the client."""


def log_internal_error(
    error: BaseException, *, error_id: str, path: Sequence[str | int] | None
) -> None:
    """Log with the traceback; the default when no other log is given."""
    where = ".".join(map(str, path or ()))
    logger.error("internal error %s at %r", error_id, where, exc_info=error)


def new_error_id(_context: object) -> str:
    """A random id of 32 hexadecimal digits."""
    return uuid.uuid4().hex


def client_error(
    message: str,
    *,
    code: str,
    details: Mapping[str, Any] | None = None,
    like: GraphQLError | None = None,
) -> ClientError:
    """An error for the client, at the locations and path of `like` where given.

    `details` become members of `extensions` beside `code`, their names in camelCase.
    """
    extensions = {
        **{to_camel_case(str(name)): _plain(value) for name, value in (details or {}).items()},
        "code": code,
    }
    error = ClientError(message[:MAX_MESSAGE_CHARACTERS], extensions=extensions)
    if like is not None:
        error.locations = like.locations
        error.path = like.path
    return error


def limit_exceeded(message: str, *, name: str, value: int, maximum: int) -> ClientError:
    """A refusal that names the limit, what was asked (at least) and what is allowed."""
    bounded = min(value, _MAX_JSON_INTEGER)
    limit = {"name": name, "value": bounded, "max": maximum}
    return client_error(message, code="LIMIT_EXCEEDED", details={"limit": limit})


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRenderer:
    """Turns the errors of one result into client errors.

    An exception with `code: str` and `details: dict` is one of the application's own and is shown;
    a GraphQLError that carries a code was made for the client and is shown; errors in the request
    get INVALID; everything else becomes "Internal error" with an id, and goes to the log.
    """

    log: InternalErrorLog = log_internal_error
    error_id: Callable[[Any], str] = new_error_id
    hide_suggestions: bool = True

    def render(self, errors: Sequence[GraphQLError], context: object) -> list[ClientError]:
        """Client errors in the same order. All internal ones of a result share one id."""
        rendered: list[ClientError] = []
        internal: list[GraphQLError] = []
        error_id = ""
        for error in errors:
            shown = self._shown(error)
            if shown is None:
                error_id = error_id or self.error_id(context)
                internal.append(error)
                shown = client_error(
                    "Internal error", code="INTERNAL", details={"id": error_id}, like=error
                )
            rendered.append(shown)
        self._record(internal, error_id)
        return rendered

    def _shown(self, error: GraphQLError) -> ClientError | None:
        """The error as the client may see it, or None when it must be masked."""
        if isinstance(error, ClientError):
            return error
        cause = root_cause(error)
        code, details = getattr(cause, "code", None), getattr(cause, "details", None)
        if isinstance(code, str) and isinstance(details, Mapping):
            return client_error(str(cause), code=code, details=details, like=error)
        deliberate = (error.extensions or {}).get("code")
        if isinstance(cause, GraphQLError) and isinstance(deliberate, str):
            return client_error(
                error.message, code=deliberate, details=error.extensions, like=error
            )
        if _is_request_error(error, cause):
            message = error.message
            if self.hide_suggestions:
                message = _SUGGESTION.sub("", message)
            return client_error(message, code="INVALID", like=error)
        return None

    def _record(self, errors: Collection[GraphQLError], error_id: str) -> None:
        # One bad column in a list of a thousand rows must not write a thousand tracebacks.
        for error in list(errors)[:MAX_LOGGED_PER_RESULT]:
            self.log(root_cause(error), error_id=error_id, path=error.path)
        if len(errors) > MAX_LOGGED_PER_RESULT:
            more = len(errors) - MAX_LOGGED_PER_RESULT
            logger.error("internal error %s: %d more of the same result", error_id, more)


def root_cause(error: GraphQLError) -> BaseException:
    """The exception behind an error: the error itself when nothing stands behind it."""
    cause: BaseException = error
    seen = {id(error)}
    while isinstance(cause, GraphQLError):
        behind = cause.original_error
        if behind is None or id(behind) in seen:
            return cause
        seen.add(id(behind))
        cause = behind
    return cause


def to_camel_case(name: str) -> str:
    """`retry_after` as `retryAfter`; a name without underscores stays as it is."""
    head, *tail = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail)


def _is_request_error(error: GraphQLError, cause: BaseException) -> bool:
    """Whether the request is to blame: its syntax, a validation rule, a variable, an argument."""
    if isinstance(error, GraphQLSyntaxError) or isinstance(cause, _STRAWBERRY_REFUSALS):
        return True
    if error.path is None:
        # graphql-core points at the document when it refuses one, also when the parser of a custom
        # scalar stands behind the refusal; Strawberry wraps a stray exception without any pointer.
        return bool(error.nodes) or isinstance(cause, GraphQLError)
    # Errors met while completing a value look the same as those of an argument, but their text may
    # hold data that no client sent: only the module that raised tells them apart.
    return isinstance(cause, GraphQLError) and _raised_in(cause) == core_values.__name__


def _raised_in(error: BaseException) -> str | None:
    trace = error.__traceback__
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__")
    return module if isinstance(module, str) else None


def _plain(value: Any, nesting: int = 0) -> Any:
    """`value` made of JSON's own types only, so that sending an error can never fail."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _MAX_JSON_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if nesting < _MAX_DETAIL_NESTING:
        if isinstance(value, Mapping):
            return {str(name): _plain(item, nesting + 1) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain(item, nesting + 1) for item in value]
    return str(value)
