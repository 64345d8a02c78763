"""Reading the event log: its head, its floor, and pages of it."""

import sqlalchemy as sa

from models import Event, EventStream, table_of
from models.enums import Permission
from models.event import SITE_STREAM
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import NotFoundError
from resolvers.events import Position
from resolvers.paging import Order, Page, PageArguments, read_page

EVENT = table_of(Event).c
STREAM = table_of(EventStream).c


async def log_head(ctx: Context, *, workspace_id: str | None) -> Position:
    """The head of a log, from the same snapshot as everything else that is read here.

    Raises:
        NotFoundError: there is no such log.
    """
    stream_id = workspace_id or SITE_STREAM
    row = await (await ctx.reader()).first(
        sa.select(STREAM.epoch, STREAM.seq).where(STREAM.id == stream_id)
    )
    if row is None:
        raise NotFoundError("Workspace")
    return Position(stream_id, row.epoch, row.seq)


async def last_event_of(ctx: Context, *, workspace_id: str, entity_id: str) -> int:
    """The number of the newest event about an entity; 0 when there is none any more."""
    found = await (await ctx.reader()).scalar(
        sa.select(sa.func.max(EVENT.seq)).where(
            EVENT.stream_id == workspace_id, EVENT.entity_id == entity_id
        )
    )
    return int(found or 0)


def require_log(ctx: Context, workspace_id: str | None) -> None:
    """Make sure the principal may read a workspace's log, or the site's (site admins only)."""
    if workspace_id is None:
        ctx.require_site(Permission.ADMIN)
        return
    ctx.require(Permission.READ, workspace_id)
    if not check.is_id(workspace_id):  # such as "site": to who sees all, any text is a workspace
        raise NotFoundError("Workspace")


async def list_events(
    ctx: Context,
    *,
    workspace_id: str | None,
    entity_id: str | None = None,
    types: list[str] | None = None,
    newest_first: bool = True,
    page: PageArguments | None = None,
) -> Page[Event]:
    """The history of a workspace (None: of the site), of one entity in it, or of some types."""
    require_log(ctx, workspace_id)
    await log_head(ctx, workspace_id=workspace_id)
    statement = select_all(Event).where(EVENT.stream_id == (workspace_id or SITE_STREAM))
    if entity_id is not None:
        check.text(entity_id, field="entityId", maximum=80)
        statement = statement.where(EVENT.entity_id == entity_id)
    if types is not None:
        wanted = check.lines(types, field="types", maximum_items=ctx.limits.list_items, maximum=40)
        statement = statement.where(EVENT.type.in_(wanted))
    order = [Order(EVENT.seq, newest_first)]
    return await read_page(ctx, Event, statement, order=order, page=page or PageArguments())
