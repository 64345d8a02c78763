from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.inside import Inside, open_inside
from tests.support.rest import RestClient, rest_client


@pytest.fixture
async def inside(tmp_path: Path, database_url: str) -> AsyncIterator[Inside]:
    """A server on a fresh database of each kind."""
    async with open_inside(
        tmp_path / "data", database_url=database_url, max_body_bytes=8192
    ) as opened:
        yield opened
        assert opened.internal_errors == []


@pytest.fixture
async def viban(inside: Inside) -> AsyncIterator[RestClient]:
    """The site owner's Viban client."""
    async with rest_client(inside, "viban") as client:
        yield client
