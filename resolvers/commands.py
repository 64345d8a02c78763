"""Commands: a line that a person runs in a workspace's folder, under the operator's policy.

A command is a run of kind COMMAND: supervised, stopped, streamed and kept like any other. It does
not wait in the queues and counts against limits of its own.
"""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from models import Run, Task, Workspace, table_of
from models.enums import Executor, Permission, QueueClass, RunKind, RunStatus
from models.lifecycle import RUN_FINAL, RUN_LIVE
from models.transaction import select_all
from resolvers import validation as check
from resolvers.command_policy import CommandPolicy, Verdict, find_path_problem, judge, suggestions
from resolvers.context import Context
from resolvers.errors import ConflictError, ForbiddenError, InvalidError, LimitExceededError
from resolvers.operation import operation
from resolvers.paging import Order, Page, PageArguments, read_page
from resolvers.task_access import get_task
from resolvers.task_runs import QUEUE_RANK
from resolvers.workspaces import get_active_workspace, get_workspace

RUN = table_of(Run).c
_NEWEST_FIRST = (Order(RUN.created_at, True), Order(RUN.id, True))
FREQUENT = 10


@operation
async def run_command(
    ctx: Context,
    *,
    workspace_id: str,
    command: str,
    working_directory: str | None = None,
    task_id: str | None = None,
    timeout_seconds: int | None = None,
) -> Run:
    """Run a command line in a workspace's folder, if the policy allows it; it starts at once.

    Args:
        ctx: needs ``execute``.
        workspace_id: whose ``local_path`` it runs in.
        command: up to 4,096 characters; split into words, never read by a shell.
        working_directory: a folder below, relative to it.
        task_id: run it in the worktree of this task instead.
        timeout_seconds: ends it after so long; 300 by default, at most 3,600.

    Returns:
        A run of kind COMMAND; its output is followed like any run's.

    Raises:
        InvalidError: it cannot be read or is dangerous; ``issues`` says what and ``alternatives``
            what else, ``warnings`` in words.
        ForbiddenError: the policy does not allow it; likewise, with ``reason``.
        LimitExceededError: too many commands execute.
        ConflictError: there is no folder to run it in.
        NotFoundError.
    """
    policy = _policy(ctx)
    workspace = await get_active_workspace(
        ctx, workspace_id=workspace_id, permission=Permission.EXECUTE
    )
    if timeout_seconds is not None:
        check.integer(
            timeout_seconds, field="timeoutSeconds", minimum=1, maximum=policy.max_seconds
        )
    root, folder = await _folder(ctx, workspace, working_directory, task_id)
    verdict = judge(policy, command, root=root, folder=folder)
    refuse(verdict)
    await _refuse_too_many(ctx, policy)
    run = await ctx.transaction.insert(
        Run,
        workspace_id=workspace_id,
        task_id=None,
        kind=RunKind.COMMAND,
        executor=Executor.CUSTOM,
        command=command,
        working_directory=str(folder),
        worktree_path=str(root),
        timeout_seconds=timeout_seconds or policy.default_seconds,
        queue_class=QueueClass.HIGH,
        queue_rank=QUEUE_RANK[QueueClass.HIGH],
        queued_at=ctx.now,
        created_by=ctx.authenticated().user_id,
        created_at=ctx.now,
        updated_at=ctx.now,
    )
    ctx.emit("run.queued", run, workspace_id=workspace_id)
    await _forget_old(ctx, run, policy)
    ctx.after_commit(ctx.services.dispatcher.wake)
    return run


def refuse(verdict: Verdict) -> None:
    """Raise what a verdict means, unless the command may run.

    Raises:
        InvalidError, ForbiddenError: see :func:`run_command`.
    """
    if verdict.allowed:
        return
    details = {
        "issues": [issue.code.value for issue in verdict.issues],
        "warnings": [issue.message for issue in verdict.issues],
        "alternatives": list(verdict.alternatives),
    }
    message = f"The command is refused: {verdict.issues[0].message}"
    permission = {"NOT_ALLOWED", "ARGUMENT"}
    if not verdict.dangerous and permission & set(details["issues"]):
        raise ForbiddenError(message, reason="command_not_allowed", **details)
    raise InvalidError(message, field="command", **details)


def _policy(ctx: Context) -> CommandPolicy:
    return ctx.services.trust.commands or CommandPolicy(enabled=False)


async def _folder(
    ctx: Context, workspace: Workspace, working_directory: str | None, task_id: str | None
) -> tuple[Path, Path]:
    """What a command may reach, and where it runs; both resolved.

    Raises:
        ConflictError, InvalidError, NotFoundError.
    """
    place = workspace.local_path
    if task_id is not None:
        task: Task = await get_task(ctx, task_id=task_id)
        if task.workspace_id != workspace.id:
            raise InvalidError("The task is not in this workspace", field="taskId")
        place = task.worktree_path
    if place is None:
        raise ConflictError("There is no folder on the server's disk to run commands in")
    given = check.text(working_directory or ".", field="workingDirectory", maximum=4_096)
    return find_folder(Path(place), given)


def find_folder(place: Path, given: str) -> tuple[Path, Path]:
    """The folder a command may reach and the one it runs in, both resolved; one look at the disk.

    Raises:
        InvalidError: it leads elsewhere, or there is none.
    """
    try:
        root = place.resolve()
        problem = find_path_problem(root, root, given)
        folder = (root / given).resolve()
        is_folder = problem is None and folder.is_dir()
    except OSError as error:  # such as a name that no file system takes
        problem, folder, is_folder = str(error.strerror), place, False
    if problem is not None:
        raise InvalidError(f"workingDirectory: {problem}", field="workingDirectory")
    if not is_folder:
        raise InvalidError("workingDirectory is not a folder", field="workingDirectory")
    return root, folder


async def _refuse_too_many(ctx: Context, policy: CommandPolicy) -> None:
    owner = ctx.authenticated().user_id
    row = await ctx.transaction.first(
        sa.select(
            sa.func.count().label("all"),
            sa.func.count().filter(RUN.created_by == owner).label("own"),
        ).where(
            RUN.kind == RunKind.COMMAND, RUN.managed.is_(True), RUN.status.in_(sorted(RUN_LIVE))
        )
    )
    for count, limit in (
        (getattr(row, "all", 0), policy.concurrent),
        (getattr(row, "own", 0), policy.concurrent_per_user),
    ):
        if count >= limit:
            raise LimitExceededError("Too many commands execute at once", limit=limit)


async def _forget_old(ctx: Context, run: Run, policy: CommandPolicy) -> None:
    """Keep the newest commands of a person in a workspace; the others go, with their output."""
    own = [
        RUN.workspace_id == run.workspace_id,
        RUN.kind == RunKind.COMMAND,
        RUN.created_by == run.created_by,
    ]
    oldest_kept = await ctx.transaction.first(
        sa.select(RUN.created_at, RUN.id)
        .where(*own)
        .order_by(RUN.created_at.desc(), RUN.id.desc())
        .offset(policy.history - 1)
        .limit(1)
    )
    if oldest_kept is not None:
        await ctx.transaction.execute(
            sa.delete(table_of(Run)).where(
                *own, RUN.status.in_(sorted(RUN_FINAL)), RUN.created_at < oldest_kept.created_at
            )
        )


async def check_command(
    ctx: Context,
    *,
    workspace_id: str,
    command: str,
    working_directory: str | None = None,
    task_id: str | None = None,
    check_safety: bool = True,
) -> Verdict:
    """Whether :func:`run_command` would run a command line, and why not; nothing is started.

    Raises:
        NotFoundError, ForbiddenError, ConflictError, InvalidError: of the place, not of the line.
    """
    workspace = await get_active_workspace(
        ctx, workspace_id=workspace_id, permission=Permission.EXECUTE
    )
    root, folder = await _folder(ctx, workspace, working_directory, task_id)
    return judge(_policy(ctx), command, root=root, folder=folder, check_safety=check_safety)


async def list_commands(
    ctx: Context,
    *,
    workspace_id: str,
    everyone: bool = False,
    live: bool | None = None,
    page: PageArguments | None = None,
) -> Page[Run]:
    """A page of the commands that were run in a workspace, newest first.

    Args:
        ctx: needs ``execute``; for those of everyone ``admin``.
        workspace_id: where.
        everyone: not only one's own.
        live: only those that have not ended, or only those that have.
        page: which page.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
    """
    await get_workspace(ctx, workspace_id=workspace_id, permission=Permission.EXECUTE)
    if everyone:
        ctx.require(Permission.ADMIN, workspace_id)
    statement = select_all(Run).where(RUN.workspace_id == workspace_id, RUN.kind == RunKind.COMMAND)
    if not everyone:
        statement = statement.where(RUN.created_by == ctx.authenticated().user_id)
    if live is not None:
        statement = statement.where(RUN.status.in_(sorted(RUN_LIVE if live else RUN_FINAL)))
    return await read_page(ctx, Run, statement, order=_NEWEST_FIRST, page=page or PageArguments())


@dataclass(frozen=True, slots=True)
class CommandSuggestion:
    """A command one might run."""

    command: str
    description: str
    category: str


async def suggest_commands(
    ctx: Context,
    *,
    workspace_id: str,
    category: str | None = None,
    prefix: str | None = None,
    query: str | None = None,
) -> list[CommandSuggestion]:
    """Commands one might run: known ones that may run, then one's own newest (``own``).

    Args:
        ctx: needs ``execute``.
        workspace_id: where.
        category: only of this one: core, files, git, npm, claude, own.
        prefix: beginning of the command, in any case; blanks count.
        query: part of the command or its description, in any case.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
    """
    await get_workspace(ctx, workspace_id=workspace_id, permission=Permission.EXECUTE)
    for name, text in (("category", category), ("prefix", prefix), ("query", query)):
        check.optional_text(text, field=name, maximum=ctx.limits.short_text)
    known = suggestions(_policy(ctx), category=category, prefix=prefix, query=query)
    found = [CommandSuggestion(*suggestion) for suggestion in known]
    if category in {None, "own"}:
        found += await _own_newest(ctx, workspace_id, prefix or "", query or "")
    return found


async def _own_newest(
    ctx: Context, workspace_id: str, prefix: str, query: str
) -> list[CommandSuggestion]:
    lines = await (await ctx.reader()).scalars(
        sa.select(RUN.command)
        .where(
            RUN.workspace_id == workspace_id,
            RUN.kind == RunKind.COMMAND,
            RUN.created_by == ctx.authenticated().user_id,
            RUN.status == RunStatus.COMPLETED,
        )
        .order_by(RUN.created_at.desc(), RUN.id.desc())
        .limit(100)
    )
    fitting = [
        line
        for line in dict.fromkeys(lines)
        if line.casefold().startswith(prefix.casefold()) and query.casefold() in line.casefold()
    ]
    return [CommandSuggestion(line, "Run before", "own") for line in fitting[:FREQUENT]]
