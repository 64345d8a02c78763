"""Where wake-ups travel between processes, chosen by URL.

broadcaster's own network backends lose connections silently, share a connection between listening
and publishing, and have unbounded queues; these replace them behind the same interface.
"""

from __future__ import annotations

from importlib.util import find_spec

from broadcaster import BroadcastBackend

from subscriptions.backends.memory import MemoryBackend


class MissingExtraError(RuntimeError):
    """The URL needs a package that is not installed; the message names the extra."""


def backend_from_url(url: str) -> BroadcastBackend:
    """The backend for `memory://`, `redis://`, `rediss://`, `unix://` or `postgresql://`.

    Raises:
        ValueError: the URL's scheme is none of these.
        MissingExtraError: the driver for it is not installed.
    """
    scheme = url.partition("://")[0].partition("+")[0] if "://" in url else ""
    match scheme:
        case "memory":
            return MemoryBackend()
        case "redis" | "rediss" | "unix":
            _require("redis", extra="redis")
            from subscriptions.backends.redis import RedisBackend

            return RedisBackend(url)
        case "postgresql" | "postgres":
            _require("asyncpg", extra="postgres")
            from subscriptions.backends.postgres import PostgresBackend

            return PostgresBackend(url)
        case _:
            # The URL itself may hold a password: only its scheme is repeated.
            raise ValueError(
                f"broadcast URL scheme {scheme!r} is not known: use memory://, redis://, rediss://,"
                " unix:// or postgresql://"
            )


def _require(module: str, *, extra: str) -> None:
    if find_spec(module) is None:
        raise MissingExtraError(
            f"this broadcast URL needs the package {module!r}: install dragoman[{extra}]"
        )


__all__ = ["MemoryBackend", "MissingExtraError", "backend_from_url"]
