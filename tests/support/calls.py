"""For every root field a call that succeeds for somebody who may make it: its variables.

A call makes what it needs afresh, so that it can be made again and again. A field may have more
than one call; the others' names go on after a colon.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from models.enums import Role, TaskStatus
from resolvers import members
from resolvers.devices import register_device
from tests.support.tenants import PASSWORD, Tenant

Variables = dict[str, Any]
Call = Callable[[Tenant], Awaitable[Variables]]


def _constant(make: Callable[[Tenant], Variables]) -> Call:
    async def call(tenant: Tenant) -> Variables:
        return make(tenant)

    return call


def _known(kind: str) -> Call:
    """The id of one of the things a tenant was made with."""
    return _constant(lambda t: {"id": t.ids[kind]})


def _task(status: TaskStatus = TaskStatus.BACKLOG, **further: Any) -> Call:
    """The id of a new task in a status."""

    async def call(tenant: Tenant) -> Variables:
        return {"id": await tenant.task(status), **further}

    return call


def _new(make: Callable[[Tenant], Awaitable[str]], **further: Any) -> Call:
    """The id of something new."""

    async def call(tenant: Tenant) -> Variables:
        return {"id": await make(tenant), **further}

    return call


def _input(make: Callable[[Tenant], Variables]) -> Call:
    return _constant(lambda t: {"input": make(t)})


def _input_with(name: str, make: Callable[[Tenant], Awaitable[str]], **further: Any) -> Call:
    """An input object about something new."""

    async def call(tenant: Tenant) -> Variables:
        return {"input": {name: await make(tenant), **further}}

    return call


async def _a_task(tenant: Tenant) -> str:
    return await tenant.task()


async def _an_agent(tenant: Tenant) -> str:
    return (await tenant.new_agent()).id


async def _a_user(tenant: Tenant) -> str:
    return (await tenant.new_member()).id


async def _add_member(tenant: Tenant) -> Variables:
    # One can add only whom one knows of: where there is another workspace, somebody from there.
    user = await tenant.new_user()
    if tenant.elsewhere is not None:
        await members.add_member(
            tenant.owner, workspace_id=tenant.elsewhere, user_id=user.id, role=Role.VIEWER
        )
    return {"input": {"workspaceId": tenant.id, "userId": user.id, "role": Role.VIEWER}}


async def _update_member(tenant: Tenant) -> Variables:
    user = await tenant.new_member()
    return {"input": {"workspaceId": tenant.id, "userId": user.id, "role": Role.DEVELOPER}}


async def _remove_member(tenant: Tenant) -> Variables:
    user = await tenant.new_member()
    return {"workspaceId": tenant.id, "userId": user.id}


async def _delete_workspace(tenant: Tenant) -> Variables:
    return {"id": tenant.id, "force": True}


async def _change_password(tenant: Tenant) -> Variables:
    return {"input": {"newPassword": "another password", "userId": await _a_user(tenant)}}


async def _revoke_token(tenant: Tenant) -> Variables:
    created = await tenant.token(await tenant.new_user())
    return {"id": created.key.id}


async def _remove_context(tenant: Tenant) -> Variables:
    return {"input": {"taskId": tenant.ids["task"], "paths": ["nothing.md"]}}


async def _bulk(tenant: Tenant) -> Variables:
    ids = [await tenant.task(), await tenant.task()]
    return {
        "input": {
            "workspaceId": tenant.id,
            "taskIds": ids,
            "action": "ADD_LABELS",
            "labels": [tenant.word("label")],
        }
    }


async def _move(tenant: Tenant) -> Variables:
    return {
        "input": {
            "id": await tenant.task(),
            "status": "REVIEW",
            "beforeId": tenant.ids["task"],
            "reason": tenant.text("reason"),
        }
    }


async def _create_webhook(tenant: Tenant) -> Variables:
    await tenant.webhook()  # of many, old ones make room
    wanted = {"url": "https://9.9.9.9/hook", "eventTypes": ["task.created"]}
    return {"input": {"workspaceId": tenant.id, **wanted, "description": tenant.text()}}


async def _watch(tenant: Tenant) -> Variables:
    device = await register_device(tenant.owner, token=tenant.word("device"), platform="IOS")
    return {"taskId": tenant.ids["task"], "deviceId": device.id, "ttlSeconds": 60}


async def _redeliver(tenant: Tenant) -> Variables:
    return {"deliveryId": await tenant.delivery()}


def _agent_name(tenant: Tenant) -> str:
    assert tenant.agent is not None
    return tenant.agent.name


CALLS: dict[str, Call] = {
    "Query.workspace": _known("workspace"),
    "Query.workspace:slug": _constant(lambda t: {"slug": t.workspace.slug}),
    "Query.workspace:number": _constant(lambda t: {"number": t.workspace.number}),
    "Query.workspaces": _constant(lambda _: {"orderBy": "NAME_ASC"}),
    "Query.viewer": _constant(lambda _: {}),
    "Query.user": _known("user viewer"),
    "Query.users": _constant(lambda _: {"orderBy": "NAME_ASC"}),
    "Query.tokens": _constant(lambda t: {"userId": t.ids["user viewer"], "includeEnded": False}),
    "Query.tokens:own": _constant(lambda _: {"includeEnded": True}),
    "Query.tokens:agent": _constant(lambda t: {"agentId": t.ids["agent"], "includeEnded": False}),
    "Query.task": _known("task"),
    "Query.tasks": _constant(lambda t: {"workspaceId": t.id, "orderBy": "NUMBER_ASC"}),
    "Query.tasks:all": _constant(lambda _: {"orderBy": "CREATED_AT_ASC"}),
    "Query.run": _known("run finished"),
    "Query.runs": _constant(lambda t: {"workspaceId": t.id}),
    "Query.runs:all": _constant(lambda _: {}),
    "Query.taskDiff": _known("task in review"),
    "Query.gitAccess": _constant(lambda t: {"workspaceId": t.id}),
    "Query.story": _known("story"),
    "Query.stories": _constant(lambda t: {"workspaceId": t.id, "orderBy": "NUMBER_ASC"}),
    "Query.sprint": _known("sprint"),
    "Query.currentSprint": _constant(lambda t: {"workspaceId": t.id}),
    "Query.sprints": _constant(lambda t: {"workspaceId": t.id}),
    "Query.agent": _known("agent"),
    "Query.agents": _constant(lambda t: {"workspaceId": t.id}),
    "Query.agentProgress": _constant(
        lambda t: {"workspaceId": t.id, "agentName": _agent_name(t), "first": 5}
    ),
    "Query.events": _constant(lambda t: {"workspaceId": t.id}),
    "Query.events:site": _constant(lambda _: {}),
    "Query.search": _constant(
        lambda t: {"query": t.marker.lower(), "workspaceId": t.id, "first": 5}
    ),
    "Query.search:all": _constant(lambda t: {"query": t.marker, "first": 5}),
    "Query.node": _known("task"),
    "Query.executors": _constant(lambda _: {}),
    "Mutation.createWorkspace": _input(lambda t: {"name": t.text("workspace")}),
    "Mutation.updateWorkspace": _input(lambda t: {"id": t.id, "description": t.text()}),
    "Mutation.updateWorkspace:steering": _input(
        lambda t: {"id": t.id, "maxConcurrent": 5 + next(t.numbers) % 50}
    ),
    "Mutation.archiveWorkspace": _constant(lambda t: {"id": t.id, "archived": True}),
    "Mutation.setWorkspaceStatus": _constant(lambda t: {"id": t.id, "status": "COMPLETED"}),
    "Mutation.deleteWorkspace": _delete_workspace,
    "Mutation.addMember": _add_member,
    "Mutation.updateMember": _update_member,
    "Mutation.removeMember": _remove_member,
    "Mutation.createRepository": _input(
        lambda t: {"workspaceId": t.id, "name": t.word(), "description": t.text()}
    ),
    "Mutation.updateRepository": _input_with("id", Tenant.new_repository, description="changed"),
    "Mutation.deleteRepository": _new(Tenant.new_repository),
    "Mutation.createUser": _input(lambda t: {"name": t.word("user"), "kind": "PERSON"}),
    "Mutation.updateUser": _input_with("id", _a_user, fullName="Changed"),
    "Mutation.setPreferences": _input_with("userId", _a_user, preferences={"theme": "dark"}),
    "Mutation.setPreferences:own": _input(lambda t: {"preferences": {"n": next(t.numbers)}}),
    "Mutation.changePassword": _change_password,
    "Mutation.createToken": _input_with("userId", _a_user, scopes=["task:read"]),
    "Mutation.createToken:own": _input(
        lambda t: {"name": t.text("key"), "scopes": ["task:read"], "expiresIn": 3600}
    ),
    "Mutation.createToken:agent": _input_with("agentId", _an_agent, scopes=["task:read"]),
    "Mutation.revokeToken": _revoke_token,
    "Mutation.logIn": _input(lambda t: {"name": t.users["viewer"].name, "password": PASSWORD}),
    "Mutation.logOut": _constant(lambda _: {}),
    "Mutation.setGitAccess": _input(
        lambda t: {
            "workspaceId": t.id,
            "host": "git.example.org",
            "username": t.word("git"),
            "secret": t.word("secret"),
        }
    ),
    "Mutation.cleanWorktrees": _input(lambda t: {"workspaceId": t.id}),
    "Mutation.cleanWorktrees:force": _input(lambda t: {"workspaceId": t.id, "force": True}),
    "Mutation.removeGitAccess": _constant(
        lambda t: {"workspaceId": t.id, "host": "git.example.org"}
    ),
    "Mutation.setWorktreeSetup": _input(
        lambda t: {"workspaceId": t.id, "copy": [f"{t.word()}.env"], "commands": [["true"]]}
    ),
    "Mutation.createTask": _input(
        lambda t: {"workspaceId": t.id, "title": t.text("task"), "status": "BACKLOG"}
    ),
    "Mutation.updateTask": _input_with("id", _a_task, notes="changed"),
    "Mutation.moveTask": _move,
    "Mutation.enqueueTask": _task(),
    "Mutation.dequeueTask": _task(TaskStatus.QUEUED),
    "Mutation.pauseTask": _task(TaskStatus.QUEUED),
    "Mutation.resumeTask": _task(TaskStatus.PAUSED),
    "Mutation.approveTask": _task(TaskStatus.REVIEW, merge=False),
    "Mutation.createPullRequest": _input_with("taskId", Tenant.task_with_branch),
    "Mutation.rejectTask": _task(TaskStatus.REVIEW),
    "Mutation.retryTask": _task(TaskStatus.FAILED),
    "Mutation.cancelTask": _task(),
    "Mutation.finishTask": _task(),
    "Mutation.blockTask": _task(),
    "Mutation.unblockTask": _task(TaskStatus.BLOCKED),
    "Mutation.setTaskDependencies": _task(dependsOn=[]),
    "Mutation.archiveTask": _task(archived=True),
    "Mutation.deleteTask": _task(force=True, discard=False),
    "Mutation.deleteTask:discard": _task(force=False, discard=True),
    "Mutation.startRun": _input_with("taskId", _a_task),
    "Mutation.startPhase": _input_with("taskId", _a_task, phase="PLAN"),
    "Mutation.refineTask": _input_with("taskId", _a_task),
    "Mutation.stopRun": _new(Tenant.queued_run),
    "Mutation.retryRun": _new(Tenant.failed_run),
    "Query.queues": _constant(lambda t: {"workspaceId": t.id}),
    "Query.queues:all": _constant(lambda _: {}),
    "Query.queueReport": _constant(lambda t: {"workspaceId": t.id, "period": "HOUR"}),
    "Query.queueReport:all": _constant(lambda _: {"period": "DAY"}),
    "Query.checkCommand": _constant(
        lambda t: {"workspaceId": t.id, "command": "ls -l", "checkSafety": True}
    ),
    "Query.commands": _constant(lambda t: {"workspaceId": t.id, "everyone": False}),
    "Query.commands:everyone": _constant(lambda t: {"workspaceId": t.id, "everyone": True}),
    "Query.commandSuggestions": _constant(lambda t: {"workspaceId": t.id}),
    "Mutation.runCommand": _input(lambda t: {"workspaceId": t.id, "command": "true"}),
    "Query.queuedRuns": _constant(lambda t: {"workspaceId": t.id}),
    "Mutation.pauseQueue": _constant(lambda t: {"workspaceId": t.id, "queue": "LOW"}),
    "Mutation.resumeQueue": _constant(lambda t: {"workspaceId": t.id, "queue": "LOW"}),
    "Mutation.clearQueue": _constant(lambda t: {"workspaceId": t.id, "queue": "LOW"}),
    "Mutation.moveQueuedRun": _input_with("id", Tenant.queued_run, position=1),
    "Mutation.setBudget": _input(
        lambda t: {"workspaceId": t.id, "dayTokens": 1_000_000 + next(t.numbers)}
    ),
    "Mutation.answerRun": _new(Tenant.asking_run, option="once"),
    "Mutation.sendRunMessage": _new(Tenant.failed_run, text="And then?"),
    "Mutation.createStory": _input(lambda t: {"workspaceId": t.id, "title": t.text("story")}),
    "Mutation.updateStory": _input_with("id", Tenant.story, feedback="changed"),
    "Mutation.deleteStory": _new(Tenant.story),
    "Mutation.createSprint": _input(lambda t: {"workspaceId": t.id, "status": "PLANNING"}),
    "Mutation.updateSprint": _input_with("id", Tenant.sprint, goal="changed"),
    "Mutation.advanceSprint": _new(Tenant.sprint, to="ACTIVE", force=False),
    "Mutation.deleteSprint": _new(Tenant.sprint),
    "Mutation.createAgent": _input(lambda t: {"workspaceId": t.id, "name": t.word("agent")}),
    "Mutation.updateAgent": _input_with("id", _an_agent, model="changed"),
    "Mutation.deleteAgent": _new(_an_agent, force=False),
    "Mutation.reportAgentStatus": _input(
        lambda t: {"workspaceId": t.id, "name": _agent_name(t), "status": "working"}
    ),
    "Mutation.reportAgentStatus:other": _input(
        lambda t: {"workspaceId": t.id, "name": t.word("agent"), "status": "working"}
    ),
    "Mutation.reportAgentProgress": _input(
        lambda t: {"workspaceId": t.id, "agentName": _agent_name(t), "detail": t.text()}
    ),
    "Mutation.checkStalledAgents": _constant(
        lambda t: {"workspaceId": t.id, "timeoutSeconds": 86_400}
    ),
    "Mutation.assignTask": _constant(
        lambda t: {"input": {"id": t.ids["task waited for"], "agentId": t.ids["agent"]}}
    ),
    "Mutation.labelTask": _input_with("id", _a_task, add=["new"], remove=[]),
    "Mutation.addContextEntries": _input_with(
        "taskId", _a_task, entries=[{"path": "docs/a.md", "phase": "IMPLEMENT", "reason": "why"}]
    ),
    "Mutation.removeContextEntries": _remove_context,
    "Mutation.bulkUpdateTasks": _bulk,
    "Query.devices": _constant(lambda _: {}),
    "Mutation.registerDevice": _input(lambda t: {"token": t.word("device"), "platform": "WEB"}),
    "Mutation.unregisterDevice": _constant(lambda _: {"token": "nobody has this one"}),
    "Mutation.watchTask": _watch,
    "Mutation.unwatchTask": _watch,
    "Query.webhook": _known("webhook"),
    "Query.webhooks": _constant(lambda t: {"workspaceId": t.id}),
    "Mutation.createWebhook": _create_webhook,
    "Mutation.updateWebhook": _input_with("id", Tenant.webhook, description="changed"),
    "Mutation.deleteWebhook": _new(Tenant.webhook),
    "Mutation.rotateWebhookSecret": _new(Tenant.webhook, overlapSeconds=60),
    "Mutation.redeliver": _redeliver,
    "Subscription.events": _constant(lambda t: {"workspaceId": t.id, "after": "EARLIEST"}),
    "Subscription.events:site": _constant(lambda _: {"after": "EARLIEST"}),
    "Subscription.task": _constant(lambda t: {"id": t.ids["task"], "after": "EARLIEST"}),
    "Subscription.run": _constant(lambda t: {"id": t.ids["run finished"], "after": "EARLIEST"}),
    "Subscription.runOutput": _constant(
        lambda t: {"id": t.ids["run finished"], "after": "EARLIEST"}
    ),
    "Subscription.agents": _constant(lambda t: {"workspaceId": t.id, "after": "EARLIEST"}),
}


def field_of(call: str) -> str:
    """The root field of a call: ``Query.tasks:all`` is one of ``Query.tasks``."""
    return call.partition(":")[0]
