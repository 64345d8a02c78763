"""Routes of a run's log: as text, as filtered entries, and live."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import Query
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from models import Run
from resolvers.client_runs import open_run_log
from resolvers.errors import NotFoundError
from resolvers.run_queries import run_chain
from rest_compat.answers import json_answer
from rest_compat.posthog.errors import ActionRefused
from rest_compat.posthog.fields import integer, moment, text
from rest_compat.posthog.logs import kind_of, log_lines
from rest_compat.posthog.reading import get_task_run
from rest_compat.posthog.run_stream import run_events
from rest_compat.posthog.runs import RUN
from rest_compat.posthog.shapes import ERRORS
from rest_compat.routing import Call, dialect_router

router = dialect_router(ERRORS)


def _text(media_type: str, **schema: Any) -> dict[int | str, dict[str, Any]]:
    shape = schema or {"type": "string"}
    return {200: {"content": {media_type: {"schema": shape}}, "description": "As it happens"}}


EVENT = {
    name: {"type": "string", "description": description}
    for name, description in (
        ("id", "How far both logs were delivered; send it as Last-Event-ID to go on from there."),
        ("event", "keepalive, end (connect again), stream-end, or none of them."),
        ("data", "A state of the run, or an entry of its log; JSON."),
    )
}


ENTRIES_MAX = 5_000
CHUNK = 64 * 1024


class LinkQuery(BaseModel):
    """What opens a signed address."""

    token: Annotated[str, text()] = ""


class SessionLogQuery(BaseModel):
    """Which entries of a run's log."""

    after: Annotated[datetime | None, moment()] = None
    event_types: Annotated[str | None, text()] = None
    exclude_types: Annotated[str | None, text()] = None
    limit: Annotated[int, integer(minimum=1, maximum=ENTRIES_MAX)] = 1_000
    offset: Annotated[int, integer(minimum=0)] = 0


@router.get(RUN + "/logs", response_model=None, responses=_text("application/jsonl"))
async def runs_logs(call: Call, project_id: str, task_id: str, run_id: str) -> Any:
    """The log of a run and of those it goes on from, oldest first; a JSON object a line."""
    _, _, run = await get_task_run(call, project_id, task_id, run_id)
    return log_response(call, await run_chain(call.ctx, run_id=run.id))


@router.get(
    RUN + "/log_file",
    response_model=None,
    responses=_text("application/jsonl"),
    openapi_extra={"security": []},
)
async def runs_log_file(
    call: Call, project_id: str, task_id: str, run_id: str, query: Annotated[LinkQuery, Query()]
) -> Any:
    """The log at the address that ``log_url`` gives; no credential is needed."""
    del project_id, task_id
    runs = await open_run_log(call.ctx, run_id=run_id, token=query.token)
    if not any(run.output_lines for run in runs):
        raise NotFoundError("Log")
    return log_response(call, runs)


def log_response(call: Call, runs: list[Run]) -> StreamingResponse:
    """Lines of JSON, sent while they are read."""
    return StreamingResponse(
        _chunks(call, runs),
        media_type="application/jsonl",
        headers={"Cache-Control": "no-cache"},
    )


async def _chunks(call: Call, runs: list[Run]) -> AsyncIterator[bytes]:
    waiting, size = [], 0
    async for line in log_lines(call.ctx, runs):
        waiting.append(line.encode() + b"\n")
        size += len(waiting[-1])
        if size >= CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


@router.get(RUN + "/session_logs", response_model=list[dict[str, Any]])
async def runs_session_logs(
    call: Call,
    project_id: str,
    task_id: str,
    run_id: str,
    query: Annotated[SessionLogQuery, Query()],
) -> Any:
    """Entries of the log that pass the filters; totals in headers."""
    _, _, run = await get_task_run(call, project_id, task_id, run_id)
    wanted, excluded = _words(query.event_types), _words(query.exclude_types)
    total = matching = 0
    entries: list[Any] = []
    async for line in log_lines(call.ctx, await run_chain(call.ctx, run_id=run.id)):
        total += 1
        entry = orjson.loads(line)
        kind = kind_of(entry)
        if (wanted and kind not in wanted) or kind in excluded or not _is_after(entry, query.after):
            continue
        matching += 1
        if query.offset < matching <= query.offset + query.limit:
            entries.append(entry)
    headers = {
        "X-Total-Count": str(total),
        "X-Filtered-Count": str(len(entries)),
        "X-Matching-Count": str(matching),
        "X-Has-More": "true" if matching > query.offset + len(entries) else "false",
    }
    return json_answer(entries, headers=headers)


def _words(text: str | None) -> frozenset[str]:
    return frozenset(word.strip() for word in (text or "").split(",") if word.strip())


def _is_after(entry: dict[str, Any], after: datetime | None) -> bool:
    if after is None:
        return True
    bound = after if after.tzinfo is not None else after.replace(tzinfo=UTC)
    try:
        at = datetime.fromisoformat(str(entry.get("timestamp")))
    except ValueError:
        return False
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) > bound


@router.get(
    RUN + "/stream",
    response_model=None,
    responses=_text("text/event-stream", type="object", properties=EVENT),
)
async def runs_stream(call: Call, project_id: str, task_id: str, run_id: str) -> Any:
    """State changes and log entries of a run while they happen, as server-sent events."""
    accepted = call.headers.get("accept", "*/*")
    if not any(kind in accepted for kind in ("text/event-stream", "text/*", "*/*")):
        raise ActionRefused(
            {
                "type": "invalid_request",
                "code": "not_acceptable",
                "detail": "Could not satisfy the request Accept header.",
                "attr": None,
            },
            406,
        )
    _, _, run = await get_task_run(call, project_id, task_id, run_id)
    return StreamingResponse(
        run_events(
            call,
            run,
            from_now=call.query_params.get("start") == "latest",
            seen=call.headers.get("last-event-id"),
        ),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
