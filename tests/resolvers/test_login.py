"""Logging in and out: one answer for every failure, counted attempts, sessions that slide."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from models import ApiKey, LoginThrottle, User, table_of
from models.enums import KeyKind
from models.transaction import select_all
from resolvers import throttle
from resolvers.authentication import authenticate, hash_secret
from resolvers.context import Context, Services
from resolvers.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    RateLimitedError,
    UnauthenticatedError,
)
from resolvers.event_queries import list_events
from resolvers.sessions import client_network, log_in, log_out
from resolvers.users import create_user, update_user
from tests.support.fixtures import MakeContext

PASSWORD = "correct horse"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def services(services: Services, clock: Clock) -> Services:
    return replace(services, clock=clock)


@pytest.fixture
async def ada(owner: Context) -> User:
    return await create_user(owner, name="Ada", password=PASSWORD)


@pytest.fixture
def stranger(as_principal: MakeContext) -> Context:
    return as_principal(None)


async def fail(ctx: Context, *, name: str = "ada", address: str = "192.0.2.1") -> None:
    with pytest.raises(UnauthenticatedError):
        await log_in(ctx, name=name, password="wrong password", address=address)


async def test_a_password_opens_a_session_of_seven_days(
    stranger: Context, services: Services, ada: User, clock: Clock
) -> None:
    created = await log_in(stranger, name="aDA", password=PASSWORD, address="192.0.2.1")
    assert created.secret is not None
    assert created.secret.startswith("dgm_")
    assert created.key.kind == KeyKind.SESSION
    assert created.key.expires_at == clock.now + timedelta(days=7)
    principal = await authenticate(services, created.secret)
    assert (principal.id, principal.key_id) == (ada.id, created.key.id)
    clock.advance(days=6)
    await authenticate(services, created.secret)  # slides
    clock.advance(days=6)
    await authenticate(services, created.secret)
    clock.advance(days=7, seconds=1)
    with pytest.raises(UnauthenticatedError):
        await authenticate(services, created.secret)


async def test_only_the_hash_of_a_secret_is_kept_and_no_event_tells_it(
    stranger: Context, owner: Context, ada: User
) -> None:
    created = await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")
    assert created.secret is not None
    key = await (await stranger.reader()).find_by_id(ApiKey, created.key.id)
    assert key is not None
    assert key.secret_hash == hash_secret(created.secret)
    assert created.secret not in str(key.as_dict())
    events = (await list_events(owner, workspace_id=None)).nodes
    assert {"user.logged_in", "token.created", "user.created"} <= {e.type for e in events}
    written = str([event.payload for event in events])
    for secret in (created.secret, key.secret_hash, PASSWORD, "argon2", "password_hash"):
        assert secret not in written


@pytest.mark.parametrize(
    ("name", "password"), [("ada", "wrong password"), ("nobody", PASSWORD), ("ä x", PASSWORD)]
)
async def test_unknown_names_and_wrong_passwords_get_one_answer(
    stranger: Context, ada: User, name: str, password: str
) -> None:
    with pytest.raises(UnauthenticatedError) as refusal:
        await log_in(stranger, name=name, password=password, address="192.0.2.1")
    assert refusal.value.message == "Name and password do not belong together"
    assert refusal.value.details == {}


async def test_an_unknown_name_costs_a_password_check_too(services: Services, ada: User) -> None:
    checked: list[str | None] = []

    class Counting:
        async def hash(self, password: str) -> str:
            return await services.passwords.hash(password)

        async def verify(self, password: str, stored: str | None) -> bool:
            checked.append(stored)
            return await services.passwords.verify(password, stored)

    ctx = Context(replace(services, passwords=Counting()), None)
    await fail(ctx, name="nobody")
    await fail(ctx, name="ada")
    assert checked == [None, ada.password_hash]


@pytest.mark.parametrize("password", ["x" * 201, "half \ud800", "nul \x00"])
async def test_texts_no_password_can_be_are_refused(
    stranger: Context, ada: User, password: str
) -> None:
    with pytest.raises(InvalidError) as refusal:
        await log_in(stranger, name="ada", password=password, address="192.0.2.1")
    assert refusal.value.details["field"] == "password"
    assert password not in refusal.value.message


async def test_a_disabled_account_is_told_only_to_who_knows_its_password(
    stranger: Context, owner: Context, services: Services, ada: User
) -> None:
    session = await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")
    await update_user(owner, user_id=ada.id, is_active=False)
    await fail(stranger)
    with pytest.raises(ForbiddenError):
        await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")
    await update_user(owner, user_id=ada.id, is_active=True)
    assert session.secret is not None
    with pytest.raises(UnauthenticatedError):  # the session ended with the deactivation
        await authenticate(services, session.secret)


async def test_the_eleventh_failure_of_a_minute_is_refused_until_the_minute_is_over(
    stranger: Context, ada: User, clock: Clock
) -> None:
    for _ in range(10):
        await fail(stranger)
    clock.advance(seconds=20)
    with pytest.raises(RateLimitedError) as refusal:
        await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")
    assert refusal.value.details["retry_after"] == 40
    await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.2")
    clock.advance(seconds=40)
    await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")


async def test_failures_of_one_address_count_over_all_names(stranger: Context, ada: User) -> None:
    for number in range(10):
        await fail(stranger, name=f"nobody{number}")
    with pytest.raises(RateLimitedError):
        await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")


async def test_successes_are_not_counted(stranger: Context, ada: User) -> None:
    for _ in range(12):
        await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")


async def test_attempts_at_the_same_moment_cannot_slip_through_together(
    services: Services, ada: User
) -> None:
    attempts = [
        log_in(Context(services, None), name="ada", password="wrong password", address="::1")
        for _ in range(25)
    ]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    kinds = [type(result) for result in results]
    assert kinds.count(UnauthenticatedError) == 10
    assert kinds.count(RateLimitedError) == 15


async def test_old_counts_are_dropped_and_a_flood_is_bounded(
    stranger: Context, ada: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = sa.select(sa.func.count()).select_from(table_of(LoginThrottle))
    for number in range(5):
        await fail(stranger, address=f"192.0.2.{number}")
    assert await (await stranger.reader()).scalar(count) == 10
    await stranger.release()
    clock.advance(seconds=61)
    await fail(stranger, address="198.51.100.1")
    assert await (await stranger.reader()).scalar(count) == 2
    await stranger.release()
    monkeypatch.setattr(throttle, "ROWS_MAX", 4)
    monkeypatch.setattr(throttle, "DROPPED_AT_ONCE", 4)
    for number in range(5):
        clock.advance(milliseconds=1)
        await fail(stranger, address=f"203.0.113.{number}")
    assert await (await stranger.reader()).scalar(count) <= 4


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("some\x00thing" + "x" * 100, "something" + "x" * 36),
    ],
)
def test_one_client_is_one_ipv4_address_or_one_ipv6_network(address: str, network: str) -> None:
    assert client_network(address) == network


async def test_logging_out_ends_the_session_once(
    stranger: Context, services: Services, ada: User
) -> None:
    created = await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")
    assert created.secret is not None
    ctx = Context(services, await authenticate(services, created.secret))
    first = await log_out(ctx)
    assert first.revoked_at is not None
    with pytest.raises(UnauthenticatedError):
        await authenticate(services, created.secret)
    assert (await log_out(ctx)).revoked_at == first.revoked_at
    wakeups = services.wakeups
    assert wakeups.principals.count(f"user:{ada.id}") == 1


async def test_who_uses_no_key_cannot_log_out(system: Context, stranger: Context) -> None:
    with pytest.raises(ConflictError):
        await log_out(system)
    with pytest.raises(UnauthenticatedError):
        await log_out(stranger)


async def test_the_oldest_sessions_make_room_for_new_ones(
    services: Services, ada: User, clock: Clock
) -> None:
    ctx = Context(replace(services, limits=replace(services.limits, keys_per_user=3)), None)
    keys = []
    for _ in range(5):
        clock.advance(seconds=1)
        created = await log_in(ctx, name="ada", password=PASSWORD, address="192.0.2.1")
        keys.append(created.key.id)
    rows = await (await ctx.reader()).records(
        ApiKey, select_all(ApiKey).where(table_of(ApiKey).c.revoked_at.is_(None))
    )
    await ctx.release()
    assert {row.id for row in rows if row.user_id == ada.id} == set(keys[2:])


async def test_rows_of_long_ended_sessions_are_forgotten(
    stranger: Context, ada: User, clock: Clock
) -> None:
    first = await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")
    clock.advance(days=38)
    await log_in(stranger, name="ada", password=PASSWORD, address="192.0.2.1")
    assert await (await stranger.reader()).find_by_id(ApiKey, first.key.id) is None
