"""Payloads that subscribers share: graphql-core's bytes, for those they are right for."""

import gc
import random
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import strawberry
from graphql import (
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    parse,
    validate,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.utils.await_maybe import await_maybe

from compiler import CompiledExecutor, CompiledSchema, Fallback, Options, Reason
from compiler.sharing import Selections, SharedResult
from schema.root import build_schema
from schema.run import OutputLine
from schema.subscription import Checkpoint, ResyncRequired, StreamClosed
from subscriptions.log import LoggedEvent
from tests.compiler.fuzz_schema import build_schema as build_shelf
from tests.compiler.fuzz_world import World
from tests.support.schema_documents import document, root_field, root_names

NAMES = [name for name in root_names() if name.startswith("Subscription.")]
EAGER = Options(compile_at_sighting=1, hooks_run_elsewhere=True)
MOMENT = "2026-11-22T10:00:00.123456+00:00"
COMMON = {"id": "i", "workspace_id": "w", "number": 7, "version": 3, "created_at": MOMENT}
SNAPSHOTS: dict[str, dict[str, Any]] = {
    "task": {
        "title": "é “quoted” \\ 漢字 \u2028",
        "description": None,
        "status": "IN_PROGRESS",
        "priority_level": 9,
        "type": "FEATURE",
        "position": 1.5,
        "progress": 40,
        "labels": ["a", "b"],
        "updated_at": MOMENT,
        "truncated": ["description"],
    },
    "run": {
        "executor": "CUSTOM",
        "status": "RUNNING",
        "attempt": 1,
        "queue_class": "NORMAL",
        "progress": 0,
    },
    "story": {"title": "s", "status": "DRAFT"},
    "sprint": {"status": "PLANNED"},
    "agent": {"name": "a", "status": "IDLE"},
    "workspace": {"slug": "s", "name": "n", "status": "ACTIVE"},
}


def _event(kind: str, seq: int, **changes: Any) -> LoggedEvent:
    return LoggedEvent(
        stream_id="site" if kind == "workspace" else "0c5c5d6e-0000-4000-8000-000000000001",
        seq=seq,
        epoch=1,
        type=f"{kind}.changed",
        entity_type=kind,
        entity_id="i",
        actor_type="user",
        actor_id=None if seq % 2 else "u",
        actor_name="Ada",
        payload={
            kind: {**COMMON, **SNAPSHOTS[kind], **changes},
            "from_status": "BACKLOG",
            "n": 2**70,
        },
        at=datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=seq),
        size=1,
    )


def events() -> list[Any]:
    """Everything that streams yield."""
    return [
        *(_event(kind, seq) for seq, kind in enumerate(SNAPSHOTS, 1)),
        _event("task", 9, status="NO SUCH", title="bad"),
        _event("task", 10, title=None),
        Checkpoint(cursor="c"),
        ResyncRequired(reason="TRIMMED", floor="f", head="h"),
        StreamClosed(reason="ENDED", cursor="c"),
        OutputLine(
            run_id="0c5c5d6e-0000-4000-8000-000000000002",
            line=1,
            stream="stdout",
            text="\x1b[1mé",
            at=datetime(2026, 1, 1, tzinfo=UTC),
            event={"deep": [1.0, None]},
        ),
    ]


async def reference(schema: Any, tree: Any, variables: Any, event: Any) -> bytes:
    """What graphql-core makes of an event; with its errors, if there are any."""
    executor = StrawberryGraphQLCoreExecutionContext.build(
        schema._schema, tree, raw_variable_values=variables
    )
    assert not isinstance(executor, list)
    result = await await_maybe(executor.build_per_event_executor(event).execute_operation())
    if result.errors:
        return b"errors"
    answer = {"data": result.data}
    try:
        return orjson.dumps(answer)
    except TypeError:
        import json

        return json.dumps(answer, separators=(",", ":")).encode()


async def compare(selections: Selections, text: str, variables: dict[str, Any]) -> tuple[int, int]:
    """Assert equality for all events; how many were rendered, and how many not."""
    schema, tree = selections.executor.schema, parse(text)
    assert not validate(schema._schema, tree)
    shared = selections.find(tree, variables=variables)
    assert shared.is_shared
    fast = left = 0
    for event in events():
        expected = await reference(schema, tree, variables, event)
        payload = await shared.payload(event)
        if payload is None:
            assert expected == b"errors", (text, event)
            left += 1
        else:
            assert payload.json == expected, (text, event)
            assert await shared.payload(event) is payload
            fast += 1
    return fast, left


@pytest.fixture
def selections() -> Selections:
    options = Options(compile_at_sighting=1, bails_before_rest=10_000)
    return Selections(CompiledExecutor(build_schema(), options=options))


@pytest.mark.parametrize("name", NAMES)
async def test_every_subscription_is_rendered_as_graphql_core_does(
    name: str, selections: Selections
) -> None:
    variables = {argument: "x" for argument in root_field(name).args if argument != "types"}
    fast, _left = await compare(selections, document(name, depth=2), variables)
    # Events and output lines are no members of each other's unions: an error in graphql-core.
    assert fast >= 4


class _Documents:
    """Random selections of the subscriptions' items."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.fragments: list[str] = []
        self.flags: dict[str, bool] = {}

    def make(self) -> tuple[str, dict[str, Any]]:
        """A document and its variables."""
        name = self.chance.choice(NAMES)
        field = root_field(name)
        body = self.selection(get_named_type(field.type), 3)
        given = {arg: "x" for arg in field.args if arg != "types" and self.chance.random() < 0.8}
        given |= {a: "x" for a, d in field.args.items() if str(d.type).endswith("!")}
        declared = [f"${name}: {field.args[name].type}" for name in given]
        declared += [f"${flag}: Boolean!" for flag in self.flags]
        arguments = ", ".join(f"{name}: ${name}" for name in given)
        head = f"({', '.join(declared)})" if declared else ""
        call = f"({arguments})" if arguments else ""
        text = f"subscription {head} {{ {self.alias()}{name.partition('.')[2]}{call} {body} }}"
        return " ".join([text, *self.fragments]), {**given, **self.flags}

    def alias(self) -> str:
        return f"a{self.chance.randrange(10**6)}: " if self.chance.random() < 0.3 else ""

    def condition(self) -> str:
        if self.chance.random() > 0.2:
            return ""
        flag = f"f{len(self.flags)}"
        self.flags[flag] = self.chance.random() < 0.5
        return f"@{self.chance.choice(['skip', 'include'])}(if: ${flag})"

    def selection(self, type_: GraphQLNamedType, depth: int) -> str:
        return f"{{ __typename {' '.join(self.parts(type_, depth))} }}"

    def parts(self, type_: GraphQLNamedType, depth: int) -> Iterator[str]:
        if isinstance(type_, GraphQLUnionType):
            for member in type_.types:
                if self.chance.random() < 0.8:
                    yield self.spread(member, depth)
            return
        assert isinstance(type_, GraphQLObjectType)
        if self.chance.random() < 0.2 and depth > 0:
            yield self.spread(type_, depth - 1)
        for name, field in type_.fields.items():
            inner = get_named_type(field.type)
            if is_leaf_type(inner) and self.chance.random() < 0.4:
                yield self.own(type_, name)
            elif not is_leaf_type(inner) and depth > 0 and self.chance.random() < 0.6:
                yield f"{self.own(type_, name)} {self.selection(inner, depth - 1)}"

    def own(self, type_: GraphQLObjectType, name: str) -> str:
        """A field under an alias of its own: it might clash with another type's otherwise."""
        return f"{name}{type_.name}{self.chance.randrange(10**6)}: {name} {self.condition()}"

    def spread(self, type_: GraphQLObjectType, depth: int) -> str:
        body = self.selection(type_, max(0, depth - 1))
        if self.chance.random() < 0.5:
            return f"... on {type_.name} {self.condition()} {body}"
        name = f"F{len(self.fragments)}"
        self.fragments.append(f"fragment {name} on {type_.name} {body}")
        return f"...{name} {self.condition()}"


@pytest.mark.parametrize("count", [pytest.param(40), pytest.param(1_500, marks=[pytest.mark.long])])
async def test_random_selections_are_rendered_as_graphql_core_does(
    count: int, selections: Selections
) -> None:
    chance = random.Random(count)  # noqa: S311  # dice
    fast = left = 0
    for _ in range(count):
        rendered, others = await compare(selections, *_Documents(chance).make())
        fast, left = fast + rendered, left + others
    # Left are only events that graphql-core makes an error of (`compare` asserts that): broken
    # ones, and those of the other union.
    assert fast > left


async def test_operations_share_where_the_payload_is_the_same(selections: Selections) -> None:
    text = """subscription ($w: ID, $a: String, $deep: Boolean!) {
      events(workspaceId: $w, after: $a) { ... on Event {
        seq task @include(if: $deep) { title } } } }"""
    tree = parse(text)

    def find(**variables: Any) -> Any:
        return selections.find(tree, variables=variables)

    one = find(w="1", a="x", deep=True)
    assert find(w="2", deep=True) is one, "which events they are is no part of what they look like"
    assert find(w="1", a="x", deep=False) is not one
    assert selections.find(parse(text + " "), variables={"deep": True}) is not one
    kept = len(selections._shared)
    del one
    gc.collect()
    assert len(selections._shared) < kept, "nobody subscribes any more"


async def test_who_depends_on_the_viewer_shares_with_nobody() -> None:
    schema = build_shelf()
    selections = Selections(CompiledExecutor(schema, options=EAGER))
    tree = parse("subscription { shelfEvents { note fresh { id books { totalCount } } } }")
    first = selections.find(tree, context=World(1))
    assert not first.is_shared
    assert selections.find(tree, context=World(1)) is not first
    plain = parse("subscription { shelfEvents { count } }")
    assert selections.find(plain, context=World(1)) is selections.find(plain, context=World(2))


@strawberry.type
class Number:
    value: int

    @strawberry.field
    def times(self, by: int) -> int:
        return self.value * by

    @strawberry.field
    def failing(self) -> str | None:
        if self.value == 4:
            raise ValueError("four")
        return "fine"


@strawberry.type
class _Plain:
    nothing: int = 0


@strawberry.type
class _Counting:
    @strawberry.subscription
    async def numbers(self, up_to: int | None = 1) -> AsyncGenerator[Number, None]:
        for value in range(1, (up_to or 0) + 1):
            yield Number(value=value)


async def test_a_variable_below_the_root_belongs_to_what_is_shared() -> None:
    schema = CompiledSchema(_Plain, subscription=_Counting)
    schema.compile_documents(EAGER)
    text = "subscription ($by: Int! = 2, $n: Int) { numbers(upTo: $n) { times(by: $by) } }"
    tree, find = parse(text), schema.selections.find
    twice = find(tree, variables={"n": 1})
    assert find(tree, variables={"n": 5}) is twice
    thrice = find(tree, variables={"by": 3})
    assert thrice is not twice
    number = Number(value=5)
    payloads = [await twice.payload(number), await thrice.payload(number)]
    assert [p and p.json for p in payloads] == [
        b'{"data":{"numbers":{"times":10}}}',
        b'{"data":{"numbers":{"times":15}}}',
    ]


async def test_a_stream_says_what_its_results_are_shared_by() -> None:
    schema = CompiledSchema(_Plain, subscription=_Counting)
    schema.compile_documents(Options(hooks_run_elsewhere=True))
    query = "subscription { numbers(upTo: 4) { value failing } }"
    results = [result async for result in await schema.stream(query)]
    # The first is made by graphql-core, the one that fails too.
    assert [isinstance(result, SharedResult) for result in results] == [False, True, True, False]
    assert [result.data for result in results] == [
        {"numbers": {"value": n, "failing": None if n == 4 else "fine"}} for n in range(1, 5)
    ]
    assert results[3].errors
    assert schema.selections.counts == {"first sight": 1, "answered": 2, "bailed": 1}
    schema.stop_compiling()
    results = [result async for result in await schema.stream(query)]
    assert not any(isinstance(result, SharedResult) for result in results)


async def test_what_cannot_be_compiled_is_left_to_graphql_core(selections: Selections) -> None:
    with pytest.raises(Fallback) as refusal:
        selections.find(parse("subscription { __typename }"))
    assert refusal.value.reason is Reason.UNSUPPORTED
    with pytest.raises(Fallback):
        selections.find(parse("subscription ($a: String!) { events(after: $a) { __typename } }"))
