"""Rate limits of the REST languages, loaded with the first request that is counted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.types import Scope

from resolvers.principal import Principal
from server.settings import Settings

if TYPE_CHECKING:
    from server.limits.rates import RequestRates


class LateRates:
    """``RequestRates`` by the settings: the port ``rest_compat.house.RateLimits``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: RequestRates | None = None

    async def count(
        self, dialect: str, /, *, scope: Scope, principal: Principal | None
    ) -> Mapping[str, str]:
        """See the port."""
        if self._made is None:
            from server.limits.rates import RequestRates

            url = self._settings.rate_limit_url.get_secret_value()
            self._made = RequestRates(url, amounts=self._settings.rate_limits)
        return await self._made.count(dialect, scope=scope, principal=principal)

    async def aclose(self) -> None:
        """End the connections, if there are any."""
        if self._made is not None:
            await self._made.aclose()
