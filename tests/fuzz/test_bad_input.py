"""Bad input of every kind, in every place: a precise error, and never more than that."""

import base64
import json
from typing import Any

import pytest

from tests.fuzz.bench import Bench
from tests.fuzz.strategies import BAD
from tests.support.calls import CALLS, field_of
from tests.support.inside import stable_number
from tests.support.schema_documents import document, root_field, root_names
from tests.support.schema_slots import Slot, slots

FEW = 2
FIRST_CALLS = [call for call in CALLS if ":" not in call]


def check_errors(bench: Bench, call: str, slot: Slot, value: Any) -> None:
    """Put one value in one place of a call that else succeeds."""
    name = field_of(call)
    variables = slot.put(bench.variables(call), value)
    answer = bench.ask(name, variables)
    where = f"{call} {slot} = {str(value)[:80]!r}: {answer.text[:1000]}"
    for error in answer.errors:
        code, path = error["extensions"]["code"], error.get("path")
        if code == "INVALID" and path is not None:
            assert error["extensions"].get("field"), where
            assert "_" not in error["extensions"]["field"], where
            assert error["extensions"]["field"].split(".")[0], where
        elif code == "INVALID" and name.startswith("Subscription"):
            assert "field" in error["extensions"] or "Variable" in error["message"], where
        elif code == "INVALID":
            assert f"'${slot.path[0]}'" in error["message"], where


def try_places(bench: Bench, call: str, *, few: bool) -> None:
    for slot in slots(root_field(field_of(call))):
        values = BAD[slot.type_name]
        if few:  # others at every place, so that all together see every value
            begin = stable_number(f"{call} {slot}") % len(values)
            values = (values * 2)[begin : begin + FEW]
        for value in values:
            check_errors(bench, call, slot, value)


@pytest.mark.parametrize("call", FIRST_CALLS)
def test_bad_values_in_every_place(bench: Bench, call: str) -> None:
    try_places(bench, call, few=True)


@pytest.mark.long
@pytest.mark.parametrize("call", CALLS)
def test_all_bad_values_in_every_place(bench: Bench, call: str) -> None:
    try_places(bench, call, few=False)


@pytest.mark.parametrize("name", [n for n in root_names() if not n.startswith("Subscription")])
def test_lists_are_not_longer_than_they_may(bench: Bench, name: str) -> None:
    values = {"ID": "6f1c1e0e-0000-4000-8000-000000000000", "String": "x", "Int": 1}
    for slot in slots(root_field(name)):
        if slot.is_list:
            variables = bench.variables(name)
            answer = bench.ask(name, slot.put_many(variables, [values[slot.type_name]] * 5_000))
            allowed = {"INVALID", "NOT_FOUND", "LIMIT_EXCEEDED", "FORBIDDEN"}
            # One that is named five thousand times may count as one.
            assert set(answer.codes) <= allowed, (str(slot), answer.text[:500])


# --- what is refused, and how ---

NOT_BRANCHES = [
    "-delete", "--force", "a..b", "a b", "a~1", "a^", "a:b", "a\\b", "a.lock", "/a", "a/", "a//b",
    ".a", "a@{1}", "@", "a\x7f", "a\tb", "x" * 256, "a*", "a?", "a[", "a/.b",
]  # fmt: skip


@pytest.mark.parametrize("field", ["branch", "baseBranch"])
def test_branches_git_would_not_take(bench: Bench, field: str) -> None:
    for branch in NOT_BRANCHES:
        variables = bench.variables("Mutation.createTask")
        variables["input"][field] = branch
        answer = bench.ask("Mutation.createTask", variables)
        assert answer.codes == ["INVALID"], (branch, answer.text)
        assert answer.errors[0]["extensions"]["field"] == field


PATHS_TO_NOWHERE = [
    "", "relative", "../..", "~", "file:///etc", "/does/not/exist", "/etc/passwd", "/etc", "/",
    "/proc/self/root/etc", "/dev/null", "/a\x00b", "/a\nb", "//", "/" + "x" * 5_000, "C:\\x",
    "ext::sh -c true", "--upload-pack=x",
]  # fmt: skip


def test_paths_without_a_repository(bench: Bench) -> None:
    for path in PATHS_TO_NOWHERE:
        for name, values in (
            ("Mutation.createWorkspace", {"name": "Nowhere", "localPath": path}),
            ("Mutation.updateWorkspace", {"id": bench.tenant.id, "localPath": path}),
        ):
            answer = bench.ask(name, {"input": values})
            assert answer.codes == ["INVALID"], (path, answer.text)
            assert answer.errors[0]["extensions"]["field"] == "localPath", (path, answer.text)


def test_paths_outside_the_allowed_roots(bench: Bench) -> None:
    """Not even whether there is something is told to who may not look."""
    manager = bench.tenant.tokens["manager"]
    told = set()
    for path in ("/etc", "/does/not/exist", "/etc/../root", "/proc/self/cwd", "/root/.ssh"):
        variables = {"input": {"id": bench.tenant.id, "localPath": path}}
        answer = bench.runner.run(
            bench.inside.post(document("Mutation.updateWorkspace"), variables, token=manager)
        )
        bench.check(answer, path)
        assert answer.codes == ["FORBIDDEN"], answer.text
        told.add(json.dumps(answer.errors))
    assert len(told) == 1


NOT_ADDRESSES = [
    "ext::sh -c 'touch /tmp/x'", "file:///etc", "fd::17", "-oProxyCommand=x", "javascript:alert(1)",
    "https://", "http://user:pass word@x", "git@-oProxyCommand=x:y", "ssh://-oProxyCommand=x/y",
    "https://a b/c", "\x00", "ftp://x/y",
]  # fmt: skip


def test_addresses_git_must_not_be_given(bench: Bench) -> None:
    for address in NOT_ADDRESSES:
        variables = {"input": {"id": bench.tenant.id, "repositoryUrl": address}}
        answer = bench.ask("Mutation.updateWorkspace", variables)
        assert answer.codes == ["INVALID"], (address, answer.text)
        assert answer.errors[0]["extensions"]["field"] == "repositoryUrl"


OUT_OF_THE_REPOSITORY = [
    "..", "../x", "a/../../b", "/etc/passwd", "a/..", "", " ", "a\x00b", "x" * 1_025, "a\nb",
]  # fmt: skip


def test_context_entries_stay_inside_the_repository(bench: Bench) -> None:
    for path in OUT_OF_THE_REPOSITORY:
        variables = bench.variables("Mutation.addContextEntries")
        variables["input"]["entries"] = [{"path": path}]
        answer = bench.ask("Mutation.addContextEntries", variables)
        assert answer.codes == ["INVALID"], (path, answer.text)


def test_cursors_of_other_lists(bench: Bench) -> None:
    """Every order has cursors of its own shape; another's is refused or a place in this one."""
    tenant, found = bench.tenant, {}
    orders = ["POSITION_ASC", "CREATED_AT_DESC", "TITLE_ASC", "PRIORITY_DESC", "NUMBER_ASC"]
    for order in orders:
        answer = bench.ask(
            "Query.tasks", {"workspaceId": tenant.id, "orderBy": order, "first": 1},
            text="query ($workspaceId: ID, $orderBy: TaskOrder!, $first: Int) { tasks("
            "workspaceId: $workspaceId, orderBy: $orderBy, first: $first) "
            "{ pageInfo { endCursor } } }",
        )  # fmt: skip
        found[order] = answer.data["tasks"]["pageInfo"]["endCursor"]
    for order in orders:
        for other, cursor in found.items():
            for names in ({"first": 2, "after": cursor}, {"last": 2, "before": cursor}):
                variables = {"workspaceId": tenant.id, "orderBy": order, **names}
                answer = bench.ask("Query.tasks", variables)
                if other == order:
                    assert answer.errors == []
                elif answer.errors:
                    assert answer.codes == ["INVALID"]
                    assert answer.errors[0]["extensions"]["field"] in names


FORGED: list[Any] = [
    None, 1, "x", [], [None], [None, None], [1, 2, 3], ["x", "y"], [True, "y"], [{}, []],
    ["0001-01-01T00:00:00+14:00", "x"], ["9999-12-31T23:59:59-14:00", "x"],
    ["0001-01-01T00:00:00Z", "x"], ["2026-01-01T00:00:00", "x"], ["", ""], ["a\x00b", "x"],
    [2**31, "x"], [-(2**63), "x"], [2**63, "x"], [1e308, "x"], [-1e308, "\x00"], [0.5, "x" * 1_400],
]  # fmt: skip


@pytest.mark.parametrize("order", ["POSITION_ASC", "CREATED_AT_ASC", "TITLE_ASC", "PRIORITY_DESC"])
def test_forged_cursors(bench: Bench, order: str) -> None:
    refused = 0
    for values in FORGED:
        cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
        variables = {"workspaceId": bench.tenant.id, "orderBy": order, "first": 2, "after": cursor}
        answer = bench.ask("Query.tasks", variables)
        assert set(answer.codes) <= {"INVALID"}, (values, answer.text)
        refused += len(answer.errors)
    assert refused > len(FORGED) // 2


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        pytest.param(b'{"query": "{ viewer { name \xff } }"}', ["INVALID"], id="not UTF-8"),
        pytest.param(b'{"query": "{ viewer { name } }"', ["INVALID"], id="not JSON"),
        pytest.param(b'\x00{"query": "{ viewer { name } }"}', ["INVALID"], id="NUL"),
        pytest.param(b"", ["INVALID"], id="nothing"),
        pytest.param(b"[]", ["INVALID"], id="a batch"),
        pytest.param(b'{"query": 5}', ["INVALID"], id="a number for a document"),
        pytest.param(b'{"query": "{ viewer { name } }", "variables": []}', ["INVALID"],
                     id="a list for variables"),
        pytest.param(b'{"query": "query ($f: Int) { tasks(first: $f) { totalCount } }",'
                     b' "variables": {"f": 1e999}}', ["INVALID"], id="1e999"),
        pytest.param(b'{"query": "query ($f: Int) { tasks(first: $f) { totalCount } }",'
                     b' "variables": {"f": NaN}}', ["INVALID"], id="NaN"),
        pytest.param(b'{"query": "query ($f: Int) { tasks(first: $f) { totalCount } }",'
                     b' "variables": {"f": 123456789012345678901234567890}}', ["INVALID"],
                     id="30 digits"),
        pytest.param(b'{"query": "query ($q: String!) { search(query: $q) { __typename } }",'
                     b' "variables": {"q": "\\ud800"}}', ["INVALID"], id="half a pair, escaped"),
        pytest.param(b'{"query": "query ($q: String!) { search(query: $q) { __typename } }",'
                     b' "variables": {"q": "\xed\xa0\x80"}}', ["INVALID"], id="half a pair, raw"),
        pytest.param(b'{"query": "{ search(query: \\"\\\\uD800\\") { __typename } }"}',
                     ["INVALID"], id="half a pair in the document"),
        pytest.param(b'{"query": "{ search(query: \\"a\\u0000b\\") { __typename } }"}',
                     ["INVALID"], id="a NUL in the document"),
        pytest.param(b'{"query": "query ($q: String!) { search(query: $q) { __typename } }",'
                     b' "variables": {"q": "a\\u0000b"}}', ["INVALID"], id="a NUL in a variable"),
    ],
)  # fmt: skip
def test_bodies(bench: Bench, body: bytes, codes: list[str]) -> None:
    answer = bench.runner.run(bench.inside.send(body, token=bench.inside.token))
    bench.check(answer, str(body))
    assert answer.codes == codes, answer.text


@pytest.mark.parametrize(
    "token", ["", " ", "x" * 600, "dgm_", "dgm_\x7f", "a b c", "dgm_" + "é" * 40]
)
def test_tokens(bench: Bench, token: str) -> None:
    answer = bench.runner.run(bench.inside.post("{ viewer { name } }", token=token))
    bench.check(answer, token)
    assert answer.codes == ["UNAUTHENTICATED"] or answer.data == {"viewer": None}


@pytest.mark.parametrize("key", ["", "x" * 201, "a b\x7f", "ü", "\t"])
def test_idempotency_keys(bench: Bench, key: str) -> None:
    answer = bench.runner.run(
        bench.inside.post(
            document("Mutation.createTask"), bench.variables("Mutation.createTask"),
            token=bench.inside.token, headers={"idempotency-key": key},
        )
    )  # fmt: skip
    bench.check(answer, key)
    assert answer.codes == ["INVALID"], answer.text
    assert answer.errors[0]["extensions"]["field"] == "idempotencyKey"
