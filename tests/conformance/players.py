"""The same moves on a board, spoken in GraphQL and in each REST language.

A player says which moves its language has; GraphQL has them all.
"""

from typing import Any, Protocol

from tests.support.inside import Inside
from tests.support.rest import RestClient

Ids = dict[str, str]
"""The language's own ids of tasks by the titles they were added with."""


class Player(Protocol):
    """One board, and moves on it."""

    can: frozenset[str]
    workspace: str
    """The board's canonical id."""

    async def open(self, name: str) -> None:
        """Make the board."""

    async def play(self, move: str, title: str, *words: str) -> None:
        """Make one move with the task that was added under this title."""


class GraphQLPlayer:
    can = frozenset({"add", "rename", "describe", "queue", "review", "finish", "reset", "delete"})

    def __init__(self, inside: Inside) -> None:
        self.inside = inside
        self.workspace = ""
        self.ids: Ids = {}

    async def ask(self, query: str, **variables: Any) -> Any:
        return (await self.inside.post(query, variables, token=self.inside.token)).data

    async def open(self, name: str) -> None:
        made = await self.ask(
            "mutation ($input: CreateWorkspaceInput!) "
            "{ createWorkspace(input: $input) { workspace { id } } }",
            input={"name": name, "repositoryUrl": "https://git.example.org/site.git"},
        )
        self.workspace = made["createWorkspace"]["workspace"]["id"]

    async def play(self, move: str, title: str, *words: str) -> None:
        if move == "add":
            given = {"workspaceId": self.workspace, "title": title, "description": words[0]}
            made = await self.ask(
                "mutation ($input: CreateTaskInput!) { createTask(input: $input) { task { id } } }",
                input=given,
            )
            self.ids[title] = made["createTask"]["task"]["id"]
            return
        task = self.ids[title]
        if move == "delete":
            await self.ask("mutation ($id: ID!) { deleteTask(id: $id, force: true) { cursor } }",
                           id=task)  # fmt: skip
        elif move in {"rename", "describe"}:
            field = "title" if move == "rename" else "description"
            await self.ask(
                "mutation ($input: UpdateTaskInput!) { updateTask(input: $input) { cursor } }",
                input={"id": task, field: words[0]},
            )
        else:
            columns = {"queue": "QUEUED", "review": "REVIEW", "finish": "COMPLETED",
                       "reset": "BACKLOG"}  # fmt: skip
            await self.ask(
                "mutation ($input: MoveTaskInput!) { moveTask(input: $input) { cursor } }",
                input={"id": task, "status": columns[move]},
            )


class VibanPlayer:
    can = GraphQLPlayer.can
    words = {"queue": "inprogress", "review": "inreview", "finish": "done", "reset": "todo"}  # noqa: RUF012

    def __init__(self, inside: Inside, client: RestClient) -> None:
        self.inside = inside
        self.client = client
        self.workspace = ""
        self.project = ""
        self.ids: Ids = {}

    async def open(self, name: str) -> None:
        body = {"name": name, "repository_url": "https://git.example.org/site.git"}
        made = await self.client.data("POST", "/api/v1/projects", body, status=201)
        self.project = made["data"]["id"]
        self.workspace = await newest_workspace(self.inside)

    async def play(self, move: str, title: str, *words: str) -> None:
        if move == "add":
            body = {"title": title, "description": words[0]}
            path = f"/api/v1/projects/{self.project}/tasks"
            made = await self.client.data("POST", path, body, status=201)
            self.ids[title] = made["data"]["id"]
            return
        path = f"/api/v1/tasks/{self.ids[title]}"
        if move == "delete":
            await self.client.data("DELETE", path, status=204)
        elif move in {"rename", "describe"}:
            field = "title" if move == "rename" else "description"
            await self.client.data("PATCH", path, {field: words[0]})
        else:
            await self.client.data("PATCH", path, {"status": self.words[move]})


class PostHogPlayer:
    can = frozenset({"add", "rename", "describe", "delete"})

    def __init__(self, inside: Inside, client: RestClient) -> None:
        self.inside = inside
        self.client = client
        self.workspace = ""
        self.tasks = ""
        self.ids: Ids = {}

    async def open(self, name: str) -> None:
        made = await self.inside.post(
            "mutation ($input: CreateWorkspaceInput!) "
            "{ createWorkspace(input: $input) { workspace { id number } } }",
            {"input": {"name": name, "repositoryUrl": "https://git.example.org/site.git"}},
            token=self.inside.token,
        )
        workspace = made.data["createWorkspace"]["workspace"]
        self.workspace = workspace["id"]
        self.tasks = f"/api/projects/{workspace['number']}/tasks"

    async def play(self, move: str, title: str, *words: str) -> None:
        if move == "add":
            body = {"title": title, "description": words[0]}
            made = await self.client.data("POST", self.tasks, body, status=201)
            self.ids[title] = made["id"]
            return
        path = f"{self.tasks}/{self.ids[title]}"
        if move == "delete":
            await self.client.data("DELETE", path, status=204)
        else:
            field = "title" if move == "rename" else "description"
            await self.client.data("PATCH", path, {field: words[0]})


REST_PLAYERS = {"viban": VibanPlayer, "posthog": PostHogPlayer}


async def newest_workspace(inside: Inside) -> str:
    answer = await inside.post(
        "{ workspaces(first: 1, orderBy: CREATED_AT_DESC) { nodes { id } } }", token=inside.token
    )
    return str(answer.data["workspaces"]["nodes"][0]["id"])
