"""Rate limits as a client of a REST language meets them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.inside import Inside, open_inside
from tests.support.rest import rest_client


@pytest.fixture
async def inside(tmp_path: Path) -> AsyncIterator[Inside]:
    """A server that allows little."""
    amounts = {"VIBAN": {"minute": 3, "refused": 2}}
    async with open_inside(tmp_path / "data", rate_limits=amounts) as opened:
        yield opened
        assert opened.internal_errors == []


async def test_viban_shows_what_is_left_and_refuses_beyond(inside: Inside) -> None:
    async with rest_client(inside, "viban") as viban:
        for left, path, status in ((2, "/api/v1/projects", 200), (1, "/api/v1/tasks/none", 404)):
            answer = await viban.send("GET", path)
            assert answer.status_code == status
            assert answer.headers["X-RateLimit-Limit"] == "3"
            assert answer.headers["X-RateLimit-Remaining"] == str(left)
        await viban.send("POST", "/api/v1/projects", content=b"{")
        refused = await viban.send("GET", "/api/v1/projects")
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limited"
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        viban.token = "dgm_nobodys"
        seen = [await viban.send("GET", "/api/v1/projects") for _ in range(3)]
        assert [answer.status_code for answer in seen] == [401, 401, 429]
        assert not any(name.startswith("x-ratelimit") for a in seen for name in a.headers)
        assert (await inside.post("{ viewer { name } }")).status == 200
