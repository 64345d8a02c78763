"""A seeded server for synchronous tests, which Hypothesis likes best; its loop is its own."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.fuzz.bench import Bench
from tests.support.inside import open_inside
from tests.support.server import fresh_postgres
from tests.support.tenants import make_tenant

DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=[pytest.mark.postgres, pytest.mark.long]),
]


@pytest.fixture(scope="module", params=DATABASES)
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    with ExitStack() as stack:
        url = stack.enter_context(fresh_postgres()) if request.param == "postgresql" else None
        runner = stack.enter_context(asyncio.Runner())
        # Nothing runs here, so whoever waits for a run waits as long as is allowed.
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(
            "resolvers.phases.WAIT_SECONDS_MAX", 1
        )
        context = open_inside(folder / "data", database_url=url)
        inside = runner.run(context.__aenter__())
        stack.callback(lambda: runner.run(context.__aexit__(None, None, None)))
        tenant = runner.run(make_tenant(inside, "Gecko", folder))
        yield Bench(runner, inside, tenant)
