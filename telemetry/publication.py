"""Application messages on their way out: what to publish, how urgent it is, and the bounded queue where they wait.

The link fills and empties the queue; it decides when a publication may go to the socket. Pure: no clock, no socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from ..descriptions.errors import TransportError


class Priority(IntEnum):
    """Classes of design §5: a full telemetry queue never delays control, and `LOW` is shed first."""

    CONTROL = 0
    """Birth, heartbeats, reports, events, desired state."""
    HIGH = 1
    """`tel/hi`: samples that a QoS target or an alarm depends on."""
    LOW = 2
    """`tel/lo`: all other samples."""


@dataclass(frozen=True)
class Publication:
    """What a PUBLISH packet carries."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expiry_s: int | None = None
    """Message expiry; MQTT 5 only, left out on 3.1.1."""


@dataclass(eq=False)
class Pending:
    """A publication and the future that its publisher may await: done at PUBACK; with QoS 0 at once."""

    publication: Publication
    priority: Priority
    done: asyncio.Future[None]
    sent_s: float = 0.0

    def fail(self, reason: str) -> None:
        """Tell the publisher that this will not be delivered."""
        if not self.done.done():
            self.done.set_exception(TransportError(f"{self.publication.topic}: {reason}"))

    def succeed(self) -> None:
        """Tell the publisher that the broker has it."""
        if not self.done.done():
            self.done.set_result(None)


@dataclass
class SendQueue:
    """One bounded queue for control, one for telemetry in which `HIGH` pushes `LOW` out."""

    control_max: int = 1000
    bulk_max: int = 1000
    shed: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(Priority, 0))
    """Publications dropped or refused because their queue was full."""
    _lanes: dict[Priority, deque[Pending]] = field(default_factory=lambda: {p: deque() for p in Priority})

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def depth(self, priority: Priority) -> int:
        """How many publications of this class wait."""
        return len(self._lanes[priority])

    def push(self, pending: Pending) -> None:
        """Queue it, making room among less important telemetry; `TransportError` when there is none."""
        if not self._make_room(pending.priority):
            self.shed[pending.priority] += 1
            raise TransportError(f"{pending.publication.topic}: the {pending.priority.name} queue is full")
        self._lanes[pending.priority].append(pending)

    def _make_room(self, priority: Priority) -> bool:
        if priority is Priority.CONTROL:
            return self.depth(Priority.CONTROL) < self.control_max
        if self.depth(Priority.HIGH) + self.depth(Priority.LOW) < self.bulk_max:
            return True
        # Newer samples are worth more than older ones, so the oldest LOW goes, never a waiting HIGH.
        if not self._lanes[Priority.LOW]:
            return False
        self._lanes[Priority.LOW].popleft().fail("shed, the telemetry queue is full")
        self.shed[Priority.LOW] += 1
        return True

    def pop(self, qos1_allowed: dict[Priority, bool]) -> Pending | None:
        """The most urgent publication that may go now; within a class order is kept."""
        for priority, lane in self._lanes.items():
            while lane and lane[0].done.cancelled():
                lane.popleft()  # its publisher gave up
            if lane and (lane[0].publication.qos == 0 or qos1_allowed[priority]):
                return lane.popleft()
        return None

    def clear(self, reason: str) -> None:
        """Fail everything that waits."""
        for lane in self._lanes.values():
            while lane:
                lane.popleft().fail(reason)
