"""Stories, sprints, agents and bulk changes as GraphQL clients use them."""

from typing import Any

import pytest

from resolvers.event_queries import log_head
from resolvers.tasks import create_task
from schema.context import GraphQLContext
from schema.root import build_schema
from subscriptions.cursor import decode_cursor
from tests.resolvers.conftest import Board

SCHEMA = build_schema()


class Client:
    """Runs operations, each with a context of its own, as the front does."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.principal = board.context().principal
        self.statements = 0

    async def __call__(self, document: str, *, key: str | None = None, **variables: Any) -> Any:
        context = GraphQLContext(self.board.services, self.principal)
        context.idempotency_key, context.request_hash = key, "0" * 64 if key else None
        try:
            result = await SCHEMA.execute(
                document, variable_values=variables, context_value=context
            )
            self.statements = (await context.reader()).statements
        finally:
            await context.close()
        if result.errors:
            raise result.errors[0].original_error or result.errors[0]
        return result.data


@pytest.fixture
def client(board: Board) -> Client:
    return Client(board)


CREATE_STORY = """mutation ($input: CreateStoryInput!) { createStory(input: $input) {
  cursor story { id number title priority priorityLevel sprintNumber status
    totals { total done open points donePoints } tasks { nodes { title } } } } }"""


async def test_stories(client: Client, board: Board) -> None:
    for number in range(3):
        data = await client(
            CREATE_STORY,
            input={
                "workspaceId": board.id,
                "title": f"S{number}",
                "priority": "URGENT",
                "sprintNumber": 0,
                "createTask": number > 0,
            },
        )
    story = data["createStory"]["story"]
    assert (story["number"], story["priority"], story["priorityLevel"]) == (3, "URGENT", 4)
    assert story["totals"] == {"total": 1, "done": 0, "open": 1, "points": 0, "donePoints": 0}
    assert story["tasks"] == {"nodes": [{"title": "S2"}]}
    await client(
        """mutation ($w: ID!) { createSprint(input: {workspaceId: $w, status: ACTIVE}) {
             sprint { number } } }""",
        w=board.id,
    )

    page = """query ($w: ID!, $first: Int!) { stories(workspaceId: $w, first: $first,
        orderBy: NUMBER_ASC, filter: {sprintNumbers: [0]}) { totalCount
          nodes { title sprint { number status } workspace { name } totals { total } } }
        currentSprint(workspaceId: $w) { number totals { total } stories { totalCount } } }"""
    data = await client(page, w=board.id, first=1)
    for_one = client.statements
    data = await client(page, w=board.id, first=3)
    assert client.statements == for_one, "a longer page takes no more statements"
    assert [node["totals"]["total"] for node in data["stories"]["nodes"]] == [0, 1, 1]
    assert data["stories"]["nodes"][0]["sprint"] == {"number": 0, "status": "ACTIVE"}
    assert data["currentSprint"]["totals"] == {"total": 2}
    assert data["currentSprint"]["stories"] == {"totalCount": 3}

    update = """mutation ($input: UpdateStoryInput!) { updateStory(input: $input) {
      story { sprintNumber description version } } }"""
    kept = await client(update, input={"id": story["id"], "description": "d"})
    assert kept["updateStory"]["story"] == {"sprintNumber": 0, "description": "d", "version": 2}
    cleared = await client(update, input={"id": story["id"], "sprintNumber": None})
    assert cleared["updateStory"]["story"]["sprintNumber"] is None


async def test_a_repeated_deletion_answers_alike(client: Client, board: Board) -> None:
    data = await client(CREATE_STORY, input={"workspaceId": board.id, "title": "S"})
    story_id = data["createStory"]["story"]["id"]
    delete = "mutation ($id: ID!) { deleteStory(id: $id) { storyId cursor } }"
    first = await client(delete, id=story_id, key="k")
    await client(CREATE_STORY, input={"workspaceId": board.id, "title": "Another"})
    assert await client(delete, id=story_id, key="k") == first
    assert first["deleteStory"]["storyId"] == story_id
    gone = await client("query ($id: ID!) { story(id: $id) { id } }", id=story_id)
    assert gone == {"story": None}


async def test_sprints(client: Client, board: Board) -> None:
    create = """mutation ($input: CreateSprintInput!) { createSprint(input: $input) {
      cursor sprint { id number status } } }"""
    data = await client(create, input={"workspaceId": board.id, "goal": "g"})
    sprint = data["createSprint"]["sprint"]
    assert (sprint["number"], sprint["status"]) == (0, "PLANNING")
    data = await client(
        """mutation ($id: ID!) { a: advanceSprint(id: $id, to: ACTIVE) { sprint { status } }
             b: updateSprint(input: {id: $id, deadline: "soon"}) { sprint { goal deadline } }
             c: advanceSprint(id: $id, to: COMPLETED, force: true) {
               sprint { status completedAt } } }""",
        id=sprint["id"],
    )
    assert data["a"]["sprint"]["status"] == "ACTIVE"
    assert data["b"]["sprint"] == {"goal": "g", "deadline": "soon"}
    assert data["c"]["sprint"]["completedAt"]
    data = await client(
        """query ($w: ID!, $id: ID!) { sprints(workspaceId: $w, status: [COMPLETED]) {
             nodes { number tasks { totalCount } } } sprint(id: $id) { retroSummary } }""",
        w=board.id,
        id=sprint["id"],
    )
    assert data["sprints"]["nodes"] == [{"number": 0, "tasks": {"totalCount": 0}}]
    data = await client(
        "mutation ($id: ID!) { deleteSprint(id: $id) { sprintId } }", id=sprint["id"]
    )
    assert data["deleteSprint"]["sprintId"] == sprint["id"]


async def test_agents(client: Client, board: Board) -> None:
    create = """mutation ($input: CreateAgentInput!) { createAgent(input: $input) {
      agent { id name hasApiKey executor executionMode metadata command } } }"""
    data = await client(
        create,
        input={
            "workspaceId": board.id,
            "name": "a",
            "apiKey": "sk-1",
            "executor": "CODEX",
            "executionMode": "BYOK",
            "metadata": {"x": 1},
        },
    )
    agent = data["createAgent"]["agent"]
    assert agent["hasApiKey"] is True
    assert (agent["executor"], agent["metadata"]) == ("CODEX", {"x": 1})
    report = """mutation ($input: ReportAgentStatusInput!) { reportAgentStatus(input: $input) {
      cursor agent { status statusWord activity version lastSeenAt } } }"""
    heartbeat = {"workspaceId": board.id, "name": "a", "status": "running", "activity": "x"}
    first = (await client(report, input=heartbeat))["reportAgentStatus"]
    assert first["agent"]["status"] == "WORKING"
    again = (await client(report, input=heartbeat))["reportAgentStatus"]
    assert (again["cursor"], again["agent"]["version"]) == (first["cursor"], 2)
    bare = await client(report, input={"workspaceId": board.id, "name": "a"})
    assert bare["reportAgentStatus"]["agent"]["activity"] == "x"
    progress = """mutation ($input: ReportAgentProgressInput!) {
      reportAgentProgress(input: $input) { cursor progress { step agentName } } }"""
    for step in ("one", "two"):
        await client(progress, input={"workspaceId": board.id, "agentName": "a", "step": step})
    page = """query ($w: ID!, $first: Int!) { agents(workspaceId: $w, first: $first) {
      nodes { name latestProgress(first: 2) { step } workspace { id } } }
      agentProgress(workspaceId: $w, agentName: "a", first: 1) { step } }"""
    await client(report, input={"workspaceId": board.id, "name": "b"})
    await client(page, w=board.id, first=1)
    for_one = client.statements
    data = await client(page, w=board.id, first=10)
    assert client.statements == for_one
    assert [node["latestProgress"] for node in data["agents"]["nodes"]] == [
        [{"step": "two"}, {"step": "one"}],
        [],
    ]
    assert data["agentProgress"] == [{"step": "two"}]
    stalled = await client(
        """mutation ($w: ID!) { checkStalledAgents(workspaceId: $w) { cursor agents { name } } }""",
        w=board.id,
    )
    assert stalled["checkStalledAgents"]["agents"] == []
    gone = await client(
        "mutation ($id: ID!) { deleteAgent(id: $id) { agentId cursor } }", id=agent["id"]
    )
    assert gone["deleteAgent"]["agentId"] == agent["id"]
    written = SCHEMA.as_str()
    readable = written[written.index("type Agent ") : written.index("type AgentProgress ")]
    assert "apiKey" not in readable.replace("hasApiKey", "")


BULK = """mutation ($input: BulkUpdateTasksInput!) { bulkUpdateTasks(input: $input) { cursor
  results { taskId ok task { id labels } error { code message } } } }"""


async def test_bulk(client: Client, board: Board) -> None:
    dev = board.context()
    ids = [(await create_task(dev, workspace_id=board.id, title="T")).id for _ in range(3)]
    values = {
        "workspaceId": board.id,
        "taskIds": [*ids, "nonsense"],
        "action": "ADD_LABELS",
        "labels": ["x"],
    }
    data = await client(BULK, input=values, key="k")
    results = data["bulkUpdateTasks"]["results"]
    assert [item["ok"] for item in results] == [True, True, True, False]
    assert results[0]["task"] == {"id": ids[0], "labels": ["x"]}
    assert (results[3]["task"], results[3]["error"]["code"]) == (None, "NOT_FOUND")
    head = await log_head(dev, workspace_id=board.id)
    assert decode_cursor(data["bulkUpdateTasks"]["cursor"]) is not None
    await dev.release()
    again = await client(BULK, input=values, key="k")
    assert again == data
    assert (await log_head(dev, workspace_id=board.id)) == head
    statements = client.statements
    await client(BULK, input={**values, "taskIds": ids[:1]}, key="another")
    await client(BULK, input={**values, "taskIds": ids[:1]}, key="another")
    assert client.statements == statements, "three tasks take no more statements than one"
    gone = await client(BULK, input={**values, "taskIds": ids[:1], "action": "DELETE"})
    assert gone["bulkUpdateTasks"]["results"][0] == {
        "taskId": ids[0],
        "ok": True,
        "task": None,
        "error": None,
    }


async def test_small_changes_of_a_task(client: Client, board: Board) -> None:
    task = await create_task(board.context(), workspace_id=board.id, title="T")
    user = board.users["viewer"].id
    data = await client(
        """mutation ($id: ID!, $user: ID!) {
          a: assignTask(input: {id: $id, assigneeId: $user}) { task { assigneeId agentId } }
          b: labelTask(input: {id: $id, add: ["x", "y"], remove: ["z"]}) { task { labels } }
          c: addContextEntries(input: {taskId: $id, entries: [
               {path: "a.py", reason: "r", kind: "file"}, {path: "b", phase: CHECK}]}) {
               changed unchanged cursor task { contextEntries { path phase reason kind } } }
          d: removeContextEntries(input: {taskId: $id, paths: ["b", "c"], phases: [CHECK]}) {
               changed unchanged task { contextEntries { path } } }
          e: assignTask(input: {id: $id, assigneeId: null}) { cursor task { assigneeId } } }""",
        id=task.id,
        user=user,
    )
    assert data["a"]["task"] == {"assigneeId": user, "agentId": None}
    assert data["b"]["task"]["labels"] == ["x", "y"]
    assert (data["c"]["changed"], data["c"]["unchanged"]) == (2, 0)
    assert data["c"]["task"]["contextEntries"] == [
        {"path": "b", "phase": "CHECK", "reason": "", "kind": None},
        {"path": "a.py", "phase": "IMPLEMENT", "reason": "r", "kind": "file"},
    ]
    assert (data["d"]["changed"], data["d"]["unchanged"]) == (1, 1)
    assert data["d"]["task"]["contextEntries"] == [{"path": "a.py"}]
    assert data["e"]["task"]["assigneeId"] is None
