"""Reading the event log: its head, its floor, and pages of it."""

from collections.abc import Sequence

import sqlalchemy as sa

from models import Event, EventStream, Task, table_of
from models.enums import Permission
from models.event import SITE_STREAM
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import NotFoundError, OperationError
from resolvers.events import Position
from resolvers.loading import Columns, columns_to_read, with_columns
from resolvers.paging import Order, Page, PageArguments, read_page
from resolvers.siblings import Parents, in_workspaces, read_pages

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


async def events_of_workspaces(
    ctx: Context, workspace_ids: Sequence[str], *, page: PageArguments, columns: Columns = None
) -> list[Page[Event] | OperationError]:
    """The same page of the history of each workspace, newest first.

    A refusal stands where one is not visible.

    Raises:
        InvalidError: page arguments that cannot be accepted.
    """
    parents = Parents(workspace_ids, lambda parent: EVENT.stream_id == parent)
    return await _histories(ctx, workspace_ids, parents, page, columns)


async def events_of_tasks(
    ctx: Context, tasks: Sequence[Task], *, page: PageArguments, columns: Columns = None
) -> list[Page[Event] | OperationError]:
    """The same for tasks that were read as visible ones."""
    streams = [task.workspace_id for task in tasks]
    parents = Parents(
        [task.id for task in tasks],
        lambda task_id: sa.and_(EVENT.stream_id.in_(set(streams)), EVENT.entity_id == task_id),
    )
    return await _histories(ctx, streams, parents, page, columns)


async def _histories(
    ctx: Context,
    workspace_ids: Sequence[str],
    parents: Parents,
    page: PageArguments,
    columns: Columns,
) -> list[Page[Event] | OperationError]:
    names = with_columns(Event, columns, "seq", "entity_type")

    async def read(allowed: list[tuple[str, str]]) -> list[Page[Event]]:
        own = Parents([parent_id for _, parent_id in allowed], parents.belongs)
        statement = sa.select(*columns_to_read(Event, names))
        order = [Order(EVENT.seq, True)]
        return await read_pages(ctx, Event, statement, own, order=order, page=page, columns=names)

    siblings = list(zip(workspace_ids, parents.ids, strict=True))
    return await in_workspaces(ctx, siblings, lambda one: one[0], read)
