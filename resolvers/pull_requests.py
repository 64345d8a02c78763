"""Pull requests of tasks: opened from the task's branch, merged when it is approved.

Both are claim → effect → settle. The effects can be repeated: a branch is pushed again, an open
pull request is found again, and one that is merged already is merged.
"""

from dataclasses import dataclass

from models import Task, Workspace
from models.enums import Permission
from models.lifecycle import TERMINAL
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidError
from resolvers.git_access import find_secret
from resolvers.operation import operation, step
from resolvers.ports import Forge, NewPullRequest, Place, Secret
from resolvers.task_access import change_task, get_task
from resolvers.tasks import refuse_if_executing
from resolvers.workspaces import get_active_workspace

BODY_MAX = 60_000


@dataclass(frozen=True, slots=True)
class _Claim:
    task: Task
    place: Place
    branch: str
    base: str


async def create_pull_request(
    ctx: Context,
    *,
    task_id: str,
    title: str | None = None,
    body: str | None = None,
    draft: bool = False,
) -> Task:
    """Push a task's branch and open a pull request for it; an open one is used again.

    Args:
        ctx: needs ``write`` and ``execute``.
        task_id: a task with changes on its branch, which nothing executes.
        title: one line, by default the task's.
        body: Markdown up to 60,000 characters, by default made from the task.
        draft: whether a new one is a draft.

    Returns:
        The task with ``pull_request_url``.

    Raises:
        NotFoundError, ForbiddenError, InvalidError (the repository is not on the forge).
        ConflictError: no changes, a run executes, the remote branch has other commits, or the
            forge refuses; nothing is recorded then, and it can be tried again.
        UnavailableError: remote or forge cannot be reached now.
    """
    title = check.optional_line(title, field="title", maximum=256)
    body = check.optional_text(body, field="body", maximum=BODY_MAX)
    claim = await _claim(ctx, task_id=task_id)
    forge = require_forge(ctx)
    url, repository = await find_forge_repository(ctx, forge, claim.place)
    secret = await _secret(ctx, claim.place, url)
    await ctx.services.git.push(claim.place, url=url, branch=claim.branch, secret=secret)
    opened = await forge.open(
        NewPullRequest(
            repository=repository,
            branch=claim.branch,
            base=claim.base,
            title=title or claim.task.title[:256],
            body=_body(claim.task) if body is None else body,
            draft=draft,
        ),
        token=None if secret is None else secret.secret,
    )
    return await _settle(ctx, task_id=task_id, url=opened.url)


@step
async def _claim(ctx: Context, *, task_id: str) -> _Claim:
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    ctx.require(Permission.EXECUTE, task.workspace_id, kind="Task")
    if task.status in TERMINAL:
        raise ConflictError(f"The task is {task.status}", status=task.status)
    await refuse_if_executing(ctx, task)
    workspace = await get_active_workspace(ctx, workspace_id=task.workspace_id)
    base = task.base_branch or workspace.default_branch
    if task.branch is None or base is None or task.commit_sha is None:
        raise ConflictError("The task has no changes on a branch yet")
    return _Claim(task, place_of(workspace), task.branch, base)


@operation
async def _settle(ctx: Context, *, task_id: str, url: str) -> Task:
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    if task.pull_request_url == url:
        return task
    return await change_task(
        ctx,
        task,
        "task.pull_request_opened",
        {
            "pull_request_url": check.line(url, field="url", maximum=2048),
            "pull_request_at": ctx.now,
        },
    )


async def merge_pull_request(ctx: Context, *, task: Task, workspace: Workspace) -> str:
    """Merge a task's pull request on its forge; the commit. Outside of operations.

    Raises:
        ConflictError, InvalidError, UnavailableError: nothing is changed, or it can be repeated.
    """
    assert task.pull_request_url is not None and task.branch is not None  # noqa: S101, PT018  # the claim checked both
    forge, place = require_forge(ctx), place_of(workspace)
    url, repository = await find_forge_repository(ctx, forge, place)
    secret = await _secret(ctx, place, url)
    return await forge.merge(
        task.pull_request_url,
        repository=repository,
        branch=task.branch,
        title=task.title,
        token=None if secret is None else secret.secret,
    )


def place_of(workspace: Workspace) -> Place:
    """Where a workspace's repository is."""
    return Place(workspace.id, workspace.local_path, workspace.repository_url)


def require_forge(ctx: Context) -> Forge:
    """The forge of this server. Raises InvalidError where it has none."""
    if ctx.services.forge is None:
        raise InvalidError("This server opens no pull requests", field="id")
    return ctx.services.forge


async def find_forge_repository(ctx: Context, forge: Forge, place: Place) -> tuple[str, str]:
    """The address that is pushed to, and the repository's name on the forge.

    Raises:
        InvalidError: there is no address, or it is not the forge's.
    """
    url = place.repository_url or await ctx.services.git.find_remote(place)
    if url is None:
        raise InvalidError("The repository has no remote: set repositoryUrl", field="repositoryUrl")
    name = forge.find_repository(url)
    if name is None:
        raise InvalidError(
            f"The repository is not on {forge.host}, where this server opens pull requests",
            field="repositoryUrl",
        )
    return url, name


async def _secret(ctx: Context, place: Place, url: str) -> Secret | None:
    host = ctx.services.git.host_of(url) or require_forge(ctx).host
    try:
        return await find_secret(ctx, workspace_id=place.workspace_id, host=host)
    finally:
        await ctx.release()


def _body(task: Task) -> str:
    parts = [task.description.strip()]
    criteria = [item for item in task.acceptance_criteria or [] if isinstance(item, str)]
    if criteria:
        parts.append("## Acceptance criteria\n\n" + "\n".join(f"- {item}" for item in criteria))
    text = "\n\n".join(part for part in parts if part)
    return f"{text[: BODY_MAX - 100]}\n\n---\nTask #{task.number}".strip()
