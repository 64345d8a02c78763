"""Answers as ready bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import Send

JSON = b"application/json"
NO_BODY = frozenset({204, 304})


@dataclass(slots=True)
class Answer:
    """A whole answer. ``kept`` is what a repeated request gets instead of a body with a secret."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    media_type: bytes = JSON
    kept: bytes | None = None

    async def send(self, send: Send, *, with_body: bool = True, more: bool = False) -> None:
        """Send it; without its body for HEAD; ``more`` leaves the end to the caller."""
        headers = [
            (k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in self.headers.items()
        ]
        if self.status not in NO_BODY:
            headers.append((b"content-type", self.media_type))
            headers.append((b"content-length", str(len(self.body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        body = self.body if with_body and self.status not in NO_BODY else b""
        await send({"type": "http.response.body", "body": body, "more_body": more})


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None, **options: Any
) -> Answer:
    """A value as JSON."""
    return Answer(status, orjson.dumps(value), dict(headers or {}), **options)
