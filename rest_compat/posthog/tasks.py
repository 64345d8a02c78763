"""Routes of tasks: list, create, read, change, delete, and the short forms."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel

from models.enums import Permission
from resolvers.errors import InvalidError, NotFoundError
from resolvers.loading import newest_run_of_each
from resolvers.task_filters import TaskFilter
from resolvers.task_queries import TaskOrder, list_task_repositories, list_tasks
from resolvers.tasks import create_task, delete_task, update_task
from resolvers.users import get_user_by_number
from rest_compat.answers import Answer
from rest_compat.posthog import words
from rest_compat.posthog.fields import boolean, choice, integer, items, json_object, text, uuid
from rest_compat.posthog.reading import (
    get_project,
    get_project_task,
    page_json,
    shown_task,
    shown_tasks,
    window,
)
from rest_compat.posthog.shapes import (
    ERRORS,
    SUMMARY_COLUMNS,
    SUMMARY_RUN_COLUMNS,
    TASK_COLUMNS,
    RepositoriesShape,
    SummaryPage,
    TaskPage,
    TaskShape,
    summary_json,
)
from rest_compat.routing import Call, before_body, dialect_router

router = dialect_router(ERRORS)
TASKS = "/api/projects/{project_id}/tasks"
TASK = TASKS + "/{task_id}"
INTERNAL = {"true": True, "1": True, "false": False, "0": False, "all": None}
ARCHIVED = {"true": True, "false": False, "all": None}
SUMMARIES_MAX = 5_000
NOBODY = "00000000-0000-0000-0000-000000000000"


class TaskQuery(BaseModel):
    """Filters of the list; they combine with AND."""

    archived: Annotated[str, choice(*ARCHIVED)] = "false"
    internal: Annotated[str, choice(*INTERNAL)] = "false"
    created_by: Annotated[int | None, integer()] = None
    origin_product: Annotated[str | None, text(blank=False)] = None
    organization: Annotated[str | None, text(blank=False)] = None
    repository: Annotated[str | None, text(blank=False)] = None
    search: Annotated[str | None, text()] = None
    stage: Annotated[str | None, text(blank=False)] = None
    status: Annotated[str | None, choice(*words.RUN_STATUSES)] = None
    limit: str | None = None
    offset: str | None = None


class TaskBody(BaseModel):
    """Fields of a task; what is left out stays as it is, or gets its default."""

    title: Annotated[str, text(max_length=255)] = ""
    title_manually_set: Annotated[bool, boolean()] = False
    description: Annotated[str, text()] = ""
    origin_product: Annotated[str, choice(*words.ORIGINS)] = "user_created"
    repository: Annotated[str | None, text(max_length=255, null=True)] = None
    github_integration: Annotated[int | None, integer(null=True)] = None
    github_user_integration: Annotated[str | None, uuid(null=True)] = None
    signal_report: Annotated[str | None, uuid(null=True)] = None
    signal_report_task_relationship: Annotated[str | None, text(max_length=200, null=True)] = None
    json_schema: Annotated[dict[str, Any] | None, json_object(null=True)] = None
    internal: Annotated[bool, boolean()] = False
    archived: Annotated[bool, boolean()] = False
    ci_prompt: Annotated[str | None, text(null=True)] = None


class SummariesBody(BaseModel):
    """Which tasks are asked for."""

    ids: Annotated[list[Annotated[str, uuid()]], items(empty_code="empty", maximum=SUMMARIES_MAX)]


_SAME = ("description", "internal", "ci_prompt", "title_manually_set")


def _columns(body: TaskBody, *, created: bool) -> dict[str, Any]:
    """The operation's fields for those the body has.

    Raises:
        InvalidError: a repository that is none, or a link to something this server does not have.
    """
    given = body.model_fields_set
    for name in ("github_integration", "github_user_integration", "signal_report"):
        if getattr(body, name) is not None and (created or name != "signal_report"):
            raise InvalidError(
                f"Invalid {name}: there is no such object in this project.", field=name
            )
    if created and body.signal_report_task_relationship is not None:
        name = "signal_report_task_relationship"
        raise InvalidError("This field requires signal_report to be set.", field=name)
    columns = {name: getattr(body, name) for name in _SAME if name in given}
    if "repository" in given:
        columns["repository"] = _repository(body.repository)
    if "json_schema" in given:
        columns["output_schema"] = body.json_schema
    if "archived" in given:
        columns["archived"] = body.archived
    if created:
        columns["origin"] = body.origin_product
    return columns


def _repository(name: str | None) -> str | None:
    if not name:
        return None
    owner, _, rest = name.partition("/")
    if not owner or not rest or "/" in rest:
        raise InvalidError(
            "Repository must be in the format organization/repository", field="repository"
        )
    return name.lower()


@router.get(TASKS, response_model=TaskPage)
async def tasks_list(call: Call, project_id: str, query: Annotated[TaskQuery, Query()]) -> Any:
    """Tasks of a project, newest first."""
    project = await get_project(call, project_id)
    page = window(query.limit, query.offset)
    found = await list_tasks(
        call.ctx,
        workspace_id=project.id,
        filter_=await _filter(call, query),
        order=TaskOrder.CREATED_AT_DESC,
        page=page,
        columns=TASK_COLUMNS,
    )
    count, _ = await found.total()
    results = await shown_tasks(call, project, found.nodes)
    return page_json(call, results, count=count, page=page)


async def _filter(call: Call, query: TaskQuery) -> TaskFilter:
    creators = None
    if query.created_by is not None:
        try:
            creators = [(await get_user_by_number(call.ctx, number=query.created_by)).id]
        except NotFoundError:
            creators = [NOBODY]
    return TaskFilter(
        archived=ARCHIVED[query.archived],
        internal=INTERNAL[query.internal],
        created_by=creators,
        origins=None if query.origin_product is None else [query.origin_product],
        repository=query.repository,
        repository_owner=query.organization,
        search=query.search,
        search_number=words.number_in(query.search) if query.search else None,
        run_stage=query.stage,
        latest_run_status=words.statuses_shown_as(query.status) if query.status else None,
    )


@router.post(TASKS, response_model=TaskShape, status_code=201)
@before_body(get_project)
async def tasks_create(call: Call, project_id: str, body: TaskBody) -> Any:
    """Add a task; nothing is started."""
    project = await get_project(call, project_id)
    columns = _columns(body, created=True)
    if body.title:
        columns["title"] = body.title
    task = await create_task(call.ctx, workspace_id=project.id, **columns)
    return await shown_task(call, project, task.id)


@router.get(TASKS + "/repositories", response_model=RepositoriesShape)
async def tasks_repositories(call: Call, project_id: str) -> Any:
    """Repositories of the project's tasks."""
    project = await get_project(call, project_id)
    return {"repositories": await list_task_repositories(call.ctx, workspace_id=project.id)}


@router.post(TASKS + "/summaries", response_model=SummaryPage)
@before_body(get_project)
async def tasks_summaries(call: Call, project_id: str, body: SummariesBody) -> Any:
    """The short forms of tasks, in the order of the list."""
    project = await get_project(call, project_id)
    page = window(call.query_params.get("limit"), call.query_params.get("offset"))
    found = await list_tasks(
        call.ctx,
        workspace_id=project.id,
        filter_=TaskFilter(ids=body.ids, archived=None),
        order=TaskOrder.CREATED_AT_DESC,
        page=page,
        columns=SUMMARY_COLUMNS,
    )
    count, _ = await found.total()
    ids = [task.id for task in found.nodes]
    newest = await newest_run_of_each(call.ctx, ids, SUMMARY_RUN_COLUMNS)
    results = [summary_json(task, run) for task, run in zip(found.nodes, newest, strict=True)]
    return page_json(call, results, count=count, page=page)


@router.get(TASK, response_model=TaskShape)
async def tasks_retrieve(call: Call, project_id: str, task_id: str) -> Any:
    """One task."""
    project, task = await get_project_task(call, project_id, task_id)
    return (await shown_tasks(call, project, [task]))[0]


async def _find(call: Call, project_id: str, task_id: str) -> None:
    await get_project_task(call, project_id, task_id, Permission.WRITE)


@router.patch(TASK, response_model=TaskShape)
@before_body(_find)
async def tasks_partial_update(call: Call, project_id: str, task_id: str, body: TaskBody) -> Any:
    """Change a task; fields that are left out stay."""
    project, task = await get_project_task(call, project_id, task_id)
    columns = _columns(body, created=False)
    if "title" in body.model_fields_set:
        columns["title"] = body.title
        columns.setdefault("title_manually_set", True)
    await update_task(call.ctx, task_id=task.id, blank_title=True, **columns)
    return await shown_task(call, project, task.id)


@router.put(TASK, response_model=TaskShape)
@before_body(_find)
async def tasks_update(call: Call, project_id: str, task_id: str, body: TaskBody) -> Any:
    """As PATCH."""
    return await tasks_partial_update(call, project_id, task_id, body)


@router.delete(TASK, status_code=204, response_model=None)
async def tasks_destroy(call: Call, project_id: str, task_id: str) -> Answer:
    """Hide a task: soft delete; what executes for it is stopped."""
    _, task = await get_project_task(call, project_id, task_id)
    await delete_task(call.ctx, task_id=task.id, force=True)
    return Answer(204)
