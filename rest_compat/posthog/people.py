"""Routes beside tasks that clients ask: who am I, and which reports belong to a task."""

from typing import Any

from resolvers.users import get_user
from rest_compat.posthog.reading import get_project
from rest_compat.posthog.shapes import ERRORS, Shape, UserShape, user_json
from rest_compat.routing import Call, dialect_router

router = dialect_router(ERRORS)


class ReportsShape(Shape):
    """Signal reports; this server has none."""

    results: list[dict[str, str]]


@router.get("/api/users/@me", response_model=UserShape)
async def users_me(call: Call) -> Any:
    """The caller; an agent's key is shown as a user of the agent's name."""
    principal = call.ctx.authenticated()
    if principal.user_id is not None:
        user = await get_user(call.ctx, user_id=principal.user_id)
        return user_json(user, with_email=True)
    return {
        "id": 0,
        "uuid": principal.id,
        "distinct_id": principal.id,
        "first_name": principal.name,
        "last_name": "",
        "email": "",
        "is_email_verified": None,
        "hedgehog_config": None,
        "role_at_organization": None,
    }


@router.get("/api/projects/{project_id}/signals/reports", response_model=ReportsShape)
async def signals_reports_list(call: Call, project_id: str) -> Any:
    """Reports of a task; this server makes none."""
    await get_project(call, project_id)
    return {"results": []}
