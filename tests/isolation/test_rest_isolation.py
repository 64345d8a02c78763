"""Two tenants over REST: every operation of every language, with what belongs to the other one.

Generated from the languages' OpenAPI documents. What another tenant has is, in answers and in
effects, what does not exist.
"""

import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from models.enums import Role
from resolvers import members, tokens
from rest_compat.catalog import CATALOG
from tests.support.inside import Inside, open_inside
from tests.support.rest import RestClient, rest_client
from tests.support.rest_seeds import path_arguments
from tests.support.rest_values import Operation, example, operations_of
from tests.support.server import fresh_postgres
from tests.support.tenants import Tenant, make_tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")
MINE, THEIRS = "Aardvark", "Quokka"
UNKNOWN = {
    "viban": {
        "project_id": "proj_0000000zzzzz", "task_id": "task_zzzzzzzzzzzz",
        "execution_id": "exec_zzzzzzzzzzzz", "webhook_id": "hook_zzzzzzzzzzzz",
    },
    "posthog": {
        "project_id": "999999", "user_id": "999999", "storage_path": "tasks/none",
        "task_id": str(uuid.uuid4()), "run_id": str(uuid.uuid4()),
    },
}  # fmt: skip
DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=[pytest.mark.postgres, pytest.mark.long]),
]
VOLATILE = re.compile(r'"(?:id|request_id|timestamp|updated_at|created_at)":"[^"]*"')


@dataclass(frozen=True, slots=True)
class Street:
    """Two tenants of a server, seen in one language."""

    inside: Inside
    language: str
    client: RestClient
    tenants: dict[str, Tenant]
    ids: dict[str, dict[str, str]]
    forbidden: re.Pattern[str]

    @property
    def operations(self) -> list[Operation]:
        return operations_of(self.client.document.document)

    def mixtures(self, operation: Operation) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        """Paths with something of theirs, all or one, each with the same of nobody's."""
        names = operation.arguments
        unknown = UNKNOWN[self.language]
        everything = {name: self.ids[THEIRS][name] for name in names}
        if everything:
            yield everything, {name: unknown[name] for name in names}
        for name in names:
            own = {other: self.ids[MINE][other] for other in names}
            yield own | {name: everything[name]}, own | {name: unknown[name]}

    async def ask(
        self, operation: Operation, given: dict[str, str], token: str, body: Any = None
    ) -> httpx2.Response:
        options: dict[str, Any] = {"json": body} if operation.body is not None else {}
        return await self.client.http.request(
            operation.method,
            self.client.at + operation.path.format(**given),
            headers={"authorization": f"Bearer {token}"},
            **options,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=DATABASES)
async def tenants(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Tenant]]:
    folder = tmp_path_factory.mktemp("street")
    async with AsyncExitStack() as held:
        url = held.enter_context(fresh_postgres()) if request.param == "postgresql" else None
        inside = await held.enter_async_context(open_inside(folder / "data", database_url=url))
        yield {name: await make_tenant(inside, name, folder) for name in (MINE, THEIRS)}


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[entry.name for entry in CATALOG]
)
async def street(
    request: pytest.FixtureRequest, tenants: dict[str, Tenant]
) -> AsyncIterator[Street]:
    inside = tenants[MINE].inside
    async with rest_client(inside, request.param) as client:
        ids = {}
        for name, tenant in tenants.items():
            administrator = client.like(token=tenant.tokens["admin"])
            ids[name] = await path_arguments(tenant, request.param, administrator)
        theirs = tenants[THEIRS]
        told = [value for value in ids[THEIRS].values() if len(value) > 5]
        words = [THEIRS, theirs.workspace.slug, *theirs.ids.values(), *told]
        pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
        yield Street(inside, request.param, client, tenants, ids, pattern)


def without(text: str, sent: dict[str, str]) -> str:
    """An answer without what was sent."""
    for value in sorted(sent.values(), key=len, reverse=True):
        text = text.replace(value, "…")
    return VOLATILE.sub("", text)


def bodies(street: Street, operation: Operation) -> Iterator[Any]:
    """A whole body, an empty one, and one that names their things."""
    whole = example(operation) if operation.body is not None else None
    yield whole
    if isinstance(whole, dict):
        yield {}
        theirs = street.ids[THEIRS]
        named = {
            name: theirs["storage_path"] if name == "storage_path" else theirs["run_id"]
            for name in whole
            if name in {"storage_path", "resume_from_run_id"}
        }
        if named:
            yield whole | named


async def askers(street: Street) -> dict[str, str]:
    """Tokens of those who have nothing to do with the other tenant, or not with this key."""
    mine, theirs = street.tenants[MINE], street.tenants[THEIRS]
    both = await mine.new_member(Role.ADMIN)
    await members.add_member(
        theirs.owner, workspace_id=theirs.id, user_id=both.id, role=Role.VIEWER
    )
    bound = await tokens.create_token(mine.owner, user_id=both.id, workspace_id=mine.id)
    return {
        "admin": mine.tokens["admin"],
        "viewer": mine.tokens["viewer"],
        "agent": mine.agent_token,
        "bound": bound.secret or "",
    }


async def test_what_is_theirs_is_what_does_not_exist(street: Street) -> None:
    asked = 0
    for role, token in (await askers(street)).items():
        before = await street.inside.rows_about([THEIRS, *street.tenants[THEIRS].ids.values()])
        for operation in street.operations:
            for theirs, unknown in street.mixtures(operation):
                for body in bodies(street, operation):
                    answer = await street.ask(operation, theirs, token, body)
                    expected = await street.ask(operation, unknown, token, body)
                    told = f"{role} {operation.name} {theirs} {body}: {answer.text}"
                    asked += 1
                    closed = role == "bound" and answer.status_code == 403
                    assert answer.status_code == expected.status_code or closed, told
                    assert answer.status_code >= 400, told
                    if not closed:
                        alike = without(expected.text, unknown)
                        assert without(answer.text, theirs) == alike, told
                    assert street.forbidden.search(without(answer.text, theirs)) is None, told
        after = await street.inside.rows_about([THEIRS, *street.tenants[THEIRS].ids.values()])
        assert after == before, role
    assert asked > 50
    assert street.inside.internal_errors == []


async def test_what_a_credential_may_not(street: Street) -> None:
    """Viewers and reading keys change nothing; revoked keys and those of others see nothing."""
    mine = street.tenants[MINE]
    reading = await mine.token(mine.users["admin"], scopes=["task:read"])
    revoked = await mine.token(mine.users["admin"])
    await tokens.revoke_token(mine.owner, key_id=revoked.key.id)
    stranger = await mine.token(await mine.new_user())
    before = await street.inside.rows_about([MINE])
    for operation in street.operations:
        given = {name: street.ids[MINE][name] for name in operation.arguments}
        body = example(operation) if operation.body is not None else None
        if operation.method != "GET":
            for token in (mine.tokens["viewer"], reading.secret):
                answer = await street.ask(operation, given, token or "", body)
                harmless = operation.name in HARMLESS
                assert answer.status_code >= 400 or harmless, (operation.name, answer.text)
        answer = await street.ask(operation, given, revoked.secret or "", body)
        assert answer.status_code == 401 or operation.name in OPEN, (operation.name, answer.text)
        answer = await street.ask(operation, given, stranger.secret or "", body)
        street_words = answer.text if operation.name not in HARMLESS else ""
        assert MINE not in street_words, (operation.name, answer.text)
    after = await street.inside.rows_about([MINE])
    del before["api_key"], after["api_key"]  # when they were last used
    assert after == before


HARMLESS = {
    "tasks_summaries", "runs_artifacts_download", "runs_artifacts_presign", "tasks_presence_create",
    "tasks_presence_destroy", "users_push_tokens_create", "users_push_tokens_unregister",
}  # fmt: skip
"""POST that only reads, or that tells of the caller alone."""
OPEN = {"runs_log_file", "task_downloads", "task_uploads", "health"}
"""Without a credential: by a signed address, or harmless."""
