"""Viban's error bodies: ``{"error": {"code", "message", "details"}}``."""

from typing import Any

from resolvers.errors import OperationError
from rest_compat.answers import Answer, json_answer
from rest_compat.refusals import BadShape, Kind, Problem, Refusal

BY_CODE: dict[str, tuple[int, str]] = {
    "UNAUTHENTICATED": (401, "unauthorized"),
    "FORBIDDEN": (403, "forbidden"),
    "NOT_FOUND": (404, "not_found"),
    "INVALID": (422, "validation_error"),
    "ILLEGAL_TRANSITION": (422, "validation_error"),
    "LIMIT_EXCEEDED": (422, "validation_error"),
    "CONFLICT": (409, "conflict"),
    "RATE_LIMITED": (429, "rate_limited"),
    "UNAVAILABLE": (503, "internal_error"),
    "INTERNAL": (500, "internal_error"),
}
BY_KIND: dict[Kind, tuple[int, str]] = {
    Kind.METHOD: (405, "validation_error"),
    Kind.TOO_LARGE: (413, "validation_error"),
    Kind.TOO_SLOW: (408, "validation_error"),
}
KINDS = {"Workspace": "Project", "Run": "Execution"}
FIELDS = {
    "repositoryUrl": "repository_url", "localPath": "repository_url", "executor": "agent",
    "workspace": "repository_url", "eventTypes": "events",
}  # fmt: skip
WORDS: dict[str, str] = {
    "missing": "is required",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "literal_error": "must be one of: {expected}",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "must be a smaller integer",
    "greater_than_equal": "must be at least {ge}",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
}


def render(error: OperationError) -> Answer:
    """The answer to a refusal."""
    status, code = BY_CODE[error.code]
    if isinstance(error, Refusal) and error.kind in BY_KIND:
        status, code = BY_KIND[error.kind]
    if error.code == "UNAVAILABLE" and error.details.get("kind") == "agent":
        code = "agent_unavailable"
    if isinstance(error, BadShape):
        return _answer(status, code, "Validation failed", _reasons(error.problems))
    return _answer(status, code, _message(error), _details(error))


def _answer(status: int, code: str, message: str, details: dict[str, Any]) -> Answer:
    return json_answer({"error": {"code": code, "message": message, "details": details}}, status)


def _message(error: OperationError) -> str:
    kind = error.details.get("kind")
    if error.code == "NOT_FOUND" and kind is not None:
        return f"{KINDS.get(kind, kind)} not found"
    return error.message


def _details(error: OperationError) -> dict[str, Any]:
    if error.code == "INTERNAL":
        return {"id": error.details.get("id")}
    name = error.details.get("field")
    if name is None:
        return {"body": [error.message]} if _is_about_the_body(error) else {}
    return {FIELDS.get(name, name): [error.message]}


def _is_about_the_body(error: OperationError) -> bool:
    return isinstance(error, Refusal) and error.kind in {Kind.MALFORMED, Kind.MEDIA_TYPE}


def _reasons(problems: list[Problem] | Any) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for problem in problems:
        name = str(problem.path[0]) if problem.path else "body"
        text = WORDS.get(problem.kind, problem.message)
        reasons.setdefault(name, []).append(text.format_map(problem.facts))
    return reasons
