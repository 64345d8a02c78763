# ruff: noqa: S608 — the ids in these statements are our own
"""How databases read hot lists where a workspace has thousands of everything: by indexes, in order.

What is asserted are plans, not times: no table is read as a whole, nothing is sorted.
"""

import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio

from benchmarks.growing import copies
from resolvers.context import Context
from resolvers.task_queries import TaskOrder
from subscriptions.cursor import encode_cursor
from tests.support.inside import open_inside
from tests.support.server import fresh_postgres
from tests.support.tenants import Tenant, make_tenant

MANY = 5_000
LARGE = ("task", "run", "event", "story", "agent", "run_output")
"""Tables that have so many rows."""
TASKS = "nodes { id title status priority position story { id } agent { id } latestRun { id } }"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Watched:
    """A tenant with very much of everything, and what is read from the database."""

    tenant: Tenant
    url: str | None
    path: Path
    statements: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    async def plans(self) -> list[str]:
        """How each statement since the last call reads large tables, as text."""
        asked = dict(self.statements)
        self.statements.clear()
        if self.url is None:
            return [self._of_sqlite(text) for text in asked]
        import asyncpg

        connection = await asyncpg.connect(self.url)
        try:
            found = []
            for text, values in asked.items():
                statement = await connection.prepare(text)
                [told] = await statement.explain(*values)
                found.append("\n".join([*_lines(told["Plan"]), text]))
            return found
        finally:
            await connection.close()

    def _of_sqlite(self, text: str) -> str:
        connection = sqlite3.connect(self.path)
        rows = connection.execute(f"EXPLAIN QUERY PLAN {text}").fetchall()
        connection.close()
        return "\n".join([*(row[3] for row in rows), text])


def _lines(node: dict[str, Any]) -> Iterator[str]:
    """A line for each step of a PostgreSQL plan, in SQLite's words where they matter."""
    kind = node["Node Type"]
    if kind == "Seq Scan":
        yield f"SCAN {node['Relation Name']}"
    elif kind == "Sort":
        yield "TEMP B-TREE"
    else:
        yield f"{kind} {node.get('Index Name', '')} {node.get('Index Cond', '')}"
    for below in node.get("Plans", ()):
        yield from _lines(below)


@contextmanager
def _watching(statements: dict[str, tuple[Any, ...]]) -> Iterator[None]:
    """Note what any connection to a database reads meanwhile."""
    import asyncpg
    from asyncpg.prepared_stmt import PreparedStatement

    connect, fetch = sqlite3.connect, PreparedStatement.fetch
    fetch_plain = asyncpg.Connection.fetch

    def note(text: str, *values: Any) -> None:
        if text.lstrip().upper().startswith(("SELECT", "WITH")):
            statements.setdefault(text, values)

    def connect_watched(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(note)
        return connection

    async def fetch_watched(self: Any, *values: Any, **kwargs: Any) -> Any:
        note(self.get_query(), *values)
        return await fetch(self, *values, **kwargs)

    async def fetch_plain_watched(self: Any, text: str, *values: Any, **kwargs: Any) -> Any:
        note(text, *values)
        return await fetch_plain(self, text, *values, **kwargs)

    with (
        patch("sqlite3.connect", connect_watched),
        patch("sqlite3.dbapi2.connect", connect_watched),
        patch.object(PreparedStatement, "fetch", fetch_watched),
        patch.object(asyncpg.Connection, "fetch", fetch_plain_watched),
    ):
        yield


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
)
async def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Watched]:
    folder = tmp_path_factory.mktemp("plans")
    path = folder / "data" / "dragoman.db"
    async with AsyncExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(fresh_postgres())
        async with open_inside(folder / "data", database_url=url) as inside:
            made = await make_tenant(inside, "MANY", folder)
        await _multiply(made, url, path)
        statements: dict[str, tuple[Any, ...]] = {}
        stack.enter_context(_watching(statements))
        owner = inside.token, inside.owner_id
        opened = open_inside(folder / "data", database_url=url, owner=owner)
        made.inside = await stack.enter_async_context(opened)
        made.owner = Context(made.inside.services, made.owner.principal)
        yield Watched(made, url, path, statements)


async def _multiply(tenant: Tenant, url: str | None, path: Path) -> None:
    """Copies of a task, its runs, a story, an agent and an event, each as a row of its own."""
    serial = "substr('000000000000' || i, length('' || i) + 1)"
    ids = {
        name: f"'0000000{number}-0000-4000-8000-' || {serial}" for number, name in enumerate(LARGE)
    }
    moment = (
        "strftime('%Y-%m-%d %H:%M:%f', '2026-01-01', '+' || i || ' seconds') || '000'"
        if url is None
        else "timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second'"
    )
    times = {"created_at": moment, "updated_at": moment}
    serials = {"public_id": serial, "number": "1000 + i"}
    head = f"(SELECT max(seq) FROM event WHERE stream_id = '{tenant.id}')"
    one_or_each = f"CASE i % 2 WHEN 0 THEN '{tenant.ids['task']}' ELSE {ids['task']} END"
    own = {
        "task": {"id": ids["task"], "title": f"'t' || {serial}", "position": "i", **serials},
        "story": {"id": ids["story"], **serials},
        "agent": {"id": ids["agent"], "name": f"'agent' || {serial}"},
        "run": {"id": ids["run"], "task_id": one_or_each, "public_id": serial},
    }
    kinds = {"task": "task", "story": "story", "agent": "agent", "run": "run finished"}
    statements = [
        copies(table, f"id = '{tenant.ids[kinds[table]]}'", values | times, MANY)
        for table, values in own.items()
    ]
    event = {"seq": f"{head} + i", "at": moment, "entity_id": one_or_each}
    chunk = {"first_line": "2 * i - 1", "last_line": "2 * i"}  # two lines each
    where = f"stream_id = '{tenant.id}' AND seq = {head}"
    statements += [
        copies("event", where, event, MANY),
        copies("run_output", f"run_id = '{tenant.ids['run finished']}'", chunk, MANY),
        f"UPDATE run SET output_lines = 2 * {MANY} WHERE id = '{tenant.ids['run finished']}'",
        f"UPDATE event_stream SET seq = seq + {MANY} WHERE id = '{tenant.id}'",
        f"UPDATE counter SET value = value + {2 * MANY} WHERE name IN ('task', 'story')",
        "ANALYZE",
    ]
    if url is None:
        connection = sqlite3.connect(path)
        with connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return
    import asyncpg

    opened = await asyncpg.connect(url)
    for statement in statements:
        await opened.execute(statement)
    await opened.close()


ORDERS = {
    f"tasks by {order}": f"tasks(workspaceId: $id, orderBy: {order}, PAGE) {{ {TASKS} }}"
    for order in TaskOrder
}
LISTS = {
    **ORDERS,
    "the board": f"workspace(id: $id) {{ tasks(PAGE) {{ totalCount {TASKS} }} }}",
    "a column": f"""tasks(workspaceId: $id, orderBy: POSITION_ASC, filter: {{status: [BACKLOG]}},
        PAGE) {{ totalCount {TASKS} }}""",
    "stories": "stories(workspaceId: $id, PAGE) { nodes { id title } }",
    "runs": "runs(workspaceId: $id, PAGE) { nodes { id status } }",
    "agents": "agents(workspaceId: $id, PAGE) { nodes { id name } }",
    "events": "events(workspaceId: $id, PAGE) { nodes { seq type } }",
    "history of a task": "task(id: $task) { history(PAGE) { nodes { seq type } } }",
    "runs of a task": "task(id: $task) { runs(PAGE) { nodes { id status } } }",
}
WHOLE = re.compile(rf"^SCAN ({'|'.join(LARGE)})\b|TEMP B-TREE", re.MULTILINE)
"""A step that reads a large table from its beginning to its end, or sorts."""
PAGES = ("first: 20", "first: 20, after: AFTER", "last: 20")


def _by_indexes(plans: list[str]) -> None:
    """Assert that large tables are read, by indexes alone."""
    large = [plan for plan in plans if re.search(rf"FROM ({'|'.join(LARGE)})\b", plan)]
    assert large
    for plan in large:
        assert not WHOLE.search(plan), plan


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_is_read_by_an_index_in_its_order(watched: Watched, name: str) -> None:
    tenant = watched.tenant
    variables = {"id": tenant.id, "task": tenant.ids["task"]}
    after = "null"
    for page in PAGES:
        chosen = LISTS[name].replace("PAGE", page.replace("AFTER", after))
        chosen = chosen.replace("nodes", "pageInfo { endCursor } nodes")
        declared = "$task: ID!" if "$task" in chosen else "$id: ID!"
        text = f"query ({declared}) {{ {chosen} }}"
        watched.statements.clear()
        answer = await tenant.inside.post(text, variables, token=tenant.tokens["admin"])
        (found,) = answer.data.values()
        while "pageInfo" not in found:
            (found,) = found.values()
        after = f'"{found["pageInfo"]["endCursor"]}"'
        _by_indexes(await watched.plans())


async def test_the_boards_of_workspaces_are_read_by_an_index_each(watched: Watched) -> None:
    tenant = watched.tenant
    text = 'mutation { createWorkspace(input: {name: "Another"}) { workspace { id } } }'
    assert (await tenant.inside.post(text, token=tenant.inside.token)).data
    lists = f"tasks(first: 20) {{ {TASKS} }} runs(first: 5) {{ nodes {{ id }} }}"
    text = f"{{ workspaces {{ nodes {{ {lists} }} }} }}"
    watched.statements.clear()
    assert (await tenant.inside.post(text, token=tenant.inside.token)).data
    plans = [plan for plan in await watched.plans() if re.search(r"FROM (task|run)\b", plan)]
    assert any("ix_task_board" in plan for plan in plans)
    for plan in plans:
        assert "SCAN task" not in plan
        assert "SCAN run" not in plan
        assert plan.count("TEMP B-TREE") <= 1, plan  # all pages together, after they were cut


WRITES = {
    "createTask": 'input: {workspaceId: "WORKSPACE", title: "new"}',
    "moveTask": 'input: {id: "TASK", status: REVIEW}',
    "moveTask to a place": 'input: {id: "TASK", afterId: "OTHER"}',
    "updateTask": 'input: {id: "TASK", title: "other"}',
    "startRun": 'input: {taskId: "TASK", executor: CUSTOM}',
    "enqueueTask": 'id: "OTHER"',
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_change_reads_by_indexes(watched: Watched, name: str) -> None:
    tenant = watched.tenant
    words = {"WORKSPACE": tenant.id, "TASK": await tenant.task(), "OTHER": await tenant.task()}
    given = re.sub("[A-Z]{4,}", lambda word: words.get(word[0], word[0]), WRITES[name])
    watched.statements.clear()
    text = f"mutation {{ {name.split(maxsplit=1)[0]}({given}) {{ cursor }} }}"
    assert (await tenant.inside.post(text, token=tenant.tokens["admin"])).data
    _by_indexes(await watched.plans())


async def test_output_is_resumed_by_the_key_of_its_chunks(watched: Watched) -> None:
    tenant = watched.tenant
    text = """subscription ($id: ID!, $after: String) { runOutput(id: $id, after: $after) {
      ... on OutputLine { line } } }"""
    run = tenant.ids["run finished"]
    given = {"id": run, "after": encode_cursor(run, epoch=1, seq=MANY // 2)}
    watched.statements.clear()
    (item,) = await tenant.inside.stream(text, given, token=tenant.tokens["admin"])
    assert item["data"]["runOutput"]["line"] == MANY // 2 + 1
    _by_indexes(await watched.plans())


async def test_output_is_read_from_the_chunk_on_that_has_the_line(watched: Watched) -> None:
    tenant = watched.tenant
    text = """query ($id: ID!, $after: Int!) { run(id: $id) { output(after: $after, first: 5) {
      entries { line } } } }"""
    given = {"id": tenant.ids["run finished"], "after": MANY + 1}
    watched.statements.clear()
    answer = await tenant.inside.post(text, given, token=tenant.tokens["admin"])
    lines = [entry["line"] for entry in answer.data["run"]["output"]["entries"]]
    assert lines == [MANY + 2, MANY + 3, MANY + 4, MANY + 5, MANY + 6]
    (plan,) = [plan for plan in await watched.plans() if "first_line >=" in plan]
    assert "SCAN run_output" not in plan
    assert re.search(r"run_id=\? AND first_line>\?|first_line >= ", plan.partition("SELECT")[0]), (
        plan
    )


async def test_a_stream_is_resumed_by_the_key_of_its_log(watched: Watched) -> None:
    tenant = watched.tenant
    text = """subscription ($id: ID!, $after: String) { events(workspaceId: $id, after: $after) {
      ... on Event { seq } } }"""
    given = {"id": tenant.id, "after": encode_cursor(tenant.id, epoch=1, seq=MANY // 2)}
    watched.statements.clear()
    items = await tenant.inside.stream(text, given, token=tenant.tokens["admin"], items=50)
    assert items[-1]["data"]["events"]["seq"] == MANY // 2 + 50
    _by_indexes(await watched.plans())
