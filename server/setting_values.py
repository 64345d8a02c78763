"""How the text of an environment variable becomes a value: durations, lists, addresses.

Every function here takes what the operator wrote and raises ``ValueError`` with a text that says
what was expected; the caller adds the name of the variable. No message repeats the given text,
because it may be a secret.
"""

import base64
import binascii
import ipaddress
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import NoDecode

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|sec|m|min|h|d)?", re.ASCII)
_UNIT_SECONDS = {
    None: 1.0, "ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0,
}  # fmt: skip
_SIZE = re.compile(r"(?P<number>\d+)\s*(?P<unit>[KMG]i?B?|B)?", re.ASCII | re.IGNORECASE)
_SIZE_BYTES = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_FERNET_KEY_BYTES = 32
_AUTHOR = re.compile(r"(?P<name>[^<>\x00-\x1f\x7f]*[^<>\s\x00-\x1f\x7f])\s*<(?P<address>[^<>\s]+)>")
_PLAIN_SQLITE = "sqlite"
_SQLITE_DRIVER = "sqlite+aiosqlite"
_POSTGRESQL_DRIVER = "postgresql+asyncpg"
_DATABASE_SCHEMES = {
    _PLAIN_SQLITE: _SQLITE_DRIVER,
    _SQLITE_DRIVER: _SQLITE_DRIVER,
    "postgres": _POSTGRESQL_DRIVER,
    "postgresql": _POSTGRESQL_DRIVER,
    _POSTGRESQL_DRIVER: _POSTGRESQL_DRIVER,
}
_BROADCAST_SCHEMES = {
    "memory": "memory", "redis": "redis", "rediss": "rediss", "valkey": "redis",
    "valkeys": "rediss", "postgres": "postgresql", "postgresql": "postgresql",
}  # fmt: skip


def parse_duration(value: Any) -> float:
    """Seconds from a number or from a text such as ``90``, ``500ms``, ``10m``, ``2h``, ``30d``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            raise ValueError("must be a duration such as 90, 500ms, 10m, 2h or 30d")
        seconds = float(match["number"]) * _UNIT_SECONDS[match["unit"]]
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("must be a duration of zero or more seconds")
    return seconds


def parse_size(value: Any) -> int:
    """Bytes from a number or from a text such as ``65536``, ``64K``, ``100M`` or ``1GiB``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("must be a size such as 65536, 64K, 100M or 1GiB")
    return int(match["number"]) * _SIZE_BYTES[(match["unit"] or "B")[0].upper()]


def parse_list(value: Any) -> Any:
    """A list from a JSON array or from a text with commas; anything not a text is left as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        return parse_json(text, list, "a JSON array or a list with commas")
    return [item.strip() for item in text.split(",") if item.strip()]


def parse_json(value: Any, kind: type, expected: str) -> Any:
    """The JSON value in a text, which must be a ``kind``; anything not a text is left as it is."""
    if not isinstance(value, str):
        return value
    try:
        decoded = json.loads(value)
    except ValueError:
        raise ValueError(f"must be {expected}; it is not valid JSON") from None
    if not isinstance(decoded, kind):
        raise ValueError(f"must be {expected}")  # noqa: TRY004  (pydantic reports ValueError only)
    return decoded


def normalise_database_url(text: str) -> str:
    """The address with the async driver of its database named.

    ``sqlite:///file`` and ``postgresql://…`` (also ``postgres://``) are what an operator writes.
    ``sslmode`` of libpq becomes ``ssl``, the word of asyncpg.
    """
    parts = _split(text, "must be sqlite:///file or postgresql://user@host/database")
    driver = _DATABASE_SCHEMES.get(parts.scheme)
    if driver is None:
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if driver == _SQLITE_DRIVER:
        # urlunsplit would write sqlite:/// with one slash, since there is no host in it
        path = text.split("://", 1)[1] if "://" in text else ""
        if not path.startswith("/") or path.split("?")[0] in {"/", "/:memory:"}:
            raise ValueError("must name a file, such as sqlite:///data/dragoman.db")
        return f"{driver}://{path}"
    if not parts.path.strip("/"):
        raise ValueError("must name a database, such as postgresql://user@host/database")
    query = [("ssl" if key == "sslmode" else key, given) for key, given in parse_qsl(parts.query)]
    return urlunsplit((driver, parts.netloc, parts.path, urlencode(query), ""))


def sqlite_url(file: Path) -> str:
    """The normalised address of a SQLite file."""
    return f"{_SQLITE_DRIVER}:///{quote(str(file.absolute()), safe='/:@+ ')}"


def normalise_broadcast_url(text: str) -> str:
    """The address of the wake-up channel: memory, Redis (or Valkey) or PostgreSQL."""
    parts = _split(text, "must be memory://, redis://host or postgresql://host/database")
    scheme = _BROADCAST_SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ValueError("must begin with memory://, redis://, rediss:// or postgresql://")
    if scheme == "memory":
        return "memory://"
    if not parts.netloc:
        raise ValueError("must name a host")
    return urlunsplit((scheme, parts.netloc, parts.path, parts.query, ""))


def normalise_rate_limit_url(text: str) -> str:
    """The address of the counters: memory or Redis (or Valkey)."""
    url = normalise_broadcast_url(text)
    if url.startswith("postgresql"):
        raise ValueError("must begin with memory://, redis:// or rediss://")
    return url


def normalise_web_url(text: str) -> str:
    """An http or https address without a closing slash."""
    parts = _split(text, "must be an address such as https://board.example.org")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address such as https://board.example.org")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must have no user, query or fragment")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def normalise_origin(text: str) -> str:
    """An Origin as a browser sends it: scheme, host and port in small letters."""
    parts = _split(text, "must be origins such as https://board.example.org")
    address = normalise_web_url(text)
    if parts.path.strip("/"):
        raise ValueError("must be origins, which have no path")
    return address.lower()


def check_proxy(text: str) -> str:
    """An address or a network that a forwarding proxy may have, or ``*`` for any."""
    if text == "*":
        return text
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.0/8, or *") from None
    return text if "/" not in text else str(network)


def check_secret_key(text: str) -> str:
    """32 bytes in URL-safe base64, 44 characters (what ``dragoman`` makes on first start)."""
    try:
        raw = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _FERNET_KEY_BYTES:
        raise ValueError("must be keys of 32 bytes in URL-safe base64 (44 characters each)")
    return text


def parse_author(text: str) -> tuple[str, str]:
    """Name and address out of ``Name <address>``."""
    match = _AUTHOR.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be a name and an address: Name <name@example.org>")
    return match["name"].strip(), match["address"]


def check_copied(text: str) -> str:
    """A path or pattern below a checkout."""
    if text.startswith(("/", "~")) or {"..", ".git"} & set(text.split("/")):
        raise ValueError("must be paths below the checkout, without .. and .git")
    return text


def parse_commands(value: Any) -> tuple[tuple[str, ...], ...]:
    """Argument lists out of a JSON array of JSON arrays of texts."""
    expected = 'must be a JSON array of JSON arrays of texts: [["program", "argument"]]'
    commands = parse_json(value, list, "a JSON array of JSON arrays of texts")
    for command in commands:
        if not isinstance(command, list | tuple) or not command:
            raise ValueError(expected)
        if not all(isinstance(word, str) and "\0" not in word for word in command):
            raise ValueError(expected)
    return tuple(tuple(command) for command in commands)


def _split(text: str, expected: str) -> SplitResult:
    try:
        parts: SplitResult = urlsplit(text.strip())
        _ = parts.port
    except ValueError:
        raise ValueError(expected) from None
    if not parts.scheme or any(ord(character) < ord(" ") for character in text):
        raise ValueError(expected)
    return parts


class ExecutorCommand(BaseModel):
    """How one executor is started: an argv list, never a shell text.

    Without ``argv`` the built-in adapter of the executor's name makes the argument list, and the
    four members after it change what it makes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    argv: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="program and arguments; {prompt_file} and other words in braces are filled in",
    )
    program: str | None = Field(
        default=None, min_length=1, max_length=4096, description="name or path of the program"
    )
    args: tuple[str, ...] = Field(
        default=(), max_length=256, description="arguments besides those the adapter makes"
    )
    model: str | None = Field(
        default=None, min_length=1, max_length=100, description="model of runs that name none"
    )
    permissions: Literal["edits", "ask", "full"] = Field(
        default="edits",
        description="edits: read and change files; ask: that, and somebody decides on the rest; "
        "full: all that the server's user may do",
    )
    protocol: Literal["native", "acp"] | None = Field(
        default=None, description="acp: over the Agent Client Protocol; usually the agent's own"
    )
    env: dict[str, SecretStr] = Field(
        default_factory=dict, description="variables the program gets besides the allow-list"
    )
    pass_env: tuple[str, ...] = Field(
        default=(), description="names of the server's own variables that are handed on"
    )

    @model_validator(mode="after")
    def _check(self) -> "ExecutorCommand":
        natives = {"program", "args", "model", "permissions", "protocol"} & self.model_fields_set
        if self.argv is not None and natives:
            raise ValueError(f"argv says everything; {min(natives)} is for built-in ones")
        if any("\0" in word for word in (*(self.argv or ()), *self.args, self.program or "")):
            raise ValueError("no argument can hold a NUL character")
        return self


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds."""
Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes."""
TextList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_list)]
PathList = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(parse_list)]
SecretList = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(parse_list)]
Argv = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(lambda value: parse_json(value, list, "a JSON array of texts")),
]
Commands = Annotated[tuple[tuple[str, ...], ...], NoDecode, BeforeValidator(parse_commands)]
RATE_BUCKETS = {
    "VIBAN": {"minute", "hour", "refused"},
    "POSTHOG": {"minute", "hour", "refused"},
    "TOBAN": {"auth", "key", "workspace", "writes", "refused"},
    "CLAUDE_CLI_WEB_UI": {"login", "refresh", "anonymous", "authenticated", "premium"},
}
"""Names of what ``rest_compat.rates`` counts, said once more: settings are read without it."""


def check_rate_limits(value: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Numbers of requests by language and name."""
    for language, amounts in value.items():
        known = RATE_BUCKETS.get(language)
        if known is None:
            raise ValueError(f"must have languages out of {', '.join(RATE_BUCKETS)}")
        if not amounts.keys() <= known:
            raise ValueError(f"must have for {language} names out of {', '.join(sorted(known))}")
    return value


RateLimits = Annotated[
    dict[str, dict[str, Annotated[int, Field(ge=0, le=1_000_000_000)]]],
    NoDecode,
    BeforeValidator(
        lambda value: parse_json(value, dict, 'a JSON object such as {"VIBAN": {"minute": 9}}')
    ),
    AfterValidator(check_rate_limits),
]
CommandTemplates = Annotated[
    dict[str, tuple[tuple[str, ...], ...] | None],
    NoDecode,
    BeforeValidator(
        lambda value: parse_json(value, dict, 'a JSON object such as {"npm": [["test"]]}')
    ),
]
Executors = Annotated[
    dict[str, ExecutorCommand],
    NoDecode,
    BeforeValidator(
        lambda value: parse_json(value, dict, 'a JSON object such as {"NAME": {"argv": ["x"]}}')
    ),
]
