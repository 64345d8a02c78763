"""A workspace and everybody who might ask for something in it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from models import ApiKey, User, Workspace, table_of
from models.enums import Role
from resolvers import members, tokens, users, workspaces
from resolvers.context import Context
from resolvers.operation import operation
from tests.support.inside import Inside
from tests.support.tenants import Tenant, make_tenant

KEY = table_of(ApiKey).c


@dataclass(slots=True)
class Caller:
    """Somebody who asks.

    ``here`` is the role in the workspace, ``site`` the role in all of them; ``scopes`` limits the
    key, and ``bound`` says which workspace it opens: here, elsewhere, or None for all.
    """

    name: str
    kind: str = "user"
    here: Role | None = None
    site: Role | None = None
    owner: bool = False
    scopes: tuple[str, ...] = ()
    bound: str | None = None
    token: str | None = None
    new_token: Callable[[], Awaitable[str]] | None = None


@dataclass(slots=True)
class House:
    """The workspace, the other one, and the callers by name."""

    inside: Inside
    tenant: Tenant
    elsewhere: Workspace
    callers: dict[str, Caller] = field(default_factory=dict)

    async def restore(self) -> None:
        """Undo what a call did to the workspace as a whole."""
        await _restore(self.inside.system(), workspace_id=self.tenant.id)


@operation
async def _restore(ctx: Context, *, workspace_id: str) -> None:
    await ctx.transaction.update_by_id(
        Workspace, workspace_id, status="ACTIVE", archived_at=None, deleted_at=None
    )
    await ctx.transaction.execute(
        sa.update(table_of(ApiKey)).where(KEY.workspace_id == workspace_id).values(revoked_at=None)
    )


@operation
async def _end_key(ctx: Context, *, key_id: str) -> None:
    await ctx.transaction.update_by_id(ApiKey, key_id, expires_at=ctx.now)


class _Builder:
    def __init__(self, house: House) -> None:
        self.house = house
        self.owner = house.tenant.owner

    async def user(self, name: str, site: Role | None = None) -> User:
        return await users.create_user(self.owner, name=name.replace(" ", "-"), role=site)

    async def join(self, user: User, role: Role) -> None:
        await members.add_member(
            self.owner, workspace_id=self.house.tenant.id, user_id=user.id, role=role
        )
        await members.add_member(
            self.owner, workspace_id=self.house.elsewhere.id, user_id=user.id, role=Role.VIEWER
        )

    async def add(self, caller: Caller, user: User | None, *, agent_id: str | None = None) -> None:
        here, elsewhere = self.house.tenant.id, self.house.elsewhere.id
        workspace_id = {"here": here, "elsewhere": elsewhere, None: None}[caller.bound]

        async def new_token() -> str:
            created = await tokens.create_token(
                self.owner,
                user_id=user.id if user else None,
                agent_id=agent_id,
                workspace_id=workspace_id,
                scopes=caller.scopes,
            )
            return created.secret or ""

        caller.new_token = new_token
        caller.token = await new_token()
        self.house.callers[caller.name] = caller


async def build_house(inside: Inside, folder: Path) -> House:
    """Make the workspaces, the people and their keys."""
    tenant = await make_tenant(inside, "Heron", folder)
    elsewhere = await workspaces.create_workspace(tenant.owner, name="Elsewhere")
    tenant.elsewhere = elsewhere.id
    house = House(inside, tenant, elsewhere)
    build = _Builder(house)
    await build.add(Caller("stranger"), await build.user("stranger"))
    for role in Role:
        word = role.value.lower()
        user = await build.user(word)
        await build.join(user, role)
        await build.add(Caller(word, here=role), user)
        site = await build.user(f"site {word}", role)
        await build.add(Caller(f"site {word}", site=role), site)
        if role == Role.ADMIN:
            await _add_keys(build, user, site)
    owner = Caller("owner", owner=True, site=Role.ADMIN)
    await build.add(owner, await users.get_user(tenant.owner, user_id=inside.owner_id))
    await build.add(Caller("agent", kind="agent", bound="here"), None, agent_id=tenant.ids["agent"])
    await _add_nobodies(build)
    await tenant.owner.release()
    return house


async def _add_keys(build: _Builder, admin: User, site_admin: User) -> None:
    for scope in ("task:read", "task:write", "run:execute", "admin", "*"):
        await build.add(Caller(f"key {scope}", here=Role.ADMIN, scopes=(scope,)), admin)
    for scope in ("task:read", "task:write"):
        name = f"site admin's key {scope}"
        await build.add(Caller(name, site=Role.ADMIN, scopes=(scope,)), site_admin)
    for bound in ("here", "elsewhere"):
        await build.add(Caller(f"key bound {bound}", here=Role.ADMIN, bound=bound), admin)
        name = f"site admin's key bound {bound}"
        await build.add(Caller(name, site=Role.ADMIN, bound=bound), site_admin)


async def _add_nobodies(build: _Builder) -> None:
    callers = build.house.callers
    callers["anonymous"] = Caller("anonymous", kind="nobody")
    callers["unknown key"] = Caller("unknown key", kind="ended", token="dgm_" + "x" * 43)
    ended = await build.user("ended", Role.ADMIN)
    for name in ("revoked key", "expired key", "inactive user"):
        await build.add(Caller(name, kind="ended", site=Role.ADMIN), ended)
    keys = await tokens.list_tokens(build.owner, user_id=ended.id)
    newest_first = [key.id for key in keys.nodes]
    await tokens.revoke_token(build.owner, key_id=newest_first[2])
    await _end_key(build.house.inside.system(), key_id=newest_first[1])
    await users.update_user(build.owner, user_id=ended.id, is_active=False)
