"""Counting requests of the REST languages by their tables, in memory or in Redis.

The counters are those of the package ``limits``. Its own storage in memory looks through all keys
at every request (measured: 1.6 ms of CPU with 20,000 addresses), so there is one of ours.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import Storage
from limits.errors import StorageError
from starlette.types import Scope

from models.enums import Dialect
from resolvers.errors import RateLimitedError
from resolvers.principal import Principal
from rest_compat.rates import POLICIES, Asker, Bucket, RatePolicy, Shows

log = structlog.get_logger("dragoman.rates")

KEYS_MAX: Final = 50_000
"""Counters kept in memory at most: under a flood from countless addresses the oldest go early."""
REDIS_SECONDS: Final = 0.5
AWAY_SECONDS: Final = 5.0
"""How long a Redis that failed is not asked again; this process counts alone meanwhile."""


class MemoryCounters(Storage):
    """Counters in this process: a call takes the same short time, however many keys there are."""

    STORAGE_SCHEME = None

    def __init__(self, *, maximum: int = KEYS_MAX) -> None:
        super().__init__()
        self._maximum = maximum
        self._counters: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """Nothing here fails."""
        return StorageError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, and begin a new window where the last one is over."""
        now = time.time()
        count, end = self._counters.pop(key, (0, 0.0))
        if end <= now:
            count, end = 0, now + expiry
            if len(self._counters) >= self._maximum:
                del self._counters[next(iter(self._counters))]
        self._counters[key] = (count + amount, end)  # at the end: least recently used goes first
        return count + amount

    async def get(self, key: str) -> int:
        """The count of the present window."""
        count, end = self._counters.get(key, (0, 0.0))
        return count if end > time.time() else 0

    async def get_expiry(self, key: str) -> float:
        """When the present window ends, seconds since 1970."""
        _, end = self._counters.get(key, (0, 0.0))
        return max(end, time.time())

    async def check(self) -> bool:
        """It works."""
        return True

    async def reset(self) -> int:
        """Forget everything."""
        count = len(self._counters)
        self._counters.clear()
        return count

    async def clear(self, key: str) -> None:
        """Forget a key."""
        self._counters.pop(key, None)


class RequestRates:
    """The port ``rest_compat.house.RateLimits``.

    Args:
        url: of the Redis in which several servers count together; ``memory://`` for counting in
            this process alone.
        amounts: other amounts by language and bucket; 0 for no limit.
    """

    def __init__(
        self,
        url: str = "memory://",
        *,
        amounts: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self._local = MemoryCounters()
        self._shared: Storage | None = None
        self._pool: Any = None
        if not url.startswith("memory:"):
            self._connect(url)
        self._away_until = 0.0
        self._amounts = amounts or {}

    def _connect(self, url: str) -> None:
        from limits.aio.storage import RedisStorage
        from redis.asyncio import ConnectionPool

        self._pool = ConnectionPool.from_url(
            url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        )
        self._shared = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="dragoman:rates",
            connection_pool=self._pool,
        )

    async def aclose(self) -> None:
        """End the connections."""
        if self._pool is not None:
            await self._pool.aclose()

    async def count(
        self, dialect: str, /, *, scope: Scope, principal: Principal | None
    ) -> dict[str, str]:
        """Count a request; the headers that its answer has to have.

        Raises:
            RateLimitedError: too often; ``details["headers"]`` are the headers of the refusal.
        """
        policy = POLICIES.get(Dialect(dialect))
        if policy is None:
            return {}
        client = scope.get("client")
        path = str(scope.get("compat_path", scope["path"]))
        method = str(scope.get("method", "GET"))
        asker = Asker(principal, client[0] if client else "", method, path)
        tightest: _Count | None = None
        for bucket in policy.buckets:
            amount = self._amounts.get(dialect, {}).get(bucket.name, bucket.amount)
            key = bucket.key(asker)
            if key is None or amount == 0:
                continue
            counted = await self._count(dialect, policy, bucket, amount, key, path)
            if tightest is None or counted.left < tightest.left:
                tightest = counted
            if counted.is_over:
                raise self._refusal(policy, counted, principal)
        return {} if tightest is None else _headers(policy, tightest, principal)

    async def _count(
        self, dialect: str, policy: RatePolicy, bucket: Bucket, amount: int, key: str, path: str
    ) -> "_Count":
        item = RateLimitItemPerSecond(amount, bucket.seconds, namespace=dialect.lower())
        now = time.time()
        parts = [bucket.name, key]
        if policy.aligned:
            parts.append(str(int(now) // bucket.seconds))
        name = item.key_for(*parts)
        is_free = path.rstrip("/") in policy.free
        count, end = await self._ask(item, name, is_free=is_free)
        if policy.aligned:
            end = (int(now) // bucket.seconds + 1) * bucket.seconds
        return _Count(amount, bucket.seconds, count, end, is_free=is_free)

    async def _ask(self, item: RateLimitItem, name: str, *, is_free: bool) -> tuple[int, float]:
        """The count after this request, and when its window ends."""
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                return await _ask(self._shared, item, name, is_free=is_free)
            except StorageError as error:
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("rate limits are counted by this process alone", error=str(error))
        return await _ask(self._local, item, name, is_free=is_free)

    def _refusal(
        self, policy: RatePolicy, counted: "_Count", principal: Principal | None
    ) -> RateLimitedError:
        wait = max(1, math.ceil(counted.end - time.time()))
        error = RateLimitedError("Too many requests; wait a moment", retry_after=wait)
        error.details["headers"] = _headers(policy, counted, principal)
        error.details["limit"] = counted.amount
        error.details["window"] = counted.seconds
        return error


class _Count:
    """Where a bucket stands after a request."""

    __slots__ = ("amount", "end", "is_over", "left", "seconds")

    def __init__(self, amount: int, seconds: int, count: int, end: float, *, is_free: bool) -> None:
        self.amount = amount
        self.seconds = seconds
        self.left = max(0, amount - count)
        self.end = end
        self.is_over = count > amount and not is_free


async def _ask(
    storage: Storage, item: RateLimitItem, name: str, *, is_free: bool
) -> tuple[int, float]:
    expiry = item.get_expiry()
    count = await (storage.get(name) if is_free else storage.incr(name, expiry))
    return count, float(await storage.get_expiry(name))


def _headers(policy: RatePolicy, count: _Count, principal: Principal | None) -> dict[str, str]:
    known = policy.shows == Shows.TO_KNOWN and principal is not None
    if policy.shows != Shows.ALWAYS and not known:
        return {}
    headers: dict[str, Any] = {
        "X-RateLimit-Limit": count.amount,
        "X-RateLimit-Remaining": count.left,
        "X-RateLimit-Reset": math.ceil(count.end),
    }
    if policy.shows_window:
        headers["X-RateLimit-Window"] = count.seconds
    return {name: str(value) for name, value in headers.items()}
