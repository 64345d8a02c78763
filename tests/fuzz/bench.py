"""Requests to a seeded server, and what every answer must keep to, whatever was asked."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models import Workspace
from resolvers.context import Context
from resolvers.operation import operation
from tests.support.calls import CALLS, field_of
from tests.support.inside import Answer, Inside
from tests.support.schema_documents import document
from tests.support.tenants import Tenant

CODES = {
    "UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND", "INVALID", "CONFLICT", "ILLEGAL_TRANSITION",
    "LIMIT_EXCEEDED", "RATE_LIMITED", "COST_EXCEEDED",
}  # fmt: skip
"""What a client may be told; neither INTERNAL nor, with nobody else asking, UNAVAILABLE."""
UNMASKED = re.compile(
    r"Traceback|sqlalchemy|sqlite3?\.|asyncpg|OperationalError|site-packages|\.py\b|0x[0-9a-f]{8}"
    r"|object at|NoneType|KeyError|TypeError|ValueError"
)
CHANGES_THE_WORKSPACE = {
    "Mutation.archiveWorkspace", "Mutation.setWorkspaceStatus", "Mutation.deleteWorkspace",
    "Mutation.updateWorkspace",
}  # fmt: skip

QUIET_SECONDS = 5.0
"""A stream that has told nothing by then has nothing to tell."""


@operation
async def _restore(ctx: Context, *, workspace_id: str, local_path: str) -> None:
    """Let the workspace be one in which every call can succeed."""
    await ctx.transaction.update_by_id(
        Workspace,
        workspace_id,
        status="ACTIVE",
        archived_at=None,
        deleted_at=None,
        local_path=local_path,
        pull_mode=False,
    )


@dataclass(slots=True)
class Bench:
    """The server, its loop, and which calls succeeded."""

    runner: asyncio.Runner
    inside: Inside
    tenant: Tenant
    succeeded: set[str] = field(default_factory=set)

    def variables(self, call: str) -> dict[str, Any]:
        """Those of a call that succeeds."""
        return self.runner.run(CALLS[call](self.tenant))

    def token(self, name: str) -> str:
        """The site owner's token; a fresh one where it will be ended."""
        if name != "Mutation.logOut":
            return self.inside.token
        return self.runner.run(self.tenant.token(self.tenant.users["viewer"])).secret or ""

    def ask(self, name: str, variables: Mapping[str, Any], *, text: str | None = None) -> Answer:
        """An answer of a root field, checked; streams give their first item.

        Args:
            name: such as ``Query.task``.
            variables: of the document.
            text: another document than the one made for this field.
        """
        query, token = text or document(name), self.token(name)
        if name.startswith("Subscription"):
            items = self.runner.run(
                self.inside.stream(query, variables, token=token, quiet_after=QUIET_SECONDS)
            )
            answer = Answer(200, _json(items[0] if items else {"data": {}}))
        else:
            answer = self.runner.run(self.inside.post(query, variables, token=token))
        self.check(answer, f"{name} {str(variables)[:500]}")
        if name in CHANGES_THE_WORKSPACE and not answer.errors:
            path = str(self.tenant.repository)
            restoring = _restore(self.inside.system(), workspace_id=self.tenant.id, local_path=path)
            self.runner.run(restoring)
        if not answer.errors:
            self.succeeded.add(name)
        return answer

    def check(self, answer: Answer, what: str) -> None:
        """Fail on anything no client should ever see."""
        assert answer.status < 500, (what, answer.text[:2000])
        problems = self.inside.internal_errors[:]
        self.inside.internal_errors.clear()
        assert problems == [], what
        assert set(answer.codes) <= CODES, (what, answer.text[:2000])
        for error in answer.errors:
            assert error["message"], what
            found = UNMASKED.search(error["message"])
            assert found is None, (what, error)

    def succeed(self, call: str) -> None:
        """Make a call that must succeed."""
        answer = self.ask(field_of(call), self.variables(call))
        assert answer.errors == [], (call, answer.text[:2000])


def _json(item: Any) -> bytes:
    import orjson

    return orjson.dumps(item)
