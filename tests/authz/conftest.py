from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.authz.house import House, build_house
from tests.support.inside import open_inside


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("house")
    async with open_inside(folder / "data") as inside:
        yield await build_house(inside, folder)
