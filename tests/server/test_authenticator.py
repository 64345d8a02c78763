"""Looking tokens up: once for all who ask at the same time, and never what was overtaken."""

import asyncio
from typing import Any

import pytest

from models.errors import DatabaseBusyError
from resolvers.context import Context, Services
from resolvers.errors import UnauthenticatedError, UnavailableError
from resolvers.principal import Principal
from resolvers.tokens import create_token, revoke_token
from server import authentication
from server.authentication import Authenticator
from subscriptions.ports import principal_key


@pytest.fixture
async def token(owner: Context) -> tuple[str, str]:
    """A token's secret and id."""
    created = await create_token(owner, name="x")
    assert created.secret is not None
    return created.secret, created.key.id


@pytest.fixture
def look_ups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were looked up in the database, in order."""
    made: list[str] = []
    real = authentication.authenticate

    async def counting(services: Services, secret: str) -> Principal:
        made.append(secret)
        return await real(services, secret)

    monkeypatch.setattr(authentication, "authenticate", counting)
    return made


async def test_many_who_ask_at_once_are_one_look_up(
    services: Services, token: tuple[str, str], look_ups: list[str]
) -> None:
    authenticator = Authenticator(services)
    principals = await asyncio.gather(*[authenticator.principal(token[0]) for _ in range(100)])
    assert {principal.name for principal in principals} == {"owner"}
    await authenticator.principal(token[0])
    assert look_ups == [token[0]]


async def test_one_who_leaves_does_not_take_the_others_along(
    services: Services, token: tuple[str, str], look_ups: list[str]
) -> None:
    authenticator = Authenticator(services)
    first = asyncio.create_task(authenticator.principal(token[0]))
    second = asyncio.create_task(authenticator.principal(token[0]))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).name == "owner"
    assert first.cancelled()
    assert look_ups == [token[0]]


async def test_a_look_up_that_a_change_overtook_is_not_kept(
    services: Services, owner: Context, token: tuple[str, str], look_ups: list[str]
) -> None:
    authenticator = Authenticator(services)
    principal = owner.authenticated()
    asked = asyncio.create_task(authenticator.principal(token[0]))
    while not look_ups:
        await asyncio.sleep(0)
    await revoke_token(owner, key_id=token[1])
    authenticator.forget([principal_key(principal.key)])
    with pytest.raises(UnauthenticatedError):
        await authenticator.principal(token[0])
    await asyncio.gather(asked, return_exceptions=True)
    with pytest.raises(UnauthenticatedError):
        await authenticator.principal(token[0])


async def test_a_busy_database_is_told_as_such(
    services: Services, token: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy() -> Any:
        raise DatabaseBusyError("no database connection was free in time")

    monkeypatch.setattr(services.database, "read", busy)
    with pytest.raises(UnavailableError):
        await Authenticator(services).principal(token[0])
