"""Which languages there are and how their requests are told apart, without importing them."""

from dataclasses import dataclass

from models.enums import Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a language before it is loaded.

    ``covers`` are the beginnings of its original paths: nothing outside of them loads it, unless a
    credential names it. A request carries a credential of this language when its bearer token
    begins with one of ``key_prefixes`` (or is a JWT, where ``takes_jwt``), or when it has the
    cookie or the query parameter. ``module`` has a function ``make_language(house)``.
    """

    dialect: Dialect
    title: str
    module: str
    covers: tuple[str, ...]
    key_prefixes: tuple[str, ...] = ()
    cookie: str | None = None
    query_key: str | None = None
    takes_jwt: bool = False

    @property
    def name(self) -> str:
        """Its name in addresses: ``/compat/<name>/…``."""
        return self.dialect.lower()

    def covers_path(self, path: str) -> bool:
        """Whether an original path may be one of this language's."""
        return any(path == root or path.startswith(f"{root}/") for root in self.covers)


CATALOG: tuple[Entry, ...] = (
    Entry(
        dialect=Dialect.VIBAN,
        title="Viban",
        module="rest_compat.viban.language",
        covers=("/api/v1", "/v1", "/api/health"),
    ),
    Entry(
        dialect=Dialect.POSTHOG,
        title="PostHog Tasks",
        module="rest_compat.posthog.language",
        covers=("/api/projects", "/api/users/@me"),
        key_prefixes=("phx_", "pha_"),
        query_key="personal_api_key",
    ),
)
"""The languages that are served."""

EXACT_PATHS: dict[str, Dialect] = {
    "/api/health": Dialect.TOBAN,
    "/api/health/": Dialect.CLAUDE_CLI_WEB_UI,
}
"""Original paths whose slash tells two languages apart; without effect until both are served."""
