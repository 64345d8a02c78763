"""The roots: what the aggregates offer, put together."""

from typing import Annotated, Any

import strawberry
from strawberry.schema.config import StrawberryConfig

from resolvers.event_queries import list_events
from schema import enums
from schema.agent_mutations import AgentMutation, AgentQuery
from schema.bulk_mutations import BulkMutation
from schema.command import CommandMutation, CommandQuery
from schema.common import (
    PAGED,
    After,
    Before,
    Connection,
    First,
    Last,
    connection,
    page_arguments,
)
from schema.context import Info
from schema.device import DeviceMutation, DeviceQuery
from schema.event import Event
from schema.git_mutations import GitMutation, GitQuery
from schema.lookup import ExecutorInfo, SearchResult, executor_infos, find_node, search_everything
from schema.node import Node
from schema.phase_mutations import PhaseMutation
from schema.planning_mutations import (
    SprintMutation,
    SprintQuery,
    StoryMutation,
    StoryQuery,
)
from schema.queue import QueueMutation, QueueQuery
from schema.subscription import Subscription
from schema.task_mutations import TaskMutation, TaskQuery
from schema.user_mutations import UserMutation, UserQuery
from schema.webhook_mutations import WebhookMutation, WebhookQuery
from schema.workspace_mutations import WorkspaceMutation, WorkspaceQuery

__all__ = ["Mutation", "Query", "Subscription", "build_schema", "enums", "schema_config"]


@strawberry.type(description="Reading. Lists are pages of at most 100 items.")
class Query(
    WorkspaceQuery,
    UserQuery,
    TaskQuery,
    StoryQuery,
    SprintQuery,
    AgentQuery,
    WebhookQuery,
    DeviceQuery,
    GitQuery,
    QueueQuery,
    CommandQuery,
):
    """All root fields for reading."""

    @strawberry.field(description="What happened in a workspace or on the site.", metadata=PAGED)
    async def events(
        self,
        info: Info,
        workspace_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(description="Whose log; null is the site's, for its admins."),
        ] = None,
        entity_id: Annotated[
            strawberry.ID | None, strawberry.argument(description="Only about this thing.")
        ] = None,
        types: Annotated[
            list[str] | None, strawberry.argument(description="Only these types; up to 100.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Event]:
        page = await list_events(
            info.context,
            workspace_id=workspace_id,
            entity_id=entity_id,
            types=types,
            page=page_arguments(first, after, last, before),
        )
        return connection(page)

    @strawberry.field(
        description="Tasks, stories, agents and workspaces whose text has these words in it.",
        metadata={"cost": 20},
    )
    async def search(
        self,
        info: Info,
        query: Annotated[
            str, strawberry.argument(description="Words to look for, 1 to 500 characters.")
        ],
        workspace_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(description="Only in this workspace; absent: in all."),
        ] = None,
        first: Annotated[
            int, strawberry.argument(description="How many of each kind: 1 to 50.")
        ] = 20,
    ) -> SearchResult:
        return await search_everything(
            info.context, query=query, workspace_id=workspace_id, first=first
        )

    @strawberry.field(description="Anything by its id; null when there is none you may see.")
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="A UUID.")],
    ) -> Node | None:
        found: Any = await find_node(info.context, node_id=id)
        return found

    @strawberry.field(description="Programs this server can run tasks with.")
    async def executors(self, info: Info) -> list[ExecutorInfo]:
        found: list[ExecutorInfo] = await executor_infos(info.context)
        return found


@strawberry.type(description="Changing. Each field runs in one transaction, in order.")
class Mutation(
    WorkspaceMutation,
    UserMutation,
    TaskMutation,
    PhaseMutation,
    GitMutation,
    StoryMutation,
    SprintMutation,
    AgentMutation,
    BulkMutation,
    WebhookMutation,
    DeviceMutation,
    QueueMutation,
    CommandMutation,
):
    """All root fields for changing."""


def schema_config() -> StrawberryConfig:
    """How names are made."""
    return StrawberryConfig(auto_camel_case=True)


def build_schema() -> strawberry.Schema:
    """The bare schema, without limits: for its SDL and for tests."""
    return strawberry.Schema(
        query=Query, mutation=Mutation, subscription=Subscription, config=schema_config()
    )
