"""Pages of siblings, read together, are what each of them is when it is read alone."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import pytest_asyncio
from graphql import get_named_type

from tests.support.inside import Inside, not_compiled, open_inside
from tests.support.schema_documents import core_schema, leaves
from tests.support.server import fresh_postgres

ROUNDS = 3
LABELS = ("[]", '["red"]')
ORDERS = {
    "TaskOrder": ("POSITION_ASC", "CREATED_AT_DESC", "PRIORITY_DESC", "TITLE_ASC", "NUMBER_DESC"),
    "StoryOrder": ("CREATED_AT_DESC", "NUMBER_ASC", "PRIORITY_DESC"),
}
FILTERS = {
    "TaskFilter": (
        "null",
        "{status: [BACKLOG, IN_PROGRESS]}",
        "{archived: null}",
        "{archived: true}",
        "{ready: true}",
        "{ready: false, priorityMin: 1}",
        '{labelsAny: ["red"]}',
        '{search: "needle"}',
        '{search: "2"}',
        "{sprintNumbers: [1], unassigned: true}",
    ),
    "StoryFilter": ("null", "{backlog: true}", "{sprintNumbers: [1, 2]}", '{search: "needle"}'),
    "AgentFilter": ("null", '{search: "agent-1"}', "{status: [IDLE]}"),
    "[SprintStatus!]": ("null", "[PLANNING]", "[ACTIVE]"),
    "[RunStatus!]": ("null", "[QUEUED, RUNNING]", "[COMPLETED]"),
}
FIELDS = [
    *(
        ("Workspace", name)
        for name in ("tasks", "stories", "sprints", "agents", "runs", "members", "history")
    ),
    ("Task", "runs"),
    ("Task", "history"),
    ("Story", "tasks"),
    ("Sprint", "tasks"),
    ("Sprint", "stories"),
    ("Agent", "tasks"),
]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Boards:
    """A server with a few workspaces; each has more in it than the one before."""

    inside: Inside
    ids: dict[str, list[str]]

    async def ask(self, text: str) -> dict[str, Any]:
        return (await self.inside.post(text, token=self.inside.token)).data


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
)
async def boards(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Boards]:
    folder = tmp_path_factory.mktemp("siblings")
    async with AsyncExitStack() as stack:
        url = stack.enter_context(fresh_postgres()) if request.param == "postgresql" else None
        opened = open_inside(folder / "data", database_url=url, max_cost=10**9)
        made = Boards(await stack.enter_async_context(opened), {})
        for number in range(4):
            await _fill(made, number)
        yield made


async def _fill(boards: Boards, number: int) -> None:
    """One more workspace, with more in it than the one before."""

    async def made(mutation: str, kind: str, fields: str) -> str:
        text = f"mutation {{ {mutation}(input: {{{fields}}}) {{ {kind} {{ id }} }} }}"
        entity_id = str((await boards.ask(text))[mutation][kind]["id"])
        boards.ids.setdefault(kind.capitalize(), []).append(entity_id)
        return entity_id

    chance = random.Random(number)  # noqa: S311  # to be repeated
    given = 'name: "W", repositoryUrl: "https://git.example/w.git"'
    place = f'workspaceId: "{await made("createWorkspace", "workspace", given)}"'
    stories, agents, tasks = ["null"], ["null"], []
    for one in range(number):
        await made("createSprint", "sprint", f"{place}, number: {one}")
        fields = f'{place}, title: "story {one}", sprintNumber: {chance.choice([one, "null"])}'
        stories.append(f'"{await made("createStory", "story", fields)}"')
        named = f'{place}, name: "agent-{one}"'
        agents.append(f'"{await made("createAgent", "agent", named)}"')
    for one in range(4 * number):
        title = chance.choice(["needle", "T", f"task {one}"])
        fields = (
            f'{place}, title: "{title}", storyId: {chance.choice(stories)}, '
            f"agentId: {chance.choice(agents)}, sprintNumber: {chance.choice([1, 2, 'null'])}, "
            f"labels: {chance.choice(LABELS)}, priorityLevel: {chance.randrange(4)}"
        )
        if tasks and chance.random() < 0.3:
            fields += f', dependsOn: [{{taskId: "{chance.choice(tasks)}"}}]'
        tasks.append(await made("createTask", "task", fields))
        for _ in range(chance.choice((0, 0, 1))):
            await made("startRun", "run", f'taskId: "{tasks[-1]}", executor: CUSTOM')


def _arguments(chance: random.Random, type_name: str, name: str, cursors: list[str]) -> str:
    types: Any = core_schema().type_map
    given = []
    for argument, definition in types[type_name].fields[name].args.items():
        values = FILTERS.get(str(definition.type))
        if values and chance.random() < 0.7:
            given.append(f"{argument}: {chance.choice(values)}")
    size = chance.choice((0, 1, 2, 5, 100))
    forwards = chance.random() < 0.5
    given.append(f"{'first' if forwards else 'last'}: {size}")
    if cursors and chance.random() < 0.6:
        given.append(f'{"after" if forwards else "before"}: "{chance.choice(cursors)}"')
    return ", ".join(given)


def _order(chance: random.Random, type_name: str, name: str) -> str:
    types: Any = core_schema().type_map
    argument = types[type_name].fields[name].args.get("orderBy")
    if argument is None:
        return ""
    return f"orderBy: {chance.choice(ORDERS[str(argument.type).rstrip('!')])}, "


@pytest.mark.parametrize(("type_name", "name"), FIELDS)
async def test_read_together_or_alone(boards: Boards, type_name: str, name: str) -> None:
    types: Any = core_schema().type_map
    inner = get_named_type(types[type_name].fields[name].type)
    node: Any = get_named_type(inner.fields["nodes"].type)
    chance = random.Random(f"{type_name}.{name}")  # noqa: S311  # to be repeated
    ids = boards.ids[type_name][-8:]
    seen = 0
    for _ in range(ROUNDS):
        cursors: list[str] = []
        order = _order(chance, type_name, name)
        for _ in range(3):  # the second and third time with cursors of the same order
            arguments = order + _arguments(chance, type_name, name, cursors)
            chosen = f"""{name}({arguments}) {{ totalCount totalCountExact
              pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }}
              edges {{ cursor node {{ {leaves(node)} }} }} }}"""
            alone = await _alone(boards, type_name, ids, chosen)
            for way in (nullcontext, not_compiled, nullcontext):
                with way():
                    together = await _together(boards, type_name, ids, chosen)
                assert orjson.dumps(together) == orjson.dumps(alone), arguments
            found = [edge["cursor"] for page in alone for edge in page["edges"]]
            seen += len(found)
            cursors = found or cursors
    assert seen > 0


async def _alone(boards: Boards, type_name: str, ids: list[str], chosen: str) -> list[Any]:
    root = type_name.lower()
    parts = [f'a{n}: {root}(id: "{one}") {{ page: {chosen} }}' for n, one in enumerate(ids)]
    answer = await boards.ask(f"{{ {' '.join(parts)} }}")
    return [answer[f"a{number}"]["page"] for number in range(len(ids))]


async def _together(boards: Boards, type_name: str, ids: list[str], chosen: str) -> list[Any]:
    below = f"nodes {{ id page: {chosen} }}"
    if type_name == "Workspace":
        lists = [(await boards.ask(f"{{ workspaces(first: 100) {{ {below} }} }}"))["workspaces"]]
    else:
        many = {"Story": "stories"}.get(type_name, f"{type_name.lower()}s")
        text = f"{{ workspaces {{ nodes {{ many: {many}(first: 100) {{ {below} }} }} }} }}"
        lists = [one["many"] for one in (await boards.ask(text))["workspaces"]["nodes"]]
    pages = {node["id"]: node["page"] for found in lists for node in found["nodes"]}
    return [pages[one] for one in ids]
