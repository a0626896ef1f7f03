"""How long requests took over the last minute: logarithmic buckets in a ring of slices, nothing kept per request."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from ....descriptions.messages.gateway import LatencyBucket

SLICE_S = 5.0
SLICES = 12
WINDOW_S = SLICE_S * SLICES
GROWTH = 1.25
BOUNDS_MS = tuple(0.05 * GROWTH**step for step in range(66))
"""50 µs to 100 s; a quantile is right within 12 %."""
LONGEST_MS = 3.6e6
"""Bound of the bucket above; nothing lives that long."""


class LatencyWindow:
    """Counts by bucket over the last `WINDOW_S`; time comes in with each call and never goes back."""

    def __init__(self, now_s: float) -> None:
        self._slices = [[0] * (len(BOUNDS_MS) + 1) for _ in range(SLICES)]
        self._slot = int(now_s / SLICE_S)
        self._born_s = now_s
        self.totals = [0] * (len(BOUNDS_MS) + 1)
        """Requests by bucket since the beginning."""
        self.sum_ms = 0.0

    def record(self, latency_ms: float, now_s: float) -> None:
        """Count one request."""
        self._turn(now_s)
        bucket = bisect_left(BOUNDS_MS, latency_ms)
        self._slices[self._slot % SLICES][bucket] += 1
        self.totals[bucket] += 1
        self.sum_ms += latency_ms

    def counts(self, now_s: float) -> list[int]:
        """Requests by bucket."""
        self._turn(now_s)
        return [sum(column) for column in zip(*self._slices, strict=True)]

    def rate_per_s(self, now_s: float) -> float:
        """Requests a second, over the time that the window has seen."""
        full_s = WINDOW_S - SLICE_S + now_s % SLICE_S
        seen_s = max(1.0, min(full_s, now_s - self._born_s))
        return sum(self.counts(now_s)) / seen_s

    def _turn(self, now_s: float) -> None:
        slot = int(now_s / SLICE_S)
        for passed in range(max(self._slot + 1, slot - SLICES + 1), slot + 1):
            self._slices[passed % SLICES] = [0] * (len(BOUNDS_MS) + 1)
        self._slot = max(self._slot, slot)


def quantile_ms(counts: list[int], fraction: float) -> float:
    """The middle (geometric) of the bucket in which this fraction of the requests is reached; 0 without requests."""
    totals = list(accumulate(counts))
    if not totals[-1]:
        return 0.0
    index = bisect_left(totals, max(1.0, fraction * totals[-1]))
    return float(BOUNDS_MS[min(index, len(BOUNDS_MS) - 1)] / GROWTH**0.5)


def buckets(counts: list[int]) -> tuple[LatencyBucket, ...]:
    """The buckets that hold something."""
    bounds = (*BOUNDS_MS, LONGEST_MS)
    return tuple(LatencyBucket(bound, count) for bound, count in zip(bounds, counts, strict=True) if count)
