"""Transactions that share one commit: acknowledged together."""

import asyncio
import time
from collections.abc import Callable, Sequence

GROUP_SIZE = 64
"""Most transactions in one commit."""
GROUP_SECONDS = 0.005
"""A commit is not put off longer than this for those that come after."""


class Member:
    """One transaction of a group, after its statements."""

    def __init__(self, after_commit: Sequence[Callable[[], None]]) -> None:
        self._after_commit = after_commit
        self.failure: Exception | None = None

    def committed(self) -> None:
        """It is: call what waits for that."""
        try:
            for callback in self._after_commit:
                callback()
        except Exception as error:  # noqa: BLE001  # raised where this transaction waits
            self.failure = error


class Group:
    """Transactions that share a commit."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.members: list[Member] = []
        self.is_settled = False
        self.failure: BaseException | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()

    @property
    def is_full(self) -> bool:
        """Whether those that come now are left to the next one."""
        age = time.monotonic() - self.began
        return len(self.members) >= GROUP_SIZE or age >= GROUP_SECONDS

    async def settled(self) -> None:
        """Wait for the commit, whatever happens; a cancellation is raised after it."""
        cancelled: asyncio.CancelledError | None = None
        while not self.is_settled:
            turn = self._loop.create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def settle(self, failure: BaseException | None = None) -> None:
        """The commit is through, or failed: tell everybody."""
        self.is_settled, self.failure = True, failure
        if failure is None:
            for member in self.members:
                member.committed()
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
