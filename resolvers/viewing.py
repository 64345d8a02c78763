"""What a principal may know about itself."""

from models.enums import Permission
from resolvers.context import Context
from resolvers.errors import ForbiddenError
from resolvers.users import is_site_admin


def site_permissions(ctx: Context) -> list[Permission]:
    """What the principal, with this key, may do beyond single workspaces."""
    return [permission for permission in Permission if _holds_on_site(ctx, permission)]


def _holds_on_site(ctx: Context, permission: Permission) -> bool:
    try:
        ctx.require_site(permission)
    except ForbiddenError:
        return False
    return True


def permissions_in(ctx: Context, workspace_id: str) -> list[Permission]:
    """What the principal, with this key, may do in a workspace; nothing where it is not visible."""
    principal = ctx.authenticated()
    granted = principal.role_in(workspace_id) or frozenset()
    return [p for p in Permission if p in granted and principal.scoped(p)]


def knows_details_of(ctx: Context, user_id: str) -> bool:
    """Whether a user's address, preferences, tier and log-ins may be shown to the principal."""
    if ctx.principal is None:
        return False
    return ctx.principal.user_id == user_id or is_site_admin(ctx)
