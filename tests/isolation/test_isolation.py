"""Two tenants: whatever one of them asks, nothing of the other is in any answer.

The strongest check is the simplest: every question a tenant can ask is asked before the other one
exists and again afterwards, and the answers are equal, totals and cursors included.
"""

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from graphql import GraphQLObjectType, TypeInfo, TypeInfoVisitor, Visitor, parse, visit

from resolvers import members, tokens
from tests.isolation.crawl import (
    Door,
    doors,
    node_visits,
    readable_coordinates,
    root_door,
    visits,
)
from tests.support.calls import CALLS, field_of
from tests.support.inside import Answer, Inside, open_inside, stable_number
from tests.support.schema_documents import core_schema, document, root_names
from tests.support.schema_slots import Slot, slots
from tests.support.server import fresh_postgres
from tests.support.tenants import Tenant, make_tenant

MINE, THEIRS = "Aardvark", "Quokka"
UNKNOWN_WORD = "nothing"
SEVERAL = 6
CHANGING = re.compile(
    r'"lastUsedAt":(?:"[^"]*"|null)|"startsAt":"[^"]*"|"timeline":\[[^]]*\]'
    r'|"extensions":\{"cost":\{[^}]*\}\}'
)
"""What an answer tells of the asking itself, or of the time of day."""

T = TypeVar("T")
module_loop = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Zoo:
    """A tenant, the other one, and what the first saw while it was alone."""

    inside: Inside
    mine: Tenant
    theirs: Tenant
    alone: dict[str, str] = field(default_factory=dict)
    cursors: list[str] = field(default_factory=list)
    forbidden: re.Pattern[str] = field(default_factory=lambda: re.compile(""))
    depth: int = 2

    @property
    def thorough(self) -> bool:
        return self.depth > 2

    def some(self, values: Sequence[T], where: object) -> Sequence[T]:
        """All values when there is time; else a third of them, another one at each place."""
        if self.thorough or len(values) < SEVERAL:
            return values
        return values[stable_number(str(where)) % 3 :: 3]

    def unleaked(self, text: str, *sent: str) -> None:
        """Fail where a text has anything of theirs in it that was not sent by the asker."""
        for value in sent:
            text = text.replace(value, "")
        found = self.forbidden.search(text)
        assert found is None, f"{found and found[0]!r} in {text[:3000]}"


def questions(tenant: Tenant, depth: int = 2) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """All documents a tenant can ask about its own things."""
    for found in (*visits(tenant, depth=depth), *node_visits(tenant)):
        yield found.name, found.document, found.variables


async def everything_seen(
    inside: Inside, tenant: Tenant, token: str, *, depth: int
) -> dict[str, str]:
    """The answers to all questions by their documents."""
    seen: dict[str, str] = {}
    for name, text, variables in questions(tenant, depth):
        answer = await inside.post(text, variables, token=token)
        assert answer.status == 200, (name, answer.text[:1000])
        assert set(answer.codes) <= {"FORBIDDEN"}, (name, answer.text[:1000])
        seen[f"{name} {text} {variables}"] = CHANGING.sub("", answer.text)
    for call, make in CALLS.items():
        if call.startswith("Query"):
            variables = await make(tenant)
            answer = await inside.post(document(field_of(call), 2), variables, token=token)
            seen[call] = CHANGING.sub("", answer.text)
    return seen


async def cursors_of(tenant: Tenant) -> list[str]:
    """Every cursor of every list of a tenant, and those of its logs."""
    found: set[str] = set()
    for _, text, variables in questions(tenant):
        answer = await tenant.inside.post(text, variables, token=tenant.tokens["admin"])
        found |= set(re.findall(r'"(?:cursor|startCursor|endCursor)":"([^"]+)"', answer.text))
    return sorted(found)


DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=[pytest.mark.postgres, pytest.mark.long]),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=DATABASES)
async def zoo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Zoo]:
    folder = tmp_path_factory.mktemp("zoo")
    if request.param == "sqlite":
        async with open_inside(folder / "data") as inside:
            yield await build_zoo(inside, folder, thorough=False)
        return
    with fresh_postgres() as url:
        async with open_inside(folder / "data", database_url=url) as inside:
            yield await build_zoo(inside, folder, thorough=True)


async def build_zoo(inside: Inside, folder: Path, *, thorough: bool) -> Zoo:
    depth = 3 if thorough else 2
    mine = await make_tenant(inside, MINE, folder)
    alone = {
        f"{role} {question}": answer
        for role, token in askers(mine).items()
        for question, answer in (await everything_seen(inside, mine, token, depth=depth)).items()
    }
    theirs = await make_tenant(inside, THEIRS, folder)
    cursors = await cursors_of(theirs)
    words = [THEIRS, theirs.workspace.slug, *theirs.ids.values()]
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    return Zoo(inside, mine, theirs, alone, cursors, pattern, depth)


def askers(tenant: Tenant) -> dict[str, str]:
    """The tokens of those who ask."""
    return {
        "admin": tenant.tokens["admin"],
        "agent": tenant.agent_token,
    }


# --- what the walk covers ---


def test_the_walk_passes_every_field() -> None:
    class Names(Visitor):
        def __init__(self, info: TypeInfo, found: set[str]) -> None:
            super().__init__()
            self.info, self.found = info, found

        def enter_field(self, node: Any, *_: Any) -> None:
            parent = self.info.get_parent_type()
            if isinstance(parent, GraphQLObjectType):
                self.found.add(f"{parent.name}.{node.name.value}")

    tenant: Any = type("Anybody", (), {"ids": dict.fromkeys(Tenant.KINDS, "0")})
    texts = [text for _, text, _ in questions(tenant)]
    texts += [document(field_of(call), 2) for call in CALLS if call.startswith("Query")]
    found: set[str] = set()
    for text in dict.fromkeys(texts):
        info = TypeInfo(core_schema())
        visit(parse(text), TypeInfoVisitor(info, Names(info, found)))
    assert readable_coordinates() - found == set()


# --- questions about one's own ---


@module_loop
async def test_nothing_changes_when_another_tenant_comes(zoo: Zoo) -> None:
    for role, token in askers(zoo.mine).items():
        seen = await everything_seen(zoo.inside, zoo.mine, token, depth=zoo.depth)
        for question, answer in seen.items():
            zoo.unleaked(answer)
            assert answer == zoo.alone[f"{role} {question}"], (role, question)


@module_loop
async def test_a_key_of_one_workspace_hides_its_holders_other_one(zoo: Zoo) -> None:
    """Somebody is in both; the key is for one."""
    user = await zoo.mine.new_member()
    await members.add_member(
        zoo.theirs.owner, workspace_id=zoo.theirs.id, user_id=user.id, role="ADMIN"
    )
    created = await tokens.create_token(zoo.mine.owner, user_id=user.id, workspace_id=zoo.mine.id)
    token = created.secret or ""
    seen = await everything_seen(zoo.inside, zoo.mine, token, depth=zoo.depth)
    for answer in seen.values():
        zoo.unleaked(answer)
    for kind, identifier in zoo.theirs.ids.items():
        answer = await zoo.inside.post(document("Query.node", 0), {"id": identifier}, token=token)
        assert answer.data == {"node": None}, kind


@module_loop
@pytest.mark.parametrize("call", [n for n in root_names() if n.startswith("Subscription")])
async def test_streams_show_ones_own(zoo: Zoo, call: str) -> None:
    variables = await CALLS[call](zoo.mine)
    items = await zoo.inside.stream(
        document(call), variables, token=zoo.mine.tokens["admin"], items=2
    )
    assert items
    zoo.unleaked(json.dumps(items))
    assert any(known in json.dumps(items) for known in (MINE, *zoo.mine.ids.values()))


# --- asking for what is theirs ---


def their_values(zoo: Zoo, slot: Slot) -> list[Any]:
    """What of theirs could be put in a place."""
    last = slot.path[-1]
    if slot.type_name == "ID":
        return list(zoo.theirs.ids.values())
    if slot.type_name == "Int":
        return [zoo.theirs.workspace.number] if last == "number" else []
    if slot.type_name != "String":
        return []
    agent, user = zoo.theirs.agent, zoo.theirs.users["developer"]
    assert agent is not None
    return [THEIRS, THEIRS.lower(), zoo.theirs.workspace.slug, agent.name, user.name]


def unknown_value(slot: Slot) -> Any:
    if slot.type_name == "ID":
        return str(uuid.uuid4())
    return 999_999 if slot.type_name == "Int" else UNKNOWN_WORD


def shape(answer: Answer, value: Any) -> str:
    """An answer without the value that was sent and without what differs at every call."""
    text = CHANGING.sub("", answer.text)
    text = re.sub(re.escape(str(value)), "…", text, flags=re.IGNORECASE)
    return f"{answer.status} {text}"


async def all_doors(tenant: Tenant) -> list[Door]:
    found = list(doors(tenant))
    for call, make in CALLS.items():
        if call.startswith("Query"):
            found.append(root_door(call, await make(tenant)))
    return found


def alone(door: Door, slot: Slot) -> dict[str, Any]:
    """The variables without those that exclude this one (a look-up takes one of them)."""
    if door.name.startswith("Query.workspace:") or door.name == "Query.workspace":
        return {}
    if door.name.startswith("Query.tokens"):
        return {k: v for k, v in door.variables.items() if k not in {"userId", "agentId"}}
    return door.variables


@module_loop
async def test_what_is_theirs_is_to_a_query_what_does_not_exist(zoo: Zoo) -> None:
    token, asked = zoo.mine.tokens["admin"], 0
    for door in await all_doors(zoo.mine):
        for slot in slots(door.field):
            if slot.path[-1] in {"after", "before"}:
                continue
            values = zoo.some(their_values(zoo, slot), f"{door.name} {slot}")
            base = alone(door, slot)
            unknown = unknown_value(slot)
            answer = await zoo.inside.post(
                door.document, slot.put(base, unknown), token=token
            ) if values else None  # fmt: skip
            for value in values:
                found = await zoo.inside.post(door.document, slot.put(base, value), token=token)
                asked += 1
                where = f"{door.name} {slot} = {value}"
                zoo.unleaked(found.text, str(value))
                assert answer is not None
                assert shape(found, value) == shape(answer, unknown), where
    assert asked > 200
    assert zoo.inside.internal_errors == []


@module_loop
async def test_their_cursors_lead_nowhere_else(zoo: Zoo) -> None:
    token, asked = zoo.mine.tokens["admin"], 0
    assert len(zoo.cursors) > 20
    for door in await all_doors(zoo.mine):
        for slot in slots(door.field):
            if slot.path[-1] not in {"after", "before"} or slot.type_name != "String":
                continue
            size = {"first": 5} if slot.path[-1] == "after" else {"last": 5}
            for cursor in zoo.some(zoo.cursors, f"{door.name} {slot}"):
                variables = {**door.variables, **size, slot.path[0]: cursor}
                answer = await zoo.inside.post(door.document, variables, token=token)
                asked += 1
                zoo.unleaked(answer.text, cursor)
                assert set(answer.codes) <= {"INVALID", "FORBIDDEN"}, (door.name, answer.text)
    assert asked > 100


@module_loop
@pytest.mark.parametrize("call", [c for c in CALLS if c.startswith("Mutation")])
async def test_mutations_do_not_reach_what_is_theirs(zoo: Zoo, call: str) -> None:
    token = zoo.mine.tokens["admin"]
    door = root_door(call, await CALLS[call](zoo.mine))
    before = await zoo.inside.rows_about([THEIRS, *zoo.theirs.ids.values()])
    for slot in slots(door.field):
        if slot.type_name != "ID":
            continue
        unknown = unknown_value(slot)
        answer = await zoo.inside.post(
            door.document, slot.put(door.variables, unknown), token=token
        )
        for kind, identifier in zoo.some([*zoo.theirs.ids.items()], f"{call} {slot}"):
            variables = slot.put(door.variables, identifier)
            found = await zoo.inside.post(door.document, variables, token=token)
            where = f"{call} {slot} = {kind}"
            zoo.unleaked(found.text, identifier)
            assert shape(found, identifier) == shape(answer, unknown), where
    assert await zoo.inside.rows_about([THEIRS, *zoo.theirs.ids.values()]) == before
    assert zoo.inside.internal_errors == []


@module_loop
@pytest.mark.parametrize("name", [n for n in root_names() if n.startswith("Subscription")])
async def test_streams_of_theirs_do_not_exist(zoo: Zoo, name: str) -> None:
    token = zoo.mine.tokens["admin"]
    variables = await CALLS[name](zoo.mine)
    for slot in slots(root_door(name, {}).field):
        if slot.type_name != "ID":
            continue
        unknown = unknown_value(slot)
        wanted = await zoo.inside.stream(document(name), slot.put(variables, unknown), token=token)
        for kind, identifier in zoo.some([*zoo.theirs.ids.items()], f"{name} {slot}"):
            items = await zoo.inside.stream(
                document(name), slot.put(variables, identifier), token=token
            )
            zoo.unleaked(json.dumps(items), identifier)
            same = json.dumps(items).replace(identifier, "…")
            assert same == json.dumps(wanted).replace(unknown, "…"), (slot, kind)


@module_loop
@pytest.mark.parametrize("name", [n for n in root_names() if n.startswith("Subscription")])
@pytest.mark.parametrize("way", ["after", "Last-Event-ID"])
async def test_their_cursors_resume_nothing(zoo: Zoo, name: str, way: str) -> None:
    token = zoo.mine.tokens["admin"]
    variables = await CALLS[name](zoo.mine)
    events = document("Subscription.events")
    streams = await zoo.inside.stream(
        events, {"workspaceId": zoo.theirs.id, "after": "EARLIEST"},
        token=zoo.theirs.tokens["admin"], items=3,
    )  # fmt: skip
    cursors = re.findall(r'"[A-Za-z_]*[cC]ursor": "([^"]{44})"', json.dumps(streams))
    assert cursors
    for cursor in cursors:
        headers = {"last-event-id": cursor} if way == "Last-Event-ID" else {}
        given = variables if headers else {**variables, "after": cursor}
        items = await zoo.inside.stream(document(name), given, token=token, headers=headers)
        zoo.unleaked(json.dumps(items), cursor)
        assert "WRONG_STREAM" in json.dumps(items)


# --- other ways ---


@module_loop
async def test_their_idempotency_keys_are_theirs(zoo: Zoo) -> None:
    query = document("Mutation.createTask")
    variables = await CALLS["Mutation.createTask"](zoo.theirs)
    headers = {"idempotency-key": "the-same-key"}
    made = await zoo.inside.post(
        query, variables, token=zoo.theirs.tokens["admin"], headers=headers
    )
    assert made.outcome("createTask") == "ok"
    answer = await zoo.inside.post(
        query, variables, token=zoo.mine.tokens["admin"], headers=headers
    )
    assert answer.codes == ["NOT_FOUND"]


REPEATABLE = [
    "Mutation.updateWorkspace", "Mutation.createTask", "Mutation.bulkUpdateTasks",
    "Mutation.addContextEntries", "Mutation.createStory", "Mutation.createAgent",
    "Mutation.startRun", "Mutation.createRepository", "Mutation.reportAgentProgress",
]  # fmt: skip


@module_loop
@pytest.mark.parametrize("call", REPEATABLE)
async def test_a_retry_shows_nothing_to_who_was_let_out(zoo: Zoo, call: str) -> None:
    user = await zoo.theirs.new_member("ADMIN")
    created = await zoo.theirs.token(user)
    token, headers = created.secret or "", {"idempotency-key": f"mine {call}"}
    variables = await CALLS[call](zoo.theirs)
    name = call.partition(".")[2]
    first = await zoo.inside.post(document(call), variables, token=token, headers=headers)
    again = await zoo.inside.post(document(call), variables, token=token, headers=headers)
    assert first.outcome(name) == again.outcome(name) == "ok"
    await members.remove_member(zoo.theirs.owner, workspace_id=zoo.theirs.id, user_id=user.id)
    late = await zoo.inside.post(document(call), variables, token=token, headers=headers)
    assert late.codes == ["NOT_FOUND"], late.text[:1000]
    assert (late.json["data"] or {}).get(name) is None


@module_loop
async def test_errors_do_not_quote_what_is_theirs(zoo: Zoo) -> None:
    """A request that mixes both tenants is refused without a word about the other one's thing."""
    token = zoo.mine.tokens["admin"]
    for field_name, kind in (
        ("agentId", "agent"), ("storyId", "story"), ("parentId", "task"),
        ("assigneeId", "user developer"),
    ):  # fmt: skip
        variables = await CALLS["Mutation.createTask"](zoo.mine)
        variables["input"][field_name] = zoo.theirs.ids[kind]
        answer = await zoo.inside.post(document("Mutation.createTask"), variables, token=token)
        assert answer.codes == ["INVALID"]
        zoo.unleaked(answer.text, zoo.theirs.ids[kind])
