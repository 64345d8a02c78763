"""Pieces every aggregate uses: pages, mutation payloads, shared scalars and arguments."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Generic, TypeVar, cast

import strawberry
from strawberry.scalars import JSON

from models.event import SITE_STREAM
from resolvers.errors import NotFoundError, OperationError
from resolvers.event_queries import log_head
from resolvers.events import Position
from resolvers.idempotency import stamp_refusal
from resolvers.paging import Page, PageArguments
from resolvers.stamps import restore
from resolvers.validation import UNSET
from schema.context import GraphQLContext, Info
from subscriptions.cursor import encode_cursor

ABSENT = strawberry.UNSET
T = TypeVar("T")
R = TypeVar("R")

First = Annotated[
    int | None, strawberry.argument(description="How many, from the start: 0 to 100; 50 if absent.")
]
After = Annotated[
    str | None, strawberry.argument(description="Only what stands behind this cursor.")
]
Last = Annotated[int | None, strawberry.argument(description="How many, from the end: 0 to 100.")]
Before = Annotated[
    str | None, strawberry.argument(description="Only what stands in front of this cursor.")
]
INPUT = strawberry.argument(description="All that is given, in one object.")

PAGED: dict[str, Any] = {"page_size_arguments": ("first", "last")}
"""Metadata of a field that returns a page: its cost multiplies by the page size asked for."""


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    """Relay's PageInfo."""

    has_next_page: bool = strawberry.field(description="Whether there is more behind this page.")
    has_previous_page: bool = strawberry.field(
        description="Whether there is more in front of this page."
    )
    start_cursor: str | None = strawberry.field(description="Cursor of the first item.")
    end_cursor: str | None = strawberry.field(description="Cursor of the last item.")


@strawberry.type(description="An item of a page and its cursor.")
class Edge(Generic[T]):
    """Relay's Edge."""

    node: T = strawberry.field(description="The item.")
    cursor: str = strawberry.field(description="Its place in the list, for after and before.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[T]):
    """Relay's Connection, with ``nodes`` beside ``edges``."""

    page: strawberry.Private[Page[Any]]

    @strawberry.field(description="The items of this page.")
    def nodes(self) -> list[T]:
        return cast("list[T]", self.page.nodes)

    @strawberry.field(description="The items of this page with their cursors.")
    def edges(self) -> list[Edge[T]]:
        pairs = zip(self.page.nodes, self.page.cursors, strict=True)
        return [Edge(node=cast("T", node), cursor=cursor) for node, cursor in pairs]

    @strawberry.field(description="Where this page stands in the list.")
    def page_info(self) -> PageInfo:
        page = self.page
        return PageInfo(
            has_next_page=page.has_next_page,
            has_previous_page=page.has_previous_page,
            start_cursor=page.cursor(page.nodes[0]) if page.nodes else None,
            end_cursor=page.cursor(page.nodes[-1]) if page.nodes else None,
        )

    @strawberry.field(
        description="How many items the whole list has; counted only when asked for, and up to "
        "10,000 where the list is filtered (see totalCountExact).",
        metadata={"cost": 5},
    )
    async def total_count(self) -> int:
        return (await self.page.total())[0]

    @strawberry.field(
        description="Whether totalCount is exact, or the most that is counted.",
        metadata={"cost": 5},
    )
    async def total_count_exact(self) -> bool:
        return (await self.page.total())[1]


def page_arguments(
    first: int | None, after: str | None, last: int | None, before: str | None
) -> PageArguments:
    """The four arguments of a paged field."""
    return PageArguments(first=first, after=after, last=last, before=before)


def connection(page: Page[Any]) -> Any:
    """A page as the connection its field declares."""
    return Connection(page=page)


def connections(found: Iterable[Page[Any] | OperationError]) -> list[Any]:
    """The pages of siblings as connections; refusals stay what they are."""
    return [Connection(page=one) if isinstance(one, Page) else one for one in found]


def cursor_of(position: Position) -> str:
    """A place in an event log, as clients get it."""
    return encode_cursor(position.stream_id, epoch=position.epoch, seq=position.seq)


async def log_cursor(ctx: GraphQLContext, workspace_id: str | None) -> str:
    """The cursor for a payload: after the last commit made here, else the log's present head."""
    position = ctx.positions.get(workspace_id or SITE_STREAM)
    return cursor_of(position or await log_head(ctx, workspace_id=workspace_id))


async def or_none(found: Awaitable[R]) -> R | None:
    """What a look-up finds; None instead of NOT_FOUND, for root fields that may be null."""
    try:
        return await found
    except NotFoundError:
        return None


def mutate(info: Info, run: Callable[[GraphQLContext], Awaitable[R]]) -> Awaitable[R]:
    """Run a root mutation's operation once, however often its request is sent.

    With an idempotency key, a step that an earlier request stamped is not run again: its entity is
    read and rendered, or its refusal repeated.

    Args:
        info: of the root field.
        run: the operation.
    """
    ctx = info.context
    return _mutate_once(ctx, run) if ctx.is_idempotent else run(ctx)


async def _mutate_once(ctx: GraphQLContext, run: Callable[[GraphQLContext], Awaitable[R]]) -> R:
    request = await ctx.claim_idempotency()
    stamp = request.stamped()
    try:
        if stamp is not None:
            return cast("R", await _replay(ctx, stamp))
        try:
            return await run(ctx)
        except OperationError as error:
            if error.code not in {"UNAVAILABLE", "INTERNAL"}:
                await stamp_refusal(ctx, error=error)
            raise
    finally:
        request.step += 1


async def _replay(ctx: GraphQLContext, stamp: dict[str, Any]) -> Any:
    if (error := stamp.get("error")) is not None:
        refusal = OperationError(error["message"], **error["details"])
        refusal.code = error["code"]
        raise refusal
    ctx.positions.update({p[0]: Position(*p) for p in stamp["positions"]})
    return await restore(ctx, stamp["result"])


def given(value: Any) -> Any:
    """A GraphQL argument for an operation: an absent one is UNSET."""
    return UNSET if value is strawberry.UNSET else value


def fields_of(input_: Any, *, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The given fields of an input object by their Python names; enums by value."""
    return {
        name: value
        for name, value in vars(input_).items()
        if value is not ABSENT and name not in leave_out
    }


__all__ = [
    "INPUT",
    "JSON",
    "PAGED",
    "After",
    "Before",
    "Connection",
    "Edge",
    "First",
    "Last",
    "PageInfo",
    "connection",
    "connections",
    "cursor_of",
    "fields_of",
    "given",
    "log_cursor",
    "mutate",
    "or_none",
    "page_arguments",
]
