"""How often a language's clients may ask: one table per language, as its documentation says.

Nothing is counted here; ``server.limits.rates`` does that. GraphQL has limits of its own.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from models.enums import Dialect, UserTier
from resolvers.principal import Principal

MINUTE, HOUR = 60, 3600
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Shows(StrEnum):
    """On which answers the headers stand."""

    NEVER = "NEVER"
    TO_KNOWN = "TO_KNOWN"
    """Where the credential was accepted."""
    ALWAYS = "ALWAYS"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for what: all that a bucket may depend on. ``path`` is within the language."""

    principal: Principal | None
    address: str
    method: str
    path: str

    @property
    def place(self) -> str:
        """The address; of IPv6 the network that one customer has (/64)."""
        try:
            address = ipaddress.ip_address(self.address)
        except ValueError:
            return self.address
        if address.version == 4:  # noqa: PLR2004  # IPv4
            return self.address
        return str(ipaddress.ip_network((address, 64), strict=False))


@dataclass(frozen=True, slots=True)
class Bucket:
    """So many requests in so many seconds for each value of a key; a key of None is not counted."""

    name: str
    amount: int
    seconds: int
    key: Callable[[Asker], str | None]


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """A language's buckets, and how it shows them.

    Windows are fixed: aligned to the clock, or beginning with a key's first request. Requests at
    ``free`` paths show the headers without being counted.
    """

    buckets: tuple[Bucket, ...]
    aligned: bool
    shows: Shows
    shows_window: bool = False
    free: frozenset[str] = frozenset()


def _credential(asker: Asker) -> str | None:
    principal = asker.principal
    return None if principal is None else principal.key_id or principal.key


def _stranger(asker: Asker) -> str | None:
    return asker.place if asker.principal is None else None


def _holder(tier: UserTier) -> Callable[[Asker], str | None]:
    def key(asker: Asker) -> str | None:
        principal = asker.principal
        return principal.key if principal is not None and principal.tier == tier else None

    return key


def _at(*paths: str) -> Callable[[Asker], str | None]:
    def key(asker: Asker) -> str | None:
        path = asker.path.rstrip("/")
        return asker.place if any(path == p or path.startswith(f"{p}/") for p in paths) else None

    return key


def _workspace(asker: Asker) -> str | None:
    return None if asker.principal is None else asker.principal.workspace_id


def _writes_from_place(asker: Asker) -> str | None:
    workspace_id = _workspace(asker)
    is_write = asker.method in UNSAFE and asker.path.startswith("/api/v1/")
    return f"{asker.place} {workspace_id}" if is_write and workspace_id else None


POLICIES: Mapping[Dialect, RatePolicy] = {
    Dialect.VIBAN: RatePolicy(
        (
            Bucket("minute", 1_000, MINUTE, _credential),
            Bucket("hour", 10_000, HOUR, _credential),
            Bucket("refused", 100, MINUTE, _stranger),
        ),
        aligned=True,
        shows=Shows.TO_KNOWN,
        free=frozenset({"/api/health"}),
    ),
    Dialect.POSTHOG: RatePolicy(
        (
            Bucket("minute", 480, MINUTE, _credential),
            Bucket("hour", 4_800, HOUR, _credential),
            Bucket("refused", 100, MINUTE, _stranger),
        ),
        aligned=False,
        shows=Shows.NEVER,
    ),
    Dialect.TOBAN: RatePolicy(
        (
            Bucket("auth", 60, MINUTE, _at("/api/auth")),
            Bucket("key", 600, MINUTE, _credential),
            Bucket("workspace", 600, MINUTE, _workspace),
            Bucket("writes", 60, MINUTE, _writes_from_place),
            Bucket("refused", 100, MINUTE, _stranger),
        ),
        aligned=False,
        shows=Shows.ALWAYS,
        free=frozenset({"/api/health"}),
    ),
    Dialect.CLAUDE_CLI_WEB_UI: RatePolicy(
        (
            Bucket("login", 10, MINUTE, _at("/api/auth/login")),
            Bucket("refresh", 30, MINUTE, _at("/api/auth/refresh")),
            Bucket("anonymous", 100, MINUTE, _stranger),
            Bucket("authenticated", 200, MINUTE, _holder(UserTier.STANDARD)),
            Bucket("premium", 500, MINUTE, _holder(UserTier.PREMIUM)),
        ),
        aligned=False,
        shows=Shows.ALWAYS,
        shows_window=True,
        free=frozenset({"/api/health"}),
    ),
}
"""Viben has none: it is spoken on this machine only."""
