"""The ways an operation refuses. Each front renders them in its own body and status."""

from typing import Any

from models.errors import DatabaseUnavailableError


def camel_case(name: str) -> str:
    """A column's name as GraphQL shows it."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


class OperationError(Exception):
    """A refusal with a code a client can act on.

    ``code`` is one of UNAUTHENTICATED FORBIDDEN NOT_FOUND INVALID CONFLICT ILLEGAL_TRANSITION
    LIMIT_EXCEEDED RATE_LIMITED COST_EXCEEDED UNAVAILABLE INTERNAL; ``details`` holds facts under
    snake_case names, such as ``field``, ``allowed_from``, ``limit``, ``retry_after`` (seconds).
    """

    code = "INTERNAL"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class UnauthenticatedError(OperationError):
    """No credential, or one that is unknown, expired or revoked."""

    code = "UNAUTHENTICATED"


class ForbiddenError(OperationError):
    """The thing is visible, but the role or the key does not allow this."""

    code = "FORBIDDEN"


class NotFoundError(OperationError):
    """There is no such thing, or it belongs to somebody else.

    It says nothing but the kind, so that both look alike wherever it is raised.
    """

    code = "NOT_FOUND"

    def __init__(self, kind: str) -> None:
        super().__init__(f"{kind} not found", kind=kind)


class InvalidError(OperationError):
    """An argument that cannot be accepted; ``field`` names it.

    Its name is the GraphQL one, also in the message: a column's name is given as camelCase.
    """

    code = "INVALID"

    def __init__(self, message: str, *, field: str, **details: Any) -> None:
        shown = camel_case(field)
        super().__init__(message.replace(field, shown), field=shown, **details)


class ConflictError(OperationError):
    """Well-formed, but the present state of things forbids it."""

    code = "CONFLICT"


class IllegalTransitionError(OperationError):
    """The lifecycle does not allow this operation from the current status."""

    code = "ILLEGAL_TRANSITION"

    def __init__(self, operation: str, status: str, allowed_from: list[str]) -> None:
        expected = " or ".join(allowed_from) or "no status"
        super().__init__(
            f"Cannot {operation} from {status}; expected {expected}",
            operation=operation,
            status=status,
            allowed_from=allowed_from,
        )


class LimitExceededError(OperationError):
    """A size or a number is beyond its limit."""

    code = "LIMIT_EXCEEDED"


class RateLimitedError(OperationError):
    """Too often; ``retry_after`` seconds."""

    code = "RATE_LIMITED"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, retry_after=retry_after)


class UnavailableError(OperationError):
    """Something needed is busy, full or missing; try again after ``retry_after`` seconds."""

    code = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after: int | None = 1, **details: Any) -> None:
        if retry_after is not None:
            details["retry_after"] = retry_after
        super().__init__(message, **details)


def as_refusal(error: Exception) -> OperationError | None:
    """An error that any statement may raise, as a refusal; None where it is no such thing."""
    if isinstance(error, OperationError):
        return error
    if isinstance(error, DatabaseUnavailableError):
        return UnavailableError(str(error), **error.details)
    return None
