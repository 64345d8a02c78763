"""Viban's routes of webhooks."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from models import Webhook, Workspace
from models.enums import Dialect, Permission
from resolvers.errors import NotFoundError
from resolvers.paging import PageArguments
from resolvers.public_ids import webhook_id_of
from resolvers.webhooks import create_webhook, delete_webhook, get_webhook, list_webhooks
from resolvers.workspace_queries import get_workspace_by_number
from rest_compat.routing import Call, before_body, dialect_router
from rest_compat.viban import shapes
from rest_compat.viban.routes import ERRORS

PREFIX = "whk_"
ADDRESS_LENGTH = 2048
SECRET_LENGTH = 255

router = dialect_router()


class NewWebhook(BaseModel):
    """An address that wants to be told."""

    model_config = ConfigDict(extra="ignore", strict=True)

    url: Annotated[str, Field(min_length=1, max_length=ADDRESS_LENGTH)]
    events: Annotated[list[shapes.EventWord], Field(min_length=1)]
    secret: Annotated[str, Field(min_length=1, max_length=SECRET_LENGTH)] | None = None


class WebhookShown(BaseModel):
    """A webhook; its secret is never shown."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(pattern="^whk_[a-z0-9]{12}$")]
    project_id: shapes.ProjectId
    url: str
    events: list[shapes.EventWord]
    active: bool
    created_at: shapes.Moment


class WebhookAnswer(BaseModel):
    """One webhook."""

    model_config = ConfigDict(extra="forbid", strict=True)

    data: WebhookShown


class WebhooksAnswer(BaseModel):
    """The webhooks of a project, oldest first."""

    model_config = ConfigDict(extra="forbid", strict=True)

    data: list[WebhookShown]


def webhook(record: Webhook, project: str) -> dict[str, Any]:
    """A webhook of the project with this id."""
    return {
        "id": PREFIX + record.public_id,
        "project_id": project,
        "url": record.url,
        "events": record.event_types,
        "active": record.is_active,
        "created_at": shapes.moment(record.created_at),
    }


async def _project(call: Call, project_id: str) -> Workspace:
    return await get_workspace_by_number(
        call.ctx, number=shapes.number_of(project_id), permission=Permission.WRITE
    )


@router.post(
    "/api/v1/projects/{project_id}/webhooks",
    response_model=WebhookAnswer, responses=ERRORS, status_code=201,
)  # fmt: skip
@before_body(_project)
async def create_project_webhook(call: Call, project_id: str, body: NewWebhook) -> Any:
    """Have events of a project delivered from now on."""
    workspace = await _project(call, project_id)
    shown = await create_webhook(
        call.ctx,
        workspace_id=workspace.id,
        url=body.url,
        event_types=body.events,
        dialect=Dialect.VIBAN,
        secret=body.secret,
    )
    return {"data": webhook(shown.webhook, shapes.project_id(workspace.number))}


@router.get(
    "/api/v1/projects/{project_id}/webhooks", response_model=WebhooksAnswer, responses=ERRORS
)
async def list_project_webhooks(call: Call, project_id: str) -> Any:
    """The webhooks of a project, oldest first."""
    workspace = await _project(call, project_id)
    page = await list_webhooks(
        call.ctx,
        workspace_id=workspace.id,
        dialect=Dialect.VIBAN,
        page=PageArguments(first=call.ctx.limits.webhooks_per_workspace),
    )
    shown = shapes.project_id(workspace.number)
    return {"data": [webhook(found, shown) for found in page.nodes]}


@router.delete("/api/v1/webhooks/{webhook_id}", responses=ERRORS, status_code=204)
async def remove_webhook(call: Call, webhook_id: str) -> None:
    """Drop a webhook; nothing more is sent."""
    if not webhook_id.startswith(PREFIX):
        raise NotFoundError("Webhook")
    found = await webhook_id_of(call.ctx, webhook_id.removeprefix(PREFIX))
    if (await get_webhook(call.ctx, webhook_id=found)).dialect != Dialect.VIBAN:
        raise NotFoundError("Webhook")
    await delete_webhook(call.ctx, webhook_id=found)
