"""Files of tasks and runs: announced, uploaded, taken by runs, read, and removed in time.

Bytes never pass through a transaction: a PENDING row is written first (claim), then the bytes
come, then the row is settled. So every blob has a row, and the sweep finds what was given up.
"""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models import Artifact, Run, Task, Workspace, table_of
from models.base import column_names, new_id
from models.enums import ArtifactStatus, Permission
from models.prepared import DialectName, Prepared, one_of
from models.transaction import select_all
from resolvers import validation as check
from resolvers.context import Context
from resolvers.errors import InvalidError, LimitExceededError, NotFoundError
from resolvers.operation import operation, step
from resolvers.run_queries import get_run, run_chain
from resolvers.signed_links import check_link, sign_steady_link
from resolvers.task_access import get_task

ARTIFACT = table_of(Artifact).c
FORM_LIFETIME = timedelta(hours=1)
STAGED_LIFETIME = timedelta(hours=24)
RUN_LIFETIME = timedelta(days=30)
SWEEP_AT_ONCE = 200
NAME_LENGTH = 255
SHORT_ID = 8
_HEADER = re.compile(r"[!-~][ -~]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A file somebody wants to keep; ``size`` in bytes."""

    name: str
    type: str
    size: int
    source: str = ""
    content_type: str = ""
    metadata: dict[str, Any] | None = None
    id: str | None = None
    """The id it was given when it was announced."""
    storage_path: str | None = None
    """The path it was given then."""


class ArtifactMissingError(InvalidError):
    """Artifacts that are unknown, not uploaded, taken already, or expired; ``ids`` names them."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__("Some artifacts are invalid or expired", field="artifactIds", ids=[*ids])


@step
async def announce_artifacts(
    ctx: Context, *, task_id: str, run_id: str | None, files: Sequence[NewArtifact]
) -> list[Artifact]:
    """Make room for files that will be uploaded within an hour.

    Args:
        ctx: needs ``write``.
        task_id: whose.
        run_id: of which run of the task; None stages them for its next run.
        files: at least one.

    Raises:
        NotFoundError, ForbiddenError, InvalidError.
        LimitExceededError: a file is too large, or there are too many.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    if run_id is not None:
        await _run_of(ctx, task, run_id)
    await _refuse_too_many(ctx, task, len(files))
    number = await _workspace_number(ctx, task)
    rows = []
    for file in files:
        if not 1 <= file.size <= ctx.limits.artifact_bytes:
            raise LimitExceededError(
                f"{file.name} has {file.size} bytes; 1 to {ctx.limits.artifact_bytes} are allowed",
                limit=ctx.limits.artifact_bytes,
            )
        artifact_id, name = new_id(), base_name(file.name)
        folder = artifact_folder(number, task.id, run_id)
        tail = f"{artifact_id[:SHORT_ID]}_{name}" if run_id else f"{_hex(artifact_id)}/{name}"
        rows.append(
            await ctx.transaction.insert(
                Artifact,
                id=artifact_id,
                workspace_id=task.workspace_id,
                task_id=task.id,
                run_id=run_id,
                name=name,
                size=file.size,
                storage_path=folder + tail,
                created_by=ctx.authenticated().user_id,
                created_at=ctx.now,
                expires_at=ctx.now + 2 * FORM_LIFETIME,
                **_facts(ctx, file),
            )
        )
    return rows


async def _run_of(ctx: Context, task: Task, run_id: str) -> Run:
    run = await get_run(ctx, run_id=run_id, permission=Permission.WRITE)
    if run.task_id != task.id:
        raise NotFoundError("Run")
    return run


async def _refuse_too_many(ctx: Context, task: Task, more: int) -> None:
    number = await ctx.transaction.scalar(
        sa.select(sa.func.count()).where(ARTIFACT.task_id == task.id)
    )
    if number + more > ctx.limits.artifacts_per_task:
        raise LimitExceededError(
            "The task has its maximum of artifacts", limit=ctx.limits.artifacts_per_task
        )


async def _workspace_number(ctx: Context, task: Task) -> int:
    workspace = await ctx.transaction.find_by_id(Workspace, task.workspace_id)
    assert workspace is not None  # noqa: S101  # a foreign key says so
    return workspace.number


def _facts(ctx: Context, file: NewArtifact) -> dict[str, Any]:
    metadata = file.metadata
    if metadata is not None:
        check.json_object(metadata, field="metadata", maximum_bytes=ctx.limits.json_bytes)
    return {
        "type": check.line(file.type, field="type", maximum=30),
        "source": check.line(file.source, field="source", maximum=64, minimum=0),
        "content_type": check.line(file.content_type, field="content_type", maximum=255, minimum=0),
        "meta": metadata,
    }


def artifact_folder(workspace_number: int, task_id: str, run_id: str | None) -> str:
    """Where the files of a run, or those staged for a task, lie in the blob store."""
    task = f"tasks/artifacts/team_{workspace_number}/task_{task_id}/"
    return f"{task}staged/" if run_id is None else f"{task}run_{run_id}/"


def base_name(name: str) -> str:
    """The last part of a path as a file name that every store takes."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in last if c.isprintable()).strip(" .")
    return kept.encode("utf-8", "ignore")[:200].decode("utf-8", "ignore") or "artifact"


def _hex(artifact_id: str) -> str:
    return artifact_id.replace("-", "")


DOWNLOAD_HEADERS = {
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Whatever somebody uploaded, no browser shows it as a page of this server."""


def media_type_of(content_type: str) -> str:
    """What can stand in a header of what somebody said a file is."""
    return content_type if _HEADER.fullmatch(content_type) else "application/octet-stream"


async def keep_upload(ctx: Context, *, storage_path: str, data: bytes) -> None:
    """Keep the bytes of an announced file; for whoever holds its signed form.

    Raises:
        NotFoundError: nothing is announced there: it is kept already, or its time is over.
    """
    row = await (await ctx.reader()).find(
        Artifact,
        ARTIFACT.storage_path == storage_path,
        ARTIFACT.status == ArtifactStatus.PENDING,
    )
    await ctx.release()
    if row is None:
        raise NotFoundError("Artifact")
    await ctx.services.blobs.put(storage_path, data)


async def finalize_artifacts(
    ctx: Context, *, task_id: str, run_id: str | None, files: Sequence[NewArtifact]
) -> list[Artifact]:
    """Keep files that were uploaded: with their real sizes, and staged ones for 24 hours.

    Repeating it is allowed. The first file that is not there, not the caller's, or too large
    keeps none of them.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, LimitExceededError.
    """
    task = await get_task(ctx, task_id=task_id, permission=Permission.WRITE)
    rows = [await _announced(ctx, task, run_id, file) for file in files]
    await ctx.release()
    sizes = []
    for row in rows:
        size = await ctx.services.blobs.size(row.storage_path)
        if size is None:
            raise InvalidError("Artifact upload not found in object storage", field="artifacts")
        if size > ctx.limits.artifact_bytes:
            raise LimitExceededError(
                f"{row.name} has {size} bytes; {ctx.limits.artifact_bytes} are allowed",
                limit=ctx.limits.artifact_bytes,
            )
        sizes.append(size)
    return await _settle(ctx, rows=rows, sizes=sizes, files=files)


async def _announced(ctx: Context, task: Task, run_id: str | None, file: NewArtifact) -> Artifact:
    where = "task" if run_id is None else "run"
    found = await (await ctx.reader()).find(
        Artifact,
        ARTIFACT.storage_path == (file.storage_path or ""),
        ARTIFACT.task_id == task.id,
        ARTIFACT.run_id.is_(None) if run_id is None else ARTIFACT.run_id == run_id,
    )
    known = (file.id or "").replace("-", "").lower()
    if found is None or (known and _hex(found.id) != known):
        raise InvalidError(f"Artifact storage path is invalid for this {where}", field="artifacts")
    return found


@operation
async def _settle(
    ctx: Context,
    *,
    rows: Sequence[Artifact],
    sizes: Sequence[int],
    files: Sequence[NewArtifact],
) -> list[Artifact]:
    settled = []
    for row, size, file in zip(rows, sizes, files, strict=True):
        lifetime = STAGED_LIFETIME if row.run_id is None else RUN_LIFETIME
        after = await ctx.transaction.update_by_id(
            Artifact,
            row.id,
            status=ArtifactStatus.READY,
            size=size,
            uploaded_at=row.uploaded_at or ctx.now,
            expires_at=ctx.now + lifetime,
            **_facts(ctx, file),
        )
        if row.status != ArtifactStatus.READY:
            ctx.emit("artifact.added", after, workspace_id=row.workspace_id)
        settled.append(after)
    return settled


async def add_artifacts(
    ctx: Context, *, run_id: str, files: Sequence[tuple[NewArtifact, bytes]]
) -> list[Artifact]:
    """Keep files whose bytes came with the request.

    Raises:
        NotFoundError, ForbiddenError, InvalidError, LimitExceededError.
    """
    run = await get_run(ctx, run_id=run_id, permission=Permission.WRITE)
    if run.task_id is None:
        raise InvalidError("The run had no task", field="run_id")
    given = [file for file, _ in files]
    rows = await announce_artifacts(ctx, task_id=run.task_id, run_id=run.id, files=given)
    for row, (_, data) in zip(rows, files, strict=True):
        await ctx.services.blobs.put(row.storage_path, data)
    return await _settle(ctx, rows=rows, sizes=[file.size for file in given], files=given)


async def take_staged_artifacts(ctx: Context, *, run: Run, ids: Sequence[str]) -> list[Artifact]:
    """Give a task's staged files to one of its runs; inside the operation that starts it.

    Raises:
        ArtifactMissingError: naming those that are not there to be taken.
    """
    if not ids:
        return []
    wanted = {_dashed(text): text for text in ids}
    rows = await ctx.transaction.records(
        Artifact,
        select_all(Artifact)
        .where(
            ARTIFACT.id.in_(wanted),
            ARTIFACT.task_id == run.task_id,
            ARTIFACT.run_id.is_(None),
            ARTIFACT.status == ArtifactStatus.READY,
            ARTIFACT.expires_at > ctx.now,
        )
        .with_for_update(),
    )
    missing = wanted.keys() - {row.id for row in rows}
    if missing:
        raise ArtifactMissingError([text for key, text in wanted.items() if key in missing])
    return [
        await ctx.transaction.update_by_id(
            Artifact, row.id, run_id=run.id, expires_at=ctx.now + RUN_LIFETIME
        )
        for row in rows
    ]


def _dashed(text: str) -> str:
    digits = text.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


async def artifacts_of_runs(ctx: Context, run_ids: Sequence[str]) -> dict[str, list[Artifact]]:
    """The files of runs that were read as visible ones, oldest first; in one statement."""
    found: dict[str, list[Artifact]] = {run_id: [] for run_id in run_ids}
    if not found:
        return found
    for row in await (await ctx.reader()).fetch(_READY_OF_RUNS, list(found)):
        found[str(row.run_id)].append(row)
    return found


def _ready_of_runs(dialect: DialectName) -> sa.Select[Any]:
    return (
        select_all(Artifact)
        .where(
            one_of(dialect, ARTIFACT.run_id, "run_ids"),
            ARTIFACT.status == ArtifactStatus.READY,
        )
        .order_by(ARTIFACT.created_at, ARTIFACT.id)
    )


_READY_OF_RUNS = Prepared(Artifact, column_names(Artifact), ["run_ids"], _ready_of_runs)


async def find_artifact(ctx: Context, *, run_id: str, storage_path: str) -> Artifact:
    """A file of a run, or of those it goes on from.

    Raises:
        NotFoundError: none of them has it.
    """
    chain = await run_chain(ctx, run_id=run_id)
    found = await (await ctx.reader()).find(
        Artifact,
        ARTIFACT.storage_path == storage_path,
        ARTIFACT.run_id.in_([run.id for run in chain]),
        ARTIFACT.status == ArtifactStatus.READY,
    )
    if found is None:
        raise NotFoundError("Artifact")
    return found


def sign_artifact(ctx: Context, artifact: Artifact) -> str:
    """A token that opens a file without a credential, for 5 to 60 minutes."""
    return sign_steady_link(ctx, f"artifact {artifact.id}")


async def open_artifact(
    ctx: Context, *, artifact_id: str, token: str
) -> tuple[Artifact, AsyncIterator[bytes]]:
    """A file and its bytes, for whoever holds a link.

    Raises:
        ForbiddenError: the link is not valid, or no longer.
        NotFoundError: the file is gone.
    """
    check_link(ctx, f"artifact {artifact_id}", token)
    row = await (await ctx.reader()).find(
        Artifact, ARTIFACT.id == artifact_id, ARTIFACT.status == ArtifactStatus.READY
    )
    await ctx.release()
    chunks = None if row is None else await ctx.services.blobs.open(row.storage_path)
    if row is None or chunks is None:
        raise NotFoundError("Artifact")
    return row, chunks


async def sweep_artifacts(ctx: Context) -> int:
    """Remove files whose time has come: first the bytes, then the rows; how many.

    For the system's own use. A store that does not answer leaves the rows for the next time.
    """
    reader = await ctx.reader()
    rows = await reader.records(
        Artifact,
        select_all(Artifact).where(ARTIFACT.expires_at <= ctx.now).limit(SWEEP_AT_ONCE),
    )
    await ctx.release()
    for row in rows:
        await ctx.services.blobs.delete(row.storage_path)
        await _forget(ctx, artifact_id=row.id)
    return len(rows)


@step
async def _forget(ctx: Context, *, artifact_id: str) -> None:
    await ctx.transaction.execute(
        sa.delete(table_of(Artifact)).where(
            ARTIFACT.id == artifact_id, ARTIFACT.expires_at <= ctx.now
        )
    )
