"""One connection to a broker as the client sees it, and the window of publications in flight on it.

`link.py` implements `Connection` with paho; `client.py` makes, feeds and replaces connections. Callbacks are called on
the event loop, in the order of the packets.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from .publication import Pending, Priority, Publication


@dataclass(frozen=True)
class Received:
    """A PUBLISH packet; `topic` is None when it isn't UTF-8."""

    mid: int
    topic: str | None
    payload: bytes
    qos: int
    retain: bool
    dup: bool


class Connection(ABC):
    """One connection to the broker, from CONNECT to its end. `lost` ends it, with the reason."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.connack: asyncio.Future[None] = loop.create_future()
        """Done at an accepting CONNACK; `TransportError` otherwise."""
        self.lost: asyncio.Future[str] = loop.create_future()
        self.oversized = False
        """It ended because of a packet over the size cap."""
        self.on_message: Callable[[Received], None] = lambda received: None
        self.on_puback: Callable[[int, str | None], None] = lambda mid, refusal: None
        """Called with the packet id and, on MQTT 5, why the broker refused the publication."""
        self.on_writable: Callable[[], None] = lambda: None

    @property
    @abstractmethod
    def is_writable(self) -> bool:
        """Nothing waits for the socket: another packet would go out at once."""

    @abstractmethod
    def publish(self, publication: Publication) -> int:
        """Queue a PUBLISH; the packet id, by which its PUBACK will be known."""

    @abstractmethod
    def write(self) -> None:
        """Send what the socket takes now; not from within a callback."""

    @abstractmethod
    def ack(self, mid: int) -> bool:
        """Send a PUBACK; false when this message has had one."""

    @abstractmethod
    async def subscribe(self, filters: list[tuple[str, int]]) -> list[bool]:
        """SUBSCRIBE and wait for the SUBACK: whether each filter was accepted."""

    @abstractmethod
    async def unsubscribe(self, topic_filter: str) -> None:
        """UNSUBSCRIBE and wait for the UNSUBACK."""

    @abstractmethod
    def housekeeping(self) -> None:
        """Send PINGREQ when it is due, notice a PINGRESP that never came. Called every few seconds."""

    @abstractmethod
    def close(self, *, gracefully: bool) -> None:
        """End it: with a DISCONNECT, so that the will is dropped, or without, so that the broker publishes it."""

    @abstractmethod
    def fail(self, reason: str) -> None:
        """Take nothing more from this connection and end it soon; safe within a callback."""

    @abstractmethod
    def end(self, reason: str) -> None:
        """Drop the connection without a word, now; the first reason stays."""


@dataclass
class InFlight:
    """QoS 1 publications without a PUBACK, by packet id; telemetry may not use up the window."""

    limit: int
    bulk_limit: int
    _pending: dict[int, Pending] = field(default_factory=dict)
    _bulk: int = 0

    def allows(self) -> dict[Priority, bool]:
        """Which classes may send another QoS 1 publication."""
        control = len(self._pending) < self.limit
        bulk = control and self._bulk < self.bulk_limit
        return {Priority.CONTROL: control, Priority.HIGH: bulk, Priority.LOW: bulk}

    def add(self, mid: int, pending: Pending) -> None:
        """A publication was sent."""
        self._pending[mid] = pending
        self._bulk += pending.priority is not Priority.CONTROL

    def settle(self, mid: int) -> Pending | None:
        """Its PUBACK came; None for a packet id that isn't in flight."""
        pending = self._pending.pop(mid, None)
        self._bulk -= pending is not None and pending.priority is not Priority.CONTROL
        return pending

    def oldest_s(self, now_s: float) -> float:
        """Age of the publication that has waited longest, 0 when there is none."""
        return max((now_s - pending.sent_s for pending in self._pending.values()), default=0.0)

    def clear(self, reason: str) -> int:
        """Fail them all; how many there were."""
        lost, self._pending, self._bulk = self._pending, {}, 0
        for pending in lost.values():
            pending.fail(reason)
        return len(lost)
