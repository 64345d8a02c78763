"""Checks of the fields of a task, for everything that creates or changes one."""

import math
import re
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from models import Agent, Membership, Story, Task, User, Workspace, table_of
from models.enums import (
    PRIORITY_LEVEL_MAX,
    Executor,
    ReviewVerdict,
    TaskCategory,
    TaskPriority,
    TaskType,
    level_of,
)
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import InvalidError
from resolvers.validation import Unset

TASK = table_of(Task).c
TITLE_MADE = 60
"""Characters of a title that is made from a description."""
_CONTROL = re.compile("[\x00-\x1f\x7f]")

_LINES = {
    "owner": 64,
    "agent_name": 100,
    "model": 100,
    "target_repository": 255,
    "repository": 255,
    "phase": 20,
    "session_id": 200,
    "slug": 200,
    "review_reason": 20,
    "pull_request_url": 2048,
}
_TEXTS = (
    "description", "spec", "context_notes", "notes", "review_comment", "review_record",
    "ci_prompt", "command", "commits", "status_reason", "error",
)  # fmt: skip
_NOT_NULL_TEXTS = {"description", "notes"}
_LISTS = ("steps", "acceptance_criteria", "files_hint", "constraints", "subtasks", "next_action")
_NOT_NULL_LISTS = {"subtasks", "next_action"}
_FLAGS = ("title_manually_set", "internal", "use_worktree", "auto_start")
_NOT_NULL = {"title", "priority_level", "progress", "type", "current_phase", "origin", *_FLAGS}
_REFERENCES: dict[str, tuple[Any, str]] = {
    "agent_id": (Agent, "Agent"),
    "story_id": (Story, "Story"),
    "parent_id": (Task, "Task"),
}


async def checked_fields(
    ctx: Context, workspace_id: str, *, task: Task | None = None, **fields: Any
) -> dict[str, Any]:
    """Checked column values for the given fields; unknown names are a programming error."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Unset):
            continue
        if name == "priority":
            if value is None:
                raise InvalidError("priority must not be null", field="priority")
            current = task.priority_level if task else None
            values["priority_level"] = level_of(
                check.word(value, TaskPriority, field="priority"), current
            )
        elif name == "metadata":
            values["meta"] = check.json_object(
                value, field="metadata", maximum_bytes=ctx.limits.json_bytes
            )
        elif name in _REFERENCES:
            values[name] = await _reference(ctx, workspace_id, name, value, task)
        elif name == "assignee_id":
            values[name] = await _assignee(ctx, workspace_id, value)
        else:
            values[name] = _checked_field(ctx, name, value)
    return values


def title_from(description: str) -> str:
    """A title for a task that came without: the first line of its description, cut at 60."""
    first = _CONTROL.sub(" ", next(iter(description.strip().splitlines()), "")).strip()
    return first if len(first) <= TITLE_MADE else f"{first[: TITLE_MADE - 3]}..."


def _checked_field(ctx: Context, name: str, value: Any) -> Any:  # noqa: C901  # flat
    limits = ctx.limits
    if value is None and name in _NOT_NULL:
        raise InvalidError(f"{name} must not be null", field=name)
    if name == "title":
        return check.line(value, field="title", maximum=limits.title)
    if name == "labels":
        return check.lines(
            value or [], field="labels", maximum_items=limits.labels, maximum=limits.label
        )
    if name in _LINES:
        return check.optional_line(value, field=name, maximum=_LINES[name])
    if name in _TEXTS:
        absent = "" if name in _NOT_NULL_TEXTS else None
        return check.optional_text(
            absent if value is None else value, field=name, maximum=limits.description
        )
    if name in _LISTS:
        if value is None:
            return [] if name in _NOT_NULL_LISTS else None
        return _json_list(value, field=name, limits=limits)
    if name in _FLAGS:
        return bool(value)
    if name in {"branch", "base_branch"}:
        return check_branch(ctx, value, field=name)
    if value is None:
        return None
    return _checked_scalar(name, value, limits.json_bytes)


def _checked_scalar(name: str, value: Any, json_bytes: int) -> Any:  # noqa: C901, PLR0912  # a table
    match name:
        case "priority_level":
            return check.integer(value, field=name, minimum=0, maximum=PRIORITY_LEVEL_MAX)
        case "progress":
            return check.integer(value, field=name, minimum=0, maximum=100)
        case "current_phase":
            return check.integer(value, field=name, minimum=0, maximum=1000)
        case "origin":
            return check.line(value, field=name, maximum=50)
        case "type":
            return check.word(value, TaskType, field=name)
        case "category":
            return check.word(value, TaskCategory, field=name)
        case "review_verdict":
            return check.word(value, ReviewVerdict, field=name)
        case "executor":
            return check.word(value, Executor, field=name)
        case "sprint_number":
            return check.integer(value, field=name, minimum=0, maximum=1_000_000)
        case "story_points":
            if not math.isfinite(value):
                raise InvalidError("story_points must be a finite number", field=name)
            return check.number(value, field=name, minimum=0, maximum=100)
        case "estimate_seconds":
            return check.integer(value, field=name, minimum=0, maximum=10**9)
        case "due_at":
            return _aware(value, field=name)
        case "output_schema":
            return check.json_object(value, field=name, maximum_bytes=json_bytes)
    raise TypeError(f"a task has no field {name} to set")


def _aware(value: datetime, *, field: str) -> datetime:
    if value.tzinfo is None:
        raise InvalidError(f"{field} needs a time zone", field=field)
    return check.moment(value, field=field)


def _json_list(value: Any, *, field: str, limits: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > limits.list_items:
        raise InvalidError(
            f"{field} must be a list of at most {limits.list_items} items", field=field
        )
    checked: list[Any] = check.json_value(value, field=field, maximum_bytes=limits.json_bytes)
    return checked


def check_branch(ctx: Context, name: str | None, *, field: str = "branch") -> str | None:
    """A branch name git would take, or None.

    Raises:
        InvalidError: with git's rule that it breaks.
    """
    if name is None or not name.strip():
        return None
    branch = check.line(name, field=field, maximum=255)
    try:
        ctx.services.git.check_branch_name(branch)
    except ValueError as error:
        raise InvalidError(f"{field}: {error}", field=field) from error
    return branch


async def _reference(
    ctx: Context, workspace_id: str, name: str, value: str | None, task: Task | None
) -> str | None:
    if value is None:
        return None
    model, kind = _REFERENCES[name]
    check.identifier(value, field=name)
    columns = table_of(model).c
    conditions = [columns.id == value, columns.workspace_id == workspace_id]
    if model is Task:
        conditions.append(columns.deleted_at.is_(None))
    found = await ctx.transaction.scalar(sa.select(columns.id).where(*conditions))
    if found is None:
        raise InvalidError(f"{kind} {value} is not in this workspace", field=name)
    if task is not None and model is Task:
        await _refuse_parent_cycle(ctx, task, value)
    return value


async def lock_links(ctx: Context, workspace_id: str) -> None:
    """Let nobody else link tasks of a workspace until the transaction ends.

    A circle is looked for before a link is written: two links made at once could close one that
    neither sees. Locking the tasks themselves is not enough, a circle may be longer than two.
    """
    workspace = table_of(Workspace).c
    await ctx.transaction.execute(
        sa.select(workspace.id).where(workspace.id == workspace_id).with_for_update(key_share=True)
    )


async def _refuse_parent_cycle(ctx: Context, task: Task, parent_id: str) -> None:
    await lock_links(ctx, task.workspace_id)
    seen: str | None = parent_id
    for _ in range(ctx.limits.dependencies):
        if seen is None:
            return
        if seen == task.id:
            raise InvalidError("A task cannot be below itself", field="parent_id")
        seen = await ctx.transaction.scalar(sa.select(TASK.parent_id).where(TASK.id == seen))
    raise InvalidError("Tasks are nested too deeply", field="parent_id")


async def _assignee(ctx: Context, workspace_id: str, user_id: str | None) -> str | None:
    """A user who can see the workspace; others do not exist for the caller."""
    if user_id is None:
        return None
    check.identifier(user_id, field="assignee_id")
    user, member = table_of(User).c, table_of(Membership).c
    found = await ctx.transaction.scalar(
        sa.select(user.id)
        .outerjoin(
            table_of(Membership),
            sa.and_(member.user_id == user.id, member.workspace_id == workspace_id),
        )
        .where(
            user.id == user_id,
            user.is_active.is_(True),
            sa.or_(member.role.is_not(None), user.role.is_not(None), user.is_site_owner.is_(True)),
        )
    )
    if found is None:
        raise InvalidError(f"User {user_id} is not in this workspace", field="assignee_id")
    return user_id
