"""The logs as the database keeps them: events of workspaces and the site, output of runs."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

import orjson
import sqlalchemy as sa

from models import Event, EventStream, Run, RunOutput, table_of
from models.database import Database
from models.prepared import Prepared
from models.transaction import Reader
from subscriptions.ports import EVENTS, RUN_OUTPUT, Head, Reading, events_key, run_key, stream_of

RUN_EPOCH: Final = 1  # a run's output is never restored beside what was already sent
CHUNKS_AT_ONCE: Final = 8
ENTRY_OVERHEAD: Final = 300  # bytes around an event's payload, in memory and in answers

_STREAM = table_of(EventStream).c
_EVENT = table_of(Event).c
_RUN = table_of(Run).c
_OUTPUT = table_of(RunOutput).c


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as it was written; attributes as in `models.Event`. Never change its payload."""

    stream_id: str
    seq: int
    epoch: int
    type: str
    entity_type: str
    entity_id: str
    actor_type: str
    actor_id: str | None
    actor_name: str | None
    payload: Mapping[str, Any]
    at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line of a run's output log.

    `entry` is what `resolvers.run_execution.append_output` kept of it; `type` is the stream it came
    from (its member `s`). Never change an entry: it is shared.
    """

    run_id: str
    seq: int
    type: str
    entry: Mapping[str, Any]
    size: int


_EVENT_COLUMNS: Final = (
    _EVENT.seq,
    _EVENT.epoch,
    _EVENT.type,
    _EVENT.entity_type,
    _EVENT.entity_id,
    _EVENT.actor_type,
    _EVENT.actor_id,
    _EVENT.actor_name,
    _EVENT.at,
    # As text: its length is its size, and parsing happens once per page, not per subscriber.
    sa.cast(_EVENT.payload, sa.Text).label("payload"),
)

# One statement is one snapshot of head and entries, on every database. It is asked for each event
# of a log that somebody follows, so it is prepared. The page is cut before it is joined: behind a
# join, databases read and sort all that follows, however much that is. A join promises no order.
_PAGE: Final = (
    sa.select(*_EVENT_COLUMNS)
    .where(
        _EVENT.stream_id == sa.bindparam("stream_id"),
        _EVENT.seq > sa.bindparam("after", type_=sa.BigInteger),
    )
    .order_by(_EVENT.seq)
    .limit(sa.bindparam("count", type_=sa.Integer))
    .subquery("page")
)
_EVENTS: Final = (
    sa.select(
        _STREAM.epoch.label("head_epoch"),
        _STREAM.seq.label("head_seq"),
        _STREAM.floor.label("head_floor"),
        *_PAGE.c,
    )
    .select_from(table_of(EventStream).outerjoin(_PAGE, sa.true()))
    .where(_STREAM.id == sa.bindparam("stream_id"))
)
_EVENTS_AFTER: Final = Prepared(
    Event,
    [column.name for column in _EVENTS.selected_columns],
    ["stream_id", "after", "count"],
    lambda _dialect: _EVENTS,
)

# From the chunk on that has the position: to ask all for their last lines would be to read whatever
# is before it.
_BEGIN: Final = (
    sa.select(sa.func.max(_OUTPUT.first_line))
    .where(
        _OUTPUT.run_id == sa.bindparam("run_id"),
        _OUTPUT.first_line <= sa.bindparam("after", type_=sa.BigInteger),
    )
    .scalar_subquery()
)
_CHUNKS: Final = (
    sa.select(_OUTPUT.first_line, _OUTPUT.data)
    .where(
        _OUTPUT.run_id == sa.bindparam("run_id"),
        _OUTPUT.first_line >= sa.func.coalesce(_BEGIN, 0),
        _OUTPUT.last_line > sa.bindparam("after", type_=sa.BigInteger),
    )
    .order_by(_OUTPUT.first_line)
    .limit(CHUNKS_AT_ONCE)
    .subquery("chunk")
)
_CHUNKS_AFTER: Final = (
    sa.select(_RUN.output_lines, _RUN.finished_at, *_CHUNKS.c)
    .select_from(table_of(Run).outerjoin(_CHUNKS, sa.true()))
    .where(_RUN.id == sa.bindparam("run_id"))
)


class DatabaseLog:
    """The `LogReader` over the real tables. Each call is one statement in one snapshot.

    Args:
        database: where the tables are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, keys: Collection[str]) -> Mapping[str, Head]:
        """Where these logs stand; see `LogReader`."""
        streams = [stream_of(key) for key in keys if key.startswith(EVENTS)]
        runs = [stream_of(key) for key in keys if key.startswith(RUN_OUTPUT)]
        async with self._database.read() as reader:
            statement = sa.union_all(
                sa.select(
                    sa.literal(EVENTS).label("kind"),
                    _STREAM.id,
                    _STREAM.epoch,
                    _STREAM.seq,
                    _STREAM.floor,
                    sa.false().label("ended"),
                ).where(_is_one_of(reader, _STREAM.id, streams)),
                sa.select(
                    sa.literal(RUN_OUTPUT),
                    _RUN.id,
                    sa.literal(RUN_EPOCH),
                    _RUN.output_lines,
                    sa.literal(0),
                    _RUN.finished_at.is_not(None),
                ).where(_is_one_of(reader, _RUN.id, runs)),
            )
            rows = await reader.rows(statement)
        return {row.kind + row.id: _head(row) for row in rows}

    async def read(self, key: str, *, after: int, limit: int) -> Reading | None:
        """Entries after a position; see `LogReader`."""
        if key.startswith(RUN_OUTPUT):
            return await self._read_output(stream_of(key), after=after, limit=limit)
        return await self._read_events(stream_of(key), after=after, limit=limit)

    async def _read_events(self, stream_id: str, *, after: int, limit: int) -> Reading | None:
        async with self._database.read() as reader:
            read: list[Any] = [*await reader.fetch(_EVENTS_AFTER, stream_id, after, limit)]
            rows = sorted(read, key=attrgetter("seq"))
        if not rows:
            return None
        head = Head(epoch=rows[0].head_epoch, seq=rows[0].head_seq, floor=rows[0].head_floor)
        return Reading(head, [_event(stream_id, row) for row in rows if row.seq is not None])

    async def _read_output(self, run_id: str, *, after: int, limit: int) -> Reading | None:
        async with self._database.read() as reader:
            statement = _CHUNKS_AFTER.params(run_id=run_id, after=after)
            rows = sorted(await reader.rows(statement), key=attrgetter("first_line"))
        if not rows:
            return None
        head = Head(
            epoch=RUN_EPOCH, seq=rows[0].output_lines, ended=rows[0].finished_at is not None
        )
        return Reading(head, _lines(run_id, rows, after=after, limit=limit))


def _is_one_of(
    reader: Reader, column: sa.ColumnElement[str], values: Sequence[str]
) -> sa.ColumnElement[bool]:
    """`column IN values` with one parameter, so that the statement is the same for any number."""
    if reader.dialect == "postgresql":
        array = sa.bindparam(None, list(values), type_=sa.ARRAY(sa.String), unique=True)
        return column == sa.any_(array)
    listed = sa.func.json_each(orjson.dumps(values).decode()).table_valued("value")
    return column.in_(sa.select(listed.c.value))


def _head(row: Any) -> Head:
    return Head(epoch=row.epoch, seq=row.seq, floor=row.floor, ended=bool(row.ended))


def _event(stream_id: str, row: Any) -> LoggedEvent:
    return LoggedEvent(
        stream_id=stream_id,
        seq=row.seq,
        epoch=row.epoch,
        type=row.type,
        entity_type=row.entity_type,
        entity_id=row.entity_id,
        actor_type=row.actor_type,
        actor_id=row.actor_id,
        actor_name=row.actor_name,
        payload=orjson.loads(row.payload) if row.payload is not None else {},
        at=row.at,
        size=len(row.payload or "") + ENTRY_OVERHEAD,
    )


def _lines(run_id: str, rows: Sequence[Any], *, after: int, limit: int) -> list[OutputLine]:
    lines: list[OutputLine] = []
    for row in rows:
        if row.first_line is None:
            break
        for seq, entry in enumerate(orjson.loads(zlib.decompress(row.data)), row.first_line):
            if len(lines) == limit:
                return lines
            if seq > after:
                lines.append(_line(run_id, seq, entry))
    return lines


def _line(run_id: str, seq: int, entry: Any) -> OutputLine:
    return OutputLine(
        run_id=run_id,
        seq=seq,
        type=entry["s"],
        entry=entry,
        size=len(orjson.dumps(entry)) + ENTRY_OVERHEAD,
    )


__all__ = ["DatabaseLog", "LoggedEvent", "OutputLine", "events_key", "run_key"]
