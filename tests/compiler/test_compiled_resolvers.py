"""What resolvers see and how they are called, against graphql-core."""

import asyncio
import contextvars
from typing import Any

import pytest
import strawberry
from strawberry.dataloader import DataLoader

from compiler import (
    BATCH,
    CompiledExecutor,
    Options,
    Reason,
    Selection,
    constant_of,
    selection_of,
)
from compiler.fields import FieldClass

SPAN: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")
EAGER = Options(compile_at_sighting=1)


def facts_of(info: strawberry.Info) -> dict[str, Any]:
    raw = info._raw_info
    return {
        "path": info.path,
        "field_name": info.field_name,
        "python_name": info.python_name,
        "selected_fields": info.selected_fields,
        "variable_values": info.variable_values,
        "context": info.context,
        "root_value": info.root_value,
        "operation": info.operation,
        "query": info.query,
        "input_extensions": info.input_extensions,
        "schema": info.schema,
        "return_type": str(raw.return_type),
        "parent_type": raw.parent_type.name,
        "field_nodes": raw.field_nodes,
        "fragments": raw.fragments,
        "selection": selection_of(info),
        "argument": info.get_argument_definition("size") is not None,
        "awaitable": raw.is_awaitable(asyncio.sleep) is False,
    }


@strawberry.type
class Leaf:
    seen: strawberry.Private[list[Any]]
    name: str

    @strawberry.field
    def size_of(self, info: strawberry.Info, size: int = 1) -> int:
        self.seen.append(facts_of(info))
        return size

    @strawberry.field
    async def twin(self, info: strawberry.Info) -> "Leaf":
        self.seen.append(facts_of(info))
        return self


@strawberry.type
class Query:
    @strawberry.field
    async def leaves(self, info: strawberry.Info, count: int = 2) -> list[list[Leaf]]:
        info.context["seen"].append(facts_of(info))
        return [[Leaf(seen=info.context["seen"], name=str(i)) for i in range(count)]]


DOCUMENT = """
query Look($n: Int = 2, $on: Boolean!) {
  rows: leaves(count: $n) { name twin { ...F twin @include(if: $on) { name } } ...F }
}
fragment F on Leaf { big: sizeOf(size: 9) sizeOf name }
"""


async def test_info_tells_the_same_as_under_graphql_core() -> None:
    schema = strawberry.Schema(Query)
    executor = CompiledExecutor(schema, options=EAGER)
    there: list[Any] = []
    here: list[Any] = []
    context: dict[str, Any] = {"seen": there}
    expected = await schema.execute(
        DOCUMENT, {"on": True}, context, root_value=7, operation_extensions={"k": 1}
    )
    context["seen"] = here
    outcome = await executor.execute(
        DOCUMENT,
        variables={"on": True},
        context=context,
        root_value=7,
        operation_extensions={"k": 1},
    )
    assert outcome.data == expected.data
    assert len(here) == len(there) == 13
    by_path = {tuple(one["path"].as_list()): one for one in there}
    assert {tuple(one["path"].as_list()) for one in here} == set(by_path)
    for one in here:
        other = by_path[tuple(one["path"].as_list())]
        assert one == other
        assert hash(one["selection"]) == hash(other["selection"])


def _names(info: Any) -> list[str]:
    info.context["made"] += 1
    return sorted(selection_of(info).names)


@strawberry.type
class Shape:
    @strawberry.field
    def first(self) -> int:
        return 1

    @strawberry.field
    def second(self) -> int:
        return 2


@strawberry.type
class Shapes:
    @strawberry.field
    def shape(self, info: strawberry.Info) -> Shape:
        info.context["seen"].append(constant_of(info, _names))
        return Shape()


async def test_a_constant_is_made_once_for_each_field_of_a_plan() -> None:
    schema = strawberry.Schema(Shapes)
    executor = CompiledExecutor(schema, options=EAGER)
    document = "{ shape { first } other: shape { second first } }"
    expected = [["first"], ["first", "second"]]
    context: dict[str, Any] = {"seen": [], "made": 0}
    for _ in range(3):
        assert (await executor.execute(document, context=context)).is_answer
    assert context == {"seen": expected * 3, "made": 2}
    context = {"seen": [], "made": 0}
    await schema.execute(document, context_value=context)
    assert context["seen"] == expected


def test_a_selection_is_a_constant_that_can_be_asked() -> None:
    inner = Selection({"id": Selection(), "title": Selection()})
    outer = Selection({"nodes": inner, "total": Selection()})
    assert outer == Selection({"total": Selection(), "nodes": inner})
    assert hash(outer) == hash(Selection({"total": Selection(), "nodes": inner}))
    assert outer != inner
    assert "nodes" in outer
    assert list(outer) == ["nodes", "total"]
    assert outer.below("nodes").names == {"id", "title"}
    assert outer.below("nodes", "id") == Selection()
    assert not outer.below("elsewhere")
    assert len(outer) == 2
    assert repr(outer) == "{nodes{id, title}, total}"
    assert outer.of_type("Any") is outer
    typed = Selection({"id": Selection()}, types={"A": inner})
    assert typed.of_type("A") is inner
    assert not typed.of_type("B")


@strawberry.type
class Item:
    number: int
    calls: strawberry.Private[list[Any]]

    @strawberry.field
    async def direct(self) -> int:
        return self.number

    @strawberry.field
    def promised(self, info: strawberry.Info) -> int:
        return info.context["loader"].load(self.number)

    @strawberry.field
    async def loaded(self, info: strawberry.Info) -> int:
        return int(await info.context["loader"].load(self.number))

    @strawberry.field
    async def late(self) -> "Item":
        await asyncio.sleep(0)
        return self

    @strawberry.field
    async def spanned(self) -> str:
        before = SPAN.get()
        SPAN.set(f"span {self.number}")
        await asyncio.sleep(0)
        return f"{before}, {SPAN.get()}"

    @strawberry.field
    async def timed(self) -> int:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return self.number


async def double_all(parents: list[Item], info: strawberry.Info, times: int) -> list[int]:
    info.context["calls"].append((len(parents), info.path.as_list(), times))
    return [parent.number * times for parent in parents]


async def too_few(parents: list[Item], _info: strawberry.Info) -> list[int]:
    return [1 for _ in parents[1:]]


@strawberry.type
class BatchItem(Item):
    @strawberry.field(metadata={BATCH: double_all})
    async def multiple(self, times: int = 2) -> int:
        return self.number * times

    @strawberry.field(metadata={BATCH: too_few})
    async def broken(self) -> int:
        return self.number


@strawberry.type
class Root:
    @strawberry.field
    async def items(self, count: int = 3) -> list[BatchItem]:
        return [BatchItem(number=n, calls=[]) for n in range(count)]


class Board:
    """One schema with a loader that remembers its batches."""

    def __init__(self) -> None:
        self.schema = strawberry.Schema(Root)
        self.executor = CompiledExecutor(self.schema, options=EAGER)

    def context(self) -> dict[str, Any]:
        batches: list[int] = []

        async def load(keys: list[int]) -> list[int]:
            batches.append(len(keys))
            await asyncio.sleep(0)
            return [key * 10 for key in keys]

        loader: DataLoader[int, int] = DataLoader(load_fn=load)
        return {"loader": loader, "batches": batches, "calls": []}

    async def both(self, document: str) -> tuple[Any, dict[str, Any]]:
        expected = await self.schema.execute(document, None, self.context())
        context = self.context()
        outcome = await self.executor.execute(document, context=context)
        assert outcome.is_answer, outcome
        assert outcome.data == expected.data
        return outcome.data, context


@pytest.mark.parametrize("field", ["promised", "loaded", "late { loaded }", "late { promised }"])
async def test_loads_of_a_level_are_one_batch(field: str) -> None:
    _, context = await Board().both(f"{{ items(count: 40) {{ {field} }} }}")
    assert context["batches"] == [40]


async def test_loads_of_different_fields_in_one_turn_are_one_batch() -> None:
    _, context = await Board().both(
        "{ items(count: 4) { loaded promised } more: items { loaded } }"
    )
    assert context["batches"] == [4]


async def test_a_batch_resolver_answers_for_all_parents_at_once() -> None:
    data, context = await Board().both("{ items(count: 3) { multiple(times: 5) } }")
    assert context["calls"] == [(3, ["items", 0, "multiple"], 5)]
    assert data["items"][2] == {"multiple": 10}


async def test_a_batch_resolver_with_too_few_answers_is_not_believed() -> None:
    board = Board()
    outcome = await board.executor.execute("{ items { broken } }", context=board.context())
    assert outcome.fallback is Reason.BAILED


async def test_context_variables_stay_inside_their_resolver() -> None:
    data, _ = await Board().both("{ items { spanned } }")
    assert [one["spanned"] for one in data["items"]] == [f"none, span {n}" for n in range(3)]
    assert SPAN.get() == "none"


async def test_coroutines_that_do_not_wait_need_no_tasks() -> None:
    board = Board()
    made: list[Any] = []
    loop = asyncio.get_running_loop()

    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        outcome = await board.executor.execute("{ items { direct } }", context=board.context())
    finally:
        loop.set_task_factory(None)
    assert outcome.is_answer
    assert made == []


async def test_a_resolver_that_takes_hold_of_its_task_is_answered_correctly() -> None:
    board = Board()
    expected = await board.schema.execute("{ items { timed } }", None, board.context())
    assert expected.errors is None
    outcome = await board.executor.execute("{ items { timed } }", context=board.context())
    assert outcome.fallback is Reason.BAILED or outcome.data == expected.data


def test_field_classes() -> None:
    from compiler.fields import classify
    from tests.compiler.fuzz_schema import build_schema

    schema = build_schema()
    kinds = {
        name: classify(schema, schema._schema.type_map[name.split(".")[0]], name.split(".")[1]).kind
        for name in (
            "Book.title",
            "Book.author",
            "Book.shelf",
            "Book.cry",
            "Person.secret",
            "Person.diary",
            "Query.guarded",
            "Query.constant",
        )
    }
    assert kinds == {
        "Book.title": FieldClass.ATTRIBUTE,
        "Book.author": FieldClass.SYNC,
        "Book.shelf": FieldClass.ASYNC,
        "Book.cry": FieldClass.WRAPPED,
        "Person.secret": FieldClass.WRAPPED,
        "Person.diary": FieldClass.WRAPPED,
        "Query.guarded": FieldClass.WRAPPED,
        "Query.constant": FieldClass.SYNC,
    }
