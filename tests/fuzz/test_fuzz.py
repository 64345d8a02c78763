"""Random requests by somebody who may do everything: none of them surprises the server.

``DRAGOMAN_TEST_EXAMPLES`` sets how many are tried of each root field (6; many more when ``long``).
"""

import os
from typing import Any

import pytest
from graphql import print_schema
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import from_schema, nodes

from tests.fuzz.bench import Bench
from tests.fuzz.strategies import MOMENTS, arguments
from tests.support.calls import CALLS, field_of
from tests.support.schema_documents import core_schema, root_field, root_names

FEW = int(os.environ.get("DRAGOMAN_TEST_EXAMPLES", "6"))
MANY = 12 * FEW


def fuzzing(examples: int) -> settings:
    """Found once is enough: what fails is shown as it is, without a search for a smaller one."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples == FEW,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def test_every_operation_succeeds(bench: Bench) -> None:
    for call in CALLS:
        bench.succeed(call)
    assert bench.succeeded == set(root_names())


def try_arguments(bench: Bench, name: str, examples: int) -> None:
    tenant = bench.tenant
    words = [tenant.marker, tenant.workspace.slug, "EARLIEST", "main", "task:read"]
    strategy = arguments(root_field(name), ids=list(tenant.ids.values()), words=words)

    @fuzzing(examples)
    @given(strategy)
    def attempt(variables: dict[str, Any]) -> None:
        bench.ask(name, variables)

    attempt()


@pytest.mark.parametrize("name", root_names())
def test_any_arguments(bench: Bench, name: str) -> None:
    try_arguments(bench, name, FEW)


@pytest.mark.long
@pytest.mark.parametrize("name", root_names())
def test_any_arguments_many_times(bench: Bench, name: str) -> None:
    try_arguments(bench, name, MANY)


def try_variations(bench: Bench, call: str, examples: int) -> None:
    """A call that succeeds, with some of its arguments exchanged."""
    name, tenant = field_of(call), bench.tenant
    strategy = arguments(root_field(name), ids=list(tenant.ids.values()), words=[tenant.marker])

    @fuzzing(examples)
    @given(strategy, st.randoms(use_true_random=False))
    def attempt(other: dict[str, Any], random: Any) -> None:
        variables = bench.variables(call)
        if "input" in variables:
            _exchange(variables["input"], other["input"], random)
        else:
            _exchange(variables, other, random)
        _wait_for_nothing(variables)
        bench.ask(name, variables)

    attempt()


def _wait_for_nothing(variables: dict[str, Any]) -> None:
    """No run executes here, so whoever waits for one waits to the end."""
    given = variables.get("input", variables)
    if isinstance(given.get("waitSeconds"), int | float) and given["waitSeconds"] > 0:
        given["waitSeconds"] = 0.01


def _exchange(given: dict[str, Any], other: dict[str, Any], random: Any) -> None:
    for member in sorted(other):
        if random.random() < (0.1 if member in given else 0.3):
            given[member] = other[member]


@pytest.mark.parametrize("call", [c for c in CALLS if c.startswith("Mutation")])
def test_variations_of_what_succeeds(bench: Bench, call: str) -> None:
    try_variations(bench, call, FEW // 2)


@pytest.mark.long
@pytest.mark.parametrize("call", [c for c in CALLS if c.startswith("Mutation")])
def test_many_variations_of_what_succeeds(bench: Bench, call: str) -> None:
    try_variations(bench, call, MANY)


def try_documents(bench: Bench, examples: int) -> None:
    ids = st.sampled_from(list(bench.tenant.ids.values())).map(nodes.String)
    scalars = {
        "DateTime": st.sampled_from(MOMENTS).map(nodes.String),
        "JSON": st.sampled_from([nodes.Object([]), nodes.Int(1), nodes.String("x")]),
    }
    documents = from_schema(print_schema(core_schema()), custom_scalars=scalars, allow_x00=False)

    @fuzzing(examples)
    @given(documents, ids)
    def attempt(text: str, _: Any) -> None:
        answer = bench.runner.run(bench.inside.post(text, token=bench.inside.token))
        bench.check(answer, text[:3000])

    attempt()


def test_any_documents(bench: Bench) -> None:
    try_documents(bench, 4 * FEW)


@pytest.mark.long
def test_many_documents(bench: Bench) -> None:
    try_documents(bench, 4 * MANY)
