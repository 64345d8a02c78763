"""Which language a request is meant for: by its address, its credential, its path; then that one.

``/compat/<language>/…`` names it. At an original path it is the credential's language; else the
only one that has this method and path; else the setting's; else 409 with a hint. Both slash forms
of a path are the same, and segments are decoded after they were split.
"""

import asyncio
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, unquote

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from models.enums import Dialect
from resolvers.errors import OperationError
from rest_compat.answers import json_answer
from rest_compat.catalog import EXACT_PATHS, Entry
from rest_compat.house import House

PREFIX = "/compat/"
UNRESERVED = "@:!$&'()*+,;=~"
PLAIN = re.compile(rf"[/A-Za-z0-9_.~\-{re.escape(UNRESERVED)}]*")
"""Paths in which nothing is, or has to be, encoded."""
JWT_PARTS = 3
POLICY_VIOLATION = 1008


class Loaded(Protocol):
    """A language, as far as it is known here."""

    def methods_at(self, path: str, /) -> frozenset[str]:
        """The methods of a path without closing slash; WEBSOCKET is one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""


class Dispatcher:
    """The ASGI application in front of all languages; each is loaded when it is first needed.

    Args:
        entries: the languages that are served.
        house: the server.
        default: the language of original paths that several have, if the operator named one.
        nowhere: answers what belongs to no language.
        load: makes a language; by default by importing its module.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        house: House,
        *,
        default: Dialect | None,
        nowhere: ASGIApp,
        load: Callable[[Entry, House], Loaded] | None = None,
    ) -> None:
        self._by_name = {entry.name: entry for entry in entries}
        self._by_dialect = {entry.dialect: entry for entry in entries}
        self._house = house
        self._default = self._by_dialect.get(default) if default is not None else None
        self._nowhere = nowhere
        self._load = load or _load
        self._loaded: dict[str, Loaded] = {}
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request or WebSocket."""
        root = str(scope.get("root_path", ""))
        path = _encoded_path(scope, root)
        chosen: Sequence[Entry]
        if path.startswith(PREFIX):
            name, slash, rest = path.removeprefix(PREFIX).partition("/")
            chosen = [self._by_name[name]] if name in self._by_name else []
            root, path = root + PREFIX + name, slash + rest or "/"
        else:
            chosen = await self._choose(scope, path)
        if not chosen:
            await self._nowhere(scope, receive, send)
        elif len(chosen) > 1:
            await _tell_choice(chosen, path, scope, send)
        else:
            language = await self.language(chosen[0])
            inner = path[:-1] if path != "/" and path.endswith("/") else path
            child = {**scope, "root_path": root, "path": root + inner, "compat_path": inner}
            await language(child, receive, send)

    async def language(self, entry: Entry) -> Loaded:
        """A language, loaded now if it was not yet; apart from the event loop, which goes on."""
        found = self._loaded.get(entry.name)
        if found is None:
            async with self._loading:
                found = self._loaded.get(entry.name)
                if found is None:
                    found = await asyncio.to_thread(self._load, entry, self._house)
                    self._loaded[entry.name] = found
        return found

    async def _choose(self, scope: Scope, path: str) -> Sequence[Entry]:
        """The languages an original path may be meant for: none, one, or a choice."""
        named = await self._by_credential(scope)
        if named is not None:
            return [named]
        exact = self._by_dialect.get(EXACT_PATHS[path]) if path in EXACT_PATHS else None
        rivals = {EXACT_PATHS[p] for p in EXACT_PATHS} & self._by_dialect.keys()
        if exact is not None and len(rivals) > 1:
            return [exact]
        covering = [entry for entry in self._by_name.values() if entry.covers_path(path)]
        if not covering:
            return []
        inner = path.rstrip("/") or "/"
        method = _method(scope)
        at_path = []
        for entry in covering:
            methods = (await self.language(entry)).methods_at(inner)
            if methods:
                at_path.append((entry, methods))
        fitting = [entry for entry, methods in at_path if method in methods]
        candidates = fitting or [entry for entry, _ in at_path] or covering
        if len(candidates) > 1 and self._default in candidates:
            return [self._default]
        return candidates

    async def _by_credential(self, scope: Scope) -> Entry | None:
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").strip().partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        cookies = cookie_parser(headers["cookie"]) if "cookie" in headers else {}
        query = _query_names(scope)
        for entry in self._by_name.values():
            if token.startswith(entry.key_prefixes) and entry.key_prefixes:
                return entry
            if entry.takes_jwt and _looks_like_jwt(token):
                return entry
            if entry.cookie in cookies or entry.query_key in query:
                return entry
        if not token:
            return None
        try:
            principal = await self._house.authenticate(token)
        except OperationError:
            return None  # whoever serves the path refuses it in its own words
        return self._by_dialect.get(Dialect(principal.dialect)) if principal.dialect else None


def _load(entry: Entry, house: House) -> Loaded:
    made: Loaded = importlib.import_module(entry.module).make_language(house)
    return made


def _encoded_path(scope: Scope, root: str) -> str:
    """The request's path behind ``root``, each segment percent-encoded in one canonical way.

    ``scope["path"]`` cannot tell a slash between segments from an encoded one inside of them.
    """
    raw = scope.get("raw_path")
    text = raw.decode("latin-1").partition("?")[0] if raw else quote(str(scope["path"]))
    if not PLAIN.fullmatch(text):
        text = "/".join(
            quote(unquote(segment, errors="replace"), safe=UNRESERVED)
            for segment in text.split("/")
        )
    return text.removeprefix(root) if root else text


def _method(scope: Scope) -> str:
    if scope["type"] == "websocket":
        return "WEBSOCKET"
    method = str(scope["method"])
    if method == "OPTIONS":
        return Headers(scope=scope).get("access-control-request-method", method)
    return method


def _query_names(scope: Scope) -> frozenset[str | None]:
    try:
        pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), max_num_fields=100)
    except ValueError:
        return frozenset()
    return frozenset(name for name, _ in pairs)


def _looks_like_jwt(token: str) -> bool:
    return token.startswith("eyJ") and token.count(".") == JWT_PARTS - 1


async def _tell_choice(chosen: Sequence[Entry], path: str, scope: Scope, send: Send) -> None:
    """Refuse a path that several languages have: 409 with what can be done."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        return
    names = [entry.name for entry in chosen]
    hint: Mapping[str, Any] = {
        "error": {
            "code": "CONFLICT",
            "message": "Several REST languages have this address: ask under /compat/<language>, "
            "use a key of one of them, or let the operator set DRAGOMAN_COMPAT_ROOT",
            "addresses": [f"{PREFIX}{name}{path}" for name in names],
        }
    }
    await json_answer(hint, 409).send(send, with_body=scope["method"] != "HEAD")
