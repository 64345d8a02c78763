"""Who may do what: every root field, asked by everybody.

``permissions.tsv`` has a row for each call (see ``tests.support.calls``). What a row ``needs``:

``public``               nothing
``nobody``               nothing, but nobody gets null
``any``                  any valid key
``any read``             any valid key that may read; shows what its holder sees
``read write execute manage_queues admin``   that permission in the workspace
``site <permission>``    that permission on the whole site, with a key that is bound to no workspace
``own <permission>``     a user's key whose scopes hold it
``user <permission>``    to see the user, to administer the site, and a key whose scopes hold it
``device``               to be the site owner (whose device it is) and to see the workspace, with
                         a key that may write
``holder <permission>``  the same, but who may not act for the user does not learn of the thing

``hidden`` is the answer to those who do not see the workspace; ``exceptions`` name callers.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.enums import Role
from tests.authz.house import Caller, House
from tests.support.calls import CALLS, field_of
from tests.support.schema_documents import document, root_names

# Said here once more and not taken from the program: this is what the program is held against.
ALL = {"read", "write", "execute", "manage_queues", "admin"}
ROLE_HOLDS = {
    None: set(),
    Role.VIEWER: {"read"},
    Role.DEVELOPER: {"read", "write", "execute"},
    Role.MANAGER: {"read", "write", "execute", "manage_queues"},
    Role.ADMIN: ALL,
}
SCOPE_HOLDS = {
    "task:read": {"read"},
    "task:write": {"read", "write"},
    "run:execute": {"read", "execute"},
    "admin": ALL,
    "*": ALL,
}
AGENT_HOLDS = {"read", "write"}
FURTHER_CALLERS = (
    "key *", "key admin", "site admin's key task:read", "site admin's key task:write",
    "site admin's key bound here", "site admin's key bound elsewhere", "inactive user",
)  # fmt: skip
"""Combinations of what the others show one by one: only when there is time."""
CHANGES_THE_WORKSPACE = {
    "Mutation.archiveWorkspace", "Mutation.setWorkspaceStatus", "Mutation.deleteWorkspace",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    call: str
    needs: str
    hidden: str
    exceptions: dict[str, str]


def read_table() -> dict[str, Row]:
    path = Path(__file__).with_name("permissions.tsv")
    with path.open(newline="") as file:
        found = list(csv.DictReader(file, delimiter="\t"))
    rows = {}
    for line in found:
        given = (line["exceptions"] or "").split("; ")
        exceptions = dict(pair.rsplit("=", 1) for pair in given if pair)
        assert line["call"] not in rows, f"{line['call']} stands twice"
        rows[line["call"]] = Row(line["call"], line["needs"], line["hidden"], exceptions)
    return rows


TABLE = read_table()


def key_holds(caller: Caller) -> set[str]:
    return set.union(*(SCOPE_HOLDS[scope] for scope in caller.scopes)) if caller.scopes else ALL


def sees(caller: Caller) -> bool:
    member = caller.here or caller.site or caller.owner or caller.kind == "agent"
    return bool(member) and caller.bound != "elsewhere"


def holds_here(caller: Caller) -> set[str]:
    if caller.kind == "agent":
        return AGENT_HOLDS
    return ALL if caller.owner else ROLE_HOLDS[caller.here] | ROLE_HOLDS[caller.site]


def on_site(caller: Caller, permission: str) -> str:
    holds = ALL if caller.owner else ROLE_HOLDS[caller.site]
    allowed = permission in holds & key_holds(caller) and caller.bound is None
    return "ok" if allowed and caller.kind == "user" else "FORBIDDEN"


def expected(row: Row, caller: Caller) -> str:
    """The one outcome that is right: ``ok``, ``null`` or an error's code."""
    if caller.kind == "ended":
        return "UNAUTHENTICATED"
    if row.needs == "public":
        return "ok"
    if caller.kind == "nobody":
        return "null" if row.needs == "nobody" else "UNAUTHENTICATED"
    if caller.name in row.exceptions:
        return row.exceptions[caller.name]
    if row.needs in {"nobody", "any"}:
        return "ok"
    if row.needs == "device":
        if "write" not in key_holds(caller):
            return "FORBIDDEN"
        return "ok" if caller.owner and sees(caller) else "NOT_FOUND"
    where, _, permission = row.needs.rpartition(" ")
    if where in {"any", "site", "own"}:
        return anywhere(where, permission, caller)
    return in_the_workspace(row, where, permission, caller)


def anywhere(where: str, permission: str, caller: Caller) -> str:
    if where == "site":
        return on_site(caller, permission)
    if permission not in key_holds(caller):
        return "FORBIDDEN"
    return "INVALID" if where == "own" and caller.kind == "agent" else "ok"


def in_the_workspace(row: Row, where: str, permission: str, caller: Caller) -> str:
    if where == "holder" and permission in key_holds(caller):
        return "ok" if on_site(caller, "admin") == "ok" else row.hidden
    if where == "holder":
        return "FORBIDDEN"
    if not sees(caller):
        return row.hidden
    if where == "owner" and not caller.owner:
        return "FORBIDDEN"
    if where == "user":
        return on_site(caller, "admin") if permission in key_holds(caller) else "FORBIDDEN"
    needed = set(permission.split("+"))
    return "ok" if needed <= holds_here(caller) & key_holds(caller) else "FORBIDDEN"


def test_every_root_field_has_a_row_and_a_call() -> None:
    assert set(TABLE) == set(CALLS)
    assert {field_of(call) for call in TABLE} == set(root_names())


async def ask(house: House, call: str, variables: dict[str, Any], caller: Caller) -> Any:
    """The outcome, and what was answered."""
    field = field_of(call)
    name = field.partition(".")[2]
    token = caller.token
    if field == "Mutation.logOut" and caller.new_token and caller.kind != "ended":
        token = await caller.new_token()
    if not field.startswith("Subscription"):
        answer = await house.inside.post(document(field), variables, token=token)
        return answer.outcome(name), answer.json
    (item,) = await house.inside.stream(document(field), variables, token=token)
    errors = item.get("errors")
    return (errors[0]["extensions"]["code"] if errors else "ok"), item


async def check_callers(house: House, call: str, callers: list[Caller]) -> None:
    inside, tenant = house.inside, house.tenant
    name = field_of(call).partition(".")[2]
    shared = await CALLS[call](tenant)  # for all who are refused; it must survive them
    wrong, before = [], ""
    for caller in callers:
        wanted = expected(TABLE[call], caller)
        variables = await CALLS[call](tenant) if wanted == "ok" else shared
        if wanted != "ok":
            before = before or await inside.fingerprint()
        found, answer = await ask(house, call, variables, caller)
        if found != wanted:
            wrong.append(f"{caller.name}: {found}, not {wanted} {str(answer)[:300]}")
        elif wanted != "ok":
            assert (answer.get("data") or {}).get(name) is None, (caller.name, answer)
            assert await inside.fingerprint() == before, f"{caller.name} changed something"
        if wanted == "ok" or call == "Mutation.logOut":
            before = ""
        if call in CHANGES_THE_WORKSPACE and found == "ok":
            await house.restore()
    assert wrong == []
    assert inside.internal_errors == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", TABLE)
async def test_everybody_gets_what_is_theirs(house: House, call: str) -> None:
    callers = [c for c in house.callers.values() if c.name not in FURTHER_CALLERS]
    await check_callers(house, call, callers)


@pytest.mark.long
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", TABLE)
async def test_further_kinds_of_keys_get_what_is_theirs(house: House, call: str) -> None:
    await check_callers(house, call, [house.callers[name] for name in FURTHER_CALLERS])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", ["site", "", "SITE", "site\x00"])
async def test_the_sites_log_is_no_workspaces(house: House, name: str) -> None:
    """Who sees every workspace does not see the site's log by taking it for one of them."""
    for caller in ("site viewer", "site manager", "owner"):
        token = house.callers[caller].token
        variables = {"workspaceId": name}
        answer = await house.inside.post(document("Query.events"), variables, token=token)
        assert answer.codes == ["NOT_FOUND"], (caller, answer.text[:500])
        (item,) = await house.inside.stream(
            document("Subscription.events"), {**variables, "after": "EARLIEST"}, token=token
        )
        assert item["errors"][0]["extensions"]["code"] == "NOT_FOUND", (caller, item)
