"""Simulated real time: what happens next, and chance that depends on the seed and on a name only.

Chance has one stream per purpose, so that a schedule with one event less still meets the same latencies elsewhere: that is what makes
shrinking work.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any


class Engine:
    """The heap of what is to happen. `now` is real time in seconds; no host sees it."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self._seed = seed
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def chance(self, name: str) -> random.Random:
        """The stream of that name."""
        return random.Random(f"{self._seed}/{name}")

    def at(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        """Do it at that time, or now if that is past."""
        self._number += 1
        heapq.heappush(self._heap, (when if when > self.now else self.now, self._number, what, arguments))

    def after(self, seconds: float, what: Callable[..., None], *arguments: Any) -> None:
        """Do it so many seconds from now."""
        self.at(self.now + seconds, what, *arguments)

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        until, heap = self.now + seconds, self._heap
        while heap and heap[0][0] <= until:
            self.now, _, what, arguments = heapq.heappop(heap)
            what(*arguments)
        self.now = until

    def run_until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Run until it holds, at most so long; whether it does."""
        until = self.now + seconds
        while self.now < until and not holds():
            self.run(min(0.25, until - self.now))
        return holds()
