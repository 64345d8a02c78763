import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from server.limits.cost import CostRules
from server.limits.document import DocumentLimits
from server.limits.errors import (
    MAX_LOGGED_PER_RESULT,
    ClientError,
    ErrorRenderer,
    to_camel_case,
)
from server.limits.operation import DocumentCache, OperationGuard


async def first_error(board: Any, query: str, variables: Any = None) -> dict[str, Any]:
    answer = await board.ask(query, variables)
    assert len(answer["errors"]) == 1, answer
    return answer["errors"][0]


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["secret", "chained", "nothing", "brokenStatus"])
async def test_an_unexpected_error_is_masked_and_logged_once(
    field: str, board: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = await board.post(f"{{ it: {field} }}")
    (error,) = response.json()["errors"]
    assert error["message"] == "Internal error"
    assert error["path"] == ["it"]
    assert error["locations"] == [{"line": 1, "column": 3}]
    assert set(error["extensions"]) == {"code", "id"}
    assert error["extensions"]["code"] == "INTERNAL"
    ((logged, error_id, path),) = board.log.entries
    assert error_id == error["extensions"]["id"]
    assert path == ["it"]
    assert logged.__traceback__ is not None
    for word in ("secret", "internal word", "/etc", "Traceback", "RuntimeError"):
        assert word not in response.text.replace("it: secret", "")
    assert [r for r in caplog.records if r.name.startswith("strawberry")] == []


async def test_the_client_gets_nothing_to_trace_back(board: Any) -> None:
    result = await board.schema.execute("{ chained }", context_value={"board": board})
    (error,) = result.errors
    assert isinstance(error, ClientError)
    hidden = (error.original_error, error.cause, error.nodes, error.source, error.__traceback__)
    assert hidden == (None,) * 5
    assert error.__cause__ is None
    assert error.__context__ is None


async def test_an_error_of_the_application_is_shown_with_its_details(board: Any) -> None:
    error = await first_error(board, "{ refused }")
    assert error["message"] == "The task is done"
    assert error["path"] == ["refused"]
    assert error["extensions"] == {
        "code": "ILLEGAL_TRANSITION",
        "allowedFrom": ["QUEUED"],
        "retryAfter": 3,
    }
    assert board.log.entries == []


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("{", None),
        ("{ nope }", None),
        ("{ hello(name: 3) }", None),
        ("query($n: Int) { tasks(first: $n) { totalCount } }", {"n": "x"}),
        ("query($n: Int) { tasks(first: $n) { totalCount } }", {"n": 10**30}),
        ("query($s: Status) { tasks(status: $s) { totalCount } }", {"s": "QUEUD"}),
        ("query($t: String!) { search(text: $t) }", None),
        ("query($t: String!) { search(text: $t) }", {"t": None}),
        ('query($t: String! = "x") { hello(name: $t) }', {"t": None}),
        ("query($b: Boolean!) { hello @skip(if: $b) }", {"b": "yes"}),
        ("query($v: Nope) { hello(name: $v) }", {"v": 1}),
    ],
)
async def test_an_error_of_the_request_is_invalid(query: str, variables: Any, board: Any) -> None:
    error = await first_error(board, query, variables)
    assert error["extensions"] == {"code": "INVALID"}
    assert error["message"] != "Internal error"
    assert board.log.entries == []


async def test_a_null_for_a_required_argument_is_the_clients_mistake(board: Any) -> None:
    # Allowed by validation, since the argument has a default; found out while executing.
    error = await first_error(board, "query($n: Int) { output(lines: $n) { id } }", {"n": None})
    assert error["extensions"] == {"code": "INVALID"}


async def test_long_messages_are_cut(board: Any) -> None:
    error = await first_error(board, "{ " + "x" * 30_000 + " }")
    assert len(error["message"]) <= 1_000


async def test_many_internal_errors_share_an_id_and_a_bounded_log(
    board: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await board.ask("{" + " ".join(f"s{i}: secret" for i in range(20)) + "}")
    assert answer["data"] is None
    errors = [GraphQLError("x", path=[i], original_error=OSError(i)) for i in range(20)]
    renderer = ErrorRenderer(log=board.log)
    board.log.entries.clear()
    with caplog.at_level(logging.ERROR):
        rendered = renderer.render(errors, None)
    assert len({error.extensions["id"] for error in rendered}) == 1
    assert len(board.log.entries) == MAX_LOGGED_PER_RESULT
    assert "15 more" in caplog.text


def test_details_of_any_kind_can_be_sent() -> None:
    refusal = ValueError("no")
    vars(refusal)["code"] = "CONFLICT"
    vars(refusal)["details"] = {
        "some_object": object,
        "nan": float("nan"),
        "large": 2**70,
        "a_set": {1},
        "code": "other",
        "deep": [[[[[[1]]]]]],
    }
    error = GraphQLError("x", path=["a"], original_error=refusal)
    (rendered,) = ErrorRenderer().render([error], None)
    extensions = rendered.extensions
    assert extensions["code"] == "CONFLICT"
    assert extensions["nan"] is None
    assert extensions["large"] == str(2**70)
    assert extensions["aSet"] == [1]
    assert extensions["someObject"] == str(object)
    assert extensions["deep"] == [[[["[[1]]"]]]]


def test_an_exception_with_extensions_of_its_own_is_not_trusted() -> None:
    sneaky = ValueError("secret")
    vars(sneaky)["extensions"] = {"code": "INVALID", "password": "secret"}
    error = GraphQLError("x", path=["a"], original_error=sneaky)
    (rendered,) = ErrorRenderer(log=lambda *_a, **_k: None).render([error], None)
    assert rendered.extensions["code"] == "INTERNAL"
    assert "password" not in rendered.extensions


def test_a_graphql_error_with_a_code_was_made_for_the_client() -> None:
    made = GraphQLError("Come later", path=["a"], extensions={"code": "UNAVAILABLE", "in": 3})
    (rendered,) = ErrorRenderer().render([made], None)
    assert rendered.message == "Come later"
    assert rendered.extensions == {"code": "UNAVAILABLE", "in": 3}


def test_rendering_twice_changes_nothing() -> None:
    renderer = ErrorRenderer(log=lambda *_a, **_k: None)
    once = renderer.render([GraphQLError("x", path=["a"], original_error=OSError("y"))], None)
    assert renderer.render(once, None) == once


@pytest.mark.parametrize(
    ("snake", "camel"),
    [("retry_after", "retryAfter"), ("limit", "limit"), ("allowedFrom", "allowedFrom")],
)
def test_camel_case(snake: str, camel: str) -> None:
    assert to_camel_case(snake) == camel


# -- introspection and suggestions ----------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["{ __schema { types { name } } }", '{ __type(name: "X") { name } }']
)
async def test_introspection_can_be_switched_off(query: str, make_board: Any) -> None:
    board = make_board(introspection=False)
    error = await first_error(board, query)
    assert error["message"] == "Introspection is switched off here."
    assert error["extensions"] == {"code": "FORBIDDEN"}
    assert (await board.ask("{ __typename task { __typename } }"))["data"] == {
        "__typename": "Query",
        "task": {"__typename": "Task"},
    }


async def test_introspection_can_depend_on_the_request(make_board: Any) -> None:
    board = make_board(
        introspection=lambda context: context["request"].headers.get("x-user") == "ann"
    )
    query = "{ __schema { queryType { name } } }"
    assert "data" in await board.ask(query, headers={"x-user": "ann"})
    refused = await board.ask(query, headers={"x-user": "bob"})
    assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert (await board.ask(query, headers={"x-user": "ann"}))["data"]


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("{ helo }", None),
        ("{ hello(nam: 1) }", None),
        ("{ tasks(status: QUEUD) { totalCount } }", None),
        ("query($s: Status) { tasks(status: $s) { totalCount } }", {"s": "QUEUD"}),
        ("{ task { ... on Tas { id } } }", None),
    ],
)
async def test_names_are_suggested_only_where_introspection_is_open(
    query: str, variables: Any, make_board: Any
) -> None:
    answers = [
        await make_board(introspection=introspection).ask(query, variables)
        for introspection in (True, False, lambda _context: True)
    ]
    suggests = ["Did you mean" in str(answer) for answer in answers]
    assert suggests == [True, False, False]


# -- the steps inside Strawberry ------------------------------------------------------------------


async def test_a_refused_document_never_reaches_a_resolver(make_board: Any) -> None:
    board = make_board(limits=DocumentLimits(aliases=1))
    answer = await board.ask("mutation { a: touch(id: 1) { id } b: touch(id: 2) { id } }")
    assert answer["errors"][0]["extensions"]["limit"] == {"name": "aliases", "value": 2, "max": 1}
    assert board.touched == 0


async def test_the_price_is_reported_and_enforced(make_board: Any) -> None:
    board = make_board(cost_rules=CostRules(limit=100))
    query = "query($n: Int) { tasks(first: $n) { nodes { id } } }"
    fine = await board.post(query, {"n": 99})
    assert fine.json()["extensions"] == {"cost": {"requested": 100, "limit": 100}}
    assert (fine.headers["x-query-cost"], fine.headers["x-query-cost-limit"]) == ("100", "100")
    dear = await board.post(query, {"n": 100})
    (error,) = dear.json()["errors"]
    assert error["extensions"] == {"code": "COST_EXCEEDED", "requested": 101, "max": 100}
    assert dear.json()["extensions"] == {"cost": {"requested": 101, "limit": 100}}
    assert dear.headers["x-query-cost"] == "101"


async def test_the_operation_named_is_the_one_that_is_priced(board: Any) -> None:
    text = "query A { hello } query B { tasks(first: 5) { nodes { id } } }"
    result = await board.schema.execute(text, operation_name="B", context_value={})
    assert result.extensions["cost"]["requested"] == 6


async def test_documents_are_parsed_and_validated_once(
    board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await board.ask("{ hello }")
    await board.ask("{ nope }")

    def fail(*_arguments: object, **_options: object) -> None:
        raise AssertionError("parsed or validated again")

    monkeypatch.setattr("server.limits.operation.parse_document", fail)
    monkeypatch.setattr("server.limits.operation.validate_document", fail)
    monkeypatch.setattr("strawberry.schema.schema.parse", fail)
    monkeypatch.setattr("strawberry.schema.schema.validate_document", fail)
    assert (await board.ask("{ hello }"))["data"] == {"hello": "Hello you"}
    for _ in range(2):
        error = await first_error(board, "{ nope }")
        assert error["extensions"] == {"code": "INVALID"}


async def test_a_flood_of_bad_documents_leaves_the_good_ones_cached(board: Any) -> None:
    guard: OperationGuard = board.schema.guard
    await board.ask("{ hello }")
    for number in range(300):
        checked = guard.parse(f"{{ nope{number} }}")
        assert guard.validate(checked)
    assert guard.accepted.find("{ hello }") is not None
    assert len(guard.refused) <= guard.refused.max_documents < 300


def test_the_cache_is_bounded_in_documents_and_in_tokens(board: Any) -> None:
    guard: OperationGuard = board.schema.guard
    cache = DocumentCache(documents=3, tokens=50)
    for number in range(10):
        cache.add(guard.parse(f"{{ a{number}: hello }}"))
    assert len(cache) == 3
    assert cache.tokens == 3 * guard.parse("{ a: hello }").document.token_count
    assert cache.find("{ a7: hello }") is not None
    cache.add(guard.parse("{ a9: hello }"))
    assert cache.tokens == 3 * guard.parse("{ a: hello }").document.token_count
    cache.add(guard.parse("{ b: hello }"))
    assert cache.find("{ a7: hello }") is not None
    assert cache.find("{ a8: hello }") is None
    cache.add(guard.parse("{" + "hello " * 60 + "}"))
    assert (len(cache), cache.tokens) == (0, 0)


async def test_nothing_of_a_request_outlives_it(board: Any) -> None:
    class Context(dict[str, Any]):
        pass

    for query in ("{ secret }", "{ nope }", "{", "{ hello }"):
        await board.schema.execute(query, context_value=Context(board=board))
    board.log.entries.clear()
    gc.collect()
    assert [held for held in gc.get_objects() if isinstance(held, Context)] == []


def test_strawberry_itself_can_still_introspect(board: Any) -> None:
    assert board.schema.introspect()["__schema"]["queryType"]["name"] == "Query"


# -- streams --------------------------------------------------------------------------------------


async def collect(board: Any, query: Any, **options: Any) -> list[ExecutionResult]:
    source = await board.schema.stream(query, context_value={"board": board}, **options)
    return [result async for result in source]


async def test_a_subscription_is_limited_priced_and_quiet_about_it(make_board: Any) -> None:
    board = make_board(cost_rules=CostRules(limit=1, object_weight=2))
    results = await collect(board, "subscription { count(to: 2) }")
    assert [result.data for result in results] == [{"count": 0}, {"count": 1}]
    assert [result.extensions for result in results] == [{}, {}]
    (refused,) = await collect(board, "subscription { items { id } }")
    assert isinstance(refused, PreExecutionError)
    assert refused.errors[0].extensions == {"code": "COST_EXCEEDED", "requested": 2, "max": 1}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("subscription {", "INVALID"),
        ("subscription { nope }", "INVALID"),
        ("subscription {" + " count" * 3_000 + "}", "LIMIT_EXCEEDED"),
        ("subscription {" + " ".join(f"a{i}: count" for i in range(31)) + "}", "LIMIT_EXCEEDED"),
        (["{ hello }"], "INVALID"),
        ({"a": 1}, "INVALID"),
        ("", "INVALID"),
        ("fragment F on Query { hello }", "INVALID"),
    ],
)
async def test_a_stream_refuses_with_one_plain_error(query: Any, code: str, board: Any) -> None:
    (result,) = await collect(board, query)
    assert isinstance(result, PreExecutionError)
    (error,) = result.errors
    assert error.extensions["code"] == code
    # Strawberry would close the whole connection for these two, with a reason of any length.
    assert not isinstance(error, GraphQLSyntaxError)
    assert error.original_error is None


async def test_variables_that_are_no_object_are_refused(board: Any) -> None:
    (result,) = await collect(board, "{ hello }", variable_values=["x"])
    assert result.errors[0].extensions == {"code": "INVALID"}


async def test_a_breaking_stream_is_masked_and_logged_once(
    board: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        results = await collect(board, "subscription { breaks }")
    assert results[0].data == {"breaks": 1}
    (error,) = results[1].errors
    assert error.message == "Internal error"
    assert error.original_error is None
    ((logged, error_id, _),) = board.log.entries
    assert str(logged) == "secret of a stream"
    assert error.extensions == {"code": "INTERNAL", "id": error_id}
    assert [r for r in caplog.records if r.name.startswith("strawberry")] == []


async def test_a_denied_stream_says_why(board: Any) -> None:
    results = await collect(board, "subscription { denied }")
    (error,) = results[0].errors
    assert error.message == "No such task"
    assert error.extensions == {"code": "NOT_FOUND", "field": "id"}


async def test_a_query_over_a_stream_is_masked_too(board: Any) -> None:
    (result,) = await collect(board, "{ secret }")
    assert result.errors[0].message == "Internal error"
    assert len(board.log.entries) == 1


class _Failing(SchemaExtension):
    def on_execute(self) -> Iterator[None]:
        raise RuntimeError("secret of an extension")
        yield


async def test_a_failing_extension_is_masked_as_well(make_board: Any) -> None:
    board = make_board(extensions=[_Failing])
    error = await first_error(board, "{ hello }")
    assert error["message"] == "Internal error"
    (result,) = await collect(board, "{ hello }")
    assert result.errors[0].message == "Internal error"
    assert [str(logged) for logged, _, _ in board.log.entries] == ["secret of an extension"] * 2
