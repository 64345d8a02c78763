"""Routes of push tokens, and of the devices that show a task."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel

from models.enums import DevicePlatform
from resolvers.devices import register_device, unregister_device, unwatch_task, watch_task
from resolvers.errors import ForbiddenError, NotFoundError
from rest_compat.posthog import words
from rest_compat.posthog.errors import ActionRefused
from rest_compat.posthog.fields import choice, text, uuid
from rest_compat.posthog.reading import get_project_task
from rest_compat.posthog.shapes import ERRORS, Shape
from rest_compat.routing import Call, before_body, dialect_router, shaped

router = dialect_router(ERRORS)
PRESENCE = "/api/projects/{project_id}/tasks/{task_id}/presence"
TOKENS = "/api/users/@me/push_tokens"
TOKEN_LENGTH = 512
PLATFORMS = {platform.lower(): platform for platform in DevicePlatform}


class PresenceBody(BaseModel):
    """Which device shows the task."""

    device_id: Annotated[str, uuid()]


class MaybePresenceBody(BaseModel):
    """The same for DELETE, whose body some HTTP stacks drop: the query may say it instead."""

    device_id: Annotated[str | None, uuid(null=True)] = None


class TokenBody(BaseModel):
    """What a push service calls a device."""

    token: Annotated[str, text(max_length=TOKEN_LENGTH, blank=False)]
    platform: Annotated[str, choice(*PLATFORMS)]


class ForgottenTokenBody(BaseModel):
    """The token of a device to be forgotten."""

    token: Annotated[str, text(max_length=TOKEN_LENGTH, blank=False)]


class TokenShape(Shape):
    """A registered device; its token is not shown."""

    id: str
    platform: Literal["ios", "android", "web"]
    created_at: str
    last_seen_at: str


async def _find(call: Call, project_id: str, task_id: str) -> None:
    await get_project_task(call, project_id, task_id)


@router.post(PRESENCE, status_code=204)
@before_body(_find)
async def tasks_presence_create(
    call: Call, project_id: str, task_id: str, body: PresenceBody
) -> None:
    """Say that a device shows a task; it counts for 60 seconds."""
    _, task = await get_project_task(call, project_id, task_id)
    await _of_the_caller(watch_task(call.ctx, task_id=task.id, device_id=body.device_id))


@router.delete(PRESENCE, status_code=204)
@before_body(_find)
async def tasks_presence_destroy(
    call: Call, project_id: str, task_id: str, body: MaybePresenceBody
) -> None:
    """Say that a device shows a task no more; the device is named in the body or the query."""
    _, task = await get_project_task(call, project_id, task_id)
    device_id = body.device_id
    if device_id is None:
        device_id = shaped(PresenceBody, dict(call.query_params)).device_id
    await _of_the_caller(unwatch_task(call.ctx, task_id=task.id, device_id=device_id))


async def _of_the_caller(done: Any) -> None:
    try:
        await done
    except NotFoundError as error:
        if error.details["kind"] != "Device":
            raise
        detail = "device_id does not match a push token registered by the caller"
        body = {"type": "invalid_request", "code": "not_found", "detail": detail, "attr": None}
        raise ActionRefused(body, 404) from None


@router.post(TOKENS, response_model=TokenShape)
async def users_push_tokens_create(call: Call, body: TokenBody) -> Any:
    """Make a device known, or say that it is still in use."""
    device = await register_device(call.ctx, token=body.token, platform=PLATFORMS[body.platform])
    return {
        "id": device.id,
        "platform": device.platform.lower(),
        "created_at": words.moment(device.created_at),
        "last_seen_at": words.moment(device.last_seen_at),
    }


@router.post(TOKENS + "/unregister", status_code=204)
async def users_push_tokens_unregister(call: Call, body: ForgottenTokenBody) -> None:
    """Forget a device, known or not."""
    await unregister_device(call.ctx, token=body.token)


@router.post("/api/users/{user_id}/push_tokens", status_code=204)
@router.post(
    "/api/users/{user_id}/push_tokens/unregister",
    status_code=204, name="users_push_tokens_unregister_of_others",
)  # fmt: skip
async def users_push_tokens_of_others(call: Call, user_id: str) -> None:
    """Refused: one manages one's own."""
    del call, user_id
    raise ForbiddenError("Only your own push tokens can be managed: use @me")
