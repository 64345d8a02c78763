"""What streams need from the log, and the words they share.

A log is an append-only sequence of numbered entries: a workspace's events, the site's events, or
the output lines of a run. Each is addressed by a key, `"e:<workspace id>"`, `"e:site"` or
`"r:<run id>"`. The same keys are what wake-ups carry, together with `"p:<principal id>"` for a
principal whose credentials or roles changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

EVENTS: Final = "e:"
RUN_OUTPUT: Final = "r:"
PRINCIPAL: Final = "p:"
MAX_KEY_LENGTH: Final = 200


def events_key(stream_id: str) -> str:
    """The key of a workspace's event log, or of the site's (`"site"`)."""
    return EVENTS + stream_id


def run_key(run_id: str) -> str:
    """The key of a run's output log."""
    return RUN_OUTPUT + run_id


def principal_key(principal_id: str) -> str:
    """The key under which a principal's changes are announced."""
    return PRINCIPAL + principal_id


def is_log_key(key: str) -> bool:
    """Whether the key names a log, which has a head that can be asked for."""
    return key.startswith((EVENTS, RUN_OUTPUT))


def stream_of(key: str) -> str:
    """The id in a key."""
    return key[2:]


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log stands.

    Args:
        epoch: changes only when the log was restored from a copy.
        seq: number of the newest entry, 0 when there was none yet.
        floor: entries up to and including this number were pruned.
        ended: nothing will ever be added.
    """

    epoch: int
    seq: int
    floor: int = 0
    ended: bool = False


class LogEntry(Protocol):
    """One entry. Everything a stream or its readers get to see is immutable by agreement."""

    @property
    def seq(self) -> int:
        """Its number; consecutive within a log."""

    @property
    def type(self) -> str:
        """Its type, for filters."""

    @property
    def size(self) -> int:
        """About how many bytes of memory and of answer it stands for."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer to one read: the head and the entries, from one snapshot."""

    head: Head
    entries: Sequence[LogEntry]


class LogReader(Protocol):
    """The database behind the streams. Any exception means "not now": it is tried again."""

    async def heads(self, keys: Collection[str]) -> Mapping[str, Head]:
        """Where these logs stand, in ONE statement; a log that does not exist is left out."""

    async def read(self, key: str, *, after: int, limit: int) -> Reading | None:
        """Up to `limit` entries numbered above `after`, in order; None if there is no such log."""
