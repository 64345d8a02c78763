"""Random documents over the board's own schema and real data: compiled and not, byte for byte."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from graphql import (
    GraphQLField,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
    is_object_type,
    is_required_argument,
)

from server.metrics import Metrics
from tests.support.inside import Inside, not_compiled, open_inside
from tests.support.schema_documents import core_schema
from tests.support.server import fresh_postgres
from tests.support.tenants import Tenant, make_tenant

ROOTS = ("workspace", "task", "run", "story", "sprint", "agent")
KINDS = {"run": "run failed"}
DOCUMENTS = 150
TOLD: list[str] = []
"""How each execution ended."""
DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=[pytest.mark.postgres, pytest.mark.long]),
]
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Writer:
    """Writes one random document over the types below a root field."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  # to be repeated
        self.aliases = 0

    def document(self, root: str) -> str:
        field = core_schema().type_map["Query"].fields[root]
        inside = self.selection(get_named_type(field.type), depth=4)
        body = f"__typename @include(if: $yes) {root}(id: $id) {inside}"
        return f"query ($id: ID!, $yes: Boolean!) {{ {body} }}"

    def selection(self, type_: Any, depth: int) -> str:
        if not is_object_type(type_):
            return "{ __typename }"
        fields = [name for name in type_.fields if self.fits(type_.fields[name], depth)]
        chosen = self.random.sample(fields, min(len(fields), self.random.choice((1, 2, 3, 6))))
        parts = [self.field(type_, name, depth) for name in chosen]
        return f"{{ {' '.join(parts) or '__typename'} }}"

    def fits(self, field: GraphQLField, depth: int) -> bool:
        if any(is_required_argument(argument) for argument in field.args.values()):
            return False
        return depth > 0 or is_leaf_type(get_named_type(field.type))

    def field(self, type_: GraphQLObjectType, name: str, depth: int) -> str:
        field = type_.fields[name]
        page = f"(first: {self.random.choice((1, 2, 5))})" if "first" in field.args else ""
        inner = get_named_type(field.type)
        text = name + page
        if not is_leaf_type(inner):
            text += " " + self.selection(inner, depth - 1)
        way = self.random.random()
        if way < 0.1 and self.aliases < 25:
            self.aliases += 1
            return f"a{self.aliases}: {text}"
        if way < 0.2:
            return f"... on {type_.name} {{ {text} }}"
        return f"{text} @include(if: $yes)" if way < 0.3 and "{" not in text else text


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=DATABASES)
async def tenant(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Tenant]:
    folder: Path = tmp_path_factory.mktemp("board")
    async with AsyncExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(fresh_postgres())
        stack.enter_context(
            patch.object(Metrics, "graphql_execution", lambda _, how: TOLD.append(str(how)))
        )
        opened = open_inside(folder / "data", database_url=url, max_cost=10**9)
        yield await make_tenant(await stack.enter_async_context(opened), "FUZZ", folder)


async def _ask(inside: Inside, text: str, variables: dict[str, Any], token: str) -> bytes:
    answer = await inside.post(text, variables, token=token)
    assert answer.status == 200, answer.text
    return answer.body


@pytest.mark.parametrize("seed", range(2))
async def test_random_documents_have_one_answer(tenant: Tenant, seed: int) -> None:
    TOLD.clear()
    inside, token = tenant.inside, tenant.tokens["admin"]
    for number in range(DOCUMENTS):
        writer = Writer(seed * DOCUMENTS + number)
        root = writer.random.choice(ROOTS)
        text = writer.document(root)
        variables = {"id": tenant.ids[KINDS.get(root, root)], "yes": writer.random.random() < 0.7}
        with not_compiled():
            wanted = await _ask(inside, text, variables, token)
        for _ in range(2):  # by Strawberry's view, then the short way
            assert await _ask(inside, text, variables, token) == wanted, text
        assert b'"errors"' not in wanted, text
    assert inside.internal_errors == []
    assert TOLD.count("answered") >= 0.95 * 2 * DOCUMENTS, TOLD
