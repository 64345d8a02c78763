"""Search, look-up by id, and the executors of the server."""

from typing import Any

import strawberry

from models.enums import Executor
from resolvers import lookup
from schema.agent import Agent
from schema.context import GraphQLContext
from schema.story import Story
from schema.task import Task
from schema.workspace import Workspace


@strawberry.type(description="What a search found, of each kind the first few, newest first.")
class SearchResult:
    """See resolvers.lookup.search."""

    tasks: list[Task] = strawberry.field(
        description="By title, description or number.", metadata={"list_size": 20}
    )
    stories: list[Story] = strawberry.field(
        description="By title or description.", metadata={"list_size": 20}
    )
    agents: list[Agent] = strawberry.field(
        description="By name or activity.", metadata={"list_size": 20}
    )
    workspaces: list[Workspace] = strawberry.field(
        description="By name or description.", metadata={"list_size": 20}
    )


@strawberry.type(description="A program that tasks can be run with.")
class ExecutorInfo:
    """See resolvers.lookup.ExecutorFacts."""

    executor: Executor = strawberry.field(description="Its name.")
    is_available: bool = strawberry.field(description="Whether this server can run it.")
    is_default: bool = strawberry.field(description="Whether it is taken when none is named.")
    reason: str | None = strawberry.field(description="What is missing, if it is not available.")
    version: str | None = strawberry.field(
        description="What its program says of itself; null for programs that are not asked."
    )
    credential_configured: bool | None = strawberry.field(
        description="Whether a credential was found on the server; null where that is not known. "
        "True does not say that it is accepted."
    )


async def find_node(ctx: GraphQLContext, *, node_id: str) -> Any:
    """Anything by its id, or None."""
    return await lookup.find_entity(ctx, entity_id=node_id)


async def search_everything(
    ctx: GraphQLContext, *, query: str, workspace_id: str | None, first: int
) -> Any:
    """What a search found."""
    return await lookup.search(ctx, query=query, workspace_id=workspace_id, first=first)


async def executor_infos(ctx: GraphQLContext) -> Any:
    """The executors of the server."""
    return await lookup.list_executors(ctx)
