"""A run, live: its state changes out of the event log, its entries out of its output log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from models import Run
from models.lifecycle import RUN_FINAL
from resolvers.context import Context
from resolvers.event_queries import log_head
from resolvers.run_queries import get_run
from rest_compat.posthog import words
from rest_compat.posthog.auth import authenticate
from rest_compat.posthog.logs import CLIENT_STREAM, line_of
from rest_compat.routing import Call
from subscriptions import streams
from subscriptions.cursor import InvalidCursor, encode_cursor, parse_position
from subscriptions.log import RUN_EPOCH, OutputLine
from subscriptions.pages import EventItem

LINE_DIGITS = 9
KEEPALIVE = 20.0
ROTATED_AFTER = 15 * 60.0
WAITING = 16
STATE_COLUMNS = (
    "task_id", "status", "stage", "output", "branch", "error", "updated_at", "finished_at",
)  # fmt: skip
KEEPALIVE_FRAME = b'event: keepalive\ndata: {"type":"keepalive"}\n\n'
END_FRAME = b'event: stream-end\ndata: {"type":"stream-end"}\n\n'
ROTATED_FRAME = b'event: end\ndata: {"type":"rotated"}\n\n'
"""Tells a client to connect again, with the last id it has seen."""


async def run_events(
    call: Call, run: Run, *, from_now: bool, seen: str | None
) -> AsyncIterator[bytes]:
    """Frames of a run's stream, until it ends or rotates.

    An id is ``<line>-<event cursor>``: how far both logs were delivered.

    Args:
        call: the request; its snapshot is given back before anything is awaited.
        run: whose.
        from_now: leave out what the log holds already.
        seen: the id that a client saw last.
    """
    place = await _first_place(call, run, from_now=from_now, seen=seen)
    await call.ctx.release()
    frames: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=WAITING)
    pumps = [asyncio.create_task(_pump_lines(call, run, place, frames))]
    if run.status not in RUN_FINAL:
        pumps.append(asyncio.create_task(_pump_states(call, run, place, frames)))
    yield _frame(_state_of(run), place)
    try:
        async for frame in _until_ended(frames, len(pumps)):
            yield frame
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


@dataclass(slots=True)
class _Place:
    """How far a client is in both logs."""

    line: int
    cursor: str

    def __str__(self) -> str:
        return f"{self.line}-{self.cursor}"


async def _first_place(call: Call, run: Run, *, from_now: bool, seen: str | None) -> _Place:
    """Where the stream begins; an id that is none of ours counts as not given."""
    head = await log_head(call.ctx, workspace_id=run.workspace_id)
    cursor = encode_cursor(run.workspace_id, epoch=head.epoch, seq=head.seq)
    line, dash, known = (seen or "").partition("-")
    if dash and line.isdecimal() and line.isascii() and len(line) <= LINE_DIGITS:
        try:
            parse_position(known)
        except InvalidCursor:
            return _Place(int(line), cursor)
        return _Place(int(line), known)
    return _Place(run.output_lines if from_now else 0, cursor)


async def _until_ended(frames: asyncio.Queue[bytes | None], producers: int) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    end = clock() + ROTATED_AFTER
    while clock() < end:
        try:
            async with asyncio.timeout(min(KEEPALIVE, end - clock())):
                frame = await frames.get()
        except TimeoutError:
            yield KEEPALIVE_FRAME
            continue
        if frame is not None:
            yield frame
            continue
        producers -= 1
        if producers == 0:
            yield END_FRAME
            return
    yield ROTATED_FRAME


async def _pump_lines(
    call: Call, run: Run, place: _Place, frames: asyncio.Queue[bytes | None]
) -> None:
    source = streams.run_output_stream(
        call.house.hub,
        run_id=run.id,
        after=encode_cursor(run.id, epoch=RUN_EPOCH, seq=place.line),
        authorize=_authorizer(call, run),
        principal=call.ctx.authenticated().key,
    )
    try:
        async with aclosing(source) as items:
            async for item in items:
                if isinstance(item, EventItem) and isinstance(item.event, OutputLine):
                    place.line = item.event.seq
                    await frames.put(_frame(_line(item.event), place))
    finally:
        await frames.put(None)


async def _pump_states(
    call: Call, run: Run, place: _Place, frames: asyncio.Queue[bytes | None]
) -> None:
    source = streams.event_stream(
        call.house.hub,
        stream_id=run.workspace_id,
        after=place.cursor,
        authorize=_authorizer(call, run),
        where=lambda entry: getattr(entry, "entity_id", None) == run.id,
        principal=call.ctx.authenticated().key,
    )
    try:
        async with aclosing(source) as items:
            async for item in items:
                place.cursor = getattr(item, "cursor", None) or place.cursor
                event = getattr(item, "event", None)
                if event is None:
                    continue
                state = _state_in(event.payload["run"])
                await frames.put(_frame(state, place))
                if state["status"] in words.FINAL:
                    return
    finally:
        await frames.put(None)


def _authorizer(call: Call, run: Run) -> Callable[[], Awaitable[None]]:
    """Asks again who the client is and whether the run is theirs to read."""

    async def authorize() -> None:
        principal = await authenticate(call.house, call)
        fresh = Context(call.house.services, principal, request_id=call.ctx.request_id)
        try:
            await get_run(fresh, run_id=run.id)
        finally:
            await fresh.release()

    return authorize


def _state_of(run: Run) -> dict[str, Any]:
    return _state(run.id, {name: getattr(run, name) for name in STATE_COLUMNS})


def _state_in(snapshot: dict[str, Any]) -> dict[str, Any]:
    return _state(snapshot["id"], snapshot)


def _state(run_id: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "task_run_state",
        "run_id": run_id,
        "task_id": facts.get("task_id"),
        "status": words.status_word(str(facts["status"])),
        "stage": facts.get("stage"),
        "output": facts.get("output"),
        "branch": facts.get("branch"),
        "error_message": facts.get("error"),
        "updated_at": words.moment(_moment(facts.get("updated_at"))),
        "completed_at": words.moment(_moment(facts.get("finished_at"))),
    }


def _moment(value: Any) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _line(line: OutputLine) -> str:
    entry = line.entry
    if entry["s"] == CLIENT_STREAM:
        return str(entry["t"])
    at = datetime.fromisoformat(entry["at"])
    return line_of(entry["s"], entry["t"], at=at, event=entry.get("e"), run_id=line.run_id)


def _frame(data: Any, place: _Place) -> bytes:
    text = data.encode() if isinstance(data, str) else orjson.dumps(data)
    return b"id: %s\ndata: %s\n\n" % (str(place).encode(), text)
