"""Counts durations by size, for metrics: a few integers, no library. Keeper and pulse count, report shows."""

from bisect import bisect_left
from typing import Any

LATENESS_BOUNDS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
CYCLE_BOUNDS_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)


class Histogram:
    """How many durations were at most each bound, and how many longer than all of them. In seconds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = self.longest = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds
        self.longest = max(self.longest, seconds)

    def to_json(self) -> dict[str, Any]:
        """Bounds, counts between them (the last one: above all bounds), sum and maximum."""
        return {"bounds": self._bounds, "counts": self._counts, "sum": round(self._sum, 6), "max": round(self.longest, 6)}
