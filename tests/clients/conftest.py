"""A server that real clients talk to."""

from collections.abc import Iterator

import pytest

from tests.support.server import RunningServer, a_server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """On each kind of database."""
    with a_server(tmp_path_factory.mktemp("server"), database=request.param) as running:
        yield running
        assert running.complaints() == []
