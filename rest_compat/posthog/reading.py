"""Reading for PostHog's answers: projects, pages, and what is shown beside tasks and runs."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from models import Run, Task, User, Workspace
from models.enums import Permission
from resolvers.artifacts import artifacts_of_runs
from resolvers.client_runs import sign_run_log
from resolvers.errors import ForbiddenError, NotFoundError
from resolvers.loading import find_by_ids, newest_run_of_each
from resolvers.paging import PageArguments, Slice
from resolvers.run_queries import get_run
from resolvers.task_access import get_task, reading_of_task
from resolvers.validation import is_id
from resolvers.viewing import knows_details_of
from resolvers.workspace_queries import (
    get_workspace_by_number,
    is_closed_to_key,
    list_workspaces,
)
from resolvers.workspaces import get_workspace
from rest_compat.posthog import words
from rest_compat.posthog.shapes import (
    PROJECT_COLUMNS,
    RUN_COLUMNS,
    TASK_COLUMNS,
    USER_COLUMNS,
    RunFacts,
    run_json,
    task_json,
    user_json,
)
from rest_compat.routing import Call

PAGE_SIZE = 50
PAGE_MAX = 100
OFFSET_MAX = 2**31 - 1
CURRENT = "@current"
NUMBER_DIGITS = 10
_TASK = reading_of_task(TASK_COLUMNS)


async def get_project(call: Call, project_id: str) -> Workspace:
    """The workspace of a project number; of ``@current``, the key's own or the caller's first.

    Raises:
        NotFoundError: unknown, or of somebody else.
        ForbiddenError: the caller may see it, but not with this key.
    """
    ctx = call.ctx
    if project_id == CURRENT:
        bound = ctx.authenticated().workspace_id
        if bound is not None:
            return await get_workspace(ctx, workspace_id=bound, columns=PROJECT_COLUMNS)
        page = PageArguments(first=1)
        first = await list_workspaces(ctx, page=page, columns=PROJECT_COLUMNS)
        if not first.nodes:
            raise NotFoundError("Workspace")
        return first.nodes[0]
    if not (project_id.isdecimal() and project_id.isascii() and len(project_id) <= NUMBER_DIGITS):
        raise NotFoundError("Workspace")
    number = int(project_id)
    try:
        return await get_workspace_by_number(ctx, number=number, columns=PROJECT_COLUMNS)
    except NotFoundError:
        if not await is_closed_to_key(ctx, number=number):
            raise
    raise ForbiddenError(f"API key does not have access to the requested project: ID {number}.")


async def get_project_task(
    call: Call, project_id: str, task_id: str, permission: Permission = Permission.READ
) -> tuple[Workspace, Task]:
    """A project's task and the project.

    Raises:
        NotFoundError: there is no such task in this project.
        ForbiddenError: the key or the role does not allow what is asked.
    """
    project = await get_project(call, project_id)
    task = await get_task(call.ctx, task_id=task_id.lower(), permission=permission)
    if task.workspace_id != project.id:
        raise NotFoundError("Task")
    return project, task


async def get_task_run(
    call: Call,
    project_id: str,
    task_id: str,
    run_id: str,
    permission: Permission = Permission.READ,
) -> tuple[Workspace, Task, Run]:
    """A run of a project's task, with both.

    Raises:
        NotFoundError, ForbiddenError.
    """
    project, task = await get_project_task(call, project_id, task_id, permission)
    if not is_id(run_id.lower()):
        raise NotFoundError("Run")
    run = await get_run(call.ctx, run_id=run_id.lower(), permission=permission)
    if run.task_id != task.id:
        raise NotFoundError("Run")
    return project, task, run


async def facts_of(call: Call, project: Workspace, runs: Sequence[Run]) -> list[RunFacts]:
    """Runs of one project with what is shown beside them."""
    artifacts = await artifacts_of_runs(call.ctx, [run.id for run in runs])
    base = f"{call.base}/api/projects/{project.number}/tasks"
    return [
        RunFacts(
            run,
            artifacts[run.id],
            f"{base}/{run.task_id}/runs/{run.id}/log_file?token={sign_run_log(call.ctx, run)}",
        )
        for run in runs
    ]


async def shown_tasks(
    call: Call, project: Workspace, tasks: Sequence[Task]
) -> list[dict[str, Any]]:
    """Tasks of one project as the API shows them; one statement for what is beside them."""
    ctx = call.ctx
    newest = await newest_run_of_each(ctx, [task.id for task in tasks], RUN_COLUMNS)
    creators = await find_by_ids(ctx, User, [task.created_by for task in tasks], USER_COLUMNS)
    people = {
        user.id: user_json(user, with_email=knows_details_of(ctx, user.id))
        for user in {user.id: user for user in creators if user is not None}.values()
    }
    facts = await facts_of(call, project, [run for run in newest if run is not None])
    by_task = {found.run.task_id: run_json(found) for found in facts}
    prefix = words.slug_prefix(project.name)
    return [
        task_json(
            task,
            slug_prefix=prefix,
            latest_run=by_task.get(task.id),
            created_by=people.get(task.created_by or ""),
        )
        for task in tasks
    ]


async def shown_task(call: Call, project: Workspace, task_id: str) -> dict[str, Any]:
    """One task, read afresh."""
    task = await get_task(call.ctx, task_id=task_id, read=_TASK)
    return (await shown_tasks(call, project, [task]))[0]


async def shown_run(call: Call, project: Workspace, run: Run) -> dict[str, Any]:
    """One run."""
    return run_json((await facts_of(call, project, [run]))[0])


def window(limit: str | None, offset: str | None) -> Slice:
    """The page a query asks for; what cannot be read means the default."""
    size = _whole(limit)
    start = _whole(offset)
    return Slice(min(size, PAGE_MAX) if size else PAGE_SIZE, min(start or 0, OFFSET_MAX))


def _whole(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= NUMBER_DIGITS else None


def page_json(
    call: Call, results: list[dict[str, Any]], *, count: int, page: Slice
) -> dict[str, Any]:
    """A page with the addresses of its neighbours, which keep the other query parameters."""
    size, offset = page.limit, page.offset
    following = offset + size if offset + size < count else None
    before = max(0, offset - size) if offset > 0 else None
    return {
        "count": count,
        "next": None if following is None else _address(call, size, following),
        "previous": None if before is None else _address(call, size, before),
        "results": results,
    }


def _address(call: Call, limit: int, offset: int) -> str:
    others = [(k, v) for k, v in call.query_params.multi_items() if k not in {"limit", "offset"}]
    query = urlencode([*others, ("limit", limit), *([("offset", offset)] if offset else [])])
    return f"{call.base}{call.scope['compat_path']}/?{query}"
