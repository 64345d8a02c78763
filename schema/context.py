"""What resolvers of the schema get as context: a request's operations context and the streams."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import strawberry

from resolvers.context import Context, Services
from resolvers.idempotency import IdempotentRequest, claim_request, settle_request
from resolvers.principal import Principal

if TYPE_CHECKING:
    from subscriptions.hub import Hub


class GraphQLContext(Context):
    """The context of one GraphQL operation.

    ``hub`` feeds subscriptions; it is None where none are served (schema export, tests of queries).
    ``client_address`` is where the connection comes from, for counting failed log-ins.
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
        self.client_address = ""
        self.idempotency_key: str | None = None
        self.request_hash: str | None = None
        self.mutations_expected: int | None = None
        self._reauthenticate = reauthenticate

    async def current_principal(self) -> Principal | None:
        """Who is asking now: a key may have been revoked, a role changed since the beginning.

        Raises:
            UnauthenticatedError: the credential is not valid any more.
        """
        if self._reauthenticate is None:
            return self.principal
        return await self._reauthenticate()

    @property
    def is_idempotent(self) -> bool:
        """Whether the request is to have its effect once, however often it is sent."""
        return self.idempotency is not None or (
            self.idempotency_key is not None and self.request_hash is not None
        )

    async def claim_idempotency(self) -> IdempotentRequest:
        """The claim on an idempotent request's key, made before its first mutation.

        Raises:
            ConflictError, InvalidError: see ``resolvers.idempotency.claim_request``.
        """
        if self.idempotency is None:
            key, digest = self.idempotency_key, self.request_hash
            assert key is not None  # noqa: S101  # see is_idempotent
            assert digest is not None  # noqa: S101  # see is_idempotent
            self.idempotency = await claim_request(
                self, key=key, request_hash=digest, steps_expected=self.mutations_expected
            )
        return self.idempotency

    async def close(self) -> None:
        """The end of the operation: the snapshot goes back, the idempotency key is settled."""
        if self.has_read:
            await self.release()
        request, self.idempotency = self.idempotency, None
        if request is not None and not request.is_settled:
            await settle_request(self, request=request)


Info = strawberry.Info[GraphQLContext, Any]
