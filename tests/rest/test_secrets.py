"""What clients keep secret is nowhere in what the server writes: every file of its data folder."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.rest.test_posthog import TASKS, new_task
from tests.support.inside import Inside, open_inside
from tests.support.rest import rest_client

MARK = "Xq7hostileSecretZ"


def secret(name: str) -> str:
    return f"{MARK}-{name}-0123456789abcdefghijkl"


def written(folder: Path) -> dict[str, str]:
    """Where the mark stands in a file, with what is around it."""
    found = {}
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        data = file.read_bytes()
        for mark in (MARK.encode(), base64.b64encode(MARK.encode() * 2)):
            place = data.find(mark)
            if place < 0:
                continue
            found[f"{file.name} {place}"] = repr(data[max(0, place - 200) : place + 100])
    return found


async def graphql(inside: Inside, text: str, variables: dict[str, Any]) -> Any:
    headers = {"idempotency-key": f"key-{len(text)}"}
    return (await inside.post(text, variables, token=inside.token, headers=headers)).data


async def test_secrets_are_not_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    async with open_inside(folder) as inside:
        made = await graphql(
            inside, 'mutation { createWorkspace(input: {name: "A"}) { workspace { id } } }', {}
        )
        workspace = made["createWorkspace"]["workspace"]["id"]
        key = f"whsec_{base64.b64encode(MARK.encode() * 2).decode()}"
        for text, given in (
            (
                "mutation ($i: SetGitAccessInput!) { setGitAccess(input: $i) { cursor } }",
                {
                    "workspaceId": workspace, "host": "git.example.org", "username": "u",
                    "secret": secret("git"),
                },
            ),
            (
                "mutation ($i: CreateAgentInput!) { createAgent(input: $i) { cursor } }",
                {"workspaceId": workspace, "name": "a", "apiKey": secret("agent")},
            ),
            (
                "mutation ($i: CreateUserInput!) { createUser(input: $i) { cursor } }",
                {"name": "person", "password": secret("password")},
            ),
            (
                "mutation ($i: CreateWebhookInput!) { createWebhook(input: $i) { cursor } }",
                {
                    "workspaceId": workspace, "url": "https://9.9.9.9/y", "secret": key,
                    "eventTypes": ["*"],
                },
            ),
        ):  # fmt: skip
            await graphql(inside, text, {"i": given})
        sent = {"idempotency-key": "k1"}
        async with rest_client(inside, "viban") as viban:
            project = (await viban.data("GET", "/api/v1/projects"))["data"][0]["id"]
            hook = {
                "url": "https://9.9.9.9/x", "events": ["task.created"], "secret": secret("hook")
            }  # fmt: skip
            path = f"/api/v1/projects/{project}/webhooks"
            for _ in range(2):
                answer = await viban.send("POST", path, hook, headers=sent)
                assert answer.status_code == 201
                assert MARK not in answer.text
            wrong = {**hook, "url": f"https://x:{secret('password')}@9.9.9.9/"}
            answer = await viban.send("POST", path, wrong, headers={"idempotency-key": "k2"})
            assert answer.status_code == 422
            assert MARK not in answer.text
        async with rest_client(inside, "posthog") as posthog:
            task = (await new_task(posthog, title="T"))["id"]
            device = {"token": secret("device"), "platform": "ios"}
            for number, (method, path, body) in enumerate(
                [
                    ("POST", "/api/users/@me/push_tokens", device),
                    ("POST", f"{TASKS}/{task}/runs", {"github_user_token": secret("github")}),
                    ("POST", f"{TASKS}/{task}/run", {"github_user_token": secret("github")}),
                    ("POST", "/api/users/@me/push_tokens/unregister", {"token": secret("device")}),
                ]
            ):
                answer = await posthog.send(
                    method, path, body, headers={"idempotency-key": f"p{number}"}
                )
                assert answer.status_code < 300, answer.text
                assert MARK not in answer.text
            liar = posthog.like(token=secret("bearer"))
            assert (await liar.send("GET", TASKS)).status_code == 401
            found = await posthog.http.get(f"{posthog.at}{TASKS}?personal_api_key={secret('q')}")
            assert found.status_code == 401
        assert inside.internal_errors == []
    assert written(folder) == {}
    output = capfd.readouterr()
    assert MARK not in output.out + output.err
