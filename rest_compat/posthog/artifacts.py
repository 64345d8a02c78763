"""Routes of files: staged for a task's next run, or of a run; forms, uploads, downloads."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query
from starlette.responses import StreamingResponse

from models import Artifact
from models.enums import Permission
from resolvers.artifacts import (
    DOWNLOAD_HEADERS,
    FORM_LIFETIME,
    add_artifacts,
    announce_artifacts,
    artifacts_of_runs,
    finalize_artifacts,
    find_artifact,
    keep_upload,
    media_type_of,
)
from resolvers.errors import InvalidError, LimitExceededError, NotFoundError
from resolvers.signed_links import check_link, sign_link
from rest_compat.answers import Answer
from rest_compat.posthog.artifact_shapes import (
    AnnounceBody,
    FinalizeBody,
    FormsShape,
    Inline,
    InlineBody,
    LinkQuery,
    LinkShape,
    ManifestShape,
    PathBody,
    Uploaded,
    check_file,
    new_artifact,
)
from rest_compat.posthog.errors import ActionRefused
from rest_compat.posthog.reading import get_project_task, get_task_run
from rest_compat.posthog.run_shapes import field_refused
from rest_compat.posthog.runs import RUN, TASK
from rest_compat.posthog.shapes import ERRORS, artifact_json
from rest_compat.posthog.uploads import form_fields, read_upload
from rest_compat.routing import Call, before_body, body_limit, dialect_router

router = dialect_router(ERRORS)
UPLOAD = "/api/projects/{project_id}/task_uploads"
DOWNLOAD = "/api/projects/{project_id}/task_downloads"
INLINE_BODY = 42 * 1024 * 1024
"""A file of the largest size in base64, and what stands around it."""
ANY_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"*/*": {"schema": {"type": "string"}}},
        "description": "The file, with its own content type",
    }
}


async def _forms(
    call: Call, project_number: int, task_id: str, run_id: str | None, body: AnnounceBody
) -> dict[str, Any]:
    for index, file in enumerate(body.artifacts):
        check_file(index, file, file.size)
    rows = await announce_artifacts(
        call.ctx,
        task_id=task_id,
        run_id=run_id,
        files=[new_artifact(file, file.size) for file in body.artifacts],
    )
    return {"artifacts": [_form(call, project_number, row) for row in rows]}


def _form(call: Call, project_number: int, row: Artifact) -> dict[str, Any]:
    shown = artifact_json(row)
    del shown["uploaded_at"]
    return {
        **shown,
        "expires_in": int(FORM_LIFETIME.total_seconds()),
        "presigned_post": {
            "url": call.base + UPLOAD.format(project_id=project_number),
            "fields": form_fields(call, row),
        },
    }


async def _finalized(
    call: Call, task_id: str, run_id: str | None, files: Sequence[Uploaded]
) -> dict[str, Any]:
    try:
        rows = await finalize_artifacts(
            call.ctx,
            task_id=task_id,
            run_id=run_id,
            files=[new_artifact(file, 0) for file in files],
        )
    except (InvalidError, LimitExceededError) as error:
        raise ActionRefused({"error": error.message}) from None
    return {"artifacts": [artifact_json(row) for row in rows]}


async def _find_task(call: Call, project_id: str, task_id: str) -> None:
    await get_project_task(call, project_id, task_id, Permission.WRITE)


async def _find_to_read(call: Call, project_id: str, task_id: str, run_id: str) -> None:
    await get_task_run(call, project_id, task_id, run_id)


async def _find_run(call: Call, project_id: str, task_id: str, run_id: str) -> None:
    await get_task_run(call, project_id, task_id, run_id, Permission.WRITE)


@router.post(TASK + "/staged_artifacts/prepare_upload", response_model=FormsShape)
@before_body(_find_task)
async def staged_artifacts_prepare_upload(
    call: Call, project_id: str, task_id: str, body: AnnounceBody
) -> Any:
    """Upload forms for files of the task's next run."""
    project, task = await get_project_task(call, project_id, task_id)
    return await _forms(call, project.number, task.id, None, body)


@router.post(TASK + "/staged_artifacts/finalize_upload", response_model=ManifestShape)
@before_body(_find_task)
async def staged_artifacts_finalize_upload(
    call: Call, project_id: str, task_id: str, body: FinalizeBody
) -> Any:
    """Keep uploaded files for the task's next run, for 24 hours."""
    _, task = await get_project_task(call, project_id, task_id)
    return await _finalized(call, task.id, None, body.artifacts)


@router.post(RUN + "/artifacts", response_model=ManifestShape)
@body_limit(INLINE_BODY)
@before_body(_find_run)
async def runs_artifacts(
    call: Call, project_id: str, task_id: str, run_id: str, body: InlineBody
) -> Any:
    """Keep files whose contents come with the request; all of the run's files, new ones last."""
    _, _, run = await get_task_run(call, project_id, task_id, run_id)
    files = []
    for index, file in enumerate(body.artifacts):
        data = _content(index, file)
        check_file(index, file, len(data))
        files.append((new_artifact(file, len(data)), data))
    await add_artifacts(call.ctx, run_id=run.id, files=files)
    manifest = await artifacts_of_runs(call.ctx, [run.id])
    return {"artifacts": [artifact_json(row) for row in manifest[run.id]]}


def _content(index: int, file: Inline) -> bytes:
    if file.content_encoding == "utf-8":
        return file.content.encode()
    try:
        return base64.b64decode(file.content, validate=True)
    except (binascii.Error, ValueError):
        message = "Content is not valid base64."
        raise field_refused(("artifacts", index, "content"), "invalid_input", message) from None


@router.post(RUN + "/artifacts/prepare_upload", response_model=FormsShape)
@before_body(_find_run)
async def runs_artifacts_prepare_upload(
    call: Call, project_id: str, task_id: str, run_id: str, body: AnnounceBody
) -> Any:
    """Upload forms for files of the run."""
    project, task, run = await get_task_run(call, project_id, task_id, run_id)
    return await _forms(call, project.number, task.id, run.id, body)


@router.post(RUN + "/artifacts/finalize_upload", response_model=ManifestShape)
@before_body(_find_run)
async def runs_artifacts_finalize_upload(
    call: Call, project_id: str, task_id: str, run_id: str, body: FinalizeBody
) -> Any:
    """Add uploaded files to the run's."""
    _, task, run = await get_task_run(call, project_id, task_id, run_id)
    return await _finalized(call, task.id, run.id, body.artifacts)


async def _found(call: Call, run_id: str, body: PathBody) -> Artifact:
    try:
        return await find_artifact(call.ctx, run_id=run_id, storage_path=body.storage_path)
    except NotFoundError:
        raise ActionRefused({"error": "Artifact not found on this run"}, 404) from None


@router.post(RUN + "/artifacts/download", response_model=None, responses=ANY_BYTES)
@before_body(_find_to_read)
async def runs_artifacts_download(
    call: Call, project_id: str, task_id: str, run_id: str, body: PathBody
) -> Any:
    """The bytes of a file of the run, or of those it goes on from."""
    _, _, run = await get_task_run(call, project_id, task_id, run_id)
    row = await _found(call, run.id, body)
    return await _bytes(call, row.storage_path, row.content_type)


@router.post(RUN + "/artifacts/presign", response_model=LinkShape)
@before_body(_find_to_read)
async def runs_artifacts_presign(
    call: Call, project_id: str, task_id: str, run_id: str, body: PathBody
) -> Any:
    """An address of the file's bytes that needs no credential."""
    project, _, run = await get_task_run(call, project_id, task_id, run_id)
    row = await _found(call, run.id, body)
    query = urlencode(
        {"path": row.storage_path, "token": sign_link(call.ctx, f"download {row.storage_path}")}
    )
    address = call.base + DOWNLOAD.format(project_id=project.number)
    return {"url": f"{address}?{query}", "expires_in": int(FORM_LIFETIME.total_seconds())}


@router.get(DOWNLOAD, response_model=None, responses=ANY_BYTES, openapi_extra={"security": []})
async def task_downloads(call: Call, project_id: str, query: Annotated[LinkQuery, Query()]) -> Any:
    """The file at the address that ``presign`` gives; no credential is needed."""
    del project_id
    check_link(call.ctx, f"download {query.path}", query.token)
    return await _bytes(call, query.path, "")


async def _bytes(call: Call, path: str, content_type: str) -> StreamingResponse:
    chunks = await call.ctx.services.blobs.open(path)
    if chunks is None:
        raise ActionRefused({"error": "Artifact not found on this run"}, 404)
    return StreamingResponse(
        chunks,
        headers={
            **DOWNLOAD_HEADERS,
            "Content-Type": media_type_of(content_type),
            "Cache-Control": "private, no-store",
        },
    )


@router.post(UPLOAD, status_code=204, response_model=None, openapi_extra={"security": []})
async def task_uploads(call: Call, project_id: str) -> Any:
    """Takes a file by the form that ``prepare_upload`` gave; no credential is needed."""
    del project_id
    permit, data = await read_upload(call)
    try:
        await keep_upload(call.ctx, storage_path=permit.path, data=data)
    except NotFoundError:
        raise ActionRefused({"error": "The form was used already, or is too old"}) from None
    return Answer(204)
