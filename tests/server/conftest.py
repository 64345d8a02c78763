"""What tests of the short way share."""

from typing import Any

import pytest

from server.plain_http import PlainHttpProtocol


@pytest.fixture
def took(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that were answered on the short way; who was looked up stays known."""
    monkeypatch.setattr("server.authentication.CACHE_SECONDS", 1_000)
    seen: list[str] = []
    write = PlainHttpProtocol._write

    def watched(self: Any, request: Any, *arguments: Any, **more: Any) -> None:
        seen.append(request.operation.known.label)
        write(self, request, *arguments, **more)

    monkeypatch.setattr(PlainHttpProtocol, "_write", watched)
    return seen
