"""The wire between clients and the broker: delay, loss, repetition, reordering and partitions, each way on its own.

A connection behaves as TCP does: packets of one direction stay in order and wait while the way is blocked, and what is
lost is sent again after a timeout. On top of that come the adversary's rates: QoS 0 publications vanish, QoS 1 ones
come twice or out of turn, as brokers and reconnections do to them. `link.py` and `broker.py` are the two ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from .kernel import Actor, Kernel
from .packets import Packet, Publish

RETRANSMIT_S = 0.2
"""First retransmission timeout; doubles (RFC 6298 allows 0.2 s as Linux does)."""
RETRANSMIT_S_MAX = 20.0
HELD_MAX = 10_000
"""Packets in the send buffer of a blocked connection; more are not taken."""


@dataclass(frozen=True)
class Quality:
    """One direction of a client's way to the broker. Rates are probabilities for each packet."""

    delay_s: tuple[float, float] = (0.002, 0.02)
    """Uniformly between these two."""
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 2.0
    """How late a packet out of turn, or a second copy, may be."""


@dataclass
class Way:
    """One direction of one client's network, shared by its successive connections."""

    quality: Quality = field(default_factory=Quality)
    is_blocked: bool = False


@dataclass
class Path:
    """A client's network: towards the broker and back."""

    up: Way = field(default_factory=Way)
    down: Way = field(default_factory=Way)


@dataclass(eq=False)
class Connection:
    """One TCP connection. Each end forgets it on its own: the other may not know for a while."""

    id: int
    client: Actor
    broker: Actor
    path: Path
    client_open: bool = True
    broker_open: bool = True
    up_s: float = 0.0
    """When the last packet upwards will arrive: the next one arrives later."""
    down_s: float = 0.0
    held_up: deque[Packet] = field(default_factory=deque)
    held_down: deque[Packet] = field(default_factory=deque)


@dataclass(frozen=True, eq=False)
class Arrived:
    """A packet has reached the other end."""

    connection: Connection
    packet: Packet
    upwards: bool


class Network:
    """All ways. Counts what it did to packets, for the summary."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._paths: dict[str, Path] = {}
        self._open: dict[str, list[Connection]] = {}
        self._ids = 0
        self.sent = 0
        self.lost = 0
        self.duplicated = 0
        self.reordered = 0

    def path(self, client: str) -> Path:
        """The network of a client, made when first asked for."""
        return self._paths.setdefault(client, Path())

    def connect(self, client: Actor, broker: Actor) -> Connection:
        """A new TCP connection."""
        self._ids += 1
        connection = Connection(self._ids, client, broker, self.path(client.name))
        alive = self._open.setdefault(client.name, [])
        alive[:] = [one for one in alive if one.client_open or one.broker_open]
        alive.append(connection)
        return connection

    def block(self, client: str, *, up: bool, down: bool) -> None:
        """Cut one or both directions of a client's network, or (False) heal them."""
        path = self.path(client)
        path.up.is_blocked, path.down.is_blocked = up, down
        for connection in self._open.get(client, []):
            for upwards in (True, False):
                self._flush(connection, upwards)

    def _flush(self, connection: Connection, upwards: bool) -> None:
        way = connection.path.up if upwards else connection.path.down
        held = connection.held_up if upwards else connection.held_down
        while held and not way.is_blocked:
            self._transmit(connection, held.popleft(), upwards, way.quality)

    def send(self, connection: Connection, packet: Packet, *, upwards: bool) -> bool:
        """Put a packet on its way; False when the send buffer of a blocked connection is full."""
        self.sent += 1
        way = connection.path.up if upwards else connection.path.down
        if not way.is_blocked:
            self._transmit(connection, packet, upwards, way.quality)
            return True
        held = connection.held_up if upwards else connection.held_down
        if len(held) >= HELD_MAX:
            return False
        held.append(packet)
        return True

    def _transmit(self, connection: Connection, packet: Packet, upwards: bool, quality: Quality) -> None:
        kernel, random = self._kernel, self._kernel.random
        low_s, high_s = quality.delay_s
        time_s = kernel.now_s + low_s + (high_s - low_s) * random.random()
        if quality.loss and random.random() < quality.loss:
            if type(packet) is Publish and packet.qos == 0:
                self.lost += 1
                return
            time_s += sum(self._retransmissions(quality.loss))
        receiver = connection.broker if upwards else connection.client
        arrived = Arrived(connection, packet, upwards)
        if type(packet) is Publish:
            if quality.duplicate and packet.qos and random.random() < quality.duplicate:
                self.duplicated += 1
                kernel.at(time_s + quality.reorder_s * random.random(), receiver, arrived)
            if quality.reorder and random.random() < quality.reorder:
                self.reordered += 1
                kernel.at(time_s + quality.reorder_s * random.random(), receiver, arrived)
                return
        if upwards:
            time_s = connection.up_s = max(time_s, connection.up_s)
        else:
            time_s = connection.down_s = max(time_s, connection.down_s)
        kernel.at(time_s, receiver, arrived)

    def _retransmissions(self, loss: float) -> Iterator[float]:
        """Timeouts until one transmission gets through."""
        timeout_s = RETRANSMIT_S
        yield timeout_s
        while self._kernel.random.random() < loss and timeout_s < RETRANSMIT_S_MAX:
            timeout_s *= 2
            yield timeout_s
