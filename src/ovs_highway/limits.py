# SPDX-License-Identifier: Apache-2.0
"""How much of something others may have: per second, or at a time."""

from __future__ import annotations

import time
from collections import Counter


class Bucket:
    """A token bucket: `burst` at once, then `per_second`."""

    def __init__(self, *, per_second: float, burst: float) -> None:
        self._rate, self._burst = per_second, burst
        self._tokens, self._last = burst, time.monotonic()

    def _fill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now

    def __call__(self) -> bool:
        """Take a token; return whether there was one."""
        self._fill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def owe(self, cost: float = 1.0) -> float:
        """Take tokens, even if there are not that many; return the seconds until there are."""
        self._fill()
        self._tokens -= cost
        return max(0.0, -self._tokens / self._rate)


class Quota:
    """At most `limit` at a time for each user."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = Counter[int]()

    def take(self, uid: int) -> bool:
        """Take one for a user; return whether there was one left."""
        if self._used[uid] >= self.limit:
            return False
        self._used[uid] += 1
        return True

    def give(self, uid: int) -> None:
        """Give one back."""
        self._used[uid] -= 1
        if self._used[uid] <= 0:
            del self._used[uid]
