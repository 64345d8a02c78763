"""One scenario in every language: the same cards, the same runs, the same events."""

from pathlib import Path
from typing import Any

import pytest

from rest_compat.catalog import CATALOG
from tests.conformance.players import REST_PLAYERS, GraphQLPlayer, Player
from tests.support.inside import Inside, open_inside
from tests.support.rest import rest_client

SCENARIO = [
    ("add", "one", "first"),
    ("add", "two", ""),
    ("add", "three", "ünïcödé 🦊\nline"),
    ("queue", "one"),
    ("rename", "two", "zwei"),
    ("describe", "two", "more"),
    ("queue", "two"),
    ("review", "one"),
    ("reset", "two"),
    ("queue", "two"),
    ("finish", "one"),
    ("reset", "one"),
    ("queue", "three"),
    ("delete", "three"),
    ("describe", "one", ""),
    ("queue", "two"),
]
BOARD = """query ($id: ID!) {
  tasks(workspaceId: $id, orderBy: NUMBER_ASC) { totalCount nodes {
    number title description status statusReason position labels archivedAt version
    runs { nodes { status executor attempt reason } } } }
  events(workspaceId: $id, first: 100) { nodes { seq type fromStatus } } }"""


async def board_of(inside: Inside, workspace: str) -> Any:
    return (await inside.post(BOARD, {"id": workspace}, token=inside.token)).data


@pytest.mark.parametrize("language", [entry.name for entry in CATALOG])
async def test_a_board_is_the_same_in_every_language(
    language: str, tmp_path: Path, database_url: str
) -> None:
    async with (
        open_inside(tmp_path / "data", database_url=database_url) as inside,
        rest_client(inside, language) as client,
    ):
        theirs: Player = REST_PLAYERS[language](inside, client)
        ours = GraphQLPlayer(inside)
        moves = [move for move in SCENARIO if move[0] in theirs.can]
        assert len(moves) >= 6
        for player in (ours, theirs):
            await player.open("Board")
            for move in moves:
                await player.play(*move)
        assert await board_of(inside, theirs.workspace) == await board_of(inside, ours.workspace)
        assert inside.internal_errors == []
