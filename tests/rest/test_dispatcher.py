import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Message, Receive, Scope, Send

from models.enums import Dialect
from resolvers.errors import UnauthenticatedError
from resolvers.principal import Principal
from rest_compat.catalog import Entry
from rest_compat.dispatcher import Dispatcher
from rest_compat.house import House

ROUTES: dict[str, dict[str, set[str]]] = {
    "viban": {"/api/v1/tasks/x": {"GET", "PATCH"}, "/api/v1/projects": {"GET"}},
    "toban": {"/api/v1/tasks/x": {"PATCH", "DELETE"}, "/api/health": {"GET"}, "/api/one": {"GET"}},
    "posthog": {"/api/projects/1/tasks": {"GET"}, "/api/one": {"GET"}},
    "claude_cli_web_ui": {"/api/health": {"GET"}, "/ws/s": {"WEBSOCKET"}},
}
ENTRIES = [
    Entry(dialect=Dialect.VIBAN, title="Viban", module="", covers=("/api/v1",)),
    Entry(
        dialect=Dialect.TOBAN, title="Toban", module="", covers=("/api",),
        key_prefixes=("tb_",), cookie="toban_session",
    ),
    Entry(
        dialect=Dialect.POSTHOG, title="PostHog", module="", covers=("/api/projects", "/api/one"),
        key_prefixes=("phx_", "pha_"), query_key="personal_api_key",
    ),
    Entry(
        dialect=Dialect.CLAUDE_CLI_WEB_UI, title="Claude", module="", covers=("/api", "/ws"),
        takes_jwt=True,
    ),
]  # fmt: skip
ALL = ["viban", "toban", "posthog", "claude_cli_web_ui"]


@dataclass
class Spoken:
    """What was served by which language, and what was loaded."""

    served: list[tuple[str, str, str]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)


class Stub:
    def __init__(self, name: str, spoken: Spoken) -> None:
        self.name = name
        self.spoken = spoken

    def methods_at(self, path: str, /) -> frozenset[str]:
        return frozenset(ROUTES[self.name].get(path, ()))

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        self.spoken.served.append((self.name, scope["compat_path"], scope["root_path"]))
        assert scope["path"] == scope["root_path"] + scope["compat_path"]


async def authenticate(token: str) -> Principal:
    if token == "of-toban":
        return Principal(kind="user", id="1", name="x", dialect=Dialect.TOBAN)
    if token == "native":
        return Principal(kind="user", id="1", name="x")
    raise UnauthenticatedError("unknown")


async def ask(
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    query: str = "",
    default: Dialect | None = None,
    names: list[str] = ALL,
    root: str = "",
    kind: str = "http",
) -> tuple[Spoken, list[Message]]:
    """What a dispatcher over these languages does with a request; NOWHERE is a language too."""
    spoken, sent = Spoken(), list[Message]()

    def load(entry: Entry, _house: House) -> Stub:
        spoken.loaded.append(entry.name)
        return Stub(entry.name, spoken)

    async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
        spoken.served.append(("nowhere", "", ""))

    async def send(message: Message) -> None:
        sent.append(message)

    dispatcher = Dispatcher(
        [entry for entry in ENTRIES if entry.name in names],
        cast("House", SimpleNamespace(authenticate=authenticate)),
        default=default,
        nowhere=nowhere,
        load=load,
    )
    scope = {
        "type": kind,
        "path": path,
        "raw_path": (root + path).encode(),
        "root_path": root,
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
        "state": {},
        **({"method": method} if kind == "http" else {}),
    }
    await dispatcher(scope, cast("Receive", None), send)
    return spoken, sent


async def who(path: str, **request: Any) -> str:
    spoken, sent = await ask(path, **request)
    if spoken.served:
        return spoken.served[0][0]
    assert sent[0]["status"] == 409
    body = json.loads(sent[1]["body"])
    return " ".join(a.removeprefix("/compat/").split("/")[0] for a in body["error"]["addresses"])


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("slash", ["", "/"])
async def test_an_address_names_its_language(slash: str) -> None:
    spoken, _ = await ask(f"/compat/toban/api/v1/tasks/x{slash}", headers=bearer("phx_1"))
    assert spoken.served == [("toban", "/api/v1/tasks/x", "/compat/toban")]
    assert spoken.loaded == ["toban"], "no other language is imported"
    assert await who("/compat/nobody/api") == "nowhere"
    assert await who("/compat/") == "nowhere"


async def test_behind_a_proxy_s_path() -> None:
    spoken, _ = await ask("/compat/toban/api/one", root="/board")
    assert spoken.served == [("toban", "/api/one", "/board/compat/toban")]


@pytest.mark.parametrize(
    ("raw", "inner"),
    [
        ("/a%2Fb%20c/", "/a%2Fb%20c"),
        ("/%61%40me", "/a@me"),
        ("/%252F", "/%252F"),
        ("/%ff%00", "/%EF%BF%BD%00"),
        ("/é", "/%C3%83%C2%A9"),
        ("/", "/"),
        ("//", "/"),
        ("", "/"),
    ],
)
async def test_segments_are_decoded_after_they_are_split(raw: str, inner: str) -> None:
    spoken, _ = await ask(f"/compat/toban{raw}")
    assert [served[1] for served in spoken.served] == [inner]


@pytest.mark.parametrize(
    ("request_", "language"),
    [
        ({"headers": bearer("tb_12345678_sk_x")}, "toban"),
        ({"headers": bearer("phx_x")}, "posthog"),
        ({"headers": {"authorization": "bearer  pha_x "}}, "posthog"),
        ({"headers": bearer("eyJhbGciOi.eyJ1c2Vy.c2ln")}, "claude_cli_web_ui"),
        ({"headers": {"cookie": "a=b; toban_session=x"}}, "toban"),
        ({"query": "a=b&personal_api_key=x"}, "posthog"),
        ({"headers": bearer("of-toban")}, "toban"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/tasks/x", "/api/one/", "/not/known/at/all"])
async def test_a_credential_names_its_language(
    request_: dict[str, Any], language: str, path: str
) -> None:
    assert await who(path, **request_) == language
    assert await who(path, **request_, default=Dialect.VIBAN) == language


@pytest.mark.parametrize("headers", [{}, bearer("native"), bearer("unknown"), bearer("")])
async def test_otherwise_the_path_does(headers: dict[str, str]) -> None:
    async def whose(path: str, method: str = "GET", **more: Any) -> str:
        return await who(path, method=method, headers={**headers, **more.pop("and_", {})}, **more)

    assert await whose("/api/v1/tasks/x") == "viban"
    assert await whose("/api/v1/tasks/x", "DELETE") == "toban"
    assert await whose("/api/v1/tasks/x/", "PATCH") == "viban toban"
    assert await whose("/api/v1/tasks/x", "PATCH", default=Dialect.TOBAN) == "toban"
    assert await whose("/api/v1/tasks/x", "PATCH", default=Dialect.POSTHOG) == "viban toban"
    assert await whose("/api/v1/tasks/x", "PUT") == "viban toban"
    assert await whose("/api/projects/1/tasks", "PUT") == "posthog", "which answers 405"
    asked = {"access-control-request-method": "DELETE"}
    assert await whose("/api/v1/tasks/x", "OPTIONS", and_=asked) == "toban"
    assert await whose("/api/one") == "toban posthog"
    assert await whose("/favicon.ico") == "nowhere"
    assert await whose("/apiv1") == "nowhere"


async def test_what_no_language_covers_loads_none() -> None:
    spoken, _ = await ask("/wp-login.php")
    assert spoken.loaded == []
    assert spoken.served == [("nowhere", "", "")]


async def test_the_slash_of_the_health_check_counts() -> None:
    assert await who("/api/health") == "toban"
    assert await who("/api/health/") == "claude_cli_web_ui"
    assert await who("/api/health/", headers=bearer("tb_x")) == "toban"
    assert await who("/api/health/", names=["viban", "toban"]) == "toban"
    assert await who("/compat/claude_cli_web_ui/api/health") == "claude_cli_web_ui"


async def test_an_only_language_refuses_unknown_paths_itself() -> None:
    assert await who("/api/v1/nothing", names=["viban"]) == "viban"
    assert await who("/api/v1/nothing") == "viban toban claude_cli_web_ui"


async def test_sockets_find_their_language() -> None:
    assert await who("/ws/s", kind="websocket") == "claude_cli_web_ui"
    spoken, sent = await ask("/api/one", kind="websocket", names=["toban", "posthog"])
    assert spoken.served == []
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_choice_has_no_body_for_head() -> None:
    _, sent = await ask("/api/one", method="HEAD")
    assert sent[0]["status"] == 409
    assert sent[1]["body"] == b""
