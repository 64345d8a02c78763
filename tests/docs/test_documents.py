import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from graphql import parse, validate
from starlette.routing import Route

from resolvers import budgets
from resolvers.errors import OperationError
from runner import ending
from schema.root import build_schema
from server.limits.document import DocumentLimits, survey_document
from server.settings import load_settings, variable_of
from subscriptions import stream_items
from subscriptions.transports import websocket
from tests.support import documents
from tests.support.documents import KINDS, PAGES, ROOT, Block, anchors, blocks, links

BLOCKS = [block for page in PAGES for block in blocks(page)]
SCHEMA = build_schema()._schema
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_how_it_is_tested(block: Block) -> None:
    if block.test:
        assert block.kind in KINDS
        if block.kind in {"syntax", "none"}:
            assert block.test.partition(" ")[2], "say why"
    else:
        assert block.language in {"graphql", "text"}, "only these are tested by their language"


@pytest.mark.parametrize("block", of("graphql"), ids=str)
def test_a_document_is_valid_and_within_the_limits(block: Block) -> None:
    # Words that the tests replace by ids stand where texts or numbers do.
    document = parse(re.sub(r"\bVERSION\b", "1", block.text))
    assert validate(SCHEMA, document) == []
    survey_document(document, DocumentLimits())


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    value = json.loads(block.text)
    if block.kind == "executors":
        settings = load_settings(executors=block.text)
        assert set(settings.executor_commands) == set(value)


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_a_command_is_well_formed(block: Block) -> None:
    result = subprocess.run(
        ["bash", "-n"], input=block.text, text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_tables_are_as_the_code_says() -> None:
    hint = "run: python -m tests.support.documents"
    assert list(documents.stale()) == [], hint


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://127.0.0.1", "https://github.com/enisdenjo/")):
            continue
        assert "://" not in link, link
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_found() -> None:
    found = {(ROOT / "docs" / link).resolve() for link in links(ROOT / "docs" / "index.md")}
    assert set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "index.md"} <= found


def test_only_settings_that_exist_are_named() -> None:
    known = {variable_of(name) for name in load_settings().model_dump()}
    known |= {"DRAGOMAN_TOKEN", "DRAGOMAN_RUN_ID", "DRAGOMAN_TEST_REQUIRE"}
    for page in PAGES:
        named = set(re.findall(r"DRAGOMAN_[A-Z_]*[A-Z]", page.read_text()))
        assert named <= known, page


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("## Dependencies")[2]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(r for rs in project["optional-dependencies"].values() for r in rs),
    ]
    for requirement in wanted:
        name = re.split(r"[\[<>=;!~ ]", requirement)[0]
        assert re.search(rf"(^\| .*|\*\*){re.escape(name)}\b", table, re.MULTILINE), name


def test_packages_of_the_map_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text().partition("## Life of a mutation")[0]
    for name in re.findall(r"`([a-z_]+)/`", text):
        assert (ROOT / name / "__init__.py").exists(), name


def subclasses(kind: type) -> set[type]:
    return {kind, *(found for one in kind.__subclasses__() for found in subclasses(one))}


def test_all_error_codes_are_explained() -> None:
    text = (ROOT / "docs" / "frontend.md").read_text().partition("## Errors")[2]
    codes = {error.code for error in subclasses(OperationError)} | {"COST_EXCEEDED"}
    assert codes <= set(re.findall(r"^\| `([A-Z_]+)`", text, re.MULTILINE))


def test_all_close_codes_are_explained() -> None:
    text = (ROOT / "docs" / "frontend.md").read_text()
    explained = {int(code) for code in re.findall(r"^\| (\d{4}) \|", text, re.MULTILINE)}
    constants = [value for name, value in vars(websocket).items() if name.isupper()]
    ours = {value for value in constants if isinstance(value, int) and value >= 1000}
    assert ours <= explained


def test_all_reasons_of_streams_are_explained() -> None:
    text = (ROOT / "docs" / "frontend.md").read_text()
    for reason in (*stream_items.ResyncReason.__args__, *stream_items.CloseReason.__args__):
        assert f"`{reason}`" in text


def test_all_reasons_of_ended_runs_are_explained() -> None:
    text = (ROOT / "docs" / "operator.md").read_text()
    table = text.partition("| `reason` | because |")[2].partition("\n\n")[0]
    reasons = set(ending._REASON_TEXTS) | {budgets.REASON}
    reasons |= {cause.value for cause in ending.StopCause} - {"user", "shutdown"}  # not shown
    assert reasons <= set(re.findall(r"`([a-z_]+)`", table))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_documents_in_examples_are_valid(example: Path) -> None:
    pattern = r'= """\n((?:query|mutation|subscription).*?)"""'
    found = re.findall(pattern, example.read_text(), re.DOTALL)
    assert found
    for text in found:
        assert validate(SCHEMA, parse(text)) == []


def test_documents_of_the_demo_are_valid() -> None:
    from server import demo

    texts = [v for n, v in vars(demo).items() if n.isupper() and isinstance(v, str) and "{" in v]
    assert len(texts) >= 9
    for text in texts:
        assert validate(SCHEMA, parse(text)) == []


def test_nothing_is_promised_that_is_not_served() -> None:
    from server.app import create_app

    paths = {route.path for route in create_app(load_settings()).routes if isinstance(route, Route)}
    served = any(path.startswith("/compat") for path in paths)
    says_not_yet = "nothing is served under `/compat`" in (ROOT / "README.md").read_text()
    assert says_not_yet != served


def test_what_is_not_in_use_is_said_so() -> None:
    uses = any("from compiler" in file.read_text() for file in (ROOT / "server").rglob("*.py"))
    readme = (ROOT / "README.md").read_text()
    [row] = [line for line in readme.splitlines() if "compiled to Python" in line]
    assert ("not yet" in row) != uses, "README.md and docs/architecture.md: the compiler"
