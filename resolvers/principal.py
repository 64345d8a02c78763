"""Who is asking, and what roles and scopes let them do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from models.enums import Dialect, Permission, Role, UserTier

ALL_PERMISSIONS = frozenset(Permission)
ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.DEVELOPER: frozenset({Permission.READ, Permission.WRITE, Permission.EXECUTE}),
    Role.MANAGER: frozenset(
        {Permission.READ, Permission.WRITE, Permission.EXECUTE, Permission.MANAGE_QUEUES}
    ),
    Role.ADMIN: ALL_PERMISSIONS,
}
AGENT_PERMISSIONS = frozenset({Permission.READ, Permission.WRITE})
"""What an agent's own key may do in its workspace: work on the board, not start other work."""

SCOPE_PERMISSIONS: dict[str, frozenset[Permission]] = {
    "task:read": frozenset({Permission.READ}),
    "task:write": frozenset({Permission.READ, Permission.WRITE}),
    "run:execute": frozenset({Permission.READ, Permission.EXECUTE}),
    "admin": ALL_PERMISSIONS,
    "*": ALL_PERMISSIONS,
}
SCOPES = tuple(SCOPE_PERMISSIONS)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller: a user, an agent, or the system itself.

    ``scopes`` limits a key (empty: no limit); ``workspace_id`` binds a key to one workspace;
    ``tier`` is the user's, for rate limits.
    """

    kind: str
    id: str | None
    name: str
    key_id: str | None = None
    role: Role | None = None
    is_site_owner: bool = False
    memberships: Mapping[str, Role] = field(default_factory=lambda: MappingProxyType({}))
    scopes: frozenset[str] = frozenset()
    workspace_id: str | None = None
    dialect: str | None = None
    tier: str = UserTier.STANDARD

    @property
    def user_id(self) -> str | None:
        """The user's id, or None for agents and the system."""
        return self.id if self.kind == "user" else None

    @property
    def key(self) -> str:
        """A short stable name of this principal, for locks, limits and idempotency."""
        return f"{self.kind}:{self.id or self.name}"

    @property
    def sees_all_workspaces(self) -> bool:
        """Whether no workspace is hidden from this principal."""
        return self.workspace_id is None and self._needs_no_membership

    @property
    def _needs_no_membership(self) -> bool:
        """Whether it sees what its key is for without being a member there."""
        if self.is_site_owner or self.role is not None:
            return True
        return self.kind == "system" if self.workspace_id is None else self.kind != "user"

    @property
    def readable_workspaces(self) -> frozenset[str] | None:
        """Ids of the workspaces this principal may see; None means all."""
        bound = None if self.workspace_id is None else frozenset({self.workspace_id})
        if self._needs_no_membership:
            return bound
        visible = frozenset(self.memberships)
        return visible if bound is None else visible & bound

    def _sees(self, workspace_id: str) -> bool:
        """Whether `readable_workspaces` has this one, found out without making that."""
        if self.workspace_id is not None and workspace_id != self.workspace_id:
            return False
        return self._needs_no_membership or workspace_id in self.memberships

    def role_in(self, workspace_id: str) -> frozenset[Permission] | None:
        """Permissions from roles alone; None where the workspace is not visible at all."""
        if not self._sees(workspace_id):
            return None
        if self.kind == "system" or self.is_site_owner:
            return ALL_PERMISSIONS
        if self.kind == "agent":
            return AGENT_PERMISSIONS
        granted: frozenset[Permission] = frozenset()
        for role in (self.role, self.memberships.get(workspace_id)):
            if role is not None:
                granted |= ROLE_PERMISSIONS[role]
        return granted

    def scoped(self, permission: Permission) -> bool:
        """Whether the key's scopes allow this permission."""
        if not self.scopes:
            return True
        if self.dialect == Dialect.POSTHOG and permission == Permission.EXECUTE:
            permission = Permission.WRITE  # that API starts runs under task:write
        return any(permission in SCOPE_PERMISSIONS.get(scope, ()) for scope in self.scopes)


SYSTEM = Principal(kind="system", id=None, name="system")
"""The server acting on its own account: sweeps, dispatch, recovery."""
