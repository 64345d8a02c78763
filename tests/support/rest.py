"""A client of a REST language that holds every answer against the language's OpenAPI document."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
from jsonschema_rs import Draft202012Validator

from tests.support.inside import Inside

METHODS = {"get", "put", "post", "patch", "delete"}


class Document:
    """An OpenAPI document: its operations, and what their answers look like."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._patterns = {
            path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in document["paths"]
        }

    @property
    def operations(self) -> set[tuple[str, str]]:
        """Method and path of each, with nameless parameters."""
        return {
            (method.upper(), re.sub(r"\{\w+\}", "{}", path))
            for path, item in self.document["paths"].items()
            for method in item
            if method in METHODS
        }

    def check(self, method: str, path: str, answer: httpx2.Response) -> None:
        """Fail unless the answer is one the document tells of."""
        operation = self._operation(method, path)
        status = str(answer.status_code)
        told = operation["responses"].get(status) if operation else None
        if told is None:
            assert answer.status_code in {401, 404, 405, 408, 413, 415}, (method, path, answer.text)
            told = self._any_refusal()
        content = told.get("content")
        if answer.request.method == "HEAD" or answer.status_code == 204 or content is None:
            assert answer.content == b"", (method, path, answer.text)
            return
        media_type = answer.headers["content-type"].partition(";")[0]
        assert media_type in content or "*/*" in content, (method, path, answer.headers)
        if media_type != "application/json":
            return
        schema = {**content["application/json"]["schema"], "components": self._components()}
        problems = list(Draft202012Validator(schema).iter_errors(answer.json()))
        assert not problems, (method, path, answer.text, problems[0].message)

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        wanted = "get" if method == "HEAD" else method.lower()
        exact = [p for p in self._patterns if p == path]
        for template in exact or list(self._patterns):
            found = self.document["paths"][template].get(wanted)
            if found is not None and self._patterns[template].fullmatch(path):
                operation: dict[str, Any] = found
                return operation
        return None

    def _any_refusal(self) -> dict[str, Any]:
        for item in self.document["paths"].values():
            for operation in item.values():
                if "404" in operation["responses"]:
                    told: dict[str, Any] = operation["responses"]["404"]
                    return told
        raise AssertionError("no operation tells of a 404")

    def _components(self) -> Any:
        return self.document["components"]


class RestClient:
    """Speaks one language under ``/compat/<language>``; ``at`` may be another beginning."""

    def __init__(
        self, http: httpx2.AsyncClient, document: Document, *, at: str, token: str | None
    ) -> None:
        self.http = http
        self.document = document
        self.at = at
        self.token = token

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """One request; ``path`` as in the document, with a query if need be."""
        given = {"authorization": f"Bearer {self.token}"} if self.token is not None else {}
        if content is not None:
            given["content-type"] = "application/json"
        options: dict[str, Any] = {"json": body} if body is not None else {}
        if content is not None:
            options = {"content": content}
        answer = await self.http.request(
            method, self.at + path, headers={**given, **(headers or {})}, **options
        )
        self.document.check(method, path.partition("?")[0].rstrip("/") or "/", answer)
        return answer

    async def data(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """The JSON of an answer with this status."""
        answer = await self.send(method, path, body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def like(self, *, at: str | None = None, token: str | None = None) -> "RestClient":
        """The same at another address or as somebody else."""
        chosen = self.at if at is None else at
        return RestClient(self.http, self.document, at=chosen, token=token or self.token)


@contextlib.asynccontextmanager
async def rest_client(
    inside: Inside, language: str, *, token: str | None = None
) -> AsyncIterator[RestClient]:
    """A client of a language on a server inside of this process; by default the owner's."""
    transport = httpx2.ASGITransport(app=inside.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://board.test") as http:
        document = (await http.get(f"/compat/{language}/openapi.json")).json()
        yield RestClient(
            http, Document(document), at=f"/compat/{language}", token=token or inside.token
        )
