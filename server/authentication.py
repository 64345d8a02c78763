"""Who a request comes from: bearer tokens, looked up at most once a second each."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable

from starlette.datastructures import Headers

from resolvers.authentication import authenticate, bearer_token, hash_secret
from resolvers.context import Services
from resolvers.principal import Principal
from subscriptions.ports import principal_key

CACHE_SECONDS = 1.0
CACHED_PRINCIPALS = 10_000


class Authenticator:
    """Principals by token, cached for a second and dropped by wake-ups.

    However many ask for the same token at the same time (streams do, when their log moves), it is
    looked up once.

    :meth:`forget` is a listener of ``WakeUps``: a revoked token or a changed role counts at once
    in this process, and as soon as the wake-up arrives (a second at most) in others.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._cache: OrderedDict[str, tuple[float, Principal]] = OrderedDict()
        self._look_ups: dict[str, asyncio.Task[Principal]] = {}

    def known(self, digest: str) -> Principal | None:
        """The principal of a token, given its hash, that was looked up less than a second ago."""
        cached = self._cache.get(digest)
        return cached[1] if cached is not None and cached[0] > time.monotonic() else None

    async def principal(self, token: str) -> Principal:
        """The principal of a token.

        Raises:
            UnauthenticatedError: it is not valid.
            UnavailableError: the database is busy.
        """
        digest = hash_secret(token)
        cached = self._cache.get(digest)
        if cached is not None and cached[0] > time.monotonic():
            return cached[1]
        look_up = self._look_ups.get(digest)
        if look_up is None:
            look_up = asyncio.create_task(authenticate(self._services, token))
            self._look_ups[digest] = look_up
            look_up.add_done_callback(lambda done: self._looked_up(digest, done))
        return await asyncio.shield(look_up)

    def _looked_up(self, digest: str, look_up: asyncio.Task[Principal]) -> None:
        is_current = self._look_ups.get(digest) is look_up
        if is_current:
            del self._look_ups[digest]
        # One that a wake-up overtook may have seen what holds no longer: it is not kept.
        if look_up.cancelled() or look_up.exception() is not None or not is_current:
            return
        self._cache[digest] = (time.monotonic() + CACHE_SECONDS, look_up.result())
        self._cache.move_to_end(digest)
        while len(self._cache) > CACHED_PRINCIPALS:
            self._cache.popitem(last=False)

    def forget(self, keys: Iterable[str]) -> None:
        """Drop the principals that wake-up keys name."""
        changed = {key for key in keys if key.startswith(principal_key(""))}
        if changed:
            stale = [d for d, (_, p) in self._cache.items() if principal_key(p.key) in changed]
            for digest in stale:
                del self._cache[digest]
            self._look_ups.clear()  # whose they are is not known yet


def token_of(headers: Headers) -> str | None:
    """The bearer token of a request's headers, or None."""
    return bearer_token(headers.get("authorization"))
