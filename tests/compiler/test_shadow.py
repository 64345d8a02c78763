"""Queries that run on both executors now and then: differences are told, answers stay."""

from pathlib import Path
from typing import Any

import pytest
import strawberry
from structlog.testing import capture_logs

from compiler import BATCH, CompiledSchema, Options, Shadow
from server.graphql import _shadow
from server.metrics import Metrics
from tests.support.inside import open_inside

CALLS: list[str] = []


async def _wrong_names(parents: list[Any], info: strawberry.Info) -> list[str]:
    return ["another" for _ in parents]


async def _names(parents: list[Any], info: strawberry.Info) -> list[str]:
    return ["name" for _ in parents]


@strawberry.type
class Thing:
    @strawberry.field(metadata={BATCH: _wrong_names})
    async def wrong(self) -> str:
        return "name"

    @strawberry.field(metadata={BATCH: _names})
    async def right(self) -> str:
        return "name"

    @strawberry.field(metadata={BATCH: _names})
    async def failing(self) -> str:
        raise ValueError("only here")


@strawberry.type
class Query:
    @strawberry.field
    def things(self) -> list[Thing]:
        return [Thing(), Thing()]


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def change(self) -> Thing:
        CALLS.append("change")
        return Thing()


async def _told(text: str, share: float = 1.0) -> list[str]:
    told: list[str] = []
    schema = CompiledSchema(Query, mutation=Mutation)
    shadow = Shadow(share, lambda how, document: told.append(f"{how} {document}"))
    schema.compile_documents(
        Options(compile_at_sighting=1, hooks_run_elsewhere=True, shadow=shadow)
    )
    result = await schema.execute(text)
    assert result.errors is None
    assert "another" in str(result.data) or "wrong" not in text, "the compiled answer goes out"
    return told


@pytest.mark.parametrize(
    ("field", "how"), [("right", "equal"), ("wrong", "different"), ("failing", "different")]
)
async def test_what_both_executors_answer_is_compared(field: str, how: str) -> None:
    text = f"{{ things {{ {field} }} }}"
    assert await _told(text) == [f"{how} {text}"]
    assert await _told(text, share=0.0) == []


async def test_mutations_run_once() -> None:
    CALLS.clear()
    assert await _told("mutation { change { wrong } }") == []
    assert CALLS == ["change"]


async def test_the_server_counts_what_it_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Metrics, "graphql_compared", lambda _, how: told.append(how))
    text = "{ workspaces(first: 5) { totalCount nodes { name tasks { nodes { createdAt } } } } }"
    made = 'mutation { createWorkspace(input: {name: "Board"}) { workspace { id } } }'
    async with open_inside(tmp_path, compile_shadow=1.0) as server:
        await server.post(made, token=server.token)
        answers = {(await server.post(text, token=server.token)).body for _ in range(3)}
    assert len(answers) == 1
    assert told == ["equal"] * 3


def test_a_difference_is_logged_without_the_texts_in_the_document() -> None:
    shadow = _shadow(0.5, Metrics())
    assert shadow is not None
    with capture_logs() as lines:
        shadow.tell("equal", "{ a }")
        shadow.tell("different", '{ a(b: "secret \\" x", c: """se"cret""", d: 1) }')
    (line,) = lines
    assert line["document"] == '{ a(b: "", c: "", d: 1) }'
