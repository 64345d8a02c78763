import time
from collections.abc import Callable
from typing import Any

import pytest
from graphql import GraphQLError, get_introspection_query, parse
from graphql.validation.rules import overlapping_fields_can_be_merged as merging

from server.limits.document import DocumentLimits, parse_document, survey_document
from server.limits.operation import OperationGuard


def fragments(count: int, body: Callable[[int], str]) -> str:
    return " ".join(f"fragment F{i} on Task {{ {body(i)} }}" for i in range(count))


def spread(count: int) -> str:
    return "{ task { " + " ".join(f"...F{i}" for i in range(count)) + " } } "


def bomb(levels: int, width: int, step: str) -> str:
    """`width ** levels` times one field, out of `levels * width` spreads."""

    def body(i: int) -> str:
        return step.replace("NEXT", f"...F{i + 1}") * width if i < levels else "id"

    return spread(1) + fragments(levels + 1, body)


def chain(length: int, step: str = "NEXT") -> str:
    return fragments(
        length, lambda i: step.replace("NEXT", f"...F{i + 1}") if i < length - 1 else "id"
    )


def inline_square(side: int) -> str:
    inner = " ".join("... on Task { id title }" for _ in range(side))
    return "{ task { " + " ".join(f"... on Task {{ {inner} }}" for _ in range(side)) + " } }"


def nested(depth: int) -> str:
    return "{ task { " + "parents { " * depth + "id" + " }" * depth + " } }"


def circular_introspection(rounds: int) -> str:
    ring = "fields { type { "
    return "{ __schema { types { " + ring * rounds + "name" + " } }" * rounds + " } } }"


def numbered(template: str, count: int) -> str:
    return " ".join(template.replace("N", str(i)) for i in range(count))


# name: (document, the limit that refuses it)
REFUSED: dict[str, tuple[str, str]] = {
    "20,000 aliases": ("{" + numbered("aN: hello", 20_000) + "}", "documentBytes"),
    "31 aliases": ("{" + numbered("aN: hello", 31) + "}", "aliases"),
    "10,000 directives": ("{ hello " + "@skip(if: false) " * 10_000 + "}", "documentBytes"),
    "6 directives at one place": ("{ hello " + "@a " * 6 + "}", "directivesPerLocation"),
    "51 directives": ("{" + "hello @include(if: true) " * 51 + "}", "directivesTotal"),
    "50,000 fields": ("{" + "hello " * 50_000 + "}", "documentBytes"),
    "5,000 fields": ("{" + "hello " * 5_000 + "}", "tokens"),
    "3,000 comments": ("#\n" * 3_000 + "{hello}", "tokens"),
    "480 times one object": ("{" + " task { id }" * 480 + "}", "complexity"),
    "400 times one field": ("{" + "hello " * 400 + "}", "complexity"),
    "inline square 60x60": (inline_square(60), "documentBytes"),
    "inline square 18x18": (inline_square(18), "tokens"),
    "inline square 15x15": (inline_square(15), "complexity"),
    "depth 3,000": (nested(3_000), "documentBytes"),
    "depth 500": (nested(500), "nesting"),
    "depth 13": (nested(11), "depth"),
    "depth through fragments": (spread(1) + chain(20, "parents { NEXT }"), "depth"),
    "circular introspection": (circular_introspection(20), "introspectionDepth"),
    "fragment bomb 10^10": (bomb(10, 10, "parents { NEXT } "), "fields"),
    "flat fragment bomb 20^20": (bomb(20, 20, "NEXT "), "fields"),
    "11 mutations": ("mutation {" + "touch(id: 1) { id } " * 11 + "}", "mutationRootFields"),
    "12 mutations in a fragment": (
        "mutation { ...M ...M } fragment M on Mutation {" + "touch(id: 1) { id } " * 6 + "}",
        "mutationRootFields",
    ),
    "32 aliases in a fragment": (
        "{ task {" + "...F0 " * 8 + "} } " + fragments(1, lambda _: "a: id b: id c: id d: id"),
        "aliases",
    ),
    "fragments compared in pairs": (
        spread(60) + fragments(60, lambda _: "parents { parents { parents { id } } }"),
        "complexity",
    ),
}

# Valid or not: what matters is that it is cheap to find out.
INSIDE: dict[str, str] = {
    "unknown fields": "{" + numbered("nopeN", 900) + "}",
    "unknown arguments": "{ hello(" + numbered("aN: 1", 600) + ") }",
    "unknown types": "{ task { " + numbered("... on TN { id }", 220) + " } }",
    "unknown fragments": "{ task { " + numbered("...XN", 900) + " } }",
    "a long name": "{ " + "x" * 32_000 + " }",
    "a long string": '{ hello(name: "' + "x" * 32_000 + '") }',
    "a long block string": '{ hello(name: """' + "\n x" * 10_000 + '""") }',
    "a long enum value": "{ tasks(status: " + "X" * 30_000 + ") { totalCount } }",
    "empty lines": "{ hello" + "\r\n" * 16_000 + "}",
    "unused fragments": "{ hello } " + fragments(200, lambda _: "id"),
    "a ring of fragments": spread(1) + fragments(150, lambda i: f"...F{(i + 1) % 150}"),
    "a chain of fragments": spread(1) + chain(150),
    "all fragments spread all": spread(1)
    + fragments(28, lambda i: " ".join(f"...F{j}" for j in range(28) if j != i)),
    "all fragments spread later ones": spread(1)
    + fragments(10, lambda i: "id " + " ".join(f"...F{j}" for j in range(i + 1, 10))),
    "unused variables": "query(" + numbered("$vN: [[[[Int]]]]", 150) + ") { hello }",
    "wrong defaults": "query(" + numbered('$vN: Int = "x"', 250) + ") { hello }",
    "a deep type": "query($v: " + "[" * 190 + "Int" + "]" * 190 + ") { hello }",
    "variables in fragments": "query("
    + numbered("$vN: Int", 60)
    + ") "
    + spread(60)
    + fragments(60, lambda i: f"runs(first: $v{i}) {{ totalCount }}"),
    "a variable everywhere": "query($v: Int) { task { "
    + "runs(first: $v) { totalCount } " * 150
    + "} }",
    "a list literal": "{ hello(name: [" + "1 " * 1_900 + "]) }",
    "a deep list literal": "{ hello(name: " + "[" * 190 + "1" + "]" * 190 + ") }",
    "a deep object literal": "{ hello(name: " + "{a: " * 190 + "1" + "}" * 190 + ") }",
    "an object literal": "{ hello(name: {" + "a: 1 " * 600 + "}) }",
    "equal object literals": "{" + " hello(name: {a: {b: [1 2 3]}})" * 90 + "}",
    "repeated arguments": "{ hello(" + 'name: "x" ' * 600 + ") }",
    "conflicting objects": "{" + numbered("task(id: N) { parents { parents { id } } }", 90) + "}",
    "operations": numbered("query QN { hello }", 300),
    "anonymous operations": "{ hello }" * 600,
    "operations over one fragment": numbered("query QN { task { ...F0 } }", 150)
    + fragments(1, lambda _: "id title " * 60),
    "operations over a chain": numbered("query QN { task { ...F0 } }", 90) + chain(100),
    "operations over variables": numbered("query QN($v: Int) { task { ...F0 } }", 70)
    + fragments(1, lambda _: "runs(first: $v) { totalCount } " * 60),
    "inline fragments, 190 deep": "{" + "... {" * 190 + " hello" + " }" * 190 + "}",
    "union members": "{ items { " + "... on Task { id } ... on Run { id } " * 120 + "} }",
    "type definitions": numbered("type TN { a: Int }", 240),
    "30 aliased pages": "{" + numbered("aN: tasks(first: N) { nodes { id title } }", 30) + "}",
    "wide introspection": "{ __schema { " + "types { name kind description } " * 200 + "} }",
}

LEGITIMATE = """
query Board($first: Int = 20, $details: Boolean!) {
  tasks(first: $first, status: QUEUED) {
    totalCount
    pageInfo { hasNextPage }
    edges { cursor node { ...Card parents { ...Card } } }
  }
  recent: tasks(last: 5) { nodes { ...Card } }
  items { ... on Task { ...Card } ... on Run { id status note } }
}
fragment Card on Task {
  id
  title
  labels @include(if: $details)
  runs(first: 3) { nodes { id status } }
}
"""


def examine(guard: OperationGuard, text: str) -> list[GraphQLError]:
    """Every check of a document the server has not seen before, price included."""
    fresh = OperationGuard(guard.schema, limits=guard.limits)
    fresh.cost_model = guard.cost_model
    try:
        checked = fresh.parse(text)
    except GraphQLError as refusal:
        return [refusal]
    errors = fresh.validate(checked)
    if not errors:
        fresh.cost(checked)
    return errors


def codes(errors: list[GraphQLError]) -> set[str]:
    return {(error.extensions or {}).get("code", "INVALID") for error in errors}


@pytest.mark.parametrize("name", REFUSED)
def test_an_attack_is_refused_by_the_limit_meant_for_it(name: str, board: Any) -> None:
    text, limit = REFUSED[name]
    (error,) = examine(board.schema.guard, text)
    assert error.extensions["code"] == "LIMIT_EXCEEDED"
    reported = error.extensions["limit"]
    assert reported["name"] == limit
    assert reported["value"] > reported["max"]


@pytest.mark.parametrize("name", [*REFUSED, *INSIDE])
def test_no_document_costs_much_more_than_a_real_one(
    name: str, board: Any, measure: Callable[..., float]
) -> None:
    guard = board.schema.guard
    text = INSIDE.get(name) or REFUSED[name][0]
    assert examine(guard, LEGITIMATE) == []
    real = measure(lambda: examine(guard, LEGITIMATE), rounds=5)
    assert measure(lambda: examine(guard, text)) < 40 * real


def test_the_budget_of_graphql_core_is_set(board: Any) -> None:
    assert board.schema.guard.limits.complexity_budget == merging.MAX_COMPLEXITY_BUDGET == 20_000


def test_limits_must_be_positive() -> None:
    with pytest.raises(ValueError, match="depth"):
        DocumentLimits(depth=0)


def scalars(count: int) -> str:
    return " ".join(["id"] * count)


AT_THE_LIMIT: list[tuple[str, Callable[[int], str], int]] = [
    ("documentBytes", lambda n: "{hello}" + " " * (n - 7), 32_768),
    ("documentBytes", lambda n: '{hello(name:"")}#' + "é" * ((n - 17) // 2), 32_768),
    ("tokens", lambda n: "{ hello }" + "#\n" * (n - 3), 2_000),
    ("depth", lambda n: "{ task { " + "parents { " * (n - 2) + "id" + " }" * n, 12),
    ("aliases", lambda n: "{" + " ".join(f"a{i}: hello" for i in range(n)) + "}", 30),
    (
        "aliases",
        lambda n: (
            "{ task { ...F ...F } } fragment F on Task {"
            + " ".join(f"a{i}: id" for i in range(n // 2 + n % 2))
            + "}"
        ),
        30,
    ),
    ("directivesPerLocation", lambda n: "{ hello " + "@skip(if: false) " * n + "}", 5),
    ("directivesTotal", lambda n: "{" + "hello @skip(if: false) " * n + "}", 50),
    ("mutationRootFields", lambda n: "mutation {" + "touch(id: 1) { id } " * n + "}", 10),
    (
        "introspectionDepth",
        lambda n: "{ __schema { types { " + "ofType { " * (n - 3) + "name" + " }" * n,
        20,
    ),
    (
        "fields",
        lambda n: (
            "{ task {" + "...F " * 19 + scalars(n - 1_901) + "} }"
            "fragment F on Task {" + scalars(100) + "}"
        ),
        2_000,
    ),
]


@pytest.mark.parametrize(("name", "build", "maximum"), AT_THE_LIMIT)
def test_a_limit_allows_its_maximum_and_not_one_more(
    name: str, build: Callable[[int], str], maximum: int
) -> None:
    limits = DocumentLimits()
    survey_document(parse_document(build(maximum), limits), limits)
    with pytest.raises(GraphQLError) as refusal:
        survey_document(parse_document(build(maximum + 1), limits), limits)
    assert refusal.value.extensions["limit"]["name"] == name


def test_the_introspection_of_tools_passes(board: Any) -> None:
    query = get_introspection_query(
        specified_by_url=True, directive_is_repeatable=True, input_value_deprecation=True
    )
    assert examine(board.schema.guard, query) == []


def test_several_operations_are_counted_one_by_one(board: Any) -> None:
    operation = "query {name} {{" + " ".join(f"a{i}: hello" for i in range(20)) + "}}"
    text = " ".join(operation.format(name=name) for name in "ABC")
    assert examine(board.schema.guard, text) == []


def test_directives_of_operations_and_variables_are_counted() -> None:
    limits = DocumentLimits(directives_per_location=1)
    for text in (
        "query @a @b { hello }",
        "query($v: Int @a @b) { hello }",
        "{ ...F } fragment F on Query @a @b { hello }",
        "{ ... @a @b { hello } }",
        "{ ...F @a @b } fragment F on Query { hello }",
    ):
        with pytest.raises(GraphQLError):
            survey_document(parse(text), limits)


@pytest.mark.parametrize("text", [None, 7, ["{hello}"], {"query": "{hello}"}])
def test_a_query_that_is_no_text_is_invalid(text: object) -> None:
    with pytest.raises(GraphQLError) as refusal:
        parse_document(text, DocumentLimits())
    assert refusal.value.extensions == {"code": "INVALID"}


def test_a_lone_surrogate_is_a_syntax_error_not_a_crash() -> None:
    with pytest.raises(GraphQLError) as refusal:
        parse_document("{ hello \ud800 }", DocumentLimits())
    assert refusal.value.extensions == {"code": "INVALID"}


def test_a_ring_of_fragments_is_left_to_validation(board: Any) -> None:
    text = "{ task { ...A } } fragment A on Task { ...B } fragment B on Task { id ...A }"
    survey_document(parse(text), DocumentLimits())
    errors = examine(board.schema.guard, text)
    assert codes(errors) == {"INVALID"}
    assert "itself" in errors[0].message


def test_the_number_of_validation_errors_is_bounded(board: Any) -> None:
    text = "{" + " ".join(f"nope{i}" for i in range(300)) + "}"
    assert len(examine(board.schema.guard, text)) == board.schema.guard.limits.validation_errors + 1


async def test_attacks_sent_to_the_server_are_answered_cheaply(board: Any) -> None:
    async def seconds(text: str) -> float:
        start = time.process_time()
        response = await board.post(text)
        assert response.status_code == 200
        return time.process_time() - start

    await seconds("{ hello }")
    real = max([await seconds(f"{LEGITIMATE} # never seen before {n}") for n in range(3)])
    for name, (text, limit) in REFUSED.items():
        # The best of three texts that no cache knows: a busy machine slows single ones down.
        assert min([await seconds(f"{text} # {n}") for n in range(3)]) < 0.1 + 40 * real, name
        answer = await board.ask(text)
        assert answer["errors"][0]["extensions"]["limit"]["name"] == limit
    assert board.touched == 0
