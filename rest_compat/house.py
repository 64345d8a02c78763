"""What the languages need from the server, as one value and a few protocols."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import Receive, Scope

from resolvers.context import Services
from resolvers.principal import Principal
from subscriptions.hub import Hub


class ReadBody(Protocol):
    """Reads request bodies within the server's limits."""

    async def __call__(self, scope: Scope, receive: Receive, /, *, max_bytes: int) -> bytes | None:
        """The whole body; None when the client went away.

        Raises:
            Refusal: TOO_LARGE, or TOO_SLOW when it does not arrive in time.
        """


class LogError(Protocol):
    """Receives every unexpected exception once; the client is told only the id."""

    def __call__(self, error: BaseException, /, *, error_id: str, path: str) -> None:
        """Log it with its traceback."""


class RateLimits(Protocol):
    """Counts requests by the policy of their language."""

    async def count(
        self, dialect: str, /, *, scope: Scope, principal: Principal | None
    ) -> Mapping[str, str]:
        """Headers to be added to the answer, whatever it will be.

        Args:
            dialect: whose policy.
            scope: the request's; ``client`` is who sent it.
            principal: who asks; None when the credential was refused or none was needed.

        Raises:
            RateLimitedError: too often; ``details["headers"]`` are the headers of the refusal.
        """


Turn = Callable[[str], AbstractAsyncContextManager[None]]
"""Holds a turn of a caller; entering raises RateLimitedError when none comes up in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The server as a language sees it; the same functions serve GraphQL."""

    services: Services
    hub: Hub
    authenticate: Callable[[str], Awaitable[Principal]]
    """The principal of a token; raises UnauthenticatedError or UnavailableError."""
    turn: Turn
    """For requests."""
    stream_turn: Turn
    """For streams, which may last."""
    read_body: ReadBody
    drain: Callable[[Receive], Awaitable[None]]
    """Throws away, within bounds, what a client still sends after its body was refused."""
    parse_json: Callable[[bytes], Any]
    """Strict JSON; raises Refusal MALFORMED."""
    check_media_type: Callable[[Scope], None]
    """Raises Refusal MEDIA_TYPE for anything but JSON in UTF-8."""
    is_foreign: Callable[[Scope], bool]
    """Whether a page of another site sent this and is not listed as allowed."""
    log_error: LogError
    name_operation: Callable[[str], None]
    """Puts the route's name on the request's log lines."""
    allowed_origins: tuple[str, ...] = ()
    public_url: str | None = None
    max_body_bytes: int = 1 << 20
    rate_limits: RateLimits | None = None
