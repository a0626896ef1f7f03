"""Application messages on their way in: what was received, its acknowledgement, and the bounded queue where it waits.

The link fills it from the socket, one consumer empties it. When a queue is full the link disconnects, so that the
broker and the consumer both know that something was missed; only QoS 0 telemetry is shed instead, and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Message:
    """An application message from the broker. With QoS 1 the broker keeps it until `ack` is called."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    received_s: float
    """On the link's clock."""
    acknowledge: Callable[[], None] = field(repr=False, default=lambda: None)

    def ack(self) -> None:
        """Send the PUBACK: what this message asked for is safe. Nothing happens for QoS 0 or after a reconnect."""
        self.acknowledge()


@dataclass
class Inbox:
    """Control first, telemetry after; each bounded on its own."""

    control_max: int = 1000
    bulk_max: int = 1000
    shed: int = 0
    """QoS 0 telemetry dropped because the consumer was slow."""
    closed: bool = False
    _control: deque[Message] = field(default_factory=deque)
    _bulk: deque[Message] = field(default_factory=deque)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _drained: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return len(self._control) + len(self._bulk)

    def put(self, message: Message, *, bulk: bool) -> bool:
        """Queue it; false when it does not fit and the connection has to end."""
        lane, limit = (self._bulk, self.bulk_max) if bulk else (self._control, self.control_max)
        if len(lane) >= limit:
            if not (bulk and message.qos == 0):
                return False
            self.shed += 1
            # A full lane of QoS 1 telemetry has nothing that may be shed; then the newcomer goes.
            if lane[0].qos > 0:
                return True
            lane.popleft()
        lane.append(message)
        self._changed.set()
        return True

    async def get(self) -> Message | None:
        """The next message; None when the inbox is closed and empty."""
        while not (self._control or self._bulk):
            if self.closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        message = (self._control or self._bulk).popleft()
        if self.has_room():
            self._drained.set()
        return message

    def has_room(self) -> bool:
        """At most half full: reconnecting makes sense."""
        return len(self._control) * 2 <= self.control_max and len(self._bulk) * 2 <= self.bulk_max

    async def wait_for_room(self) -> None:
        """Return when the consumer has caught up with half of each queue."""
        while not self.has_room():
            self._drained.clear()
            await self._drained.wait()

    def close(self) -> None:
        """Let the consumer finish what is queued, then end."""
        self.closed = True
        self._changed.set()
