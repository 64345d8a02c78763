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
    document.setdefault("components", {})["securitySchemes"] = {"credential": dict(security)}
    document["security"] = [{"credential": []}]
    return orjson.dumps(document)
