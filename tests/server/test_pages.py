import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from server import pages
from server.pages import ASSETS, Link, assets, routes
from server.settings import load_settings


def client(*, root: str = "", **settings: Any) -> httpx2.AsyncClient:
    dialects = [Link("/compat/toban/docs", "Toban", "<b>the</b> REST language")]
    app = Starlette(routes=routes(load_settings(**settings), dialects=dialects))
    transport = httpx2.ASGITransport(app=app, root_path=root)
    return httpx2.AsyncClient(transport=transport, base_url="http://board.test")


class Addresses(HTMLParser):
    """Everything a page loads or leads to, and whether it has script or style of its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]
        is_code = tag == "script" and given.get("type", "text/javascript") == "text/javascript"
        if (is_code and "src" not in given) or tag == "style":
            self.inline.append(tag)
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("path", ["/", "/graphiql"])
async def test_a_page_loads_only_files_of_this_server(path: str) -> None:
    async with client() as http:
        page = await http.get(path)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "{{" not in page.text.split('id="facts"')[0]
        seen = Addresses(page.text)
        assert seen.inline == []
        files = [address for address in seen.found if address.startswith("/assets/")]
        assert files
        for address in seen.found:
            assert address.startswith("/")
            assert not address.startswith("//")
        for address in files:
            answer = await http.get(address)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            digest = hashlib.sha256(answer.content).hexdigest()
            assert address.split("/")[2] == digest[:16]


async def test_the_editor_page_has_a_new_nonce_each_time() -> None:
    async with client() as http:
        seen = set()
        for _ in range(2):
            page = await http.get("/graphiql")
            [nonce] = re.findall(r"'nonce-([^']+)'", page.headers["content-security-policy"])
            facts = json.loads(re.findall(r'id="facts">(.*?)</script>', page.text, re.DOTALL)[0])
            assert facts["styleNonce"] == nonce
            seen.add(nonce)
        assert len(seen) == 2


async def test_the_first_page_links_what_is_there_and_escapes() -> None:
    async with client() as http:
        page = (await http.get("/")).text
    assert "curl http://board.test/graphql" in page
    assert {"/graphiql", "/healthz", "/readyz", "/compat/toban/docs"} <= set(Addresses(page).found)
    assert "&lt;b&gt;the" in page


async def test_the_public_address_stands_in_the_example() -> None:
    async with client(public_url="https://board.example/") as http:
        assert "curl https://board.example/graphql" in (await http.get("/")).text


async def test_a_strange_host_header_cannot_write_into_the_page() -> None:
    async with client() as http:
        page = await http.get("/", headers={"host": 'x"><script>alert(1)</script>'})
    assert "<script>" not in page.text


async def test_pages_work_below_a_path_of_a_proxy() -> None:
    async with client(root="/board") as http:
        page = (await http.get("/board/graphiql")).text
        seen = Addresses(page)
        assert all(address.startswith("/board/") for address in seen.found)
        assert '"graphql": "/board/graphql"' in page
        assert (await http.get(seen.found[0])).status_code == 200


async def test_without_graphiql_there_is_no_editor_and_no_link_to_it() -> None:
    async with client(graphiql=False) as http:
        assert (await http.get("/graphiql")).status_code == 404
        assert "graphiql" not in (await http.get("/")).text.lower()


@pytest.mark.parametrize(
    "path",
    [
        "/assets/0000000000000000/page.css",
        "/assets/0000000000000000/pages.py",
        "/assets/0000000000000000/..%2f..%2fpages.py",
        "/assets/0000000000000000/%00",
        "/assets/page.css",
    ],
)
async def test_other_files_are_not_found(path: str) -> None:
    async with client() as http:
        assert (await http.get(path)).status_code == 404


async def test_types_are_proper() -> None:
    async with client() as http:
        for name, kind in {
            "page.css": "text/css; charset=utf-8",
            "graphiql.min.js": "text/javascript; charset=utf-8",
            "icon.svg": "image/svg+xml",
        }.items():
            assert (await http.get(assets()[name].path)).headers["content-type"] == kind


def test_vendored_files_are_those_of_their_authors() -> None:
    vendor = ASSETS / "vendor"
    lines = (vendor / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    files = {file.name for file in vendor.iterdir() if file.suffix in {".js", ".css"}}
    assert set(sums) == files
    for name, digest in sums.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest
        assert f"`{name}`" in (vendor / "VENDORED.md").read_text()


def test_our_own_files_name_no_other_host() -> None:
    for name in ("index.html", "graphiql.html", "graphiql-page.js", "page.css"):
        assert "://" not in (ASSETS / name).read_text()


def test_tabs_are_documents_with_json_variables() -> None:
    for tab in pages.query_tabs():
        assert tab["query"].strip()
        json.loads(tab.get("variables", "{}"))
