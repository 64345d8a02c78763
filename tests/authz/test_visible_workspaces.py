"""What a principal may see is told the same way for one workspace and for all."""

from itertools import product

import pytest

from models.enums import Role
from resolvers.principal import Principal

HERE, THERE = "here", "there"


@pytest.mark.parametrize("kind", ["user", "agent", "system"])
def test_a_role_is_held_in_visible_workspaces_alone(kind: str) -> None:
    """Whatever else a principal is: site owner, of a role, a member, or bound to a workspace."""
    for is_owner, role, memberships, bound in product(
        (False, True), (None, Role.VIEWER), ({}, {HERE: Role.ADMIN}), (None, HERE, THERE)
    ):
        principal = Principal(
            kind=kind,
            id="id",
            name="name",
            role=role,
            is_site_owner=is_owner,
            memberships=memberships,
            workspace_id=bound,
        )
        visible = principal.readable_workspaces
        for workspace_id in (HERE, THERE):
            is_visible = visible is None or workspace_id in visible
            assert (principal.role_in(workspace_id) is not None) == is_visible, principal
