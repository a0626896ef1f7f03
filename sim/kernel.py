"""Virtual time: a heap of (time_s, count, actor, event) and one seeded source of randomness for everything.

`World` owns it and calls `step` until there is nothing left to do; actors schedule events for themselves and others.
Two events of one instant happen in the order in which they were scheduled, so a run depends on its seed alone.
"""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random
from typing import Protocol

STEPS_MAX = 500_000_000
"""An endless loop ends as an error, not as a heater."""


class Actor(Protocol):
    """Whoever events happen to."""

    name: str

    def handle(self, event: object) -> None:
        """Take one event at `kernel.now_s`."""
        ...


class Kernel:
    """The clock and the agenda. `now_s` starts at 0 and is nobody's clock: nodes have clocks of their own."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now_s = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Actor, object]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, time_s: float, actor: Actor, event: object) -> None:
        """Let `event` happen to `actor` at this time, or now if it has passed."""
        self._count += 1
        heappush(self._heap, (max(self.now_s, time_s), self._count, actor, event))

    def after(self, delay_s: float, actor: Actor, event: object) -> None:
        """Let `event` happen to `actor` in so many seconds."""
        self.at(self.now_s + delay_s, actor, event)

    def next_s(self) -> float | None:
        """When the next event is due; None when there is none."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> tuple[Actor, object]:
        """Go to the next event and let it happen; returns it."""
        self.now_s, _, actor, event = heappop(self._heap)
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise RuntimeError(f"seed {self.seed}: more than {STEPS_MAX} steps by {self.now_s:.0f} s")
        actor.handle(event)
        return actor, event
