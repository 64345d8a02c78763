"""Every root field of the board's own schema has a plan: nothing of it is left to graphql-core."""

import time

import pytest
from graphql import parse

from compiler import CompiledExecutor, Options
from schema.root import build_schema
from tests.support.schema_documents import document, root_names

NAMES = [name for name in root_names() if not name.startswith("Subscription.")]


@pytest.fixture(scope="module")
def executor() -> CompiledExecutor:
    return CompiledExecutor(build_schema(), options=Options(compile_at_sighting=1))


@pytest.mark.parametrize("name", NAMES)
def test_the_root_field_compiles(executor: CompiledExecutor, name: str) -> None:
    tree = parse(document(name, depth=1 if name == "Query.node" else 2))
    compiled = executor.prepare(tree, operation_name=None, variables={})
    wrapped = [part for part in compiled.plan.fields if part.call and part.call.kind.value == "D"]
    assert wrapped == []
    assert executor.prepare(tree, operation_name=None, variables={}) is compiled


def test_compiling_takes_milliseconds(executor: CompiledExecutor) -> None:
    tree = parse(document("Query.task", depth=2) + " # once more")
    begin = time.process_time()
    compiled = executor.prepare(tree, operation_name=None, variables={})
    each = (time.process_time() - begin) / len(compiled.plan.fields)
    assert each < 0.002, f"{each * 1e6:.0f} µs per field"
