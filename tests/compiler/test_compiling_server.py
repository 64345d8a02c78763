"""The server with compiled documents and without: the same bytes, told apart by its metrics."""

from pathlib import Path

import pytest

from server.metrics import Metrics
from tests.support.inside import Inside, open_inside

BOARD = """query ($first: Int!, $deep: Boolean!) { workspaces(first: $first) { totalCount
  nodes { name ...Deep @include(if: $deep) } pageInfo { hasNextPage } } }
fragment Deep on Workspace { members { totalCount nodes { role user { name } } }
  tasks { nodes { title status story { title } latestRun { status } } } }"""
CREATE = """mutation ($name: String!) {
  createWorkspace(input: {name: $name}) { workspace { name members { totalCount } } } }"""
WRONG = 'mutation { approveTask(id: "x") { task { id } } }'


async def _answers(server: Inside) -> list[bytes]:
    page = {"first": 2, "deep": True}
    sent = [
        (CREATE, {"name": "Board"}, server.token),
        (WRONG, {}, server.token),
        (BOARD, page, server.token),
        (BOARD, page, None),
        (BOARD, {"first": "two", "deep": True}, server.token),
        ("{ viewer { nothing } }", {}, server.token),
    ]
    return [(await server.post(text, given, token=token)).body for text, given, token in sent]


async def test_the_switch_changes_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Metrics, "graphql_execution", lambda _, how: told.append(how))
    async with open_inside(tmp_path / "on") as server:
        compiled = await _answers(server)
    assert b'"role":"ADMIN"' in compiled[2]
    assert told == ["answered", "answered", "answered", "bailed", "variables"]
    async with open_inside(tmp_path / "off", compile=False) as server:
        assert await _answers(server) == compiled
    assert len(told) == 5
