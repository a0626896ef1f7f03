"""All workers of one model and version, and the requests that wait for them.

`serving.py` adds and retires workers, `routes.py` submits calls, a worker's link says when it has room. The least busy
worker comes first; a call waits here, not in a worker, so that it survives the worker's death.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .http.exchange import Exchange

ATTEMPTS_MAX = 2
"""Hand-overs of one call; a call that was behind a dying worker's own is handed over once more."""


@dataclass(slots=True, eq=False)
class Call:
    """One inference request on its way to a worker."""

    exchange: Exchange
    fields: bytes
    """What goes into the INFER frame beside the body."""
    version: str | None
    """None when the client left the choice to us."""
    attempts: int = 0
    dispatched_s: float = 0.0

    @property
    def is_abandoned(self) -> bool:
        """The client is gone, or has been answered."""
        return self.exchange.is_answered


@dataclass(frozen=True)
class Outlook:
    """Whether waiting makes sense while no worker is there."""

    is_hopeful: bool = True
    """A worker that served before will be back before the queue's patience ends."""
    reason: str = "it is loading"
    retry_after_s: float = 1.0


class Slot(Protocol):
    """What a pool needs of a worker."""

    @property
    def in_flight(self) -> int:
        """Calls that it holds."""
        ...

    @property
    def in_flight_max(self) -> int:
        """Calls that it may hold."""
        ...

    def dispatch(self, call: Call) -> None:
        """Hand it a call."""
        ...


@dataclass(eq=False)
class Pool:
    """Workers and queue of one model and version."""

    model: str
    version: str
    queue_max: int = 256
    workers: list[Slot] = field(default_factory=list)
    """Take new calls."""
    retiring: list[Slot] = field(default_factory=list)
    """Finish what they hold; take waiting calls only when nobody else can."""
    queue: deque[Call] = field(default_factory=deque)
    outlook: Outlook = Outlook()

    @property
    def is_promising(self) -> bool:
        """Whether a new call would be answered here."""
        return bool(self.workers) or self.outlook.is_hopeful

    def submit(self, call: Call) -> Literal["dispatched", "queued", "full", "hopeless"]:
        """Hand a call to the least busy worker, or let it wait where that makes sense."""
        if not self.is_promising:
            return "hopeless"
        slot = _free_slot(self.workers) if not self.queue else None
        if slot is not None:
            self._dispatch(slot, call)
            return "dispatched"
        if len(self.queue) >= self.queue_max:
            return "full"
        self.queue.append(call)
        return "queued"

    def put_back(self, calls: list[Call]) -> None:
        """Calls that a dying worker held and had not begun, oldest first; they go before those that wait."""
        self.queue.extendleft(reversed(calls))
        self.pump()

    def pump(self) -> None:
        """Hand out waiting calls while there is room."""
        while self.queue and (slot := _free_slot(self.workers or self.retiring)) is not None:
            call = self.queue.popleft()
            if not call.is_abandoned:
                self._dispatch(slot, call)

    def expired(self, received_before_s: float) -> Iterator[Call]:
        """Take out the calls that have waited too long."""
        while self.queue and self.queue[0].exchange.received_s < received_before_s:
            yield self.queue.popleft()

    def take_unversioned(self) -> list[Call]:
        """Take out the waiting calls that another version may answer."""
        free = [call for call in self.queue if call.version is None]
        kept = [call for call in self.queue if call.version is not None]
        self.queue = deque(kept)
        return free

    def _dispatch(self, slot: Slot, call: Call) -> None:
        call.attempts += 1
        slot.dispatch(call)


def _free_slot(slots: list[Slot]) -> Slot | None:
    """The least busy one that has room."""
    best: Slot | None = None
    for slot in slots:
        if slot.in_flight < slot.in_flight_max and (best is None or slot.in_flight < best.in_flight):
            best = slot
    return best
