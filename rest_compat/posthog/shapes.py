"""What PostHog Tasks sends: the documented shapes, and how records become them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from models import Artifact, Run, Task, User
from rest_compat.posthog import words


class Shape(BaseModel):
    """A closed object: tests check every answer against it."""

    model_config = ConfigDict(extra="forbid")


class UserShape(Shape):
    """A user."""

    id: int
    uuid: str
    distinct_id: str
    first_name: str
    last_name: str
    email: str
    is_email_verified: bool | None
    hedgehog_config: dict[str, Any] | None
    role_at_organization: str | None


class ArtifactShape(Shape):
    """A file that belongs to a run."""

    id: str
    name: str
    type: str
    source: str
    size: int
    content_type: str
    storage_path: str
    uploaded_at: str
    metadata: dict[str, Any] | None = None


class RunShape(Shape):
    """One execution of a task."""

    id: str
    task: str
    stage: str | None
    branch: str | None
    status: str
    environment: str
    runtime_adapter: str | None
    provider: str | None
    model: str | None
    reasoning_effort: str | None
    log_url: str | None
    error_message: str | None
    output: Any
    state: dict[str, Any]
    artifacts: list[ArtifactShape]
    created_at: str
    updated_at: str
    completed_at: str | None


class TaskShape(Shape):
    """A task with its newest run."""

    id: str
    task_number: int
    slug: str
    title: str
    title_manually_set: bool
    description: str
    origin_product: str
    repository: str | None
    github_integration: int | None
    github_user_integration: str | None
    signal_report: str | None
    json_schema: dict[str, Any] | None
    internal: bool
    archived: bool
    archived_at: str | None
    ci_prompt: str | None
    latest_run: RunShape | None
    created_at: str
    updated_at: str
    created_by: UserShape | None


class TaskPage(Shape):
    """A page of tasks."""

    count: int
    next: str | None
    previous: str | None
    results: list[TaskShape]


class RunPage(Shape):
    """A page of runs."""

    count: int
    next: str | None
    previous: str | None
    results: list[RunShape]


class SummaryRunShape(Shape):
    """Where a run stands."""

    status: str
    environment: str


class SummaryShape(Shape):
    """The short form of a task."""

    id: str
    title: str
    repository: str | None
    created_at: str
    updated_at: str
    origin_product: str
    latest_run: SummaryRunShape | None


class SummaryPage(Shape):
    """A page of short forms."""

    count: int
    next: str | None
    previous: str | None
    results: list[SummaryShape]


class RepositoriesShape(Shape):
    """Repositories of tasks."""

    repositories: list[str]


class ErrorShape(Shape):
    """What is wrong; ``attr`` names the field."""

    type: str
    code: str
    detail: str
    attr: str | None


class ErrorText(Shape):
    """Why an action on a run was refused."""

    error: str


class DetailText(Shape):
    """Why a run was not made."""

    detail: str
    missing_artifact_ids: list[str] | None = None


class UsageShape(Shape):
    """A limit of this server is reached."""

    type: str
    code: str
    error: str
    is_pro: bool


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {
        "model": ErrorShape | ErrorText | DetailText,
        "description": "The body, the query or the state of things does not allow this",
    },
    404: {"model": ErrorShape | ErrorText, "description": "There is no such thing"},
    429: {"model": ErrorShape | UsageShape, "description": "Too many requests, or a limit"},
    **{
        status: {"model": ErrorShape, "description": description}
        for status, description in (
            (401, "No valid key"),
            (403, "The key or the role does not allow this"),
            (409, "The present state forbids it"),
            (503, "Busy, or something needed is missing"),
        )
    },
}


PROJECT_COLUMNS = ("id", "number", "name")
"""All that is shown of a workspace."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run with what is shown beside it."""

    run: Run
    artifacts: Sequence[Artifact]
    log_url: str | None


USER_COLUMNS = ("id", "number", "name", "full_name", "email")
"""What :func:`user_json` looks at."""


def user_json(user: User, *, with_email: bool) -> dict[str, Any]:
    """A user; the address only where the viewer may know it."""
    first, _, last = (user.full_name or user.name).partition(" ")
    return {
        "id": user.number,
        "uuid": user.id,
        "distinct_id": user.id,
        "first_name": first,
        "last_name": last,
        "email": (user.email or "") if with_email else "",
        "is_email_verified": None,
        "hedgehog_config": None,
        "role_at_organization": None,
    }


def artifact_json(artifact: Artifact) -> dict[str, Any]:
    """An artifact; ``metadata`` only where there is some."""
    shown: dict[str, Any] = {
        "id": artifact.id.replace("-", ""),
        "name": artifact.name,
        "type": artifact.type,
        "source": artifact.source or "",
        "size": artifact.size,
        "content_type": artifact.content_type or "",
        "storage_path": artifact.storage_path,
        "uploaded_at": (artifact.uploaded_at or artifact.created_at).isoformat(),
    }
    if artifact.meta:
        shown["metadata"] = artifact.meta
    return shown


RUN_COLUMNS = (
    "id", "task_id", "stage", "branch", "status", "environment", "state", "error", "output",
    "created_at", "updated_at", "finished_at",
)  # fmt: skip
"""What :func:`run_json` looks at."""


def run_json(facts: RunFacts) -> dict[str, Any]:
    """A run; adapter, model and effort are views on its state."""
    run, state = facts.run, facts.run.state
    adapter = state.get("runtime_adapter")
    return {
        "id": run.id,
        "task": run.task_id,
        "stage": run.stage,
        "branch": run.branch,
        "status": words.status_word(run.status),
        "environment": run.environment,
        "runtime_adapter": adapter,
        "provider": words.PROVIDERS.get(adapter) if isinstance(adapter, str) else None,
        "model": state.get("model"),
        "reasoning_effort": state.get("reasoning_effort"),
        "log_url": facts.log_url,
        "error_message": run.error,
        "output": run.output,
        "state": {"mode": "background"} | state,
        "artifacts": [artifact_json(artifact) for artifact in facts.artifacts],
        "created_at": words.moment(run.created_at),
        "updated_at": words.moment(run.updated_at),
        "completed_at": words.moment(run.finished_at),
    }


TASK_COLUMNS = (
    "id", "number", "title", "title_manually_set", "description", "origin", "repository",
    "output_schema", "internal", "archived_at", "ci_prompt", "created_at", "updated_at",
    "created_by",
)  # fmt: skip
"""What :func:`task_json` looks at, and who made it."""


def task_json(
    task: Task,
    *,
    slug_prefix: str,
    latest_run: dict[str, Any] | None,
    created_by: dict[str, Any] | None,
) -> dict[str, Any]:
    """A task; one that was made archived has no moment of archiving."""
    number = words.task_number(task.number)
    made_archived = task.archived_at == task.created_at
    return {
        "id": task.id,
        "task_number": number,
        "slug": f"{slug_prefix}-{number}",
        "title": task.title,
        "title_manually_set": task.title_manually_set,
        "description": task.description,
        "origin_product": task.origin,
        "repository": task.repository,
        "github_integration": None,
        "github_user_integration": None,
        "signal_report": None,
        "json_schema": task.output_schema,
        "internal": task.internal,
        "archived": task.archived_at is not None,
        "archived_at": None if made_archived else words.moment(task.archived_at),
        "ci_prompt": task.ci_prompt,
        "latest_run": latest_run,
        "created_at": words.moment(task.created_at),
        "updated_at": words.moment(task.updated_at),
        "created_by": created_by,
    }


SUMMARY_COLUMNS = ("id", "title", "repository", "created_at", "updated_at", "origin")
SUMMARY_RUN_COLUMNS = ("status", "environment")
"""What :func:`summary_json` looks at, in task and run."""


def summary_json(task: Task, latest: Run | None) -> dict[str, Any]:
    """The short form of a task."""
    shown = latest and {
        "status": words.status_word(latest.status),
        "environment": latest.environment,
    }
    return {
        "id": task.id,
        "title": task.title,
        "repository": task.repository,
        "created_at": words.moment(task.created_at),
        "updated_at": words.moment(task.updated_at),
        "origin_product": task.origin,
        "latest_run": shown,
    }
