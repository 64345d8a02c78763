"""One run, those it goes on from, and what it printed."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from models import Run, RunOutput, Task, Workspace, table_of
from models.enums import Permission
from models.lifecycle import RUN_FINAL, RUN_LIVE
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import InvalidError, NotFoundError, OperationError
from resolvers.paging import (
    Order,
    Window,
)
from resolvers.ports import Diff
from resolvers.siblings import Parents, only, records_of_each
from resolvers.task_access import get_task, record_from
from resolvers.workspaces import get_workspace, require_active

RUN = table_of(Run).c
TASK = table_of(Task).c
WORKSPACE = table_of(Workspace).c
OUTPUT = table_of(RunOutput).c
OUTPUT_PAGE_MAX = 1_000
CHAIN_LENGTH = 10
"""How many runs back a resumed run's history is followed."""
OUTPUT_PAGE_CHARACTERS = 1 << 20
"""A page of output ends before this many, unless its first line alone has more."""
CHUNKS_AT_ONCE = 16


async def get_run(ctx: Context, *, run_id: str, permission: Permission = Permission.READ) -> Run:
    """A run the principal may see; inside an operation its row is locked.

    Raises:
        NotFoundError: unknown, of a deleted task, or of a workspace that is not visible.
        ForbiddenError: the permission is missing.
        ConflictError: a change is asked for below an inactive workspace.
    """
    ctx.authenticated()
    if not check.is_id(run_id):
        raise NotFoundError("Run")
    columns = (*table_of(Run).c, WORKSPACE.status.label("workspace_status"))
    statement = _undeleted(*columns).where(RUN.id == run_id)
    if ctx.in_transaction:
        statement = statement.with_for_update(of=table_of(Run))
    row = await (await ctx.reader()).first(statement)
    if row is None:
        raise NotFoundError("Run")
    ctx.require(permission, row.workspace_id, kind="Run")
    if permission != Permission.READ:
        require_active(row.workspace_status)
    run: Run = record_from(Run, row)
    return run


def _undeleted(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return (
        sa.select(*columns)
        .join(table_of(Workspace), WORKSPACE.id == RUN.workspace_id)
        .outerjoin(table_of(Task), TASK.id == RUN.task_id)
        .where(TASK.deleted_at.is_(None), WORKSPACE.deleted_at.is_(None))
    )


async def run_chain(ctx: Context, *, run_id: str) -> list[Run]:
    """A run and those it goes on from, oldest first; at most ten steps back.

    Raises:
        NotFoundError, ForbiddenError.
    """
    run = await get_run(ctx, run_id=run_id)
    chain = [run]
    while run.resumed_from_id is not None and len(chain) <= CHAIN_LENGTH:
        reader = await ctx.reader()
        found = await reader.find(
            Run, RUN.id == run.resumed_from_id, RUN.workspace_id == run.workspace_id
        )
        if found is None or any(found.id == known.id for known in chain):
            break
        chain.append(run := found)
    return chain[::-1]


async def find_run_of_session(ctx: Context, *, session_id: str, besides: Run) -> Run | None:
    """The run that last used an agent's session, besides one; for the system's own eyes."""
    runs = await (await ctx.reader()).records(
        Run,
        select_all(Run)
        .where(
            RUN.workspace_id == besides.workspace_id,
            RUN.session_id == session_id,
            RUN.id != besides.id,
        )
        .order_by(RUN.created_at.desc(), RUN.id.desc())
        .limit(1),
    )
    return runs[0] if runs else None


async def count_live_runs(ctx: Context) -> dict[str, int]:
    """How many runs that have not ended there are, by status; for the system's own eyes."""
    rows = await (await ctx.reader()).rows(
        sa.select(RUN.status, sa.func.count().label("number"))
        .where(RUN.status.in_(sorted(RUN_LIVE)))
        .group_by(RUN.status)
    )
    return {row.status: int(row.number) for row in rows}


@dataclass(frozen=True, slots=True)
class OutputEntry:
    """One line of a run's output log; ``event`` is the progress event it stands for, if any."""

    run_id: str
    line: int
    stream: str
    text: str
    at: datetime
    event: dict[str, Any] | None


def pack_entries(entries: list[dict[str, Any]]) -> bytes:
    """Entries as a chunk of the output log."""
    return zlib.compress(orjson.dumps(entries), 3)


def unpack_entries(chunk: RunOutput) -> list[OutputEntry]:
    """The entries of a chunk."""
    return [
        OutputEntry(
            run_id=chunk.run_id,
            line=chunk.first_line + index,
            stream=entry["s"],
            text=entry["t"],
            at=datetime.fromisoformat(entry["at"]),
            event=entry.get("e"),
        )
        for index, entry in enumerate(orjson.loads(zlib.decompress(chunk.data)))
    ]


@dataclass(frozen=True, slots=True)
class OutputPage:
    """Consecutive lines of a run's output log."""

    entries: list[OutputEntry]
    last_line: int
    """Number of the newest line there is."""
    ended: bool
    """Whether the run is over, so that nothing will follow ``last_line``."""


async def read_run_output(
    ctx: Context, *, run_id: str, after: int = 0, limit: int = 200
) -> OutputPage:
    """Lines of a run's output log behind a line number.

    Args:
        ctx: needs ``read``.
        run_id: whose output.
        after: the last line seen; 0 for the beginning.
        limit: 1 to 1,000 lines; fewer come where they would have more than a million characters.

    Raises:
        NotFoundError, InvalidError.
    """
    return only(await outputs_of_runs(ctx, [run_id], after=after, limit=limit))


async def outputs_of_runs(
    ctx: Context, run_ids: Sequence[str], *, after: int, limit: int
) -> list[OutputPage | OperationError]:
    """The same page of each run's output; a refusal where the run is not visible.

    Raises:
        InvalidError: as ``read_run_output``.
    """
    if not 1 <= limit <= OUTPUT_PAGE_MAX:
        raise InvalidError(f"first must be between 1 and {OUTPUT_PAGE_MAX}", field="first")
    if not 0 <= after < 2**31:
        raise InvalidError("after must be a line number", field="after")
    ctx.authenticated()
    wanted = [key for key in dict.fromkeys(run_ids) if check.is_id(key)]
    columns = (RUN.id, RUN.workspace_id, RUN.output_lines, RUN.status)
    rows = await (await ctx.reader()).rows(_undeleted(*columns).where(RUN.id.in_(wanted)))
    found: dict[str, OutputPage | OperationError] = {}
    for row in rows:
        try:
            ctx.require(Permission.READ, row.workspace_id, kind="Run")
        except OperationError as error:
            found[row.id] = error
        else:
            found[row.id] = OutputPage([], row.output_lines, row.status in RUN_FINAL)
    pages = {key: page for key, page in found.items() if isinstance(page, OutputPage)}
    await _fill(ctx, pages, after=after, limit=limit)
    return [found.get(key) or NotFoundError("Run") for key in run_ids]


async def _fill(ctx: Context, pages: Mapping[str, OutputPage], *, after: int, limit: int) -> None:
    """Read lines into the pages of runs, a few chunks at a time for all that want more."""
    wanting = {key: page for key, page in pages.items() if page.last_line > after}
    number = max(1, CHUNKS_AT_ONCE // max(1, len(wanting)))
    window = Window([Order(OUTPUT.first_line)], number - 1, backwards=False, key=None)
    passed = 0
    while wanting:
        parents = Parents(list(wanting), lambda run_id: _from_chunk_with(after, run_id))
        chunks = select_all(RunOutput).where(OUTPUT.last_line > after).offset(passed)
        found = await records_of_each(ctx, RunOutput, chunks, parents, window)
        wanting = {
            run_id: page
            for run_id, page in wanting.items()
            if _fill_one(page, found[run_id], after=after, limit=limit)
            and len(found[run_id]) == number
            and page.entries[-1].line < page.last_line
        }
        passed += number


def _from_chunk_with(line: int, run_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """SQL: chunks of a run, without looking at those that end before the one with a line."""
    earlier = table_of(RunOutput).alias("earlier")
    begin = (
        sa.select(sa.func.max(earlier.c.first_line))
        .where(earlier.c.run_id == run_id, earlier.c.first_line <= line)
        .correlate_except(earlier)
        .scalar_subquery()
    )
    return sa.and_(OUTPUT.run_id == run_id, OUTPUT.first_line >= sa.func.coalesce(begin, 0))


def _fill_one(page: OutputPage, chunks: Iterable[RunOutput], *, after: int, limit: int) -> bool:
    """Add lines to a page; whether there is room for more."""
    size = sum(len(entry.text) for entry in page.entries)
    for chunk in chunks:
        for entry in unpack_entries(chunk):
            if entry.line <= after:
                continue
            size += len(entry.text)
            if page.entries and size > OUTPUT_PAGE_CHARACTERS:
                return False
            page.entries.append(entry)
            if len(page.entries) == limit:
                return False
    return True


async def task_diff(ctx: Context, *, task_id: str) -> Diff | None:
    """What a task's branch changes against its base; None where there is no branch or repository.

    Raises:
        NotFoundError, ForbiddenError; ConflictError when the branch is gone from the repository.
    """
    task = await get_task(ctx, task_id=task_id)
    workspace = await get_workspace(ctx, workspace_id=task.workspace_id)
    base = task.base_branch or workspace.default_branch
    if workspace.local_path is None or task.branch is None or base is None:
        return None
    if task.commit_sha is None:
        return None
    head = task.branch
    if task.merge_commit is not None:
        # The base contains the branch by now, and the branch may be gone.
        base, head = await _started_from(ctx, task) or base, task.commit_sha
    return await ctx.services.git.diff(
        workspace.local_path,
        base=base,
        head=head,
        max_bytes=ctx.limits.diff_bytes,
    )


async def _started_from(ctx: Context, task: Task) -> str | None:
    """The commit the task's newest run with a branch started from."""
    found: str | None = await (await ctx.reader()).scalar(
        sa.select(RUN.base_commit)
        .where(RUN.task_id == task.id, RUN.base_commit.is_not(None))
        .order_by(RUN.created_at.desc(), RUN.id.desc())
        .limit(1)
    )
    return found
