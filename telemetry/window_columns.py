"""Ring buffers of many series side by side: times and values of a fixed depth, appended to by the thousand.

`windows.py` owns one and says which slot belongs to which series. Samples of a slot are in ascending order of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]
Values = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]

FIRST_SLOTS = 256


@dataclass(frozen=True)
class Recent:
    """A slot's samples, oldest first."""

    times_s: Times
    values: Values


class Columns:
    """`slots_max` rings of `depth` samples; memory grows by doubling, 16 bytes a sample."""

    def __init__(self, slots_max: int, depth: int) -> None:
        self.slots_max = slots_max
        self.depth = depth
        self._used = 0
        self._free: list[int] = []
        self._times = np.empty(0, np.float64)
        self._values = np.empty(0, np.float64)
        self._head = np.empty(0, np.int64)
        self._count = np.empty(0, np.int64)
        self.last_s = np.empty(0, np.float64)
        """Time of the newest sample of each slot; minus infinity where there is none."""

    def take(self) -> int | None:
        """An empty slot; None when all are taken."""
        if self._free:
            return self._free.pop()
        if self._used >= self.slots_max:
            return None
        if self._used == len(self._head):
            self._grow(min(self.slots_max, max(FIRST_SLOTS, 2 * self._used)))
        self._used += 1
        return self._used - 1

    def release(self, slot: int) -> None:
        """Forget the slot's samples and let another series have it."""
        self._count[slot] = 0
        self.last_s[slot] = -np.inf
        self._free.append(slot)

    def _grow(self, slots: int) -> None:
        more = slots - len(self._head)
        self._times = np.concatenate((self._times, np.zeros(more * self.depth)))
        self._values = np.concatenate((self._values, np.zeros(more * self.depth)))
        self._head = np.concatenate((self._head, np.zeros(more, np.int64)))
        self._count = np.concatenate((self._count, np.zeros(more, np.int64)))
        self.last_s = np.concatenate((self.last_s, np.full(more, -np.inf)))

    def append(self, slots: Slots, times_s: Times, values: Values) -> int:
        """Append samples; how many were left out because their slot has newer ones already."""
        order = np.lexsort((times_s, slots))
        fresh = order[times_s[order] > self.last_s[slots[order]]]
        if not len(fresh):
            return len(slots)  # nothing at all, too
        slot, time_s = slots[fresh], times_s[fresh]
        is_first = np.empty(len(slot), np.bool_)
        is_first[0] = True
        np.not_equal(slot[1:], slot[:-1], out=is_first[1:])
        starts = np.flatnonzero(is_first)
        sizes = np.diff(np.append(starts, len(slot)))
        rank = np.arange(len(slot)) - np.repeat(starts, sizes)
        target = slot * self.depth + (self._head[slot] + rank) % self.depth
        self._times[target] = time_s
        self._values[target] = values[fresh]
        which = slot[starts]
        self._head[which] = (self._head[which] + sizes) % self.depth
        self._count[which] = np.minimum(self._count[which] + sizes, self.depth)
        self.last_s[which] = time_s[starts + sizes - 1]
        return len(slots) - len(fresh)

    def recent(self, slot: int) -> Recent:
        """Copies of a slot's samples, oldest first."""
        start, count, head = slot * self.depth, int(self._count[slot]), int(self._head[slot])
        oldest = (head - count) % self.depth
        index = start + (oldest + np.arange(count)) % self.depth
        return Recent(self._times[index], self._values[index])

    def last(self, slot: int) -> float:
        """A slot's newest value; the slot must have one."""
        return float(self._values[slot * self.depth + (self._head[slot] - 1) % self.depth])

    @property
    def bytes(self) -> int:
        """Memory that the rings take."""
        return int(self._times.nbytes + self._values.nbytes + 3 * self._head.nbytes)
