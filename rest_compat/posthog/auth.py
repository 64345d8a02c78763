"""Credentials of PostHog Tasks: a personal or OAuth key as bearer token, or in the query."""

from starlette.requests import HTTPConnection

from resolvers.errors import UnauthenticatedError
from resolvers.principal import Principal
from rest_compat.house import House

QUERY_KEY = "personal_api_key"


async def authenticate(house: House, connection: HTTPConnection) -> Principal:
    """Who asks; the first credential found is the only one tried.

    Raises:
        UnauthenticatedError, UnavailableError.
    """
    scheme, _, token = connection.headers.get("authorization", "").strip().partition(" ")
    place = "request Authorization header"
    if scheme.lower() != "bearer" or not token.strip():
        token, place = connection.query_params.get(QUERY_KEY, ""), "request query string"
    if not token.strip():
        raise UnauthenticatedError("Authentication credentials were not provided.", missing=True)
    try:
        return await house.authenticate(token.strip())
    except UnauthenticatedError:
        raise UnauthenticatedError(f"Personal API key found in {place} is invalid.") from None
