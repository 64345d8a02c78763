"""When documents are compiled, when graphql-core answers, and what never happens twice."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import strawberry
from graphql import GraphQLError, parse
from hypothesis import example, given
from hypothesis import strategies as st
from strawberry.extensions import SchemaExtension
from strawberry.scalars import JSON

from compiler import (
    CompiledExecutor,
    CompiledSchema,
    Fallback,
    Options,
    Outcome,
    Reason,
    SimpleGuard,
    compile_selection,
)
from compiler.cache import LeastRecentlyUsed, Standing
from compiler.extensions import honoured
from compiler.values import MAX_KNOWN_CLASSES, Known
from tests.compiler.fuzz_schema import build_schema
from tests.compiler.fuzz_world import Fault, World

EAGER = Options(compile_at_sighting=1)
HELLO = "{ echo(number: 1) }"
AHEAD = timezone(timedelta(hours=5, minutes=45, seconds=1))


def executor_of(**options: Any) -> CompiledExecutor:
    return CompiledExecutor(build_schema(), options=Options(**options))


async def run(executor: CompiledExecutor, document: str, **variables: Any) -> Outcome:
    return await executor.execute(document, variables=variables, context=World(3))


async def test_documents_are_compiled_at_the_second_sighting() -> None:
    executor = executor_of()
    assert (await run(executor, HELLO)).fallback is Reason.FIRST_SIGHT
    assert (await run(executor, HELLO)).is_answer
    assert executor.counts == {"first sight": 1, "answered": 1}


@pytest.mark.parametrize(
    ("document", "variables", "reason"),
    [
        ("{ echo(", {}, Reason.INVALID),
        ("{ nothing }", {}, Reason.INVALID),
        ("{ __schema { types { name } } }", {}, Reason.UNSUPPORTED),
        ("subscription { shelfEvents { note } }", {}, Reason.UNSUPPORTED),
        ("query A { constant } query B { constant }", {}, Reason.UNSUPPORTED),
        ("query A($n: Int!) { echo(number: $n) }", {}, Reason.VARIABLES),
        ("query A($n: Int!) { echo(number: $n) }", {"n": None}, Reason.VARIABLES),
        ("query A($n: Int!) { echo(number: $n) }", {"n": True}, Reason.VARIABLES),
        ("query A($n: Int!) { echo(number: $n) }", {"n": 2**31}, Reason.VARIABLES),
        ("query A($n: Int = 1) { echo(number: $n) }", {"n": None}, Reason.VARIABLES),
        ("query A($n: Float) { echo(ratio: $n) }", {"n": float("nan")}, Reason.VARIABLES),
        ("query A($n: [[Int!]!]) { echo(matrix: $n) }", {"n": [1]}, Reason.VARIABLES),
        ("query A($n: Genre!) { echo(genre: $n) }", {"n": "novel"}, Reason.VARIABLES),
        ("query A($n: Span) { echo(span: $n) }", {"n": {"x": 1}}, Reason.VARIABLES),
        ("query A($n: Boolean!) { constant @skip(if: $n) }", {"n": "x"}, Reason.VARIABLES),
        ("query A($n: Boolean!) { constant @skip(if: $n) }", {}, Reason.UNSUPPORTED),
        ('{ person(id: "nobody") { name } pick(pick: {}) }', {}, Reason.VARIABLES),
    ],
)
async def test_what_is_left_to_graphql_core(
    document: str, variables: dict[str, Any], reason: Reason
) -> None:
    executor = CompiledExecutor(build_schema(), options=EAGER)
    outcome = await run(executor, document, **variables)
    assert outcome.fallback in {reason, Reason.INVALID}
    assert not outcome.is_answer


async def test_a_deep_recursive_input_is_left_to_graphql_core() -> None:
    executor = CompiledExecutor(build_schema(), options=EAGER)
    document = "query A($f: BookFilter) { books(filter: $f) { totalCount } }"
    value: dict[str, Any] = {"priceAbove": 0}
    for _ in range(30):
        value = {"either": [value]}
    assert (await run(executor, document, f=value)).is_answer
    for _ in range(250):
        value = {"either": [value]}
    assert (await run(executor, document, f=value)).fallback is Reason.VARIABLES


async def test_variables_that_are_no_object() -> None:
    executor = CompiledExecutor(build_schema(), options=EAGER)
    outcome = await executor.execute(HELLO, variables=[1])
    assert outcome.fallback is Reason.VARIABLES


async def test_bounds_on_documents_and_plans() -> None:
    executor = executor_of(compile_at_sighting=1, max_document=40, max_fields=3)
    assert (await run(executor, HELLO)).is_answer
    assert (await run(executor, HELLO + " " * 60)).fallback is Reason.UNSUPPORTED
    assert (await run(executor, "{ a: constant b: constant c: constant d: constant }")).fallback
    tree = parse(HELLO, no_location=True)
    outcome = await executor.execute(tree, context=World(1))
    assert outcome.fallback is Reason.UNSUPPORTED


@pytest.mark.parametrize("depth", [1, 4, 5, 6, 40])
async def test_deep_documents_are_compiled(depth: int) -> None:
    """Lists inside lists, and objects whose resolvers may be awaited, at any depth."""
    schema = build_schema()
    executor = CompiledExecutor(schema, options=EAGER)
    inside = "author { books { nodes { id } } } grid shelf { id neighbours { id } }"
    text = "again: selfAgain { " * depth + inside + " }" * depth
    document = f'{{ titled {{ ... on Book {{ {text} }} }} book(id: "b0") {{ {text} }} }}'
    outcome = await run(executor, document)
    expected = await schema.execute(document, context_value=World(3))
    assert outcome.is_answer, outcome
    assert outcome.body() == Outcome(data=expected.data, errors=expected.errors).body()


def test_classes_known_to_be_of_a_type_are_bounded() -> None:
    known = Known("Any", None)
    for _ in range(MAX_KNOWN_CLASSES + 2):
        value = type("New", (), {})()
        assert known.judge(value) is value
        assert type(value) in known
    assert len(known) <= MAX_KNOWN_CLASSES


async def test_conditions_are_part_of_the_plan() -> None:
    executor = CompiledExecutor(build_schema(), options=EAGER)
    document = "query A($on: Boolean = true) { constant @include(if: $on) __typename }"
    assert (await run(executor, document)).data == {"constant": 42, "__typename": "Query"}
    assert (await run(executor, document, on=False)).data == {"__typename": "Query"}
    assert (await run(executor, document, on=True)).data == {"constant": 42, "__typename": "Query"}


async def test_an_operation_has_only_so_many_variants() -> None:
    executor = executor_of(compile_at_sighting=1, max_variants=1)
    document = "query A($on: Boolean!) { constant @include(if: $on) __typename }"
    assert (await run(executor, document, on=True)).is_answer
    assert (await run(executor, document, on=False)).fallback is Reason.UNSUPPORTED
    assert (await run(executor, document, on=True)).is_answer


async def test_a_plan_that_keeps_bailing_rests() -> None:
    executor = executor_of(compile_at_sighting=1, bails_before_rest=2, rest=0.05)
    document = '{ shelf(id: "s0") { id } }'

    async def failing() -> Outcome:
        return await executor.execute(document, context=World(3, (Fault("Query.shelf"),)))

    assert [(await failing()).fallback for _ in range(3)] == [
        Reason.BAILED,
        Reason.BAILED,
        Reason.RESTING,
    ]
    assert (await run(executor, document)).fallback is Reason.RESTING
    await asyncio.sleep(0.06)  # the rest is measured in time
    assert (await run(executor, document)).is_answer


def test_successes_make_up_for_bails() -> None:
    standing = Standing(2)
    for _ in range(50):
        standing.bail(1.0, rest=10)
        for _ in range(10):
            standing.succeed()
    assert standing.resting_until == 0
    standing.bail(1.0, rest=10)
    standing.bail(1.0, rest=10)
    assert standing.resting_until == 11


def test_memories_are_bounded_by_weight() -> None:
    memory: LeastRecentlyUsed[str, int] = LeastRecentlyUsed(10)
    memory.put("a", 1, weight=4)
    memory.put("b", 2, weight=4)
    assert memory.find("a") == 1
    memory.put("c", 3, weight=4)
    assert (memory.find("a"), memory.find("b"), memory.find("c")) == (1, None, 3)
    memory.put("huge", 4, weight=11)
    assert len(memory) == 0
    assert memory.weight == 0


@strawberry.type
class Slow:
    @strawberry.field
    async def timeout(self) -> int:
        raise TimeoutError("too slow")

    @strawberry.field
    async def wait(self, info: strawberry.Info) -> int:
        info.context.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            info.context.append("ended")
        return 1

    @strawberry.field
    async def fail(self) -> int:
        await asyncio.sleep(0)
        raise ValueError("no")


@strawberry.type
class SlowQuery(Slow):
    @strawberry.field
    def again(self) -> list[Slow]:
        return [Slow(), Slow()]


async def test_timeouts_of_resolvers_are_not_tried_again() -> None:
    executor = CompiledExecutor(strawberry.Schema(SlowQuery), options=EAGER)
    for document in ("{ timeout }", "{ again { timeout } }"):
        with pytest.raises(TimeoutError):
            await executor.execute(document)


async def test_cancellation_passes_and_leaves_nothing_at_work() -> None:
    executor = CompiledExecutor(strawberry.Schema(SlowQuery), options=EAGER)
    log: list[str] = []
    task = asyncio.ensure_future(executor.execute("{ again { wait } b: wait }", context=log))
    while len(log) < 3:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["began"] * 3 + ["ended"] * 3
    assert executor.counts == {}


class Cleaning:
    @staticmethod
    async def up(log: list[str]) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append("cleaned")
        return 1


@strawberry.type
class CleanQuery:
    @strawberry.field
    async def waits(self, info: strawberry.Info) -> int:
        return await Cleaning.up(info.context)

    @strawberry.field
    async def fails(self) -> int:
        raise ValueError("at once")


async def test_what_was_just_begun_can_clean_up_after_itself() -> None:
    executor = CompiledExecutor(strawberry.Schema(CleanQuery), options=EAGER)
    log: list[str] = []
    outcome = await executor.execute("{ waits fails }", context=log)
    assert outcome.fallback is Reason.BAILED
    assert log == ["cleaned"]


async def test_a_failure_stops_its_siblings_before_the_fallback() -> None:
    executor = CompiledExecutor(strawberry.Schema(SlowQuery), options=EAGER)
    log: list[str] = []
    outcome = await executor.execute("{ again { wait fail } }", context=log)
    assert outcome.fallback is Reason.BAILED
    assert log == ["began"] * 2 + ["ended"] * 2


async def test_a_mutation_runs_once_even_when_its_payload_fails() -> None:
    schema = build_schema()
    executor = schema.compile_documents(Options(compile_at_sighting=1, hooks_run_elsewhere=True))
    document = """mutation { a: addShelf(label: "x") { count fresh { id } }
        b: addShelf { shelf { id } } c: count(by: 2) }"""
    here = World(3, (Fault("ShelfPayload.fresh"),))
    outcome = await executor.execute(document, context=here)
    there = World(3, (Fault("ShelfPayload.fresh"),))
    schema.stop_compiling()
    expected = await schema.execute(document, context_value=there)
    assert outcome.is_answer
    assert here.effects == there.effects
    assert outcome.body() == Outcome(data=expected.data, errors=expected.errors).body()


class OnEveryField(SchemaExtension):
    def resolve(self, _next: Any, root: Any, info: Any, *args: str, **kwargs: Any) -> Any:
        return _next(root, info, *args, **kwargs)


class AroundOperation(SchemaExtension):
    log: list[str] = []  # noqa: RUF012  # one log for all requests

    def on_operation(self) -> Iterator[None]:
        self.log.append("begin")
        yield
        self.log.append("end")

    def get_results(self) -> dict[str, Any]:
        return {"seen": 1}


@pytest.mark.parametrize("kind", [OnEveryField, AroundOperation])
async def test_unknown_extensions_switch_compiling_off(kind: type[SchemaExtension]) -> None:
    executor = CompiledExecutor(build_schema(extensions=[kind]), options=EAGER)
    assert kind.__name__ in (executor.obstacle or "")
    assert (await run(executor, HELLO)).fallback is Reason.DISABLED
    declared = Options(compile_at_sighting=1, compatible=frozenset([kind]))
    executor = CompiledExecutor(build_schema(extensions=[kind]), options=declared)
    assert (await run(executor, HELLO)).is_answer
    assert honoured(executor.schema, compatible=[kind]) == [kind.__name__]


async def test_strawberry_runs_the_hooks_around_a_compiled_schema() -> None:
    AroundOperation.log.clear()
    schema = build_schema(extensions=[AroundOperation])
    compiled = schema.compile_documents(Options(compile_at_sighting=1, hooks_run_elsewhere=True))
    result = await schema.execute("{ constant }", context_value=World(1))
    assert (result.data, result.extensions) == ({"constant": 42}, {"seen": 1})
    assert AroundOperation.log == ["begin", "end"]
    assert compiled.counts == {"answered": 1}
    assert schema.execute_sync("{ constant }", context_value=World(1)).data == {"constant": 42}
    schema.stop_compiling()
    assert (await schema.execute("{ constant }")).data == {"constant": 42}
    assert compiled.counts == {"answered": 1}


async def test_a_field_hook_of_one_request_is_respected() -> None:
    schema = build_schema(extensions=[OnEveryField])
    compiled = schema.compile_documents()
    compiled.obstacle = None  # as if the extension came with this request only
    for _ in range(3):
        assert (await schema.execute("{ constant }")).data == {"constant": 42}
    assert compiled.counts == {}


async def test_a_guard_refuses_before_anything_runs() -> None:
    schema = build_schema()

    class Refusing(SimpleGuard):
        def validate(self, checked: Any, context: object = None) -> list[GraphQLError]:  # noqa: ARG002  # refuses all
            return [GraphQLError("not today")]

    executor = CompiledExecutor(schema, guard=Refusing(schema), options=EAGER)
    outcome = await run(executor, HELLO)
    assert (outcome.fallback, outcome.detail) == (Reason.INVALID, "not today")


ZONES = st.sampled_from([None, UTC, ZoneInfo("UTC"), ZoneInfo("Asia/Kolkata"), AHEAD])


@given(moments=st.lists(st.datetimes(timezones=ZONES), min_size=1))
@example(moments=[datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 1, tzinfo=UTC)])
async def test_moments_are_written_as_they_would_be_spelled(moments: list[datetime]) -> None:
    @strawberry.type
    class Query:
        moments: list[datetime | None]
        huge: JSON = JSON(2**70)

    root = Query(moments=[*moments, None])
    schema = strawberry.Schema(Query)
    for text in ("{ moments }", "{ moments huge }"):
        tree = parse(text)
        executor = CompiledExecutor(schema, options=EAGER)
        compiled = executor.prepare(tree, operation_name=None, variables={})
        outcome = await executor.run(compiled, tree, root_value=root, for_json=True)
        expected = await schema.execute(text, root_value=root)
        assert outcome.body() == Outcome(data=expected.data, errors=expected.errors).body()


EDGES = [sign * (2**power + off) for sign in (1, -1) for power in (30, 31) for off in (-1, 0, 1)]


@given(
    whole=st.integers(-(2**33), 2**33) | st.sampled_from([*EDGES, True, 1.0, "7"]),
    ratio=st.floats() | st.sampled_from([*EDGES, True, "0.5"]),
)
async def test_numbers_are_judged_as_by_graphql_core(whole: Any, ratio: Any) -> None:
    @strawberry.type
    class Query:
        whole: int
        wholes: list[int | None]
        ratio: float | None

    root = Query(whole=whole, wholes=[whole, None], ratio=ratio)
    schema = strawberry.Schema(Query)
    executor = CompiledExecutor(schema, options=EAGER)
    for text in ("{ whole }", "{ wholes }", "{ ratio }"):
        outcome = await executor.execute(text, root_value=root)
        expected = await schema.execute(text, root_value=root)
        assert outcome.is_answer == (expected.errors is None)
        if outcome.is_answer:
            assert outcome.body() == Outcome(data=expected.data).body()


@pytest.mark.parametrize("value", [2**70, "\ud800"])
def test_json_that_orjson_refuses(value: Any) -> None:
    assert Outcome(data={"x": value}).body().startswith(b'{"data":{"x":')


EVENT = """subscription S($id: ID) {
  shelfEvents(id: $id) { note count fresh { id books { totalCount } } } }"""


async def test_events_are_rendered_as_graphql_core_does() -> None:
    schema = build_schema()
    executor = CompiledExecutor(schema, options=EAGER)
    from tests.compiler.fuzz_schema import Subscription

    selection = compile_selection(executor, parse(EVENT), variables={"id": "n"})
    assert selection.depends_on_viewer
    world = World(5)
    stream = await schema.subscribe(EVENT, {"id": "n"}, context_value=world)
    expected = [result async for result in stream]
    info = type("Info", (), {"context": world})()
    source = Subscription.shelf_events(Subscription(), info, id="n")
    rendered = [await selection.render(event, context=world) async for event in source]
    assert len(rendered) == len(expected) > 0
    assert [one.data for one in rendered] == [one.data for one in expected]


async def test_events_that_cannot_be_rendered_are_left_to_graphql_core() -> None:
    executor = CompiledExecutor(build_schema(), options=EAGER)
    plain = compile_selection(executor, parse("subscription { shelfEvents { count } }"))
    assert not plain.depends_on_viewer
    assert (await plain.render(object())).fallback is Reason.BAILED
    for document in ("{ constant }", "subscription { __typename }", "subscription { x: __schema }"):
        with pytest.raises(Fallback):
            compile_selection(executor, parse(document))
    executor.obstacle = "switched off"
    with pytest.raises(Fallback):
        compile_selection(executor, parse("subscription { shelfEvents { count } }"))


def test_a_schema_with_its_own_executor_class_is_not_compiled() -> None:
    from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

    class Own(StrawberryGraphQLCoreExecutionContext):
        pass

    schema = CompiledSchema(SlowQuery, execution_context_class=Own)
    assert schema.compile_documents().obstacle == "executor class Own"
