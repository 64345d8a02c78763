"""Viban's credentials: a bearer token of any kind on every route."""

from dataclasses import replace

from starlette.requests import HTTPConnection

from models.enums import Dialect
from resolvers.authentication import bearer_token
from resolvers.principal import Principal
from rest_compat.house import House

WRITES = "task:write"
EXECUTES = "run:execute"


async def authenticate(house: House, connection: HTTPConnection) -> Principal | None:
    """The principal of the bearer token.

    Viban knows two scopes, and starting an agent by moving a card is part of ``write``; so
    ``task:write`` of a token made for Viban covers that.

    Raises:
        UnauthenticatedError: no token, or not a valid one.
    """
    token = bearer_token(connection.headers.get("authorization"))
    if token is None:
        return None
    principal = await house.authenticate(token)
    if principal.dialect == Dialect.VIBAN and WRITES in principal.scopes:
        return replace(principal, scopes=principal.scopes | {EXECUTES})
    return principal
