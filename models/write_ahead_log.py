"""SQLite's write-ahead log: copied into the database between commits, in a thread.

Left to itself, SQLite copies it inside the COMMIT that made it long, and whoever waits for that
one waits for the disk. Its length cannot be asked for without copying; the rows that were changed
since the last time stand for it, and, where they are large, the file, which never shrinks.

Writers stand while it is copied, and most of that is waiting for the disk to take the log itself,
unless every COMMIT has waited for that. So it is flushed several times before, while they go on.
"""

import os
import sqlite3
from contextlib import suppress

CHECKPOINT_ROWS = 8_000
"""Rows changed before the log is copied. A row takes about two pages (of 4 KiB); pages that change
again and again are copied once."""
CHECKPOINT_BYTES = 64 * 1024 * 1024
"""Length of the file from which on it is not let grow."""
FLUSH_ROWS = CHECKPOINT_ROWS // 4
"""Rows changed before the log is flushed."""
READERS_MS = 50
"""How long readers who stand in the way of a new start are waited for. Writers wait meanwhile;
readers that come later do not, and are in nobody's way."""


class WriteAheadLog:
    """The log of a database that one connection writes and copies.

    ``is_new`` is true where the next COMMIT begins the file anew, which waits for the disk.
    """

    def __init__(self, driver: sqlite3.Connection, *, flushes: bool) -> None:
        """Prepare.

        Args:
            driver: the connection.
            flushes: whether every COMMIT waits for the disk.
        """
        self._driver = driver
        self._flushes = flushes
        _, _, path = driver.execute("PRAGMA database_list").fetchone()
        self._path = f"{path}-wal"
        self._rows = self._flushed_rows = driver.total_changes
        self._longest = CHECKPOINT_BYTES
        self.is_new = True

    def is_due(self) -> bool:
        """Whether the log has become long."""
        return self._driver.total_changes - self._rows >= CHECKPOINT_ROWS or (
            self._length() > self._longest
        )

    def take_flush(self) -> bool:
        """Whether it is time to flush the log; true once each time."""
        rows = self._driver.total_changes
        if self._flushes or rows - self._flushed_rows < FLUSH_ROWS:
            return False
        self._flushed_rows = rows
        return True

    def flush(self) -> None:
        """Wait until the disk has the log so far; harmless at any time, in any thread.

        Whether it can makes no difference here: SQLite flushes the log before it copies it, through
        its own descriptor, which is told of every failure.
        """
        with suppress(OSError):
            log = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(log)
            finally:
                os.close(log)  # drops locks of the process on this file: SQLite has none there

    def copy(self) -> None:
        """Copy the log, outside of transactions; what fails is tried again when it is due again."""
        self._flushed_rows = self._driver.total_changes
        self._rows, self._longest = self._driver.total_changes, max(self._longest, self._length())
        self.is_new = True
        with suppress(sqlite3.Error):  # nothing is lost: a disk that fails shows in a COMMIT
            self._driver.execute(f"PRAGMA busy_timeout = {READERS_MS}")
            self._driver.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        self._driver.execute("PRAGMA busy_timeout = 0")

    def _length(self) -> int:
        try:
            return os.stat(self._path).st_size  # noqa: PTH116  # after every commit: a Path costs more
        except OSError:
            return 0
