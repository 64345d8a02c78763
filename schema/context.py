"""What resolvers of the schema get as context: a request's operations context and the streams."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import strawberry

from resolvers.context import Context, Services
from resolvers.principal import Principal

if TYPE_CHECKING:
    from subscriptions.hub import Hub


class GraphQLContext(Context):
    """The context of one GraphQL operation.

    ``hub`` feeds subscriptions; it is None where none are served (schema export, tests of queries).
    """

    def __init__(
        self,
        services: Services,
        principal: Principal | None,
        *,
        request_id: str = "",
        hub: "Hub | None" = None,
        reauthenticate: Callable[[], Awaitable[Principal | None]] | None = None,
    ) -> None:
        super().__init__(services, principal, request_id=request_id)
        self.hub = hub
        self._reauthenticate = reauthenticate

    async def current_principal(self) -> Principal | None:
        """Who is asking now: a key may have been revoked, a role changed since the beginning.

        Raises:
            UnauthenticatedError: the credential is not valid any more.
        """
        if self._reauthenticate is None:
            return self.principal
        return await self._reauthenticate()


Info = strawberry.Info[GraphQLContext, Any]
