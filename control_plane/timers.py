"""Deadlines that the core asked for: the newest one of each timer counts, the loop wakes once for the earliest."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from .effects import Timer

GRAIN_S = 0.001


@dataclass
class Timers:
    """Calls `fired` on the event loop; `clock` gives monotonic seconds."""

    clock: Callable[[], float]
    fired: Callable[[Timer], None]
    _due: dict[Timer, float] = field(default_factory=dict)
    _heap: list[tuple[float, Timer]] = field(default_factory=list)
    _handle: asyncio.TimerHandle | None = None
    _handle_s: float = float("inf")

    def set(self, timer: Timer, at_s: float) -> None:
        """Fire at this time instead of any earlier one."""
        if self._due.get(timer) == at_s:
            return
        self._due[timer] = at_s
        heapq.heappush(self._heap, (at_s, timer))
        if at_s < self._handle_s:
            self._arm(at_s)

    def clear(self) -> None:
        """Forget them all."""
        self._due.clear()
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._handle_s = None, float("inf")

    def _arm(self, at_s: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle_s = at_s
        # Loops count milliseconds: woken a little early, it would spin until the time has come.
        delay_s = max(at_s - self.clock(), 0.0) + GRAIN_S
        self._handle = asyncio.get_running_loop().call_later(delay_s, self._run)

    def _run(self) -> None:
        self._handle, self._handle_s = None, float("inf")
        now_s = self.clock()
        while self._heap and self._heap[0][0] <= now_s:
            at_s, timer = heapq.heappop(self._heap)
            if self._due.get(timer) == at_s:  # otherwise it was moved
                del self._due[timer]
                self.fired(timer)
        if self._heap and self._heap[0][0] < self._handle_s:
            self._arm(self._heap[0][0])
