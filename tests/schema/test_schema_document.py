"""The schema as clients get it: kept in a golden file, described throughout, named by rules.

After a wanted change: ``DRAGOMAN_TEST_UPDATE=1 .venv/bin/pytest tests/schema`` writes the golden
file anew; look at its diff before you commit it.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLField,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLSchema,
    get_named_type,
    is_enum_type,
    is_input_object_type,
    is_interface_type,
    is_leaf_type,
    is_list_type,
    is_object_type,
    is_scalar_type,
)

from schema.root import build_schema
from server.limits.cost import CostModel

GOLDEN = Path(__file__).parents[1] / "golden" / "schema.graphql"
UPDATE = "DRAGOMAN_TEST_UPDATE"

NULLABLE_ROOTS = {
    # A look-up by id (slug, number): null when there is none the caller may see.
    "Query.agent", "Query.node", "Query.run", "Query.sprint", "Query.story", "Query.task",
    "Query.user", "Query.webhook", "Query.workspace",
    # Null where there is none: no token, no branch to compare, no sprint planned.
    "Query.viewer", "Query.taskDiff", "Query.currentSprint",
}  # fmt: skip

WITHOUT_CURSOR = {"LogInPayload": "nobody is logged in yet who could read a log"}
CURSOR_FOR_FEW = {
    "UserPayload", "TokenPayload", "DevicePayload", "UnregisterDevicePayload", "CreateTokenPayload",
}  # fmt: skip
"""Payloads of changes that stand in the site's log, which only its admins read."""

BOUNDED_BY: dict[str, str] = {
    "Agent.command": "100 arguments when it is set",
    "Run.artifacts": "a limit of the task's",
    "Run.questions": "resolvers.run_inputs.QUESTIONS_MAX",
    "RunQuestion.options": "20, which the reader of the agent keeps",
    "BulkPayload.results": "100 tasks in a request",
    "CheckStalledAgentsPayload.agents": "1,000 agents in a workspace",
    "CleanWorktreesPayload.worktrees": "1,000 worktrees",
    "CommandVerdict.alternatives": "a few for each issue",
    "CommandVerdict.argv": "100 words of a line, and a rule's own",
    "CommandVerdict.issues": "the kinds of issues of a line",
    "Query.devices": "20 devices of a user",
    "Diff.files": "1,000 files, then truncated",
    "OutputPage.entries": "first of Run.output",
    "Query.gitAccess": "20 hosts with a credential",
    "Query.commandSuggestions": "the known ones and 10 own",
    "Query.executors": "the vocabulary of executors",
    "Query.queues": "the vocabulary of queues",
    "QueueReport.queues": "the vocabulary of queues",
    "QueueReport.timeline": "the steps of a period",
    "Repository.accessAgents": "100 names when it is set",
    "SearchResult.agents": "first of search",
    "SearchResult.stories": "first of search",
    "SearchResult.tasks": "first of search",
    "SearchResult.workspaces": "first of search",
    "Webhook.eventTypes": "100 names when they are set",
    "WebhookDelivery.attempts": "the last 20",
    "Task.contextEntries": "500 entries of a task",
    "Task.dependencies": "100 when they are set",
    "Task.dependents": "100 for each task of a page",
    "Task.labels": "50 when they are set",
    "TaskSnapshot.labels": "50 when they are set",
    "TaskSnapshot.truncated": "the fields of a snapshot",
    "Token.scopes": "the vocabulary of scopes",
    "Viewer.permissions": "the vocabulary of permissions",
    "Workspace.pausedQueues": "the vocabulary of queues",
    "Workspace.permissions": "the vocabulary of permissions",
    "Workspace.queues": "the vocabulary of queues",
    "Workspace.repositories": "100 in a workspace",
    "Workspace.taskTotals": "the vocabulary of task statuses",
}
"""Lists without paging, and what keeps each of them short."""


@pytest.fixture(scope="module")
def core() -> GraphQLSchema:
    schema: GraphQLSchema = build_schema()._schema
    return schema


def own_types(core: GraphQLSchema) -> Iterator[GraphQLNamedType]:
    for name, type_ in core.type_map.items():
        if not name.startswith("__"):
            yield type_


def fields_of(core: GraphQLSchema) -> Iterator[tuple[str, GraphQLField]]:
    for type_ in own_types(core):
        if is_object_type(type_) or is_interface_type(type_):
            for name, field in type_.fields.items():
                yield f"{type_.name}.{name}", field


def is_list(type_: Any) -> bool:
    return is_list_type(type_.of_type if isinstance(type_, GraphQLNonNull) else type_)


def test_the_document_is_the_golden_one() -> None:
    printed = build_schema().as_str() + "\n"
    if os.environ.get(UPDATE):
        GOLDEN.write_text(printed)
    assert printed == GOLDEN.read_text(), f"changed on purpose? {UPDATE}=1 writes it anew"


def test_everything_is_described(core: GraphQLSchema) -> None:
    silent = []
    for type_ in own_types(core):
        if not type_.description:
            silent.append(type_.name)
        if is_input_object_type(type_):
            silent += [f"{type_.name}.{n}" for n, f in type_.fields.items() if not f.description]
    for name, field in fields_of(core):
        if not field.description:
            silent.append(name)
        silent += [f"{name}({a})" for a, argument in field.args.items() if not argument.description]
    assert silent == []


def test_descriptions_are_sentences(core: GraphQLSchema) -> None:
    described = [(type_.name, type_.description) for type_ in own_types(core)
                 if not is_scalar_type(type_)]  # fmt: skip
    described += [(name, field.description) for name, field in fields_of(core)]
    odd = [
        name
        for name, text in described
        if not re.search(r"[.:…]\Z", text or "") or len(text or "") > 300
    ]
    assert odd == []


def test_names_follow_rules(core: GraphQLSchema) -> None:
    camel, pascal = re.compile(r"[a-z][a-zA-Z0-9]*"), re.compile(r"[A-Z][a-zA-Z0-9]*")
    capitals = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
    wrong: list[str] = []
    for type_ in own_types(core):
        wrong += [] if pascal.fullmatch(type_.name) else [type_.name]
        if is_enum_type(type_):
            wrong += [f"{type_.name}.{v}" for v in type_.values if not capitals.fullmatch(v)]
        if is_input_object_type(type_):
            if not type_.name.endswith(("Input", "Filter")):
                wrong.append(type_.name)
            wrong += [f"{type_.name}.{n}" for n in type_.fields if not camel.fullmatch(n)]
    for name, field in fields_of(core):
        members = [name.partition(".")[2], *field.args]
        wrong += [f"{name}: {member}" for member in members if not camel.fullmatch(member)]
    assert wrong == []


def test_roots_are_nullable_where_it_was_decided(core: GraphQLSchema) -> None:
    nullable = {
        f"{root.name}.{name}"
        for root in (core.query_type, core.mutation_type, core.subscription_type)
        if root is not None
        for name, field in root.fields.items()
        if not isinstance(field.type, GraphQLNonNull)
    }
    assert nullable == NULLABLE_ROOTS


def test_items_of_lists_are_never_null(core: GraphQLSchema) -> None:
    nullable = []
    for name, field in fields_of(core):
        inner = field.type.of_type if isinstance(field.type, GraphQLNonNull) else field.type
        if is_list_type(inner) and not isinstance(inner.of_type, GraphQLNonNull):
            nullable.append(name)
    assert nullable == []


def test_mutations_return_payloads_with_a_cursor(core: GraphQLSchema) -> None:
    assert core.mutation_type is not None
    for name, field in core.mutation_type.fields.items():
        assert isinstance(field.type, GraphQLNonNull), name
        payload = field.type.of_type
        assert is_object_type(payload), name
        assert payload.name.endswith("Payload"), name
        if payload.name in WITHOUT_CURSOR:
            assert "cursor" not in payload.fields
            continue
        assert str(payload.fields["cursor"].type) == (
            "String" if payload.name in CURSOR_FOR_FEW else "String!"
        ), name


def test_mutations_take_one_input_or_plain_arguments(core: GraphQLSchema) -> None:
    assert core.mutation_type is not None
    for name, field in core.mutation_type.fields.items():
        inputs = [a for a in field.args.values() if is_input_object_type(get_named_type(a.type))]
        if "input" in field.args:
            assert list(field.args) == ["input"], name
            assert isinstance(field.args["input"].type, GraphQLNonNull), name
        else:
            lists = [a for a in inputs if not is_list(a.type)]
            assert not lists, f"{name}: an input object is called input and stands alone"


def test_connections_are_paged_and_priced_by_their_page(core: GraphQLSchema) -> None:
    costs = CostModel(core)
    found = 0
    for name, field in fields_of(core):
        type_name, _, field_name = name.partition(".")
        if not get_named_type(field.type).name.endswith("Connection"):
            continue
        found += 1
        assert [a for a in field.args if a in {"first", "after", "last", "before"}] == [
            "first", "after", "last", "before",
        ], name  # fmt: skip
        rule = costs.rule_for(core.type_map[type_name], field_name)
        assert rule is not None
        assert set(rule.page_arguments) == {"first", "last"}, name
    assert found > 10


def test_connections_look_alike(core: GraphQLSchema) -> None:
    for type_ in own_types(core):
        if not type_.name.endswith("Connection"):
            continue
        assert is_object_type(type_)
        node = type_.name.removesuffix("Connection")
        assert {name: str(field.type) for name, field in type_.fields.items()} == {
            "nodes": f"[{node}!]!",
            "edges": f"[{node}Edge!]!",
            "pageInfo": "PageInfo!",
            "totalCount": "Int!",
            "totalCountExact": "Boolean!",
        }


def test_lists_are_bounded(core: GraphQLSchema) -> None:
    costs = CostModel(core)
    unbounded = set()
    for name, field in fields_of(core):
        type_name, _, field_name = name.partition(".")
        if not is_list(field.type) or type_name.endswith("Connection"):
            continue
        rule = costs.rule_for(core.type_map[type_name], field_name)
        assert rule is not None
        if not rule.page_arguments:
            unbounded.add(name)
    assert unbounded == set(BOUNDED_BY)


def test_lists_of_objects_that_are_not_paged_have_a_price(core: GraphQLSchema) -> None:
    """A list's items are paid for; what a page multiplies has a page argument or a size."""
    costs = CostModel(core)
    for name in BOUNDED_BY:
        type_name, _, field_name = name.partition(".")
        type_ = core.type_map[type_name]
        rule = costs.rule_for(type_, field_name)
        assert rule is not None
        if not is_leaf_type(rule.named_type):
            assert rule.weight > 0, name


def test_ids_are_ids(core: GraphQLSchema) -> None:
    """What ends in Id is of the type ID, so that generated clients can tell."""
    wrong = []
    for name, field in fields_of(core):
        member = name.partition(".")[2]
        if (member == "id" or member.endswith("Id")) and member not in {"publicId", "sessionId"}:
            wrong += [] if get_named_type(field.type).name == "ID" else [name]
        wrong += [
            f"{name}({a})"
            for a, argument in field.args.items()
            if (a == "id" or a.endswith(("Id", "Ids")))
            and get_named_type(argument.type).name != "ID"
        ]
    assert wrong == []
