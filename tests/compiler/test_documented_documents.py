"""What pages, editor and examples show is answered compiled, as graphql-core answers it."""

import html
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import pytest_asyncio
from graphql import FieldNode, OperationDefinitionNode, OperationType, parse, print_ast

from server.pages import ASSETS, query_tabs
from tests.compiler.board_fuzz import BoardFuzzer
from tests.compiler.board_twins import open_twins
from tests.compiler.fuzz_documents import Document
from tests.compiler.tolerant import tolerant
from tests.support.calls import CALLS
from tests.support.documents import PAGES, ROOT, blocks
from tests.support.tenants import Tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Shown:
    """A document that people are shown, with the variables that are shown with it."""

    name: str
    text: str
    variables: dict[str, Any]
    fails: bool = False

    @property
    def operation(self) -> OperationDefinitionNode:
        (found,) = _operations(self.text)
        return found

    @property
    def root(self) -> str:
        """The first root field, such as ``Mutation.createTask``."""
        first = self.operation.selection_set.selections[0]
        assert isinstance(first, FieldNode)
        return f"{self.operation.operation.value.title()}.{first.name.value}"


def _operations(text: str) -> list[OperationDefinitionNode]:
    found = parse(re.sub(r"\bVERSION\b", "1", text)).definitions
    return [one for one in found if isinstance(one, OperationDefinitionNode)]


def _shown() -> list[Shown]:
    found = []
    for block in (block for page in PAGES for block in blocks(page)):
        operations = _operations(block.text) if block.language == "graphql" else []
        for number, one in enumerate(operations, 1):
            text = block.text if len(operations) == 1 else print_ast(one)
            found.append(Shown(f"{block} {number}", text, {}, block.has("error")))
    for number, tab in enumerate(query_tabs(), 1):
        found.append(Shown(f"tab {number}", tab["query"], json.loads(tab.get("variables", "{}"))))
    body = (ASSETS / "index.html").read_text().split("-d '")[1].split("'</pre>")[0]
    found.append(Shown("first page", json.loads(html.unescape(body))["query"], {}))
    for example in sorted((ROOT / "docs" / "examples").glob("*.py")):
        texts = re.findall(r'= """\n((?:query|mutation).*?)"""', example.read_text(), re.DOTALL)
        found += [Shown(f"{example.name} {i}", text, {}) for i, text in enumerate(texts, 1)]
    return [one for one in found if one.operation.operation is not OperationType.SUBSCRIPTION]


SHOWN = _shown()
OF_RUNS = {"Query.run", "Mutation.answerRun", "Mutation.sendRunMessage", "Mutation.retryRun"}
"""What is given the id of a run."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BoardFuzzer]:
    async with open_twins(tmp_path_factory.mktemp("shown")) as twins:
        yield BoardFuzzer(twins, seed=1)


async def _filled(shown: Shown, tenant: Tenant) -> Document:
    """The document with a tenant's own things where the reader is to put theirs."""
    call = await CALLS[shown.root](tenant)
    given = call.get("input", call)
    thing = given.get("id") or given.get("taskId") or tenant.ids["task in review"]
    task, run = thing, tenant.ids["run finished"]
    if shown.root in OF_RUNS:
        task, run = tenant.ids["task in review"], thing
    elif shown.root == "Mutation.approveTask":
        call["id"] = task = await tenant.task_with_branch()
    words = {
        "WORKSPACE_ID": tenant.id,
        "TASK_ID": task,
        "RUN_ID": run,
        "VERSION": "1",
        "waitSeconds: 60": "waitSeconds: 1",  # nothing executes runs here
        "the workspace's id": tenant.id,
        "the task's id": task,
        "/path/to/a/git/repository": str(tenant.repository),
    }
    pattern = re.compile("|".join(rf"(?<![A-Z_]){re.escape(word)}(?![A-Z_])" for word in words))

    def fill(text: str) -> str:
        return pattern.sub(lambda match: words[match[0]], text)

    declared = {one.variable.name.value for one in shown.operation.variable_definitions or ()}
    variables = orjson.loads(fill(json.dumps(shown.variables)))
    known = {"questionId": "q1", "token": tenant.word(), "taskId": task} | call
    chosen = {name: known[name] for name in declared & set(known)}
    return Document(fill(shown.text), chosen | variables)


@tolerant
@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.name)
async def test_a_document_that_is_shown_is_answered_compiled(
    fuzzer: BoardFuzzer, shown: Shown
) -> None:
    tenants = fuzzer.reference, fuzzer.compiling
    is_query = shown.operation.operation is OperationType.QUERY
    there, here = [await _filled(shown, tenant) for tenant in tenants]
    wanted = orjson.loads(await fuzzer.ask(fuzzer.reference, there, "owner"))
    assert shown.fails or "errors" not in wanted, wanted
    fuzzer.told.clear()
    for _ in range(2 if is_query else 1):
        got = orjson.loads(await fuzzer.ask(fuzzer.compiling, here, "owner"))
        assert fuzzer.difference(got, wanted) == ""
    assert set(fuzzer.told) == {"answered"}


async def test_there_are_as_many_as_there_seem_to_be() -> None:
    assert len(SHOWN) >= 25
