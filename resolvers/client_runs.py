"""Runs that a client drives itself: it says what happens, the server keeps it and tells others.

``managed`` is false for them; the dispatcher, recovery and time limits leave them alone, and the
table of transitions does not bind them. ``resolvers.run_handover`` makes the server execute one.
A managed run's client may add to ``output`` and ``state`` and cancel it; its other facts are the
server's own.
"""

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from models import Run, RunOutput, Task, table_of
from models.enums import Executor, Permission, Role, RunKind, RunStatus
from models.lifecycle import RUN_FINAL
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import ConflictError, InvalidError, LimitExceededError
from resolvers.json_schema import violation
from resolvers.operation import operation
from resolvers.principal import Principal
from resolvers.run_queries import get_run, pack_entries, run_chain
from resolvers.runs import stop_run
from resolvers.signed_links import check_link, sign_steady_link
from resolvers.task_access import get_task
from resolvers.task_fields import check_branch
from resolvers.task_runs import (
    QUEUE_RANK,
    change_run,
)
from resolvers.validation import UNSET, Unset

RUN = table_of(Run).c
ENVIRONMENTS = ("local", "cloud")
LOG_ENTRIES_MAX = 1_000
STAGE_LENGTH = 100


@operation
async def create_client_run(
    ctx: Context,
    *,
    task_id: str,
    environment: str = "local",
    executor: str | None = None,
    model: str | None = None,
    branch: str | None = None,
    stage: str | None = None,
    state: dict[str, Any] | None = None,
) -> Run:
    """Record a run that its client will drive; nothing is started and the task stays as it is.

    Args:
        ctx: needs ``execute``.
        task_id: of which task.
        environment: ``local`` or ``cloud``: where it is meant to run.
        executor: which program; by default the task's, else the server's.
        model: which model, in the client's words.
        branch: where its work goes.
        stage: a word for how far it is, up to 100 characters.
        state: what the client wants to remember; a JSON object.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.EXECUTE)
    run = await ctx.transaction.insert(
        Run,
        workspace_id=task.workspace_id,
        task_id=task.id,
        kind=RunKind.TASK,
        managed=False,
        environment=check.one_of(environment, ENVIRONMENTS, field="environment"),
        executor=_executor(ctx, executor or task.executor),
        model=check.optional_line(model, field="model", maximum=100),
        branch=check_branch(ctx, branch),
        stage=check.optional_line(stage, field="stage", maximum=STAGE_LENGTH),
        state=check.json_object(state or {}, field="state", maximum_bytes=ctx.limits.json_bytes),
        attempt=await _attempts(ctx, task) + 1,
        queue_class=task.queue_class,
        queue_rank=QUEUE_RANK[task.queue_class],  # type: ignore[index]  # a column's word is the enum's
        priority_level=task.priority_level,
        queued_at=ctx.now,
        created_by=ctx.authenticated().user_id,
        created_at=ctx.now,
        updated_at=ctx.now,
    )
    ctx.emit("run.created", run, workspace_id=run.workspace_id)
    return run


def _executor(ctx: Context, name: str | None) -> str:
    return check.word(name or ctx.services.trust.default_executor, Executor, field="executor")


async def _attempts(ctx: Context, task: Task) -> int:
    count = await ctx.transaction.scalar(sa.select(sa.func.count()).where(RUN.task_id == task.id))
    return int(count)


@operation
async def update_client_run(
    ctx: Context,
    *,
    run_id: str,
    status: RunStatus | None = None,
    branch: str | Unset | None = UNSET,
    stage: str | Unset | None = UNSET,
    error: str | Unset | None = UNSET,
    output: dict[str, Any] | Unset | None = UNSET,
    state: dict[str, Any] | None = None,
    state_remove: Sequence[str] = (),
    protected_state: frozenset[str] = frozenset(),
) -> Run:
    """What a client says of its run; a run that has ended stays as it ended.

    Objects are merged key by key at the top level, under the row's lock, so that clients that
    speak at once lose nothing. Of a managed run only CANCELLED is taken as a status: it stops.

    Args:
        ctx: needs ``execute``.
        run_id: which.
        status: any; there is no table of transitions for a client's own run.
        branch: None clears.
        stage: a word, up to 100 characters; None clears.
        error: what went wrong, for people; None clears.
        output: merged into the run's output; None clears it.
        state: merged into the run's state, after ``state_remove``.
        state_remove: keys to be removed from the state.
        protected_state: keys that neither of the two touches.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.EXECUTE)
    if run.status in RUN_FINAL:
        return run
    changes: dict[str, Any] = {}
    if not run.managed:
        changes = _own_facts(ctx, run, status=status, branch=branch, stage=stage, error=error)
    if not isinstance(output, Unset):
        changes["output"] = _merged_output(ctx, run, output)
    if state is not None or state_remove:
        kept = {k: v for k, v in run.state.items() if k not in {*state_remove} - protected_state}
        kept.update({k: v for k, v in (state or {}).items() if k not in protected_state})
        changes["state"] = check.json_object(
            kept, field="state", maximum_bytes=ctx.limits.json_bytes
        )
    changes = {name: value for name, value in changes.items() if getattr(run, name) != value}
    if changes:
        moved = changes.get("status", run.status) != run.status
        run = await change_run(
            ctx,
            run,
            f"run.{changes['status'].lower()}" if moved else "run.updated",
            free=not run.managed,
            **changes,
        )
    if run.managed and status == RunStatus.CANCELLED:
        return await stop_run(ctx, run_id=run_id)
    return run


def _own_facts(
    ctx: Context,
    run: Run,
    *,
    status: RunStatus | None,
    branch: str | Unset | None,
    stage: str | Unset | None,
    error: str | Unset | None,
) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if status is not None:
        changes["status"] = status
        if status == RunStatus.RUNNING and run.started_at is None:
            changes["started_at"] = ctx.now
    if not isinstance(branch, Unset):
        changes["branch"] = check_branch(ctx, branch)
    if not isinstance(stage, Unset):
        changes["stage"] = check.optional_line(stage, field="stage", maximum=STAGE_LENGTH)
    if not isinstance(error, Unset):
        changes["error"] = check.optional_text(error, field="error", maximum=ctx.limits.description)
    return changes


def _merged_output(ctx: Context, run: Run, output: dict[str, Any] | None) -> dict[str, Any] | None:
    if output is None:
        return None
    present = run.output if isinstance(run.output, dict) else {}
    return check.json_object(
        {**present, **output}, field="output", maximum_bytes=ctx.limits.json_bytes
    )


@operation
async def set_run_output(ctx: Context, *, run_id: str, output: Any) -> Run:
    """Replace a run's output by any JSON value that the task's schema for it allows.

    Raises:
        InvalidError: it violates the task's ``output_schema``, or is too large.
        NotFoundError, ForbiddenError.
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.EXECUTE)
    check.json_value(output, field="output", maximum_bytes=ctx.limits.json_bytes)
    task = await ctx.transaction.find_by_id(Task, run.task_id or "")
    if task is not None and task.output_schema is not None:
        problem = violation(output, task.output_schema)
        if problem is not None:
            raise InvalidError(f"Output validation error: {problem}", field="output", schema=True)
    if run.output == output:
        return run
    return await change_run(ctx, run, "run.updated", output=output)


@operation
async def append_run_log(ctx: Context, *, run_id: str, entries: Sequence[dict[str, Any]]) -> Run:
    """Add entries to a client run's output log: a line of JSON each, in order.

    Args:
        ctx: needs ``execute``.
        run_id: a run that is not managed.
        entries: up to 1,000 JSON objects; none changes nothing.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, LimitExceededError.
        ConflictError: the server executes this run, and writes its log itself.
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.EXECUTE)
    if run.managed:
        raise ConflictError("The server writes this run's log itself")
    if len(entries) > LOG_ENTRIES_MAX:
        raise InvalidError(
            f"At most {LOG_ENTRIES_MAX} entries at once", field="entries", limit=LOG_ENTRIES_MAX
        )
    if not entries:
        return run
    check.json_value(list(entries), field="entries", maximum_bytes=ctx.limits.log_bytes)
    lines = [orjson.dumps(entry).decode() for entry in entries]
    size = sum(len(line) for line in lines)
    if run.output_bytes + size > ctx.limits.run_log_bytes:
        raise LimitExceededError(
            "The run's log has its maximum size", limit=ctx.limits.run_log_bytes
        )
    at = ctx.now.isoformat()
    await ctx.transaction.insert(
        RunOutput,
        run_id=run_id,
        first_line=run.output_lines + 1,
        last_line=run.output_lines + len(lines),
        data=pack_entries([{"s": "log", "t": line, "at": at, "e": None} for line in lines]),
        created_at=ctx.now,
    )
    ctx.after_commit(lambda: ctx.services.wakeups.run_output(run_id))
    return await ctx.transaction.update_by_id(
        Run,
        run_id,
        output_lines=run.output_lines + len(lines),
        output_bytes=run.output_bytes + size,
        last_output_at=ctx.now,
    )


def sign_run_log(ctx: Context, run: Run) -> str:
    """A token that opens a run's log without a credential; see ``resolvers.signed_links``."""
    return sign_steady_link(ctx, _log_of(run.id))


async def open_run_log(ctx: Context, *, run_id: str, token: str) -> list[Run]:
    """What :func:`run_chain` gives, for whoever holds a link; the context may then read these.

    Raises:
        ForbiddenError: the link is not valid, or no longer.
        NotFoundError: the run is gone.
    """
    check_link(ctx, _log_of(run_id), token)
    workspace_id = await (await ctx.reader()).scalar(
        sa.select(RUN.workspace_id).where(RUN.id == run_id)
    )
    ctx.principal = Principal(
        kind="link",
        id=run_id,
        name="holder of a link",
        memberships={workspace_id or "": Role.VIEWER},
        scopes=frozenset({"task:read"}),
    )
    return await run_chain(ctx, run_id=run_id)


def _log_of(run_id: str) -> str:
    return f"run log {run_id}"
