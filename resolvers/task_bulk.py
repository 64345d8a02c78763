"""Small changes of a task, and one change for many tasks, with a result for each."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models import Task
from models.enums import Permission, TaskPriority, TaskStatus
from resolvers import task_access, task_lifecycle, tasks
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import InvalidError, NotFoundError, OperationError, UnavailableError
from resolvers.idempotency import stamp_refusal
from resolvers.operation import operation
from resolvers.stamps import restores
from resolvers.task_board import move_task
from resolvers.validation import UNSET, Unset
from resolvers.workspaces import get_active_workspace

TIME_LIMIT = 30.0
"""Seconds after which no further item is begun: shorter than an idempotency key is locked."""

PASSING = frozenset({"UNAVAILABLE", "INTERNAL"})
"""Errors that say nothing about the item: it may be tried again under the same key."""


@operation
async def assign_task(
    ctx: Context,
    *,
    task_id: str,
    assignee_id: str | Unset | None = UNSET,
    agent_id: str | Unset | None = UNSET,
) -> Task:
    """Give a task to a user, an agent or both; None takes it away, what is not given stays.

    Raises:
        InvalidError: neither is given, or one that does not belong to the workspace.
        NotFoundError, ForbiddenError, ConflictError.
    """
    if isinstance(assignee_id, Unset) and isinstance(agent_id, Unset):
        raise InvalidError("Give assigneeId or agentId", field="assigneeId")
    return await tasks.update_task(ctx, task_id=task_id, assignee_id=assignee_id, agent_id=agent_id)


@operation
async def label_task(
    ctx: Context, *, task_id: str, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> Task:
    """Add labels behind those a task has, and remove others; repeating changes nothing.

    Args:
        ctx: needs ``write``.
        task_id: which.
        add: up to 50, each one line of up to 50 characters; a task has at most 50 in all.
        remove: up to 50; those it does not have are no error. A label in both is added.

    Raises:
        InvalidError, NotFoundError, ForbiddenError, ConflictError.
    """
    limits = ctx.limits
    added, removed = (
        check.lines(given, field=field, maximum_items=limits.labels, maximum=limits.label)
        for field, given in (("add", add), ("remove", remove))
    )
    task = await task_access.get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    kept = [label for label in task.labels if label not in removed or label in added]
    labels = list(dict.fromkeys([*kept, *added]))
    return await tasks.update_task(ctx, task_id=task_id, labels=labels)


class BulkAction(StrEnum):
    """What is done to each task, by the operation of the same name."""

    MOVE = "MOVE"
    ASSIGN = "ASSIGN"
    ADD_LABELS = "ADD_LABELS"
    REMOVE_LABELS = "REMOVE_LABELS"
    SET_PRIORITY = "SET_PRIORITY"
    ARCHIVE = "ARCHIVE"
    UNARCHIVE = "UNARCHIVE"
    DELETE = "DELETE"
    CANCEL = "CANCEL"
    RETRY = "RETRY"
    ENQUEUE = "ENQUEUE"


@dataclass(frozen=True, slots=True)
class BulkArguments:
    """What the actions need.

    MOVE a status, ASSIGN at least one of the ids (None: nobody), the label actions labels,
    SET_PRIORITY a priority; MOVE and CANCEL may have a reason.
    """

    status: str | None = None
    assignee_id: str | Unset | None = UNSET
    agent_id: str | Unset | None = UNSET
    labels: Sequence[str] = ()
    priority: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class BulkError:
    """Why one task was left as it is."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BulkItem:
    """What became of one task."""

    task_id: str
    error: BulkError | None = None

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of each task, in the order they were named."""

    workspace_id: str
    items: list[BulkItem]

    def to_stamp(self) -> dict[str, Any]:
        """For a retried request."""
        items = [
            [item.task_id, item.error and [item.error.code, item.error.message]]
            for item in self.items
        ]
        return {"kind": "bulk", "workspace_id": self.workspace_id, "items": items}


@restores("bulk")
async def _restore_bulk(_ctx: Context, stamp: dict[str, Any]) -> BulkResult:
    items = [BulkItem(task_id, error and BulkError(*error)) for task_id, error in stamp["items"]]
    return BulkResult(stamp["workspace_id"], items)


Change = Callable[[Context, str], Awaitable[Task]]


async def bulk_update_tasks(
    ctx: Context,
    *,
    workspace_id: str,
    task_ids: Sequence[str],
    action: str,
    arguments: BulkArguments | None = None,
) -> BulkResult:
    """Do the same to many tasks, each in a transaction of its own: one may fail, others succeed.

    A request with an idempotency key stamps every task as it is done; sent again after a crash, it
    goes on where it was. Where the server was too busy for some of them, or no time was left, they
    have the error UNAVAILABLE, and the same request sent again does just these.

    Args:
        ctx: needs ``write`` in the workspace, and whatever the action needs.
        workspace_id: where the tasks are.
        task_ids: 1 to 100; one that is named twice counts once.
        action: what to do, a ``BulkAction``.
        arguments: what the action needs.

    Raises:
        InvalidError: too many tasks, none, or an argument the action needs is missing.
        NotFoundError, ForbiddenError, ConflictError: about the workspace; about a task, they stand
            in its result.
    """
    ids = list(dict.fromkeys(task_ids))
    if not 1 <= len(ids) <= ctx.limits.bulk_items:
        raise InvalidError(
            f"taskIds must be 1 to {ctx.limits.bulk_items}",
            field="taskIds",
            limit=ctx.limits.bulk_items,
        )
    change = _change(check.word(action, BulkAction, field="action"), arguments or BulkArguments())
    await get_active_workspace(ctx, workspace_id=workspace_id)
    await ctx.release()
    deadline = time.monotonic() + TIME_LIMIT
    items: list[BulkItem] = []
    for index, task_id in enumerate(ids):
        if time.monotonic() < deadline:
            items.append(await _item(ctx, workspace_id, index, task_id, change))
        else:
            items.append(_failed(task_id, UnavailableError("There was no time left for this task")))
    result = BulkResult(workspace_id, items)
    unfinished = any(item.error is not None and item.error.code in PASSING for item in items)
    if ctx.idempotency is not None and not unfinished:
        await _settle(ctx, result=result)
    return result


@operation
async def _settle(_ctx: Context, *, result: BulkResult) -> BulkResult:
    """Let the stamp of the whole take the place of the stamps of its items."""
    return result


async def _item(
    ctx: Context, workspace_id: str, index: int, task_id: str, change: Change
) -> BulkItem:
    request = ctx.idempotency
    if request is None:
        return await _attempt(ctx, workspace_id, task_id, change)
    with request.part(index):
        stamp = request.stamped()
        if stamp is not None:
            error = stamp.get("error")
            return BulkItem(task_id, error and BulkError(error["code"], error["message"]))
        return await _attempt(ctx, workspace_id, task_id, change, stamps=True)


async def _attempt(
    ctx: Context, workspace_id: str, task_id: str, change: Change, *, stamps: bool = False
) -> BulkItem:
    try:
        await _update(ctx, workspace_id=workspace_id, task_id=task_id, change=change)
    except OperationError as error:
        if stamps and error.code not in PASSING:
            await stamp_refusal(ctx, error=error)
        return _failed(task_id, error)
    return BulkItem(task_id)


def _failed(task_id: str, error: OperationError) -> BulkItem:
    return BulkItem(task_id, BulkError(error.code, error.message))


@operation
async def _update(ctx: Context, *, workspace_id: str, task_id: str, change: Change) -> Task:
    task = await task_access.get_task(ctx, task_id=task_id)
    if task.workspace_id != workspace_id:
        raise NotFoundError("Task")
    return await change(ctx, task_id)


def _change(action: BulkAction, given: BulkArguments) -> Change:  # noqa: C901  # a flat table of actions
    match action:
        case BulkAction.MOVE:
            status = check.word(_needed(given.status, "status"), TaskStatus, field="status")
            return lambda ctx, i: move_task(ctx, task_id=i, status=status, reason=given.reason)
        case BulkAction.ASSIGN:
            if isinstance(given.assignee_id, Unset) and isinstance(given.agent_id, Unset):
                raise InvalidError("This action needs assigneeId or agentId", field="assigneeId")
            return lambda ctx, i: assign_task(
                ctx, task_id=i, assignee_id=given.assignee_id, agent_id=given.agent_id
            )
        case BulkAction.ADD_LABELS:
            labels = _needed(given.labels, "labels")
            return lambda ctx, i: label_task(ctx, task_id=i, add=labels)
        case BulkAction.REMOVE_LABELS:
            labels = _needed(given.labels, "labels")
            return lambda ctx, i: label_task(ctx, task_id=i, remove=labels)
        case BulkAction.SET_PRIORITY:
            word = check.word(_needed(given.priority, "priority"), TaskPriority, field="priority")
            return lambda ctx, i: tasks.update_task(ctx, task_id=i, priority=word)
        case BulkAction.ARCHIVE:
            return lambda ctx, i: tasks.archive_task(ctx, task_id=i)
        case BulkAction.UNARCHIVE:
            return lambda ctx, i: tasks.archive_task(ctx, task_id=i, archived=False)
        case BulkAction.DELETE:
            return lambda ctx, i: tasks.delete_task(ctx, task_id=i)
        case BulkAction.CANCEL:
            return lambda ctx, i: task_lifecycle.cancel_task(ctx, task_id=i, reason=given.reason)
        case BulkAction.RETRY:
            return lambda ctx, i: task_lifecycle.retry_task(ctx, task_id=i)
        case BulkAction.ENQUEUE:
            return lambda ctx, i: task_lifecycle.enqueue_task(ctx, task_id=i)


def _needed(value: Any, field: str) -> Any:
    if not value:
        raise InvalidError(f"This action needs {field}", field=field)
    return value
