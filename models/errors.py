"""The few ways a database fails that others can do something about, and how drivers say them."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class DatabaseUnavailableError(Exception):
    """The database did not do what it was asked for, and may do it later.

    ``code`` and ``details`` are what a client is told where nothing else becomes of it.
    """

    code = "UNAVAILABLE"
    details: Mapping[str, Any] = MappingProxyType({"retry_after": 1})


class DatabaseBusyError(DatabaseUnavailableError):
    """The database could not be had in the allowed time, or gave up on a conflict."""


class ConflictingWritersError(DatabaseBusyError):
    """PostgreSQL gave up one of two transactions that waited for each other; it may be run again.

    What happens to a card locks its row and then its runs', what happens to a run the other way
    round: both orders are natural, and meeting is rare.
    """


class LostConnectionError(DatabaseBusyError):
    """The connection was lost: what it had not committed was not done."""


class UnknownOutcomeError(DatabaseUnavailableError):
    """The connection was lost during COMMIT: whether it was done is not known."""


class StorageFullError(DatabaseUnavailableError):
    """The disk under the database is full or not writable."""

    details: Mapping[str, Any] = MappingProxyType({"retry_after": 30})


class Translated:
    """A block that raises the translation of its error, where there is one.

    A class: ``contextmanager`` costs several times as much, and this is around every write.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        if error is not None:
            raise_translation(error)


_BUSY = re.compile(
    r"database (table )?is locked|lock timeout"
    r"|canceling statement due to (statement|lock) timeout|too many clients",
    re.IGNORECASE,
)
_CONFLICT = re.compile(r"deadlock detected|could not serialize", re.IGNORECASE)
_FULL = re.compile(
    r"disk is full|disk I/O error|No space left|could not extend file",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"connection (was|is) closed|terminating connection"
    r"|database system is (starting up|shutting down|in recovery)",
    re.IGNORECASE,
)


def translation(error: BaseException) -> DatabaseUnavailableError | None:
    """One of the errors above for the drivers' many ways to say busy, full and gone."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseBusyError("no database connection was free in time")
    if isinstance(error, ConnectionError):
        return LostConnectionError("the database cannot be reached")
    if not isinstance(error, DBAPIError):
        return None
    text = str(error.orig)
    if _CONFLICT.search(text):
        return ConflictingWritersError("the database is busy")
    if _BUSY.search(text):
        return DatabaseBusyError("the database is busy")
    if _FULL.search(text):
        return StorageFullError("the database's disk is full or not writable")
    if error.connection_invalidated or _LOST.search(text):
        return LostConnectionError("the database connection was lost")
    return None


def raise_translation(error: BaseException) -> None:
    """Raise the translation of an error, if there is one."""
    if (translated := translation(error)) is not None:
        raise translated from error
