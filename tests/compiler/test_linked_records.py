"""One record with those it leads to: read in one statement, and answered as graphql-core does."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio

from benchmarks.workloads import DRAGOMAN
from models.transaction import Reader
from tests.support.inside import not_compiled, open_inside
from tests.support.server import fresh_postgres
from tests.support.tenants import Tenant, make_tenant

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
TASKS = ("task", "task waited for", "task archived", "task deleted")
"""With everything it may lead to; with little; not on the board; gone."""
DOCUMENTS = {
    "all": "title workspace { id name } assignee { id name } agent { id name status } "
    "story { id title createdAt }",
    "without the record's own fields": "story { title }",
    "read whole": "usage { inputTokens } agent { metadata } story { description }",
    "aliases": "a: story { id } b: story { title status } story { workspace { slug } }",
    "merged": "story { id } story { title } ... on Node { id ... on Task { story { number } } }",
    "conditions": "story @skip(if: $on) { id } agent @include(if: $on) { id } ...F",
    "levels below": "story { totals { total } tasks(first: 2) { nodes { id story { id } } } "
    "sprint { id } } agent { tasks { totalCount nodes { agent { name } } } }",
    "beside levels": "runs(first: 2) { nodes { id agent { name } } } parent { story { id } id } "
    "story { id } latestRun { task { story { id } } }",
    "types": "__typename story { __typename } workspace { __typename }",
}
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=DATABASES)
async def tenant(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Tenant]:
    folder = tmp_path_factory.mktemp("links")
    with fresh_postgres() if request.param == "postgresql" else _no_url() as url:
        async with open_inside(folder / "data", database_url=url) as inside:
            yield await make_tenant(inside, "LINKS", folder)


@contextmanager
def _no_url() -> Iterator[None]:
    yield None


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_the_answer_is_graphql_cores(tenant: Tenant, name: str) -> None:
    text = (
        "query ($id: ID!, $on: Boolean = false) { task(id: $id) { id @include(if: $on) "
        f"{DOCUMENTS[name]} ...F }} }} fragment F on Task {{ agent {{ role }} number }}"
    )
    for task in TASKS:
        for on in (True, False):
            variables = {"id": tenant.ids[task], "on": on}
            with not_compiled():
                wanted = await tenant.inside.post(text, variables, token=tenant.inside.token)
            for _ in range(2):  # the second sighting is compiled
                got = await tenant.inside.post(text, variables, token=tenant.inside.token)
                assert got.body == wanted.body
            assert (wanted.data["task"] is None) == (task == "task deleted")


@pytest.mark.parametrize(
    "asked",
    [
        "nodes { status }",
        "totalCount pageInfo { hasNextPage } nodes { status }",
        "edges { node { status } }",
        "pageInfo { endCursor } edges { cursor }",
    ],
)
async def test_runs_of_a_task_are_answered_with_and_without_cursors(
    tenant: Tenant, asked: str
) -> None:
    inside = tenant.inside
    run = {"id": tenant.ids["run finished"]}
    of_run = "query ($id: ID!) { run(id: $id) { task { id } } }"
    task = (await inside.post(of_run, run, token=inside.token)).data["run"]["task"]
    text = f"query ($id: ID!) {{ task(id: $id) {{ runs {{ {asked} }} }} }}"
    with not_compiled():
        wanted = await inside.post(text, task, token=inside.token)
    assert wanted.data["task"]["runs"] != {"nodes": []}
    for _ in range(3):
        got = await inside.post(text, task, token=inside.token)
        assert got.body == wanted.body


async def test_a_task_of_others_is_not_to_be_seen_with_what_it_leads_to(tenant: Tenant) -> None:
    stranger = await tenant.token(await tenant.new_user())
    text = "query ($id: ID!) { task(id: $id) { story { title } workspace { name } } }"
    for _ in range(3):
        answer = await tenant.inside.post(text, {"id": tenant.ids["task"]}, token=stranger.secret)
        assert answer.data == {"task": None}


async def test_one_task_with_its_newest_runs_takes_two_statements(tenant: Tenant) -> None:
    asked = DRAGOMAN.one(1)
    statements: list[Any] = []
    fetch = Reader.fetch

    async def counted(reader: Reader, prepared: Any, *values: Any) -> Any:
        statements.append(prepared.model.__name__)
        return await fetch(reader, prepared, *values)

    for _ in range(3):
        await tenant.inside.post(
            "{ __typename }", {}, token=tenant.inside.token
        )  # who asks is known
        statements.clear()
        with (
            patch.object(Reader, "fetch", counted),
            patch.object(Reader, "rows", side_effect=AssertionError("one more")),
        ):
            answer = await tenant.inside.post(
                asked["query"], {"id": tenant.ids["task"]}, token=tenant.inside.token
            )
        assert answer.data["task"]["story"]["id"] == tenant.ids["story"]
        assert answer.data["task"]["agent"]["id"] == tenant.ids["agent"]
    assert statements == ["Task", "Run"]
