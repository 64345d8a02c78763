"""How many statements a page takes: as many for many parents as for two, for every field below."""

from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from graphql import get_named_type, is_leaf_type, is_required_argument

from models.transaction import Reader
from tests.support.inside import open_inside
from tests.support.schema_documents import core_schema
from tests.support.tenants import Tenant, make_tenant

MANY = 12
PAGES = {
    "Workspace": "workspaces",
    "Task": "tasks",
    "Run": "runs",
    "Story": "stories",
    "Sprint": "sprints",
    "Agent": "agents",
}
GROWING = {
    "Agent.tasks",
    "Run.output",
    "Sprint.stories",
    "Sprint.tasks",
    "Story.tasks",
    "Task.history",
    "Task.runs",
    "Workspace.agents",
    "Workspace.history",
    "Workspace.members",
    "Workspace.queueReport",
    "Workspace.queues",
    "Workspace.runs",
    "Workspace.sprints",
    "Workspace.stories",
    "Workspace.tasks",
    "Workspace.usageByDay",
}
"""What is still read for each parent by itself; nothing may join it here."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


def _fields() -> list[str]:
    types: Any = core_schema().type_map
    return [
        f"{type_name}.{name}"
        for type_name in PAGES
        for name, field in types[type_name].fields.items()
        if not any(is_required_argument(argument) for argument in field.args.values())
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tenant]:
    folder = tmp_path_factory.mktemp("counts")
    async with open_inside(folder / "data", max_cost=10**9) as inside:
        made = await make_tenant(inside, "COUNT", folder)
        for number in range(MANY):
            text = 'mutation { createWorkspace(input: {name: "W"}) { workspace { id } } }'
            assert (await inside.post(text, token=inside.token)).data
            story, agent = await made.story(), (await made.new_agent()).id
            sprint = await made.sprint()
            assert sprint
            text = f"""mutation {{ createTask(input: {{ workspaceId: "{made.id}", title: "T",
              storyId: "{story}", agentId: "{agent}", sprintNumber: {number},
              dependsOn: [{{taskId: "{made.ids["task"]}"}}] }}) {{ task {{ id }} }} }}"""
            task = (await inside.post(text, token=inside.token)).data["createTask"]["task"]["id"]
            text = f"""mutation {{ startRun(input: {{taskId: "{task}", executor: CUSTOM}}) {{
              run {{ id }} }} }}"""
            assert (await inside.post(text, token=inside.token)).data
        yield made


async def _statements(tenant: Tenant, document: str) -> tuple[int, int]:
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
            answer = await tenant.inside.post(document, token=tenant.inside.token)
        least = min(least, count)
    (page,) = answer.data.values()
    return least, len((page.get("page") or page)["nodes"])


@pytest.mark.parametrize("name", _fields())
async def test_many_parents_take_no_more_statements(tenant: Tenant, name: str) -> None:
    type_name, _, field_name = name.partition(".")
    types: Any = core_schema().type_map
    inner = get_named_type(types[type_name].fields[field_name].type)
    below = "" if is_leaf_type(inner) else "{ __typename }"
    if "nodes" in getattr(inner, "fields", {}):
        below = "{ nodes { __typename } }"
    page = PAGES[type_name]
    counts = []
    for first in (2, MANY):
        nodes = f"{page}(first: {first}) {{ nodes {{ {field_name} {below} }} }}"
        text = f"{{ {nodes} }}"
        if type_name != "Workspace":
            text = f'{{ workspace(id: "{tenant.id}") {{ page: {nodes} }} }}'
        statements, parents = await _statements(tenant, text)
        assert parents == first, text
        counts.append(statements)
    assert (counts[0] < counts[1]) == (name in GROWING), f"{name}: {counts}"
