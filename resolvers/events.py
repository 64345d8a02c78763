"""Events: buffered by operations, numbered and written at the end of their transaction."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from functools import cache
from typing import Any, NamedTuple, cast

import orjson
import sqlalchemy as sa
from sqlmodel import SQLModel

from models import Event, EventStream, table_of
from models.base import Record
from models.commands import Command
from models.transaction import Transaction
from resolvers.principal import Principal

SNAPSHOT_TEXT = 4_096
"""Characters of one text field kept in an event's snapshot; longer ones are cut and named."""
SNAPSHOT_JSON = 8_192
"""Bytes of one JSON field kept in a snapshot; larger ones are left out and named."""

NEVER_IN_SNAPSHOTS = frozenset(
    {
        "password_hash",
        "secret_hash",
        "api_key_encrypted",
        "secret_encrypted",
        "secrets_encrypted",
        "token_encrypted",
        "token_hash",
        "process",
        "prompt",
        "system_prompt",
        "preferences",
    }
)
NEVER_OF = {"Webhook": frozenset({"url"})}
"""The same by model: a webhook's address often is a secret, and every member reads events."""


class Position(NamedTuple):
    """A place in an event log: everything up to and including ``seq`` has been seen."""

    stream_id: str
    epoch: int
    seq: int


class PendingEvent(NamedTuple):
    """An event that waits for its number."""

    stream_id: str
    type: str
    entity_type: str
    entity_id: str
    payload: Mapping[str, Any]


def snapshot_json(record: Record) -> orjson.Fragment | dict[str, Any]:
    """What :func:`snapshot` gives, as JSON already where nothing had to be bounded.

    If all is shorter than one text may be, no part is too long.
    """
    kind: Any = type(record)
    try:
        whole = orjson.dumps(_present_values(kind)(record))
    except TypeError:  # the bounded one may do without what is no JSON
        return snapshot(record)
    return orjson.Fragment(whole) if len(whole) <= SNAPSHOT_TEXT else snapshot(record)


def snapshot(record: SQLModel | Record) -> dict[str, Any]:
    """The bounded state of an entity, as JSON values; absent keys are null.

    Names of fields that were cut or left out stand under ``truncated``.
    """
    assert isinstance(record, Record)  # noqa: S101  # records are typed as their models
    kept: dict[str, Any] = {}
    truncated: list[str] = []
    kind_of_record: Any = type(record)
    for name, value in _present_values(kind_of_record)(record).items():
        kind = type(value)
        if (kind is str and len(value) <= SNAPSHOT_TEXT) or kind in _SMALL:
            kept[name] = value
        elif isinstance(value, datetime | date):
            kept[name] = value.isoformat()
        else:
            bounded = _bounded(value)
            if bounded is not value:
                truncated.append(name)
            if bounded is not None:
                kept[name] = bounded
    if truncated:
        kept["truncated"] = truncated
    return kept


_SMALL = frozenset({int, float, bool})


@cache
def _present_values(kind: type[Record]) -> Callable[[Record], dict[str, Any]]:
    """What gives those columns of a record that go into its snapshots and are not null, by name.

    Written out per record class, like its initialiser: three times as fast as a loop.
    """
    never = NEVER_IN_SNAPSHOTS | NEVER_OF.get(kind.__name__, frozenset())
    lines = [
        f"    if (value := record.{name}) is not None: present[{name!r}] = value\n"
        for name in kind._columns  # noqa: SLF001  # the record's own column list
        if name not in never
    ]
    scope: dict[str, Any] = {}
    code = f"def present_values(record):\n    present = {{}}\n{''.join(lines)}    return present"
    exec(code, scope)  # noqa: S102  # identifiers only: see record_class
    return cast("Callable[[Record], dict[str, Any]]", scope["present_values"])


class SnapshotView:
    """A snapshot's JSON object with its keys as attributes; absent keys are None."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # An attribute __await__, even if None, would make this look like something to await.
            raise AttributeError(name)
        value = self._values.get(name)
        if value is None and name == "truncated":
            return []
        if name.endswith("_at") and isinstance(value, str):
            return datetime.fromisoformat(value)
        return value


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= SNAPSHOT_TEXT else value[:SNAPSHOT_TEXT]
    if isinstance(value, dict | list):
        return value if len(orjson.dumps(value)) <= SNAPSHOT_JSON else None
    return value


async def append_events(
    transaction: Transaction,
    events: Iterable[PendingEvent],
    *,
    principal: Principal | None,
    at: datetime,
) -> dict[str, Position]:
    """Number and write events; the new head of each log that grew.

    Numbers come from the log's own row, which is taken last in the transaction: they are
    contiguous and in commit order. Several logs are taken in the order of their ids, so that two
    transactions never wait for each other in a circle.
    """
    by_stream: dict[str, list[PendingEvent]] = {}
    for event in events:
        by_stream.setdefault(event.stream_id, []).append(event)
    kind, id_, name = (
        (principal.kind, principal.id, principal.name) if principal else ("anonymous", None, None)
    )
    heads: dict[str, Position] = {}
    rows: list[dict[str, Any]] = []
    for stream_id in sorted(by_stream):
        pending = by_stream[stream_id]
        advanced = {"stream": stream_id, "count": len(pending)}
        found = await transaction.run(ADVANCE, advanced)
        if not found:
            raise LookupError(f"no event log {stream_id}")
        epoch, head = found[0]
        heads[stream_id] = Position(stream_id, epoch, head)
        for seq, event in enumerate(pending, head - len(pending) + 1):
            rows.append(
                {
                    "stream_id": stream_id,
                    "seq": seq,
                    "epoch": epoch,
                    "type": event.type,
                    "entity_type": event.entity_type,
                    "entity_id": event.entity_id,
                    "actor_type": kind,
                    "actor_id": id_,
                    "actor_name": name,
                    "payload": event.payload,
                    "at": at,
                }
            )
    await transaction.insert_many(Event, rows)
    return heads


STREAM = table_of(EventStream)
ADVANCE = Command(
    lambda _dialect: (
        sa.update(STREAM)
        .where(STREAM.c.id == sa.bindparam("stream"))
        .values(seq=STREAM.c.seq + sa.bindparam("count", type_=sa.BigInteger))
        .returning(STREAM.c.epoch, STREAM.c.seq)
    )
)
