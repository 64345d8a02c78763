"""Fields whose values come with their parent: read inline where that is promised, nowhere else."""

from dataclasses import dataclass
from typing import Any

import pytest
import strawberry
from strawberry.permission import BasePermission

from compiler import (
    BATCH,
    CARRIED,
    CARRIES,
    CompiledExecutor,
    Options,
    Reason,
    carried_of,
)
from compiler.fields import FieldClass
from compiler.plan import Plan

Info = strawberry.Info[Any, Any]


class Anybody(BasePermission):
    def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:  # noqa: ARG002  # Strawberry's signature
        return True


@dataclass
class Row:
    number: int


def _author_of(number: int) -> Any:
    return Row(number * 10) if number else None


async def _authors(parents: list[Any], info: Info) -> list[Any]:
    info.context.append(f"batch of {len(parents)}")
    return [_author_of(parent.number) for parent in parents]


@strawberry.interface
class Numbered:
    number: int


@strawberry.type
class Author:
    number: int

    @classmethod
    def is_type_of(cls, value: Any, _info: Any) -> bool:
        return isinstance(value, Row)

    @strawberry.field(metadata={CARRIED: "boss"})
    async def boss(self, info: Info) -> "Author | None":
        info.context.append("boss")
        return Row(self.number + 1)


@strawberry.type
class Book(Numbered):
    @classmethod
    def is_type_of(cls, value: Any, _info: Any) -> bool:
        return isinstance(value, Row)

    @strawberry.field(metadata={CARRIED: "who", BATCH: _authors})
    async def written_by(self, info: Info) -> Author | None:
        info.context.append("writtenBy")
        return _author_of(self.number)

    @strawberry.field(metadata={CARRIED: "with"})
    async def with_number(self, info: Info, more: int = 0) -> int:
        info.context.append("withNumber")
        return self.number + more

    @strawberry.field(metadata={CARRIED: "guarded"}, permission_classes=[Anybody])
    async def guarded(self, info: Info) -> int:
        info.context.append("guarded")
        return self.number


def _carrying(info: Info, number: int) -> Any:
    row: Any = Row(number)
    for one in carried_of(info):
        info.context.append((one.name, one.metadata, str(one.type), sorted(one.selection.names)))
        row.written_by = _author_of(number)
    return row


@strawberry.type
class Query:
    @strawberry.field(metadata={CARRIES: True})
    async def book(self, info: Info, number: int = 1) -> Book | None:
        return _carrying(info, number)

    @strawberry.field(metadata={CARRIES: True})
    def numbered(self, info: Info) -> Numbered:
        return _carrying(info, 4)

    @strawberry.field
    async def books(self, info: Info) -> list[Book]:
        return [_carrying(info, 1), _carrying(info, 2)]

    @strawberry.field(metadata={CARRIES: True})
    async def forgetful(self) -> Book:
        return Row(7)


def _executor() -> CompiledExecutor:
    return CompiledExecutor(strawberry.Schema(Query), options=Options(compile_at_sighting=1))


async def _compiled(document: str, **variables: Any) -> tuple[Any, list[Any]]:
    """The data, equal to graphql-core's, and what the resolvers noted."""
    executor = _executor()
    expected = await executor.schema.execute(document, variables, [])
    assert expected.errors is None
    notes: list[Any] = []
    outcome = await executor.execute(document, variables=variables, context=notes)
    assert outcome.is_answer, outcome
    assert outcome.data == expected.data
    return outcome.data, notes


async def test_what_a_parent_comes_with_is_read_inline() -> None:
    data, notes = await _compiled("{ book { number writtenBy { number } } }")
    assert data == {"book": {"number": 1, "writtenBy": {"number": 10}}}
    assert notes == [("written_by", "who", "Author", ["number"])]


async def test_an_answer_is_null_where_nothing_came() -> None:
    data, notes = await _compiled("{ book(number: 0) { number writtenBy { number } } }")
    assert data == {"book": {"number": 0, "writtenBy": None}}
    assert len(notes) == 1


async def test_graphql_core_asks_for_nothing_to_be_carried() -> None:
    notes: list[Any] = []
    answer = await _executor().schema.execute("{ book { writtenBy { number } } }", None, notes)
    assert answer.data == {"book": {"writtenBy": {"number": 10}}}
    assert notes == ["writtenBy"]


async def test_aliases_share_one_value_with_all_they_ask_for() -> None:
    _, notes = await _compiled(
        "{ book { a: writtenBy { number } b: writtenBy { boss { number } } ...F } }"
        " fragment F on Book { c: writtenBy { __typename } }"
    )
    assert notes == [("written_by", "who", "Author", ["boss", "number"]), "boss"]


@pytest.mark.parametrize("wanted", [True, False])
async def test_only_what_the_conditions_leave_is_carried(wanted: bool) -> None:  # noqa: FBT001  # a parameter of the test
    document = (
        "query ($on: Boolean!) { book { number writtenBy @include(if: $on) { number }"
        " ... on Numbered @skip(if: $on) { again: number } } }"
    )
    _, notes = await _compiled(document, on=wanted)
    assert len(notes) == wanted


async def test_one_level_is_carried_and_no_more() -> None:
    _, notes = await _compiled("{ book { writtenBy { boss { boss { number } } } } }")
    assert notes[1:] == ["boss", "boss"]


async def test_an_abstract_type_has_it_carried_by_its_members() -> None:
    _, notes = await _compiled("{ numbered { number ... on Book { writtenBy { number } } } }")
    assert notes == [("written_by", "who", "Author", ["number"])]


async def test_nothing_is_carried_where_nobody_promised_it() -> None:
    _, notes = await _compiled("{ books { writtenBy { number } } book { number } }")
    assert notes == ["batch of 2"]


async def test_fields_with_arguments_and_wrapped_ones_are_called() -> None:
    _, notes = await _compiled("{ book { withNumber(more: 2) guarded } }")
    assert notes == ["withNumber", "guarded"]


async def test_a_broken_promise_is_left_to_graphql_core() -> None:
    executor = _executor()
    document = "{ forgetful { writtenBy { number } } }"
    outcome = await executor.execute(document, context=[])
    assert outcome.fallback is Reason.BAILED
    answer = await executor.schema.execute(document, None, [])
    assert answer.data == {"forgetful": {"writtenBy": {"number": 70}}}


async def test_a_carried_field_takes_no_level() -> None:
    executor = _executor()
    tree = executor.guard.parse("{ book { writtenBy { number } } }").document
    plan: Plan = executor.prepare(tree, operation_name=None, variables={}).plan
    kinds = {part.key: part.call.kind for part in plan.fields if part.call is not None}
    assert kinds == {
        "book": FieldClass.ASYNC,
        "writtenBy": FieldClass.ATTRIBUTE,
        "number": FieldClass.ATTRIBUTE,
    }
