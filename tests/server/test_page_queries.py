import json

import pytest
from graphql import OperationDefinitionNode, get_variable_values, parse, validate

from schema.root import build_schema
from server.pages import ASSETS, query_tabs


@pytest.mark.parametrize("tab", query_tabs(), ids=lambda tab: tab["query"][:20])
def test_a_tab_of_the_editor_is_valid_and_its_variables_fit(tab: dict[str, str]) -> None:
    schema = build_schema()._schema
    document = parse(tab["query"])
    assert validate(schema, document) == []
    [operation] = document.definitions
    assert isinstance(operation, OperationDefinitionNode)
    definitions = operation.variable_definitions or ()
    values = get_variable_values(schema, definitions, json.loads(tab["variables"]))
    assert not isinstance(values, list), values  # a list is one of errors


def test_the_tabs_tell_the_whole_story() -> None:
    documents = " ".join(tab["query"] for tab in query_tabs())
    for field in (
        "createWorkspace",
        "createTask",
        "startRun",
        "events",
        "runOutput",
        "approveTask",
    ):
        assert f" {field}(" in documents


def test_the_example_of_the_first_page_is_valid() -> None:
    page = (ASSETS / "index.html").read_text()
    body = page.split("-d '")[1].split("'</pre>")[0]
    assert validate(build_schema()._schema, parse(json.loads(body)["query"])) == []
