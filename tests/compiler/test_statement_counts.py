"""How many statements a page takes: as many for fifty parents as for two, whatever is below."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from graphql import (
    GraphQLField,
    GraphQLObjectType,
    get_named_type,
    is_object_type,
    is_required_argument,
)

from models.transaction import Reader
from server import authentication
from tests.support.inside import Inside, not_compiled, open_inside
from tests.support.schema_documents import core_schema
from tests.support.server import fresh_postgres
from tests.support.tenants import Tenant, make_tenant

FEW = 2
PAGES = {
    "Workspace": "workspaces",
    "Task": "tasks",
    "Run": "runs",
    "Story": "stories",
    "Sprint": "sprints",
    "Agent": "agents",
}
"""Where many of a type are read at once."""
SETTINGS = [
    pytest.param(("sqlite", 8, 1), id="sqlite"),
    pytest.param(("sqlite", 50, 2), id="sqlite-fifty", marks=pytest.mark.long),
    pytest.param(
        ("postgresql", 50, 2), id="postgresql-fifty", marks=[pytest.mark.postgres, pytest.mark.long]
    ),
]
"""The database, how many parents, and how many levels of objects below them."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


def _fields() -> list[str]:
    """Fields of objects, one by one; the leaves of a type together, as ``Task.``."""
    types: Any = core_schema().type_map
    return [
        f"{type_name}.{name}"
        for type_name in PAGES
        for name, field in [("", None), *types[type_name].fields.items()]
        if field is None or (_is_plain(field) and is_object_type(get_named_type(field.type)))
    ]


def _is_plain(field: GraphQLField) -> bool:
    return not any(is_required_argument(argument) for argument in field.args.values())


def _selected(name: str, field: GraphQLField, depth: int) -> str:
    """The field with the objects below it, to a depth; connections are no level of their own."""
    inner = get_named_type(field.type)
    if not is_object_type(inner):
        return name
    if "nodes" not in inner.fields:
        return f"{name} {_below(inner, depth)}"
    nodes: Any = get_named_type(inner.fields["nodes"].type)
    return f"{name}(first: 2) {{ totalCount nodes {_below(nodes, depth)} }}"


def _below(type_: GraphQLObjectType, depth: int) -> str:
    fields = [
        _selected(name, field, depth - 1)
        for name, field in type_.fields.items()
        if _is_plain(field) and (depth > 1 or not is_object_type(get_named_type(field.type)))
    ]
    return f"{{ {' '.join(fields) or '__typename'} }}"


@dataclass(frozen=True)
class Board:
    """A server with many workspaces; that with the id has many of everything."""

    inside: Inside
    id: str
    many: int
    depth: int


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SETTINGS)
async def board(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Board]:
    folder = tmp_path_factory.mktemp("counts")
    async with AsyncExitStack() as stack:
        # Each answer of many parents may take longer than a principal is remembered.
        stack.enter_context(patch.object(authentication, "CACHE_SECONDS", 3_600.0))
        database, many, depth = request.param
        url = stack.enter_context(fresh_postgres()) if database == "postgresql" else None
        limits = {"max_cost": 10**9}
        inside = await stack.enter_async_context(
            open_inside(folder / "data", database_url=url, **limits)
        )
        made = await make_tenant(inside, "COUNT", folder)
        for _ in range(many):
            given = f'name: "W", localPath: "{made.repository}"'
            text = f"mutation {{ createWorkspace(input: {{{given}}}) {{ workspace {{ id }} }} }}"
            answer = await inside.post(text, token=inside.token)
            workspace_id = answer.data["createWorkspace"]["workspace"]["id"]
            await _fill(made, workspace_id, 0)
        for number in range(1, many):
            await _fill(made, workspace_id, number)
        yield Board(inside, workspace_id, many, depth)


async def _fill(tenant: Tenant, workspace_id: str, number: int) -> None:
    """One more of everything in a workspace."""

    async def made(mutation: str, kind: str, fields: str) -> str:
        text = f"mutation {{ {mutation}(input: {{{fields}}}) {{ {kind} {{ id }} }} }}"
        answer = await tenant.inside.post(text, token=tenant.inside.token)
        return str(answer.data[mutation][kind]["id"])

    place = f'workspaceId: "{workspace_id}"'
    sprint_number = 100 + number
    await made("createSprint", "sprint", f"{place}, number: {sprint_number}")
    planned = f'{place}, title: "T", sprintNumber: {sprint_number}'
    story = await made("createStory", "story", planned)
    agent = await made("createAgent", "agent", f'{place}, name: "agent-{number}"')
    first = await made("createTask", "task", planned)
    relations = f'storyId: "{story}", agentId: "{agent}", parentId: "{first}"'
    waits = f'dependsOn: [{{taskId: "{first}"}}]'
    task = await made("createTask", "task", f"{planned}, {relations}, {waits}")
    for one in (first, task):
        text = f'mutation {{ startRun(input: {{taskId: "{one}", executor: CUSTOM}}) {{ cursor }} }}'
        assert (await tenant.inside.post(text, token=tenant.inside.token)).data


async def _statements(board: Board, document: str) -> tuple[int, int]:
    """How many statements an answer took, and how many parents it has."""
    count = 0
    least = 1_000
    methods = {name: getattr(Reader, name) for name in ("rows", "fetch")}

    def counted(name: str) -> Any:
        async def call(self: Reader, *values: Any) -> Any:
            nonlocal count
            count += 1
            return await methods[name](self, *values)

        return call

    for _ in range(3):  # once in a while a principal is looked up as well
        count = 0
        with patch.multiple(Reader, rows=counted("rows"), fetch=counted("fetch")):
            answer = await board.inside.post(document, token=board.inside.token)
        assert board.inside.internal_errors == [], document
        least = min(least, count)
    (page,) = answer.data.values()
    return least, len((page.get("page") or page)["nodes"])


@pytest.mark.parametrize("name", _fields())
async def test_many_parents_take_no_more_statements(board: Board, name: str) -> None:
    type_name, _, field_name = name.partition(".")
    types: Any = core_schema().type_map
    if field_name:
        chosen = _selected(field_name, types[type_name].fields[field_name], board.depth)
    else:
        chosen = _below(types[type_name], 1).strip("{}")
    counts = {}
    for is_compiled in (True, False):
        for first in (FEW, board.many):
            nodes = f"{PAGES[type_name]}(first: {first}) {{ nodes {{ {chosen} }} }}"
            text = f"{{ {nodes} }}"
            if type_name != "Workspace":
                text = f'{{ workspace(id: "{board.id}") {{ page: {nodes} }} }}'
            with nullcontext() if is_compiled else not_compiled():
                statements, parents = await _statements(board, text)
            assert parents == first, text
            counts[is_compiled, first] = statements
    assert len(set(counts.values())) == 1, f"{chosen}: {counts}"
