"""OpenAPI 3.1 documents of the languages, made by FastAPI from their routes."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi


def openapi_document(app: FastAPI, *, security: Mapping[str, Any], root: str) -> bytes:
    """The document of a language's routes.

    Args:
        app: its application.
        security: the scheme of its credentials.
        root: the path under which the server always serves it.
    """
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        routes=app.routes,
        servers=[{"url": root}],
    )
    _leave_out_refusals_of_fastapi(document)
    document.setdefault("components", {})["securitySchemes"] = {"credential": dict(security)}
    document["security"] = [{"credential": []}]
    return orjson.dumps(document)


def _leave_out_refusals_of_fastapi(document: dict[str, Any]) -> None:
    """FastAPI's own 422, which no language answers with."""
    for item in document["paths"].values():
        for operation in item.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    schemas = document.get("components", {}).get("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
