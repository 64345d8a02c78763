"""Push tokens and presence as PostHog's apps speak them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from resolvers.context import Context
from resolvers.devices import register_device
from resolvers.principal import Principal
from resolvers.users import create_user
from tests.support.inside import Inside
from tests.support.rest import RestClient, rest_client

TASKS = "/api/projects/1/tasks"
TOKENS = "/api/users/@me/push_tokens"
UNKNOWN = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
async def posthog(inside: Inside) -> AsyncIterator[RestClient]:
    """The site owner's client, with one project."""
    await inside.post(
        'mutation { createWorkspace(input: {name: "Acme"}) { cursor } }', token=inside.token
    )
    async with rest_client(inside, "posthog") as client:
        yield client


async def foreign_device(inside: Inside) -> str:
    owner = Principal(kind="user", id=inside.owner_id, name="owner", is_site_owner=True)
    user = await create_user(Context(inside.services, owner), name="other")
    other = Context(inside.services, Principal(kind="user", id=user.id, name="other"))
    return (await register_device(other, token="theirs", platform="IOS")).id


async def refused(posthog: RestClient, *request: Any) -> tuple[int, str, Any]:
    answer = await posthog.send(*request)
    told = answer.json()
    return answer.status_code, told["code"], told["attr"]


async def test_a_device_says_what_it_shows(inside: Inside, posthog: RestClient) -> None:
    task = await posthog.data("POST", TASKS + "/", {"title": "T"}, status=201)
    path = f"{TASKS}/{task['id']}/presence/"
    given = {"token": "abc", "platform": "ios"}
    device = await posthog.data("POST", TOKENS + "/", given)
    assert device["platform"] == "ios"
    assert (await posthog.data("POST", TOKENS, given))["id"] == device["id"]
    for _ in range(2):
        await posthog.data("POST", path, {"device_id": device["id"]}, status=204)
    for _ in range(2):
        await posthog.data("DELETE", path, {"device_id": device["id"]}, status=204)
    await posthog.data("DELETE", f"{path}?device_id={device['id']}", status=204)
    for device_id in (UNKNOWN, await foreign_device(inside)):
        for method in ("POST", "DELETE"):
            answer = await posthog.send(method, path, {"device_id": device_id})
            assert answer.status_code == 404
            assert answer.json()["detail"] == (
                "device_id does not match a push token registered by the caller"
            )
    for method in ("POST", "DELETE"):
        assert await refused(posthog, method, path, {}) == (400, "required", "device_id")
        wrong = await refused(posthog, method, path, {"device_id": "x"})
        assert wrong == (400, "invalid_input", "device_id")
        hidden = await posthog.send(method, f"{TASKS}/{UNKNOWN}/presence", {})
        assert hidden.status_code == 404
    await posthog.data("POST", TOKENS + "/unregister/", {"token": "abc"}, status=204)
    await posthog.data("POST", TOKENS + "/unregister/", {"token": "abc"}, status=204)
    gone = await posthog.send("POST", path, {"device_id": device["id"]})
    assert gone.status_code == 404


async def test_wrong_tokens_are_named(posthog: RestClient) -> None:
    wrong = (400, "invalid_choice", "platform")
    assert await refused(posthog, "POST", TOKENS, {"token": "a", "platform": "tv"}) == wrong
    assert (await refused(posthog, "POST", TOKENS, {"platform": "ios"}))[1:] == (
        "required", "token",
    )  # fmt: skip
    long = {"token": "x" * 513, "platform": "web"}
    assert (await refused(posthog, "POST", TOKENS, long))[1:] == ("max_length", "token")
    other = await posthog.send("POST", "/api/users/7/push_tokens", {"token": "a"})
    assert other.status_code == 403
