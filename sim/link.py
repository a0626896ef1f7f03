"""A client's end of the wire, with the manners of `telemetry/link.py`: connect, subscribe, birth, back off, try again.

What a connection had in flight is forgotten with it; what must survive belongs to the outbox of the caller. Agents and
control planes of the simulation hold one each and are called back (`Owner`) on the kernel's time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from ..telemetry.backoff import Backoff
from .broker import Broker
from .kernel import Kernel
from .network import Arrived, Connection, Network
from .packets import Connack, Connect, Disconnect, Packet, Ping, Puback, Publish, Reset, Will

BACKOFF_S = (1.0, 60.0)
STABLE_S = 10.0
CONNECT_TIMEOUT_S = 10.0
USER_TIMEOUT_S = 20.0
"""Unacknowledged bytes for this long end the connection (TCP_USER_TIMEOUT)."""
KEEPALIVE_S = 30.0
IN_FLIGHT_MAX = 20
QUEUE_MAX = 1000

Done = Callable[[bool], None]


@dataclass(frozen=True)
class Presence:
    """What says that a client is there."""

    will: Will | None = None
    birth: Publish | None = None


@dataclass(frozen=True)
class LinkOptions:
    """Who connects, and what for."""

    client: str
    username: str
    subscriptions: tuple[tuple[str, int], ...]
    presence: Callable[[str], Presence]
    """Called with the session id of each new connection."""
    clean: bool = True


@dataclass(frozen=True, eq=False)
class Message:
    """A received publication; `ack` sends its PUBACK (nothing for QoS 0) if its connection lives."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    origin: str
    """Who really published it, as `Publish.origin`."""
    ack: Callable[[], None]


class Owner(Protocol):
    """Whose link it is."""

    def link_up(self, session: str) -> None:
        """Connected, subscribed, born."""

    def link_down(self, reason: str) -> None:
        """Not connected any more."""

    def received(self, message: Message) -> None:
        """A publication came."""


@dataclass(frozen=True)
class ConnectDue:
    """Time for the next attempt; void when another life of the link has begun."""

    life: int


@dataclass(frozen=True)
class ConnectionCheck:
    """Look after one connection: did CONNACK come, does TCP make progress, is a ping due?"""

    connection: Connection
    what: str


class Link:
    """One client. `start` and `stop` begin and end a life of its process; `freeze` is SIGSTOP."""

    def __init__(
        self, name: str, kernel: Kernel, network: Network, broker: Broker, options: LinkOptions, owner: Owner
    ) -> None:
        """`name` is whose network it is on (`Network.path`)."""
        self.name = name
        self._kernel = kernel
        self._network = network
        self._broker = broker
        self._options = options
        self._owner = owner
        self._random = Random(kernel.random.getrandbits(64))
        self._backoff = Backoff(*BACKOFF_S, self._random)
        self._life = 0
        self._connection: Connection | None = None
        self._connected_s = 0.0
        self._sent_s = 0.0
        self._stalled = False
        self._in_flight: dict[int, Done | None] = {}
        self._queue: deque[tuple[Publish, Done | None]] = deque()
        self._mid = 0
        self._frozen: list[object] | None = None
        self._has_power = True
        self.session = ""
        self.is_up = False
        self.spread_s = 0.0
        """First reconnects are spread over this long, as `_/spread` says."""

    # Lifetime of the process.

    def start(self) -> None:
        """Begin to connect."""
        self._life += 1
        self._has_power = True
        self._backoff.reset()
        self._kernel.after(0.0, self, ConnectDue(self._life))

    def stop(self, *, gracefully: bool, power_lost: bool = False) -> None:
        """End: with a DISCONNECT, without (the kernel closes the socket), or with the machine, in silence."""
        self._life += 1
        self._has_power = not power_lost
        self._frozen = None
        connection = self._connection
        self._forget()
        if connection is not None and not power_lost:
            self._network.send(connection, Disconnect() if gracefully else Reset(), upwards=True)

    def freeze(self) -> None:
        """Stop the process where it is; its sockets stay open."""
        self._frozen = []

    def thaw(self) -> None:
        """Go on with what has come meanwhile."""
        waiting, self._frozen = self._frozen or [], None
        for event in waiting:
            self.handle(event)

    # What the owner does.

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False, done: Done | None = None
    ) -> bool:
        """Send or queue; False when not connected or full. `done` tells of the PUBACK, or that it will not come."""
        connection = self._connection
        if connection is None or not self.is_up:
            return False
        if qos == 0:
            self._send(connection, Publish(topic, payload, 0, retain, 0, self._options.username))
            if done is not None:
                done(True)
            return True
        if len(self._queue) >= QUEUE_MAX:
            return False
        self._mid = self._mid % 65535 + 1
        self._queue.append((Publish(topic, payload, 1, retain, self._mid, self._options.username), done))
        self._pump(connection)
        return True

    def _pump(self, connection: Connection) -> None:
        while self._queue and len(self._in_flight) < IN_FLIGHT_MAX:
            packet, done = self._queue.popleft()
            self._in_flight[packet.mid] = done
            self._send(connection, packet)

    def _send(self, connection: Connection, packet: Packet) -> None:
        now_s = self._kernel.now_s
        self._sent_s = now_s
        path = connection.path
        if (path.up.is_blocked or path.down.is_blocked) and not self._stalled:
            self._stalled = True
            self._kernel.at(now_s + USER_TIMEOUT_S, self, ConnectionCheck(connection, "progress"))
        if not self._network.send(connection, packet, upwards=True):
            self._lose(connection, "the send buffer is full")

    # What happens to it.

    def handle(self, event: object) -> None:
        """Take a packet or a deadline."""
        if self._frozen is not None:
            self._frozen.append(event)
            return
        match event:
            case Arrived(connection=connection, packet=packet):
                self._arrive(connection, packet)
            case ConnectDue(life=life) if life == self._life:
                self._connect()
            case ConnectionCheck(connection=connection, what=what) if connection is self._connection:
                self._check(connection, what)
            case _:
                pass

    def _connect(self) -> None:
        kernel = self._kernel
        self.session = f"{self._random.getrandbits(64):016x}"
        presence = self._options.presence(self.session)
        connection = self._connection = self._network.connect(self, self._broker)
        self._stalled = False
        options = self._options
        packet = Connect(
            options.client,
            self.session,
            options.clean,
            KEEPALIVE_S,
            options.subscriptions,
            presence.will,
            presence.birth,
            options.username,
        )
        kernel.after(CONNECT_TIMEOUT_S, self, ConnectionCheck(connection, "connack"))
        self._send(connection, packet)

    def _arrive(self, connection: Connection, packet: Packet) -> None:
        if connection is not self._connection:
            if connection.broker_open and self._has_power and not isinstance(packet, Reset):
                self._network.send(connection, Reset(), upwards=True)
            return
        match packet:
            case Publish():
                self._owner.received(self._message(connection, packet))
            case Puback(mid=mid):
                done = self._in_flight.pop(mid, None)
                if done is not None:
                    done(True)
                self._pump(connection)
            case Connack(accepted=True):
                self._connected(connection)
            case Connack() | Reset():
                self._lose(connection, "the connection was closed")
            case _:
                pass

    def _message(self, connection: Connection, packet: Publish) -> Message:
        def ack() -> None:
            if packet.qos and connection is self._connection:
                self._network.send(connection, Puback(packet.mid), upwards=True)

        return Message(packet.topic, packet.payload, packet.qos, packet.retain, packet.origin, ack)

    def _connected(self, connection: Connection) -> None:
        if self.is_up:
            return
        self.is_up = True
        self._connected_s = self._kernel.now_s
        self._kernel.after(KEEPALIVE_S, self, ConnectionCheck(connection, "ping"))
        self._owner.link_up(self.session)

    def _check(self, connection: Connection, what: str) -> None:
        now_s = self._kernel.now_s
        if what == "connack" and not self.is_up:
            self._lose(connection, "no CONNACK")
        elif what == "progress":
            self._stalled = False
            if connection.path.up.is_blocked or connection.path.down.is_blocked:
                self._lose(connection, f"no progress for {USER_TIMEOUT_S:.0f} s")
        elif what == "ping":
            if now_s >= self._sent_s + KEEPALIVE_S:
                self._send(connection, Ping())
            self._kernel.at(self._sent_s + KEEPALIVE_S, self, ConnectionCheck(connection, "ping"))

    def _lose(self, connection: Connection, reason: str) -> None:
        if connection is not self._connection:
            return
        if self.is_up and self._kernel.now_s - self._connected_s >= STABLE_S:
            self._backoff.reset()
        was_up = self.is_up
        self._forget()
        self._network.send(connection, Reset(), upwards=True)
        self._kernel.after(self._backoff.next_s(self.spread_s), self, ConnectDue(self._life))
        if was_up:
            self._owner.link_down(reason)

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.client_open = False
        self._connection, self.is_up, self._stalled = None, False, False
        waiting = [*self._in_flight.values(), *(done for _, done in self._queue)]
        self._in_flight.clear()
        self._queue.clear()
        for done in waiting:
            if done is not None:
                done(False)
