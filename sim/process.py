"""The life of a process on a machine with a clock of its own: its deadlines, what it waits for, and its being frozen.

Agents and control planes of the simulation are made on top of it: a core's `WakeAt` becomes `wake`, the end of anything
slow becomes `after`. Nothing of an ended life happens any more.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .clock import Clock
from .kernel import Kernel

CLOCK_SLACK_S = 1e-6
"""Deadlines are met this exactly: a clock's rate and a float's last bit must not make an endless loop."""

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Due(Generic[T]):
    """A deadline has come, on the machine's monotonic clock."""

    timer: T
    at_s: float


@dataclass(frozen=True, eq=False)
class Later:
    """Something that was begun is done."""

    done: Callable[[], None]


class Life(Generic[T]):
    """One life; `fired` is called with a timer and the monotonic time at which it was due."""

    def __init__(self, name: str, kernel: Kernel, clock: Clock, prefix: str, fired: Callable[[T, float], None]) -> None:
        """`prefix` makes the ids of this life's events."""
        self.name = name
        self.kernel = kernel
        self.clock = clock
        self._prefix = prefix
        self._fired = fired
        self._deadlines: dict[T, float] = {}
        self._frozen: list[object] | None = None
        self._events = 0
        self.is_over = False

    def now_s(self) -> float:
        """The machine's monotonic clock."""
        return self.clock.monotonic_s(self.kernel.now_s)

    def new_id(self) -> str:
        """Of an event."""
        self._events += 1
        return f"{self._prefix}{self._events}"

    def wake(self, timer: T, at_s: float) -> None:
        """Fire the timer at this time of the machine's clock; replaces its earlier deadline."""
        if self._deadlines.get(timer) != at_s:
            self._deadlines[timer] = at_s
            self.kernel.at(self.clock.true_s(at_s), self, Due(timer, at_s))

    def after(self, delay_s: float, done: Callable[[], None]) -> None:
        """Call `done` in so many true seconds, if this life lasts."""
        self.kernel.at(self.kernel.now_s + delay_s, self, Later(done))

    def end(self) -> None:
        """Whatever is still on the agenda finds nobody."""
        self.is_over = True

    def freeze(self) -> None:
        """SIGSTOP: keep what happens for later."""
        if self._frozen is None:
            self._frozen = []

    def thaw(self) -> None:
        """SIGCONT: take what has happened."""
        waiting, self._frozen = self._frozen or [], None
        for event in waiting:
            self.handle(event)

    @property
    def is_frozen(self) -> bool:
        """True between SIGSTOP and SIGCONT."""
        return self._frozen is not None

    def clock_changed(self) -> None:
        """The clock has another rate: deadlines are elsewhere on the agenda now."""
        for timer, at_s in self._deadlines.items():
            self.kernel.at(self.clock.true_s(at_s), self, Due(timer, at_s))

    def handle(self, event: object) -> None:
        """Take a deadline or the end of something begun."""
        if self.is_over:
            return
        if self._frozen is not None:
            self._frozen.append(event)
        elif isinstance(event, Later):
            event.done()
        elif isinstance(event, Due):
            if self._deadlines.get(event.timer) == event.at_s and self.now_s() + CLOCK_SLACK_S >= event.at_s:
                del self._deadlines[event.timer]
                self._fired(event.timer, max(event.at_s, self.now_s()))
        else:
            raise TypeError(event)
