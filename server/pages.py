"""The pages a browser sees: ``/``, the query editor, the REST documentation, and their files.

Everything comes from ``server/assets``; a page loads nothing from another host, and its policy
headers forbid it to. Files are addressed by their content, so browsers may keep them for ever.
"""

import hashlib
import html
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from server.settings import Settings

ASSETS = Path(__file__).parent / "assets"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_DIGEST_LENGTH = 16
# GraphiQL's dialogs put one style element into the page; it carries the nonce of this answer.
_EDITOR_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI's icons are data: addresses, and its React sets styles of single elements.
_REST_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Link:
    """One line of the list on the first page; ``path`` begins with a slash."""

    path: str
    title: str
    note: str


@dataclass(frozen=True)
class Asset:
    """One file that is served: where it lies and the digest in its address."""

    file: Path
    digest: str

    @property
    def path(self) -> str:
        """Its address below the server's root; another content has another address."""
        return f"/assets/{self.digest}/{self.file.name}"


@cache
def assets() -> Mapping[str, Asset]:
    """Every served file by name. Read once per process, when the first page is asked for."""
    files = [*ASSETS.iterdir(), *(ASSETS / "vendor").iterdir()]
    return {
        file.name: Asset(file, hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGEST_LENGTH])
        for file in files
        if file.suffix in _TYPES
    }


def query_tabs() -> list[dict[str, str]]:
    """The documents the editor opens with, in the order of their file names.

    ``NN-name.graphql`` is a document; ``NN-name.json`` beside it, if any, are its variables.
    """
    tabs = []
    for file in sorted((ASSETS / "queries").glob("*.graphql")):
        variables = file.with_suffix(".json")
        tab = {"query": file.read_text("utf-8")}
        if variables.exists():
            tab["variables"] = variables.read_text("utf-8")
        tabs.append(tab)
    return tabs


def first_page(*, base: str, root: str, links: Iterable[Link]) -> str:
    """The page at ``/``.

    Args:
        base: address of the server for the example call, without a closing slash.
        root: path under which a proxy serves it, usually empty.
        links: what the page leads to.
    """
    lines = [
        f'<li><a href="{html.escape(root + link.path)}">{html.escape(link.title)}</a>'
        f"<span>{html.escape(link.note)}</span></li>"
        for link in links
    ]
    return _fill(
        "index.html",
        {
            "base": html.escape(base),
            "css": root + assets()["page.css"].path,
            "icon": root + assets()["icon.svg"].path,
            "links": "\n".join(lines),
        },
    )


def editor_page(*, root: str, nonce: str) -> str:
    """The page at ``/graphiql``; ``root`` as in ``first_page``, ``nonce`` as in its policy."""
    facts = {"graphql": f"{root}/graphql", "styleNonce": nonce, "tabs": query_tabs()}
    names = {
        "css": "page.css",
        "icon": "icon.svg",
        "page": "graphiql-page.js",
        "graphiql": "graphiql.min.js",
        "graphiql_css": "graphiql.min.css",
        "graphql_ws": "graphql-ws.min.js",
        "react": "react.production.min.js",
        "react_dom": "react-dom.production.min.js",
    }
    words = {word: root + assets()[name].path for word, name in names.items()}
    # Inside a script element only "<" could end it too early.
    words["facts"] = json.dumps(facts).replace("<", "\\u003c")
    words["home"] = f"{root}/"
    return _fill("graphiql.html", words)


def rest_page(*, root: str, name: str, title: str) -> str:
    """The documentation of a REST language; ``root`` as in ``first_page``."""
    names = {
        "css": "page.css",
        "icon": "icon.svg",
        "page": "rest-page.js",
        "swagger": "swagger-ui-bundle.js",
        "swagger_css": "swagger-ui.css",
    }
    words = {word: root + assets()[name].path for word, name in names.items()}
    words["document"] = f"{root}/compat/{name}/openapi.json"
    words["home"] = f"{root}/"
    words["title"] = html.escape(title)
    return _fill("rest.html", words)


def routes(settings: Settings, *, dialects: Sequence[Link] = ()) -> list[BaseRoute]:
    """The routes of all pages. ``dialects`` are links to the documentation of the REST languages.

    ``/graphiql`` exists only where the settings allow it.
    """
    links = [
        *dialects,
        Link("/healthz", "Process", "whether the server lives"),
        Link("/readyz", "Ready", "whether database, migrations and wake-ups are in order"),
    ]
    if settings.graphiql:
        links.insert(0, Link("/graphiql", "GraphiQL", "try queries and subscriptions here"))

    async def show_first_page(request: Request) -> Response:
        base = settings.public_url or f"{request.url.scheme}://{request.url.netloc}"
        page = first_page(base=base, root=_root(request), links=links)
        return HTMLResponse(page, headers=_page_headers(_PAGE_POLICY))

    async def show_editor(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        page = editor_page(root=_root(request), nonce=nonce)
        return HTMLResponse(page, headers=_page_headers(_EDITOR_POLICY.format(nonce=nonce)))

    titles = {link.path: link.title for link in dialects}

    async def show_rest_page(request: Request) -> Response:
        name = request.path_params["name"]
        title = titles.get(f"/compat/{name}/docs")
        if title is None:
            raise HTTPException(404)
        page = rest_page(root=_root(request), name=name, title=title)
        return HTMLResponse(page, headers=_page_headers(_REST_POLICY))

    pages: list[BaseRoute] = [
        Route("/", show_first_page),
        Route("/compat/{name}/docs", show_rest_page),
        Route("/assets/{digest}/{name}", send_asset),
    ]
    if settings.graphiql:
        pages.append(Route("/graphiql", show_editor))
    return pages


async def send_asset(request: Request) -> Response:
    """One file of ``assets()``; 404 for any other name or an address of another content."""
    asset = assets().get(request.path_params["name"])
    if asset is None or asset.digest != request.path_params["digest"]:
        raise HTTPException(404)
    return FileResponse(
        asset.file,
        media_type=_TYPES[asset.file.suffix],
        headers={
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        },
    )


def _root(request: Request) -> str:
    return html.escape(str(request.scope.get("root_path", "")).rstrip("/"))


def _page_headers(policy: str) -> dict[str, str]:
    return {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _fill(template: str, words: Mapping[str, Any]) -> str:
    """The template with each ``{{word}}`` replaced; a value is never looked at for more words."""
    first, *parts = (ASSETS / template).read_text("utf-8").split("{{")
    filled = [first]
    for part in parts:
        word, rest = part.split("}}", 1)
        filled += [words[word], rest]
    return "".join(filled)
