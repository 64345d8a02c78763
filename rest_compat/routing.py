"""Routes of a language: FastAPI's, with their arguments read by rules that never fail inside."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints
from urllib.parse import parse_qsl, unquote

from fastapi import APIRouter, params
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Receive, Scope

from rest_compat.answers import Answer, json_answer
from rest_compat.context import RestContext
from rest_compat.house import House
from rest_compat.refusals import BadShape, Kind, Problem, Refusal

M = TypeVar("M", bound=BaseModel)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
MAX_QUERY_FIELDS = 100
WEBSOCKET = "WEBSOCKET"
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Call(Request):
    """One request as a route's function sees it; ``ctx`` is for the operations."""

    def __init__(self, scope: Scope, receive: Receive, *, house: House, ctx: RestContext) -> None:
        super().__init__(scope, receive)
        self.house = house
        self.ctx = ctx

    @property
    def base(self) -> str:
        """Address of the server with the path in front of the language's own, for links."""
        root = str(self.scope.get("root_path", ""))
        if self.house.public_url is not None:
            return self.house.public_url + root
        return f"{self.url.scheme}://{self.url.netloc}{root}"


def before_body(check: Callable[..., Awaitable[Any]]) -> Callable[[Endpoint], Endpoint]:
    """Declare what a wrong body must not hide: a look-up that raises NOT_FOUND or FORBIDDEN.

    It runs only when the body or the query is wrong, with the call and the path's arguments, since
    otherwise the operation itself finds out.
    """

    def register(endpoint: Endpoint) -> Endpoint:
        endpoint.check_before_body = check  # type: ignore[attr-defined]  # read by DialectRoute
        return endpoint

    return register


def body_limit(max_bytes: int) -> Callable[[Endpoint], Endpoint]:
    """Declare how long a route's body may be, where that is not the server's limit."""

    def register(endpoint: Endpoint) -> Endpoint:
        endpoint.max_body_bytes = max_bytes  # type: ignore[attr-defined]  # read by DialectRoute
        return endpoint

    return register


class DialectRoute(APIRoute):
    """A route whose function takes the call, the path's arguments, a query model, a body model.

    FastAPI documents it; this class serves it: the body is read within the limits, parsed
    strictly, shaped by its model, and what the function returns is sent as it is (a value as JSON
    with the route's status, or an ``Answer``, or Starlette's response for streams and files).
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.is_open = (self.openapi_extra or {}).get("security") == []
        self._check = getattr(endpoint, "check_before_body", None)
        self._max_body_bytes: int | None = getattr(endpoint, "max_body_bytes", None)
        self._query: tuple[str, type[BaseModel]] | None = None
        self._body: tuple[str, type[BaseModel]] | None = None
        for name, hint in get_type_hints(endpoint, include_extras=True).items():
            notes = getattr(hint, "__metadata__", ())
            kind = getattr(hint, "__origin__", hint)
            if any(isinstance(note, params.Query) for note in notes):
                self._query = (name, kind)
            elif isinstance(kind, type) and issubclass(kind, BaseModel) and name != "return":
                self._body = (name, kind)

    async def respond(self, call: Call, arguments: Mapping[str, str], language: Any) -> Any:
        """Read the request and call the function: an ``Answer`` or a Starlette response.

        Raises:
            OperationError: BadShape and Refusal among them.
        """
        given: dict[str, Any] = dict(arguments)
        raw = await self._read(call, language)
        if raw is None:
            return None
        key = call.headers.get("idempotency-key") if call.method in CHANGING else None
        if key is not None and call.ctx.principal is not None:
            target = f"{call.scope['path']}?{call.scope['query_string'].decode('latin-1')}"
            stored = await call.ctx.claim(key, method=call.method, target=target, body=raw)
            if stored is not None:
                return stored
        try:
            if self._query is not None:
                name, model = self._query
                given[name] = shaped(model, query_of(call.scope))
            if self._body is not None:
                name, model = self._body
                given[name] = shaped(model, call.house.parse_json(raw) if raw.strip() else {})
        except (BadShape, Refusal):
            if self._check is not None:
                await self._check(call, **arguments)
            raise
        result = await self.endpoint(call, **given)
        if isinstance(result, Answer | Response):
            return result
        status = self.status_code or 200
        return json_answer(result, status) if result is not None else Answer(status)

    async def _read(self, call: Call, language: Any) -> bytes | None:
        """The body's bytes, empty where the route takes none; None when the client has gone."""
        if self._body is None:
            return b""
        limit = self._max_body_bytes or language.max_body_bytes or call.house.max_body_bytes
        raw = await call.house.read_body(call.scope, call.receive, max_bytes=limit)
        if raw and language.checks_media_type:
            try:
                call.house.check_media_type(call.scope)
            except Refusal:
                if self._check is not None:
                    await self._check(call, **arguments_of(call))
                raise
        return raw


def arguments_of(call: Call) -> Mapping[str, str]:
    """The decoded arguments of the call's path."""
    found: Mapping[str, str] = call.scope["path_params"]
    return found


def query_of(scope: Scope) -> dict[str, str]:
    """The fields of the query string; of a repeated one the last.

    Raises:
        Refusal: MALFORMED, too many fields.
    """
    try:
        pairs = parse_qsl(
            scope["query_string"].decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=MAX_QUERY_FIELDS,
        )
    except ValueError:
        raise Refusal(Kind.MALFORMED, "The query has too many fields", field="query") from None
    return dict(pairs)


def shaped(model: type[M], value: Any) -> M:
    """The value as an instance of the model.

    Raises:
        BadShape: with every problem, in the order of the fields.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise BadShape(
            [
                Problem(
                    tuple(item["loc"]),
                    item["type"],
                    item["msg"],
                    {k: v for k, v in item.get("ctx", {}).items() if k != "error"},
                    item.get("input"),
                )
                for item in error.errors(include_url=False)
            ]
        ) from None


def dialect_router(responses: dict[int | str, dict[str, Any]] | None = None) -> APIRouter:
    """A router for one module of a language's routes; ``responses`` are told of each of them."""
    return APIRouter(
        responses=responses,
        route_class=DialectRoute,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )


@dataclass(slots=True)
class _Place:
    """One path with its methods."""

    pattern: re.Pattern[str]
    methods: dict[str, BaseRoute]


class RouteTable:
    """Finds routes by path, those with fixed segments first.

    Starlette's own router takes the first match, so that of two routes with one path the second's
    methods are missing in ``Allow``, and it cannot be asked without being called.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        places: dict[str, _Place] = {}
        for route in routes:
            if isinstance(route, DialectRoute):
                place = places.setdefault(route.path, _Place(route.path_regex, {}))
                methods = route.methods or set()
                place.methods.update(dict.fromkeys(methods, route))
                if "GET" in methods:
                    place.methods.setdefault("HEAD", route)
            elif isinstance(route, WebSocketRoute):
                place = places.setdefault(route.path, _Place(route.path_regex, {}))
                place.methods[WEBSOCKET] = route
        self._by_length: dict[int, list[_Place]] = {}
        for path in sorted(places, key=_fixed_first):
            self._by_length.setdefault(path.count("/"), []).append(places[path])

    def find(self, path: str) -> tuple[dict[str, BaseRoute], dict[str, str]] | None:
        """The methods at an encoded path without closing slash, and its decoded arguments."""
        for place in self._by_length.get(path.count("/"), ()):
            match = place.pattern.match(path)
            if match is not None:
                return place.methods, {k: unquote(v) for k, v in match.groupdict().items()}
        return None


def _fixed_first(path: str) -> tuple[tuple[bool, str], ...]:
    return tuple((segment.startswith("{"), segment) for segment in path.split("/"))
