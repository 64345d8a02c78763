"""Webhooks over GraphQL: secrets are shown once, settings checked, deliveries paged."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.inside import Inside, open_inside

CREATE = """
mutation ($input: CreateWebhookInput!) {
  createWebhook(input: $input) { secret cursor webhook { id eventTypes isActive version } }
}
"""
ROTATE = """
mutation ($id: ID!) {
  rotateWebhookSecret(id: $id) { secret webhook { previousSecretUntil version } }
}
"""
SECRET = "whsec_" + "A" * 32


@pytest.fixture
async def inside(tmp_path: Path, database_url: str) -> AsyncIterator[Inside]:
    async with open_inside(tmp_path / "data", database_url=database_url) as opened:
        yield opened
        assert opened.internal_errors == []


@pytest.fixture
async def workspace_id(inside: Inside) -> str:
    made = await inside.post(
        'mutation { createWorkspace(input: {name: "W"}) { workspace { id } } }', token=inside.token
    )
    return str(made.data["createWorkspace"]["workspace"]["id"])


def new_hook(workspace_id: str, **fields: Any) -> dict[str, Any]:
    given = {"workspaceId": workspace_id, "url": "https://9.9.9.9/", "eventTypes": ["task.*"]}
    return {"input": {**given, **fields}}


async def test_a_secret_is_shown_once_even_to_who_asks_twice(
    inside: Inside, workspace_id: str
) -> None:
    answers = [
        await inside.post(
            CREATE,
            new_hook(workspace_id),
            token=inside.token,
            headers={"idempotency-key": "one"},
        )
        for _ in range(2)
    ]
    first, second = (answer.data["createWebhook"] for answer in answers)
    assert first["secret"].startswith("whsec_")
    assert second == {**first, "secret": None}
    rotated = await inside.post(ROTATE, {"id": first["webhook"]["id"]}, token=inside.token)
    told = rotated.data["rotateWebhookSecret"]
    assert told["secret"] not in {None, first["secret"]}
    assert told["webhook"]["version"] == 2
    assert told["webhook"]["previousSecretUntil"] is not None


async def test_the_log_tells_of_a_webhook_but_not_its_address(
    inside: Inside, workspace_id: str
) -> None:
    given = new_hook(workspace_id, url="https://9.9.9.9/services/xyzzy", secret=SECRET)
    await inside.post(CREATE, given, token=inside.token)
    log = await inside.post(
        "query ($w: ID!) { events(workspaceId: $w) { nodes { type payload } } }",
        {"w": workspace_id},
        token=inside.token,
    )
    types = [event["type"] for event in log.data["events"]["nodes"]]
    assert "webhook.created" in types
    assert "xyzzy" not in log.text
    assert SECRET not in log.text


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": "https://user:pass@9.9.9.9/"}, "url"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "http://[::1]/"}, "url"),
        ({"url": "http://9.9.9.9:0/"}, "url"),
        ({"url": "https://9.9.9.9/" + "x" * 2048}, "url"),
        ({"eventTypes": []}, "eventTypes"),
        ({"eventTypes": ["Task.Created"]}, "eventTypes"),
        ({"eventTypes": ["task.**"]}, "eventTypes"),
        ({"eventTypes": ["task.created"] * 101}, "eventTypes"),
        ({"secret": "psst"}, "secret"),
        ({"secret": "whsec_c2hvcnQ="}, "secret"),
        ({"description": "x" * 501}, "description"),
    ],
)
async def test_what_is_wrong_is_named(
    inside: Inside, workspace_id: str, given: dict[str, Any], field: str
) -> None:
    answer = await inside.post(CREATE, new_hook(workspace_id, **given), token=inside.token)
    (error,) = answer.errors
    assert error["extensions"]["code"] == "INVALID"
    assert error["extensions"]["field"] == field
    assert "pass@" not in answer.text


async def test_a_workspace_has_fifty_webhooks_at_most(inside: Inside, workspace_id: str) -> None:
    for _ in range(50):
        made = await inside.post(CREATE, new_hook(workspace_id, secret=SECRET), token=inside.token)
        assert made.data["createWebhook"]["secret"] == SECRET
    refused = await inside.post(CREATE, new_hook(workspace_id), token=inside.token)
    assert refused.codes == ["LIMIT_EXCEEDED"]
    listed = await inside.post(
        "query ($w: ID!) { webhooks(workspaceId: $w) { totalCount nodes { id } } }",
        {"w": workspace_id},
        token=inside.token,
    )
    assert listed.data["webhooks"]["totalCount"] == 50
