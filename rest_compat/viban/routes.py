"""Viban's routes. Each translates, calls the operations, and translates back."""

from typing import Annotated, Any

from fastapi import Query

from models import Task, Workspace
from models.enums import Permission, RunStatus
from models.lifecycle import RUN_FINAL
from resolvers.errors import InvalidError, NotFoundError, UnavailableError
from resolvers.lookup import database_answers
from resolvers.paging import Slice
from resolvers.phases import refine_task
from resolvers.public_ids import run_id_of, task_id_of
from resolvers.run_lists import list_runs
from resolvers.run_queries import get_run
from resolvers.runs import stop_run
from resolvers.task_access import get_task, reading_of_task
from resolvers.task_filters import TaskFilter
from resolvers.task_queries import TaskOrder, list_tasks
from resolvers.tasks import change_card, create_task
from resolvers.workspace_queries import WorkspaceOrder, get_workspace_by_number, list_workspaces
from resolvers.workspaces import create_workspace, get_workspace
from resolvers.worktrees import discard_task
from rest_compat.answers import json_answer
from rest_compat.routing import Call, before_body, dialect_router
from rest_compat.viban import shapes, words

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": shapes.ErrorAnswer, "description": description}
    for status, description in (
        (401, "No valid token"),
        (403, "The token or the role does not allow this"),
        (404, "There is no such thing"),
        (409, "The present state forbids it"),
        (422, "The body or the query is wrong"),
        (429, "Too many requests"),
        (503, "Busy, or something needed is missing"),
    )
}
EXECUTIONS_MAX = 1000
REFINE_SECONDS = 60
WAIT_BESIDES = 15
"""How much longer an answer is awaited than the agent may take."""
_TASK = reading_of_task(shapes.TASK_COLUMNS)

router = dialect_router()


async def _project(call: Call, project_id: str) -> Workspace:
    return await get_workspace_by_number(
        call.ctx, number=shapes.number_of(project_id), columns=shapes.PROJECT_COLUMNS
    )


async def _project_to_change(call: Call, project_id: str) -> Workspace:
    return await get_workspace_by_number(
        call.ctx, number=shapes.number_of(project_id), permission=Permission.WRITE
    )


async def _task_id(call: Call, task_id: str) -> str:
    return await task_id_of(call.ctx, _tail(task_id, "task_", "Task"))


async def _task_to_change(call: Call, task_id: str) -> Task:
    found = await _task_id(call, task_id)
    return await get_task(call.ctx, task_id=found, permission=Permission.WRITE)


async def _new_project(call: Call) -> None:
    call.ctx.require_site(Permission.WRITE)


def _tail(given: str, prefix: str, kind: str) -> str:
    if not given.startswith(prefix):
        raise NotFoundError(kind)
    return given.removeprefix(prefix)


async def _shown(call: Call, task: Task) -> dict[str, Any]:
    workspace = await get_workspace(
        call.ctx, workspace_id=task.workspace_id, columns=("id", "number")
    )
    return {"data": shapes.task(task, shapes.project_id(workspace.number))}


@router.get(
    "/api/health", response_model=shapes.HealthAnswer, openapi_extra={"security": []},
    responses={503: {"model": shapes.HealthAnswer, "description": "The database is away"}},
)  # fmt: skip
async def health(call: Call) -> Any:
    """Whether the server works, for everybody."""
    if await database_answers(call.ctx):
        return {"status": "ok", "database": "connected"}
    return json_answer({"status": "error", "database": "disconnected"}, 503)


@router.get("/api/v1/projects", response_model=shapes.ProjectsAnswer, responses=ERRORS)
async def list_projects(call: Call) -> Any:
    """Projects visible to the token, oldest first."""
    page = await list_workspaces(
        call.ctx,
        order=WorkspaceOrder.CREATED_AT_ASC,
        page=Slice(call.ctx.limits.workspaces),
        columns=shapes.PROJECT_COLUMNS,
    )
    return {"data": [shapes.project(workspace) for workspace in page.nodes]}


@router.get("/api/v1/projects/{project_id}", response_model=shapes.ProjectAnswer, responses=ERRORS)
async def show_project(call: Call, project_id: str) -> Any:
    """One project."""
    return {"data": shapes.project(await _project(call, project_id))}


@router.post(
    "/api/v1/projects", response_model=shapes.ProjectAnswer, responses=ERRORS, status_code=201
)
@before_body(_new_project)
async def create_project(call: Call, body: shapes.NewProject) -> Any:
    """Register a repository as a project."""
    local = body.repository_url.removeprefix("file://")
    place: dict[str, Any] = (
        {"local_path": local} if local.startswith("/") else {"repository_url": local}
    )
    workspace = await create_workspace(call.ctx, name=body.name, **place)
    return {"data": shapes.project(workspace)}


@router.get(
    "/api/v1/projects/{project_id}/tasks", response_model=shapes.TasksAnswer, responses=ERRORS
)
@before_body(_project)
async def list_project_tasks(
    call: Call, project_id: str, query: Annotated[shapes.TaskQuery, Query()]
) -> Any:
    """Tasks of a project, oldest first; at most 200 at once."""
    workspace = await _project(call, project_id)
    limit, offset = min(query.limit, shapes.LIMIT_MAX), min(query.offset, shapes.OFFSET_MAX)
    page = await list_tasks(
        call.ctx,
        workspace_id=workspace.id,
        filter_=TaskFilter(status=words.TASK_STATUSES[query.status] if query.status else None),
        order=TaskOrder.CREATED_AT_ASC,
        page=Slice(limit, offset),
        columns=shapes.TASK_COLUMNS,
    )
    total, _ = await page.total()
    shown = shapes.project_id(workspace.number)
    return {
        "data": [shapes.task(task, shown) for task in page.nodes],
        "meta": {"total": total, "limit": limit, "offset": offset},
    }


@router.get("/api/v1/tasks/{task_id}", response_model=shapes.TaskAnswer, responses=ERRORS)
async def show_task(call: Call, task_id: str) -> Any:
    """One task."""
    found = await _task_id(call, task_id)
    return await _shown(call, await get_task(call.ctx, task_id=found, read=_TASK))


@router.post(
    "/api/v1/projects/{project_id}/tasks",
    response_model=shapes.TaskAnswer, responses=ERRORS, status_code=201,
)  # fmt: skip
@before_body(_project_to_change)
async def create_project_task(call: Call, project_id: str, body: shapes.NewTask) -> Any:
    """Add a task; with status ``inprogress`` its agent starts at once."""
    workspace = await _project(call, project_id)
    chosen: dict[str, Any] = {"executor": words.AGENT_BACK[body.agent]} if body.agent else {}
    task = await create_task(
        call.ctx,
        workspace_id=workspace.id,
        title=body.title,
        description=body.description or "",
        status=words.TASK_BACK[body.status],
        **chosen,
    )
    return {"data": shapes.task(task, shapes.project_id(workspace.number))}


@router.patch("/api/v1/tasks/{task_id}", response_model=shapes.TaskAnswer, responses=ERRORS)
@before_body(_task_to_change)
async def update_task(call: Call, task_id: str, body: shapes.TaskChange) -> Any:
    """Change text or status; moving a task to ``inprogress`` starts its agent."""
    found = await _task_id(call, task_id)
    given = body.model_fields_set
    fields: dict[str, Any] = {}
    if "title" in given:
        fields["title"] = body.title
    if "description" in given:
        fields["description"] = body.description or ""
    if "agent" in given:
        fields["executor"] = words.AGENT_BACK[body.agent] if body.agent else None
    task = await change_card(
        call.ctx,
        task_id=found,
        column=(lambda now: words.task_status(body.status, now)) if "status" in given else None,
        **fields,
    )
    return await _shown(call, task)


@router.delete("/api/v1/tasks/{task_id}", responses=ERRORS, status_code=204)
async def remove_task(call: Call, task_id: str) -> None:
    """Remove a task with its executions and its worktree."""
    await discard_task(call.ctx, task_id=await _task_id(call, task_id))


@router.post(
    "/api/v1/tasks/{task_id}/refine", response_model=shapes.RefinementAnswer, responses=ERRORS
)
async def refine(call: Call, task_id: str) -> Any:
    """Let an agent propose a better description; the task is not changed."""
    found = await _task_id(call, task_id)
    try:
        run = await refine_task(
            call.ctx,
            task_id=found,
            timeout_seconds=REFINE_SECONDS,
            wait_seconds=REFINE_SECONDS + WAIT_BESIDES,
        )
    except InvalidError as error:
        raise UnavailableError(error.message, retry_after=None, kind="agent") from None
    if run.status not in RUN_FINAL:
        run = await stop_run(call.ctx, run_id=run.id)
    text = (run.output or {}).get("text")
    if run.status != RunStatus.COMPLETED or not text:
        message = run.error or "The agent did not answer in time"
        raise UnavailableError(message, retry_after=None, kind="agent")
    return {"data": {"refined_description": text}}


@router.get(
    "/api/v1/tasks/{task_id}/executions", response_model=shapes.ExecutionsAnswer, responses=ERRORS
)
async def list_executions(call: Call, task_id: str) -> Any:
    """Agent runs of a task, newest first; at most 1,000."""
    page = await list_runs(
        call.ctx,
        task_id=await _task_id(call, task_id),
        page=Slice(EXECUTIONS_MAX),
        columns=shapes.EXECUTION_COLUMNS,
    )
    return {"data": [shapes.execution(run, task_id) for run in page.nodes]}


@router.post(
    "/api/v1/executions/{execution_id}/cancel",
    response_model=shapes.ExecutionAnswer, responses=ERRORS,
)  # fmt: skip
async def cancel_execution(call: Call, execution_id: str) -> Any:
    """Stop an agent; its task stays where it is."""
    found = await run_id_of(call.ctx, _tail(execution_id, "exec_", "Run"))
    before = await get_run(call.ctx, run_id=found, permission=Permission.EXECUTE)
    if before.status in RUN_FINAL:
        raise InvalidError("The execution has ended already", field="status")
    run = await stop_run(call.ctx, run_id=found, park=True)
    task = await get_task(call.ctx, task_id=run.task_id or "")
    return {"data": shapes.execution(run, "task_" + task.public_id)}
