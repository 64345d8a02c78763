from typing import Any

import pytest
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    parse,
    validate,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from server.limits.cost import CostModel, CostRules
from server.limits.operation import MAX_COSTS_PER_DOCUMENT, OperationGuard, find_operation

NODES_FRAGMENT = " fragment C on TaskConnection { nodes { id } }"


@pytest.fixture(scope="module")
def schema() -> Any:
    # Module-wide and built by hand: Hypothesis runs many examples against one schema.
    from graphql import build_schema

    return build_schema(
        """
        type Query {
          version: String
          task: Task
          tasks(first: Int, last: Int, before: String): TaskConnection!
          runs(first: Int = 7): [Run!]!
          things: [Thing!]!
        }
        type Mutation { touch(id: ID): Task  ping: Boolean }
        union Thing = Task | Run
        type TaskConnection { nodes: [Task!]!  edges: [TaskEdge!]!  pageInfo: PageInfo!
          total: Int }
        type TaskEdge { node: Task!  cursor: String }
        type PageInfo { more: Boolean }
        interface Named { name: String  parent: Task }
        type Task implements Named {
          id: ID  name: String  parent: Task  children: [Task!]!
          runs(first: Int, last: Int): RunConnection!
        }
        type RunConnection { nodes: [Run!]!  pageInfo: PageInfo!  total: Int }
        type Run { id: ID  task: Task  labels: [String!]! }
        """
    )


def price(schema: Any, text: str, variables: dict[str, Any] | None = None, **rules: Any) -> int:
    document = parse(text)
    assert validate(schema, document) == []
    operation = find_operation(document, None)
    assert operation
    model = CostModel(schema, CostRules(**rules))
    return model.cost_of(document, operation, variables).requested


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("{ version }", 0),
        ("{ task { id name } }", 1),
        ("{ task { parent { parent { id } } } }", 3),
        ("{ tasks(first: 10) { nodes { id } } }", 11),
        ("{ tasks(first: 10) { edges { node { id } cursor } } }", 11),
        ("{ tasks(first: 10) { total pageInfo { more } } }", 1),
        ("{ tasks { nodes { id } } }", 51),
        ("{ tasks(last: 3) { nodes { id } } }", 4),
        ("{ tasks(first: 2, last: 5) { nodes { id } } }", 6),
        (
            "{ tasks(first: 10) { nodes { runs(first: 4) { nodes { id } } } } }",
            1 + 10 * (1 + 1 + 4),
        ),
        ("{ runs { id } }", 7),
        ("{ runs(first: null) { id } }", 50),
        ("{ runs(first: 3) { task { id } } }", 6),
        ("{ task { children { id } } }", 11),
        ("{ a: task { id } b: task { id } }", 2),
        ("{ things { ... on Task { parent { id } } ... on Run { task { id } } } }", 30),
        ("mutation { touch(id: 1) { id } ping }", 20),
        ("{ __typename __schema { queryType { name } } }", 1_000),
        (
            "{ ...F ...F } fragment F on Query { tasks(first: 2) { nodes { id } } }",
            6,
        ),
        (
            "{ tasks(first: 2) { ...C } more: tasks(first: 30) { ...C } }" + NODES_FRAGMENT,
            34,
        ),
        ("{ things { ... on Named { parent { id } } } }", 20),
    ],
)
def test_prices(schema: Any, text: str, cost: int) -> None:
    assert price(schema, text) == cost


@pytest.mark.parametrize(
    ("first", "rows"),
    [
        (0, 0),
        (1, 1),
        (100, 100),
        (101, 100),
        (10**30, 100),
        (-1, 0),
        (-(10**30), 0),
        (7.0, 7),
        (7.5, 50),
        (float("inf"), 50),
        (float("nan"), 50),
        (None, 50),
        ("7", 50),
        (True, 50),
        ([7], 50),
        ({"a": 1}, 50),
    ],
)
def test_any_value_may_come_as_a_page_size(schema: Any, first: object, rows: int) -> None:
    text = "query($n: Int) { tasks(first: $n) { nodes { id } } }"
    assert price(schema, text, {"n": first}) == 1 + rows


def test_literals_of_thousands_of_digits_count_as_large(schema: Any) -> None:
    # Validation refuses them, but the price must not fail on the way there.
    for sign, rows in (("", 100), ("-", 0)):
        document = parse(f"{{ tasks(first: {sign}1{'0' * 6_000}) {{ nodes {{ id }} }} }}")
        operation = find_operation(document, None)
        assert operation
        assert CostModel(schema).cost_of(document, operation).requested == 1 + rows


def test_defaults_of_variables_and_of_arguments_count(schema: Any) -> None:
    text = "query($n: Int = 5) { tasks(first: $n) { nodes { id } } }"
    assert price(schema, text) == 6
    assert price(schema, text, {"n": 9}) == 10
    assert price(schema, text, {"n": None}) == 51
    assert price(schema, "query($n: Int) { runs(first: $n) { id } }") == 7


@pytest.mark.parametrize(
    ("directive", "variables", "cost"),
    [
        ("@skip(if: true)", {}, 0),
        ("@skip(if: false)", {}, 1),
        ("@include(if: false)", {}, 0),
        ("@include(if: true)", {}, 1),
        ("@skip(if: $v)", {"v": True}, 0),
        ("@skip(if: $v)", {"v": False}, 1),
        ("@include(if: $v)", {"v": False}, 0),
        ("@include(if: $v)", {}, 1),
        ("@include(if: $v)", {"v": None}, 1),
        ("@skip(if: $v)", {"v": "yes"}, 1),
        ("@skip(if: $v)", {"v": 1}, 1),
        ("@include(if: true) @skip(if: $v)", {"v": True}, 0),
    ],
)
@pytest.mark.parametrize(
    "template",
    [
        "query {V} {{ task {D} {{ id }} }}",
        "query {V} {{ ... {D} {{ task {{ id }} }} }}",
        "query {V} {{ ...F {D} }} fragment F on Query {{ task {{ id }} }}",
    ],
)
def test_what_is_left_out_is_free(
    schema: Any, template: str, directive: str, variables: dict[str, Any], cost: int
) -> None:
    declared = "($v: Boolean!)" if "$v" in directive else ""
    text = template.format(V=declared, D=directive)
    assert price(schema, text, variables) == cost


def test_weights_by_name_win_over_the_defaults(schema: Any) -> None:
    weights = {"Query.task": 5, "Task.name": 2, "TaskConnection.nodes": 3}
    assert price(schema, "{ task { id name } }", weights=weights) == 7
    assert price(schema, "{ tasks(first: 4) { nodes { name } } }", weights=weights) == 1 + 4 * 5


def test_metadata_of_fields_is_read(board: Any) -> None:
    guard: OperationGuard = board.schema.guard

    def cost(text: str) -> int:
        checked = guard.parse(text)
        assert guard.validate(checked) == []
        found = guard.cost(checked)
        assert found
        return found.requested

    assert cost('{ search(text: "x") }') == 250
    assert cost("{ output(lines: 700) { id } }") == 700
    assert cost("{ output(lines: 7000) { id } }") == 1_000
    assert cost("{ output { id } }") == 20
    assert cost("{ task { followers { id } } }") == 4


def test_deep_inline_fragments_are_no_recursion_trouble(schema: Any) -> None:
    assert price(schema, "{" + "... {" * 190 + "task { id }" + "}" * 191) == 1


def test_a_fragment_bomb_is_priced_in_no_time(schema: Any) -> None:
    levels = 60
    bodies = " ".join(
        f"fragment F{i} on Task {{ a: parent {{ ...F{i + 1} }} b: parent {{ ...F{i + 1} }} }}"
        for i in range(levels)
    )
    text = f"{{ task {{ ...F0 }} }} {bodies} fragment F{levels} on Task {{ id }}"
    document = parse(text)
    operation = find_operation(document, None)
    assert operation
    assert CostModel(schema).cost_of(document, operation).requested == 2 ** (levels + 1) - 1


def test_costs_are_remembered_by_the_values_that_matter(schema: Any) -> None:
    guard = OperationGuard(schema)
    text = "query($n: Int, $b: String, $s: Boolean!) {"
    text += " tasks(first: $n, before: $b) { nodes { id } } task @skip(if: $s) { id } }"
    checked = guard.parse(text)
    assert guard.validate(checked) == []
    assert checked.cost_variables == ("n", "s")

    def cost(**variables: Any) -> int:
        found = guard.cost(checked, None, variables)
        assert found
        return found.requested

    assert cost(n=1, b="x", s=False) == cost(n=1, b="y", s=False) == 3
    assert len(checked.costs) == 1
    assert cost(n=1, s=True) == 2
    assert cost(n=True, s=1) == 52
    assert cost(n=1, s=True) == 2
    for n in range(3 * MAX_COSTS_PER_DOCUMENT):
        assert cost(n=n % 100, s=True) == 1 + n % 100
    assert len(checked.costs) <= MAX_COSTS_PER_DOCUMENT


def test_an_unknown_operation_has_no_cost(schema: Any) -> None:
    guard = OperationGuard(schema)
    checked = guard.parse("query A { task { id } } query B { version }")
    assert guard.validate(checked) == []
    assert guard.cost(checked, "C") is None
    assert [guard.cost(checked, name).requested for name in ("A", "B")] == [1, 0]


# A second, naive way to the same price: from the root down, every fragment copied out, one row
# after the other in the head of the reader.


class NaivePrice:
    def __init__(self, schema: Any, text: str, variables: dict[str, Any]) -> None:
        self.schema = schema
        self.variables = variables
        self.fragments: dict[str, Any] = {}
        for definition in parse(text).definitions:
            if isinstance(definition, FragmentDefinitionNode):
                self.fragments[definition.name.value] = definition
            else:
                self.operation: Any = definition

    def price(self) -> int:
        return self.total(self.operation.selection_set, self.schema.query_type, 10)

    def total(self, selection_set: Any, type_: Any, rows: int) -> int:
        return sum(
            self.one(parent, node, rows) for parent, node in self.fields(selection_set, type_)
        )

    def fields(self, selection_set: Any, type_: Any) -> Any:
        for node in filter(self.included, selection_set.selections):
            if isinstance(node, FieldNode):
                yield type_, node
                continue
            spreads = isinstance(node, FragmentSpreadNode)
            inner = self.fragments[node.name.value] if spreads else node
            on = inner.type_condition
            inner_type = self.schema.get_type(on.name.value) if on else type_
            yield from self.fields(inner.selection_set, inner_type)

    def included(self, node: Any) -> bool:
        return all(
            self.value(directive.arguments[0].value) is not (directive.name.value == "skip")
            for directive in node.directives or ()
        )

    def value(self, node: Any) -> Any:
        return self.variables[node.name.value] if node.kind == "variable" else node.value

    def one(self, parent: Any, node: Any, rows: int) -> int:
        if node.name.value.startswith("__"):
            return 0
        field = parent.fields[node.name.value]
        named = get_named_type(field.type)
        if is_leaf_type(named):
            return 0
        weight = 0 if named.name in {"PageInfo", "TaskEdge"} else 1
        is_list = is_list_type(field.type.of_type if is_non_null_type(field.type) else field.type)
        if "first" not in field.args:
            below = weight + self.total(node.selection_set, named, 10)
            return rows * below if is_list else below
        page = self.page(node, 7 if parent.name == "Query" and is_list else None)
        if is_list:
            return page * (weight + self.total(node.selection_set, named, 10))
        return weight + self.total(node.selection_set, named, page)

    def page(self, node: Any, default: int | None) -> int:
        sizes = {"first": default, "last": None}
        sizes |= {a.name.value: self.value(a.value) for a in node.arguments or ()}
        given = [int(size) for size in sizes.values() if size is not None]
        return min(100, max(0, *given)) if given else 50


FIELDS: dict[str, dict[str, str | None]] = {
    "Query": {"version": None, "task": "Task", "tasks": "TaskConnection", "runs": "Run"},
    "TaskConnection": {"nodes": "Task", "edges": "TaskEdge", "pageInfo": "PageInfo", "total": None},
    "TaskEdge": {"node": "Task", "cursor": None},
    "PageInfo": {"more": None},
    "Task": {"id": None, "parent": "Task", "children": "Task", "runs": "RunConnection"},
    "RunConnection": {"nodes": "Run", "pageInfo": "PageInfo", "total": None},
    "Run": {"id": None, "task": "Task", "labels": None},
}
PAGED = {("Query", "tasks"), ("Query", "runs"), ("Task", "runs")}
BOTH_ENDS = {("Query", "tasks"), ("Task", "runs")}


class Writer:
    """Writes a random document; fragments of one type are shared by all places that want one."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.fragments: dict[str, str] = {}
        self.aliases = 0

    def directive(self) -> str:
        return self.draw(
            st.sampled_from(
                [
                    "",
                    "",
                    "",
                    "@skip(if: $yes)",
                    "@include(if: $yes)",
                    "@skip(if: $no)",
                    "@include(if: true)",
                    "@include(if: $no) @skip(if: false)",
                ]
            )
        )

    def arguments(self, type_: str, name: str) -> str:
        if (type_, name) not in PAGED:
            return ""
        value = st.sampled_from(["$n", "$m", "1", "3", "99", "1000"])
        ends = ("first", "last") if (type_, name) in BOTH_ENDS else ("first",)
        given = [f"{end}: {self.draw(value)}" for end in ends if self.draw(st.booleans())]
        return f"({', '.join(given)})" if given else ""

    def selections(self, type_: str, depth: int) -> str:
        parts = [self.selection(type_, depth) for _ in range(self.draw(st.integers(1, 3)))]
        return "{ " + " ".join(parts) + " }"

    def selection(self, type_: str, depth: int) -> str:
        kind = self.draw(st.sampled_from(["field", "field", "field", "inline", "spread"]))
        if kind == "inline" and depth > 0:
            condition = self.draw(st.sampled_from(["", f"on {type_}"]))
            return f"... {condition} {self.directive()} {self.selections(type_, depth - 1)}"
        if kind == "spread" and depth > 0:
            name = f"F{depth}{type_}"
            if name not in self.fragments:
                body = self.selections(type_, depth - 1)
                self.fragments.setdefault(name, f"fragment {name} on {type_} {body}")
            return f"...{name} {self.directive()}"
        name = self.draw(st.sampled_from(sorted(FIELDS[type_])))
        target = FIELDS[type_][name]
        if target is not None and depth <= 0:
            name, target = "__typename", None
        self.aliases += 1
        head = f"a{self.aliases}: {name}{self.arguments(type_, name)} {self.directive()}"
        return f"{head} {self.selections(target, depth - 1)}" if target else head


@st.composite
def documents(draw: Any) -> str:
    writer = Writer(draw)
    body = writer.selections("Query", draw(st.integers(0, 5)))
    head = "query($n: Int, $m: Int, $yes: Boolean!, $no: Boolean!)"
    return " ".join([head, body, *writer.fragments.values()])


small = st.one_of(st.none(), st.integers(-5, 300))


@settings(deadline=None)
@given(text=documents(), n=small, m=small)
def test_the_price_equals_the_naive_one(
    schema: Any, text: str, n: int | None, m: int | None
) -> None:
    document = parse(text)
    messages = [error.message for error in validate(schema, document)]
    assert [message for message in messages if "is never used" not in message] == []
    variables = {"n": n, "m": m, "yes": True, "no": False}
    operation = find_operation(document, None)
    assert operation
    cost = CostModel(schema).cost_of(document, operation, variables)
    assert cost.requested == NaivePrice(schema, text, variables).price()


@settings(deadline=None)
@given(text=documents(), n=st.integers(-5, 300), more=st.integers(0, 300))
def test_a_larger_page_never_costs_less(schema: Any, text: str, n: int, more: int) -> None:
    document = parse(text)
    operation = find_operation(document, None)
    assert operation
    model = CostModel(schema)
    fixed = {"m": 4, "yes": True, "no": False}
    less = model.cost_of(document, operation, {"n": n, **fixed})
    assert less.requested <= model.cost_of(document, operation, {"n": n + more, **fixed}).requested
