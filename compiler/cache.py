"""Bounded memories: of documents seen, of plans, of documents that cannot be compiled."""

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LeastRecentlyUsed(Generic[K, V]):
    """A mapping that forgets its least recently used entries beyond a total weight."""

    def __init__(self, max_weight: int) -> None:
        self.max_weight = max_weight
        self.weight = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: K) -> V | None:
        """The value for a key, made the most recent; None when there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, *, weight: int = 1) -> None:
        """Keep a value, at the price of the least recent ones; one too heavy is not kept."""
        old = self._entries.pop(key, None)
        self.weight += weight - (old[1] if old else 0)
        self._entries[key] = (value, weight)
        while self.weight > self.max_weight:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.weight -= dropped


BAIL_COSTS = 10


class Standing:
    """How a compiled plan has done lately: after too many bails it rests.

    Each bail costs `BAIL_COSTS`, each success earns 1, so a plan goes on while fewer than about a
    tenth of its executions bail.

    Args:
        bails: how many bails in a row make it rest.
    """

    __slots__ = ("_full", "credit", "resting_until")

    def __init__(self, bails: int) -> None:
        self._full = self.credit = bails * BAIL_COSTS
        self.resting_until = 0.0

    @property
    def rests(self) -> bool:
        """Whether the plan must not be used now."""
        return self.resting_until > 0.0 and time.monotonic() < self.resting_until

    def succeed(self) -> None:
        """The plan has answered."""
        if self.credit < self._full:
            self.credit += 1

    def bail(self, now: float, *, rest: float) -> None:
        """The plan has not answered; after too many of these it rests for `rest` seconds."""
        self.credit -= BAIL_COSTS
        if self.credit <= 0:
            self.credit = self._full
            self.resting_until = now + rest
