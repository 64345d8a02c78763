"""How long to wait before the next attempt at something that failed."""

from __future__ import annotations

import random


class Backoff:
    """Exponential waits with full jitter, so that many processes do not come back at once.

    Args:
        first: longest wait after the first failure, seconds.
        longest: no wait is longer than this, seconds.
    """

    def __init__(self, *, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0

    def reset(self) -> None:
        """Something worked: the next failure counts as the first."""
        self._failures = 0

    def next_wait(self) -> float:
        """Seconds to wait now; at least a tenth of the current ceiling, so that it never spins."""
        ceiling = min(self._longest, self._first * 2**self._failures)
        if ceiling < self._longest:
            self._failures += 1
        return random.uniform(ceiling / 10, ceiling)  # noqa: S311 - spreads load, guards nothing
