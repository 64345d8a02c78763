"""Refusals in PostHog's words: one flat object, and only the first problem.

The shapes are those of Django REST Framework under drf-exceptions-hog: ``type code detail attr``.
A few refusals of task actions have bodies of their own; see :class:`ActionRefused`.
"""

import re
from collections.abc import Mapping
from typing import Any

from models.enums import Permission
from resolvers.errors import OperationError
from rest_compat.answers import Answer, json_answer
from rest_compat.refusals import BadShape, Kind, Problem, Refusal


class ActionRefused(OperationError):  # noqa: N818  # named like what it is
    """A refusal whose body is not the usual object."""

    code = "INVALID"

    def __init__(self, body: Mapping[str, Any], status: int = 400) -> None:
        super().__init__(str(body))
        self.body = dict(body)
        self.status = status


_REFUSALS: dict[Kind, tuple[int, str, str]] = {
    Kind.NO_ROUTE: (404, "invalid_request", "not_found"),
    Kind.METHOD: (405, "invalid_request", "method_not_allowed"),
    Kind.MEDIA_TYPE: (415, "invalid_request", "unsupported_media_type"),
    Kind.MALFORMED: (400, "invalid_request", "parse_error"),
    Kind.TOO_LARGE: (413, "invalid_request", "request_too_large"),
    Kind.TOO_SLOW: (408, "invalid_request", "request_timeout"),
    Kind.FOREIGN_ORIGIN: (403, "authentication_error", "permission_denied"),
    Kind.INTERNAL: (500, "server_error", "error"),
}
_SENTENCES = {Kind.NO_ROUTE: "Not found.", Kind.INTERNAL: "A server error occurred."}
_PYDANTIC = {
    "missing": ("required", "This field is required."),
    "model_type": ("invalid_input", "Invalid data. Expected a dictionary."),
    "model_attributes_type": ("invalid_input", "Invalid data. Expected a dictionary."),
    "dict_type": ("invalid_input", "Invalid data. Expected a dictionary."),
}
_SCOPES = {Permission.READ: "task:read"}


def render(error: OperationError) -> Answer:
    """The answer for a refusal."""
    if isinstance(error, ActionRefused):
        return json_answer(error.body, error.status)
    if isinstance(error, BadShape):
        return _bad_shape(error.problems[0])
    if isinstance(error, Refusal):
        status, type_, code = _REFUSALS[error.kind]
        return _flat(status, type_, code, _SENTENCES.get(error.kind, error.message))
    return _by_code(error)


def _by_code(error: OperationError) -> Answer:
    match error.code:
        case "UNAUTHENTICATED":
            code = "not_authenticated" if error.details.get("missing") else "authentication_failed"
            return _flat(401, "authentication_error", code, error.message)
        case "FORBIDDEN":
            return _flat(403, *_forbidden(error))
        case "NOT_FOUND":
            return _flat(404, "invalid_request", "not_found", _missing(error))
        case "CONFLICT" | "ILLEGAL_TRANSITION":
            return _flat(409, "invalid_request", "conflict", error.message)
        case "RATE_LIMITED":
            wait = error.details.get("retry_after", 1)
            unit = "second" if wait == 1 else "seconds"
            detail = f"Request was throttled. Expected available in {wait} {unit}."
            return _flat(429, "throttled_error", "throttled", detail)
        case "LIMIT_EXCEEDED":
            body = {
                "type": "rate_limited",
                "code": "usage_limit_exceeded",
                "error": error.message,
                "is_pro": False,
            }
            return json_answer(body, 429)
        case "UNAVAILABLE":
            return _flat(503, "server_error", "unavailable", error.message)
    return _flat(400, "validation_error", "invalid_input", error.message, _attr(error))


def _forbidden(error: OperationError) -> tuple[str, str, str]:
    if error.details.get("missing") == "scope":
        scope = _SCOPES.get(Permission(error.details["permission"]), "task:write")
        detail = f"API key missing required scope '{scope}'"
        return "authentication_error", "permission_denied", detail
    if error.details.get("missing") == "role":
        detail = "You do not have permission to perform this action."
        return "authentication_error", "permission_denied", detail
    return "permission_denied", "permission_denied", error.message


def _missing(error: OperationError) -> str:
    kind = error.details.get("kind")
    special = {"Workspace": "Project not found.", "Push token": error.message}
    return special.get(str(kind), "Not found.")


def _attr(error: OperationError) -> str | None:
    """The field an operation names, in this API's spelling."""
    field = error.details.get("field")
    return None if field is None else re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", str(field)).lower()


def _bad_shape(problem: Problem) -> Answer:
    code, detail = _PYDANTIC.get(problem.kind, (problem.kind, problem.message))
    attr = "__".join(str(part) for part in problem.path) or None
    return _flat(400, "validation_error", code, detail, attr)


def _flat(status: int, type_: str, code: str, detail: str, attr: str | None = None) -> Answer:
    return json_answer({"type": type_, "code": code, "detail": detail, "attr": attr}, status)
