"""Rate limits of the REST languages: windows, keys and headers as their documentation says."""

import asyncio
import time
from typing import Any

import pytest

from models.enums import Dialect, UserTier
from resolvers.errors import RateLimitedError
from resolvers.principal import Principal
from rest_compat.rates import POLICIES, Asker
from server.limits.rates import MemoryCounters, RequestRates
from server.setting_values import RATE_BUCKETS
from tests.support.server import REDIS

ALICE = Principal(kind="user", id="a", name="alice", key_id="k1")
ALICES_OTHER_KEY = Principal(kind="user", id="a", name="alice", key_id="k2")


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the counters: the beginning of an hour; may be changed."""
    now = [1_705_320_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def scope(path: str = "/api/v1/projects", *, method: str = "GET", host: str = "1.2.3.4") -> Any:
    return {"path": path, "compat_path": path, "method": method, "client": (host, 4000)}


async def count(
    rates: RequestRates, dialect: Dialect, principal: Principal | None, **where: Any
) -> dict[str, str]:
    return await rates.count(dialect, scope=scope(**where), principal=principal)


async def refused(
    rates: RequestRates, dialect: Dialect, principal: Principal | None, **where: Any
) -> dict[str, Any]:
    with pytest.raises(RateLimitedError) as error:
        await count(rates, dialect, principal, **where)
    return error.value.details


async def test_viban_counts_by_token_in_windows_of_the_clock(noon: list[float]) -> None:
    rates = RequestRates(amounts={"VIBAN": {"minute": 3, "hour": 5}})
    noon[0] += 20
    seen = [await count(rates, Dialect.VIBAN, ALICE) for _ in range(3)]
    assert seen[0] == {
        "X-RateLimit-Limit": "3",
        "X-RateLimit-Remaining": "2",
        "X-RateLimit-Reset": "1705320060",
    }
    assert [headers["X-RateLimit-Remaining"] for headers in seen] == ["2", "1", "0"]
    details = await refused(rates, Dialect.VIBAN, ALICE)
    assert details["retry_after"] == 40
    assert details["headers"]["X-RateLimit-Remaining"] == "0"
    await count(rates, Dialect.VIBAN, ALICES_OTHER_KEY)
    noon[0] += 40
    await count(rates, Dialect.VIBAN, ALICE)
    last = await count(rates, Dialect.VIBAN, ALICE)
    assert (last["X-RateLimit-Limit"], last["X-RateLimit-Remaining"]) == ("5", "0")
    assert last["X-RateLimit-Reset"] == "1705323600"
    details = await refused(rates, Dialect.VIBAN, ALICE)
    assert details["retry_after"] == 3540, "refused requests do not count in the hour"


async def test_strangers_are_counted_by_their_address_and_see_no_headers(
    noon: list[float],
) -> None:
    rates = RequestRates(amounts={"VIBAN": {"refused": 2}})
    for _ in range(2):
        assert await count(rates, Dialect.VIBAN, None) == {}
    assert (await refused(rates, Dialect.VIBAN, None))["headers"] == {}
    assert await count(rates, Dialect.VIBAN, None, host="4.3.2.1") == {}
    assert await count(rates, Dialect.VIBAN, ALICE) != {}
    noon[0] += 60
    assert await count(rates, Dialect.VIBAN, None) == {}


async def test_one_customers_ipv6_addresses_count_together() -> None:
    assert Asker(None, "2001:4860:1:2::3", "GET", "/").place == "2001:4860:1:2::/64"
    assert Asker(None, "1.2.3.4", "GET", "/").place == "1.2.3.4"


async def test_claude_windows_begin_with_the_first_request(noon: list[float]) -> None:
    rates = RequestRates(amounts={"CLAUDE_CLI_WEB_UI": {"authenticated": 2, "premium": 9}})
    noon[0] += 20
    first = await count(rates, Dialect.CLAUDE_CLI_WEB_UI, ALICE)
    assert first == {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "1",
        "X-RateLimit-Reset": "1705320080",
        "X-RateLimit-Window": "60",
    }
    await count(rates, Dialect.CLAUDE_CLI_WEB_UI, ALICES_OTHER_KEY)
    details = await refused(rates, Dialect.CLAUDE_CLI_WEB_UI, ALICE)
    assert details["headers"]["X-RateLimit-Window"] == "60"
    premium = Principal(kind="user", id="p", name="p", tier=UserTier.PREMIUM)
    shown = await count(rates, Dialect.CLAUDE_CLI_WEB_UI, premium)
    assert shown["X-RateLimit-Limit"] == "9"
    noon[0] += 60
    again = await count(rates, Dialect.CLAUDE_CLI_WEB_UI, ALICE)
    assert again["X-RateLimit-Reset"] == "1705320140"


async def test_health_shows_headers_and_is_not_counted() -> None:
    rates = RequestRates(amounts={"CLAUDE_CLI_WEB_UI": {"anonymous": 2}})
    for _ in range(5):
        shown = await count(rates, Dialect.CLAUDE_CLI_WEB_UI, None, path="/api/health/")
        assert shown["X-RateLimit-Remaining"] == "2"


async def test_toban_shows_the_tightest_of_its_buckets() -> None:
    rates = RequestRates()
    bot = Principal(kind="agent", id="b", name="b", key_id="k", workspace_id="w")
    read = await count(rates, Dialect.TOBAN, bot, path="/api/v1/tasks")
    assert (read["X-RateLimit-Limit"], read["X-RateLimit-Remaining"]) == ("600", "599")
    for left in range(59, -1, -1):
        written = await count(rates, Dialect.TOBAN, bot, path="/api/v1/tasks", method="POST")
        assert (written["X-RateLimit-Limit"], written["X-RateLimit-Remaining"]) == (
            "60", str(left),
        )  # fmt: skip
    await refused(rates, Dialect.TOBAN, bot, path="/api/v1/tasks", method="POST")
    await count(rates, Dialect.TOBAN, bot, path="/api/v1/tasks", method="POST", host="9.9.9.9")


async def test_posthog_says_nothing_until_it_refuses() -> None:
    rates = RequestRates(amounts={"POSTHOG": {"minute": 1}})
    assert await count(rates, Dialect.POSTHOG, ALICE) == {}
    details = await refused(rates, Dialect.POSTHOG, ALICE)
    assert details["headers"] == {}
    assert 1 <= details["retry_after"] <= 60


async def test_zero_is_no_limit_and_viben_has_none() -> None:
    rates = RequestRates(amounts={"VIBAN": {"minute": 0, "hour": 0}})
    for _ in range(20):
        assert await count(rates, Dialect.VIBAN, ALICE) == {}
        assert await count(rates, Dialect.VIBEN, None) == {}


def test_settings_know_the_names() -> None:
    assert {
        dialect.value: {bucket.name for bucket in policy.buckets}
        for dialect, policy in POLICIES.items()
    } == RATE_BUCKETS


async def test_counters_in_memory_are_bounded() -> None:
    counters = MemoryCounters(maximum=10)
    await counters.incr("old", 60)
    for number in range(20):
        await counters.incr("busy", 60)
        await counters.incr(f"k{number}", 60)
    assert await counters.get("busy") == 20
    assert await counters.get("old") == 0
    assert await counters.reset() == 10


async def test_servers_count_together_in_redis() -> None:
    ours = [RequestRates(f"{REDIS}/5") for _ in range(2)]
    key = Principal(kind="user", id="r", name="r", key_id=f"key {time.time_ns()}")
    left = [
        int((await count(rates, Dialect.VIBAN, key))["X-RateLimit-Remaining"])
        for rates in (*ours, *ours)
    ]
    assert left == [999, 998, 997, 996]
    counted = await asyncio.gather(*(count(ours[n % 2], Dialect.VIBAN, key) for n in range(50)))
    assert sorted(int(c["X-RateLimit-Remaining"]) for c in counted) == list(range(946, 996))
    for rates in ours:
        await rates.aclose()


async def test_a_redis_that_is_away_is_no_reason_to_refuse() -> None:
    rates = RequestRates("redis://127.0.0.1:1/0")
    began = time.monotonic()
    seen = [await count(rates, Dialect.VIBAN, ALICE) for _ in range(5)]
    assert [headers["X-RateLimit-Remaining"] for headers in seen] == [
        "999", "998", "997", "996", "995",
    ]  # fmt: skip
    assert time.monotonic() - began < 5
    await rates.aclose()
