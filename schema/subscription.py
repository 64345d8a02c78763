"""Subscriptions: streams that can be resumed, and say so when they cannot."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

import strawberry

from models import Run
from models.enums import Permission
from models.event import SITE_STREAM
from resolvers.context import Context
from resolvers.errors import UnavailableError
from resolvers.event_queries import last_event_of, require_log
from resolvers.run_queries import get_run
from resolvers.task_access import get_task
from resolvers.workspaces import get_workspace
from schema.context import GraphQLContext, Info
from schema.event import Event
from schema.run import OutputLine
from subscriptions import stream_items, streams
from subscriptions.cursor import EARLIEST, LATEST, Cursor, encode_cursor, parse_position
from subscriptions.hub import Hub
from subscriptions.log import OutputLine as LoggedLine
from subscriptions.pages import EventItem
from subscriptions.ports import events_key

StreamAfter = Annotated[
    str | None,
    strawberry.argument(
        description="Go on after this cursor (of a query, a mutation or an earlier item); EARLIEST "
        "for everything there is; LATEST or absent: from now on."
    ),
]
RUN_ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})


@strawberry.type(description="Nothing in between was for this stream: resume from here.")
class Checkpoint:
    """Moves the cursor of a quiet stream."""

    cursor: str = strawberry.field(description="Where to resume from.")


@strawberry.type(
    description="What lies behind the cursor cannot be delivered: query again. The stream goes on "
    "from head."
)
class ResyncRequired:
    """Never a silent skip."""

    reason: str = strawberry.field(
        description="TRIMMED, WRONG_STREAM, EPOCH_CHANGED or AHEAD (of the log's head)."
    )
    floor: str = strawberry.field(description="The earliest cursor that can be resumed from.")
    head: str = strawberry.field(description="Where the stream goes on from.")


@strawberry.type(description="The last item of a stream.")
class StreamClosed:
    """Why a stream ended."""

    reason: str = strawberry.field(
        description="ENDED (nothing will follow), GOING_AWAY (resume in a moment), "
        "UNAVAILABLE (resume later), UNAUTHENTICATED, FORBIDDEN or NOT_FOUND."
    )
    cursor: str = strawberry.field(description="Where to resume from.")


EventStreamItem = Annotated[
    Event | Checkpoint | ResyncRequired | StreamClosed,
    strawberry.union("EventStreamItem", description="An item of a stream of events."),
]
OutputStreamItem = Annotated[
    OutputLine | Checkpoint | ResyncRequired | StreamClosed,
    strawberry.union("OutputStreamItem", description="An item of a stream of output lines."),
]


@strawberry.type(description="Streams. Nothing is lost, nothing comes twice.")
class Subscription:
    """See subscriptions.streams for what every stream promises."""

    @strawberry.subscription(description="What happens in a workspace, or (null) on the site.")
    async def events(
        self,
        info: Info,
        workspace_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(description="Whose log; null is the site's, for its admins."),
        ] = None,
        after: StreamAfter = None,
        types: Annotated[
            list[str] | None,
            strawberry.argument(description="Only these types, such as task.created; up to 100."),
        ] = None,
    ) -> AsyncGenerator[EventStreamItem, None]:
        wanted = None if types is None else frozenset(types[:100])
        where = None if wanted is None else lambda entry: entry.type in wanted
        async with aclosing(_events(info.context, workspace_id, after, where)) as items:
            async for item in items:
                yield item

    @strawberry.subscription(description="What happens to a task and its runs.")
    async def task(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The task's id.")],
        after: StreamAfter = None,
    ) -> AsyncGenerator[EventStreamItem, None]:
        found = await get_task(info.context, task_id=id)
        await info.context.release()

        def concerns(entry: Any) -> bool:
            return entry.entity_id == id or (
                entry.entity_type == "run" and entry.payload["run"].get("task_id") == id
            )

        async with aclosing(_events(info.context, found.workspace_id, after, concerns)) as items:
            async for item in items:
                yield item

    @strawberry.subscription(
        description="What happens to a run; ends with StreamClosed when the run does."
    )
    async def run(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The run's id.")],
        after: StreamAfter = None,
    ) -> AsyncGenerator[EventStreamItem, None]:
        found = await get_run(info.context, run_id=id)
        await info.context.release()
        if found.finished_at is not None and await _has_seen_the_end(info.context, found, after):
            yield StreamClosed(reason="ENDED", cursor=after or LATEST)
            return
        source = _events(
            info.context, found.workspace_id, after, lambda e: e.entity_id == id, ends=True
        )
        async with aclosing(source) as items:
            async for item in items:
                yield item
                if getattr(item, "type", None) in RUN_ENDS:
                    cursor = encode_cursor(item.stream_id, epoch=item.epoch, seq=item.seq)
                    yield StreamClosed(reason="ENDED", cursor=cursor)
                    return
                if isinstance(item, ResyncRequired) and found.finished_at is not None:
                    yield StreamClosed(reason="ENDED", cursor=item.head)
                    return

    @strawberry.subscription(
        description="A run's output, line by line; ends with StreamClosed when the run does."
    )
    async def run_output(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The run's id.")],
        after: StreamAfter = "EARLIEST",
    ) -> AsyncGenerator[OutputStreamItem, None]:
        ctx = info.context
        run = await get_run(ctx, run_id=id)
        await ctx.release()
        principal = ctx.authenticated()
        source = streams.run_output_stream(
            _hub(ctx),
            run_id=id,
            after=after,
            authorize=_authorizer(ctx, run.workspace_id),
            principal=principal.key,
            root=_output_item,
        )
        async with aclosing(source) as items:
            async for item in items:
                yield _output_item(item)

    @strawberry.subscription(description="What the agents of a workspace report.")
    async def agents(
        self,
        info: Info,
        workspace_id: Annotated[strawberry.ID, strawberry.argument(description="Whose agents.")],
        after: StreamAfter = None,
    ) -> AsyncGenerator[EventStreamItem, None]:
        def concerns(entry: Any) -> bool:
            return bool(entry.entity_type == "agent")

        async with aclosing(_events(info.context, workspace_id, after, concerns)) as items:
            async for item in items:
                yield item


def _hub(ctx: GraphQLContext) -> Hub:
    if ctx.hub is None:
        raise UnavailableError("This server serves no subscriptions", retry_after=None)
    return ctx.hub


def _authorizer(ctx: GraphQLContext, workspace_id: str | None) -> Any:
    """Asks again who the subscriber is and whether the log is theirs to read.

    That the workspace is still there is the same for all who may read its log: one looks for all.
    """

    async def authorize() -> float | None:
        principal = await ctx.current_principal()
        fresh = Context(ctx.services, principal, request_id=ctx.request_id)
        require_log(fresh, workspace_id)
        if workspace_id is None:
            return None

        async def look() -> None:
            try:
                await get_workspace(fresh, workspace_id=workspace_id, permission=Permission.READ)
            finally:
                await fresh.release()

        return await _hub(ctx).lately(events_key(workspace_id), look)

    return authorize


async def _events(
    ctx: GraphQLContext,
    workspace_id: str | None,
    after: str | None,
    where: Callable[[Any], bool] | None,
    *,
    ends: bool = False,
) -> AsyncGenerator[Any, None]:
    """The items of a log as the schema shows them.

    Args:
        ctx: whose log it has to be.
        workspace_id: None for the site's.
        after: as clients give it.
        where: only these events.
        ends: the caller looks at each item for the stream's end.
    """
    authorize = _authorizer(ctx, workspace_id)
    await authorize()
    source = streams.event_stream(
        _hub(ctx),
        stream_id=workspace_id or SITE_STREAM,
        after=after,
        authorize=authorize,
        where=where,
        principal=ctx.authenticated().key,
        root=None if ends else _item,
    )
    async with aclosing(source) as items:
        async for item in items:
            yield _item(item)


async def _has_seen_the_end(ctx: GraphQLContext, run: Run, after: str | None) -> bool:
    """Whether a position stands behind everything that happened to a finished run."""
    position = parse_position(after)
    if position == EARLIEST:
        return False
    last = await last_event_of(ctx, workspace_id=run.workspace_id, entity_id=run.id)
    await ctx.release()
    return not isinstance(position, Cursor) or position.seq >= last


def _item(item: Any) -> Any:
    match item:
        case EventItem():
            return item.event
        case stream_items.Checkpoint():
            return Checkpoint(cursor=item.cursor)
        case stream_items.ResyncRequired():
            return ResyncRequired(reason=item.reason, floor=item.floor, head=item.head)
        case stream_items.StreamClosed():
            return StreamClosed(reason=item.reason, cursor=item.cursor or LATEST)
    raise TypeError(f"a stream does not yield {type(item).__name__}")


def _output_item(item: Any) -> Any:
    if isinstance(item, EventItem) and isinstance(item.event, LoggedLine):
        entry = item.event.entry
        return OutputLine(
            run_id=item.event.run_id,
            line=item.event.seq,
            stream=entry["s"],
            text=entry["t"],
            at=datetime.fromisoformat(entry["at"]),
            event=entry.get("e"),
        )
    return _item(item)
