"""The broker as it is: a lossy place. QoS 0 and 1, retained messages, wills, sessions, take-over, and silent drops.

Modelled on Mosquitto's defaults: 20 messages in flight to a client, then a queue of 1,000 that drops without a word, a
store written every 1,800 s. `check_access` is the broker's access list. Whether the model is true is told by
`tests/sim/test_broker_model.py`, which puts the same script to it and to real brokers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .kernel import Kernel
from .network import Arrived, Connection, Network
from .packets import Connack, Connect, Disconnect, Packet, Ping, Puback, Publish, Reset, Will
from .topic_tree import TopicTree

IN_FLIGHT_MAX = 20
QUEUE_MAX = 1000
SESSION_EXPIRY_S = 3600.0

Access = Callable[[str, str, bool], bool]
"""(user name, topic or filter, is it a write) → allowed."""


@dataclass(eq=False)
class Session:
    """What the broker keeps of a client."""

    client: str
    username: str
    clean: bool
    subscriptions: dict[str, int]
    """Filter → QoS."""
    places: dict[str, int] = field(default_factory=dict)
    """Filter → its number in the tree of subscriptions."""
    connection: Connection | None = None
    will: Will | None = None
    keepalive_s: float = 30.0
    heard_s: float = 0.0
    gone_s: float = 0.0
    queue: deque[Publish] = field(default_factory=deque)
    in_flight: OrderedDict[int, Publish] = field(default_factory=OrderedDict)
    mid: int = 0

    def next_mid(self) -> int:
        """A packet id that is not in flight."""
        self.mid = self.mid % 65535 + 1
        return self.mid if self.mid not in self.in_flight else self.next_mid()


@dataclass(frozen=True)
class KeepaliveDue:
    """Look whether a client has been silent for too long."""

    connection: Connection


@dataclass(frozen=True)
class Saved:
    """What the broker wrote to its disk at some time."""

    at_s: float
    retained: dict[str, Publish]
    sessions: tuple[tuple[str, str, tuple[tuple[str, int], ...], tuple[Publish, ...]], ...]
    """Client, user, subscriptions, queued and in-flight publications."""


class Broker:
    """One broker; `stop` and `start` are its crashes and restarts."""

    name = "broker"

    def __init__(self, kernel: Kernel, network: Network, check_access: Access, save_s: float = 1800.0) -> None:
        self._kernel = kernel
        self._network = network
        self._check_access = check_access
        self._save_s = save_s
        self._sessions: dict[str, Session] = {}
        self._of_connection: dict[Connection, Session] = {}
        self.retained: dict[str, Publish] = {}
        self._retained_topics: TopicTree[str] = TopicTree()
        self._retained_places: dict[str, int] = {}
        self._subscriptions: TopicTree[tuple[Session, int]] = TopicTree()
        self._saved = Saved(0.0, {}, ())
        self.is_up = True
        self.dropped = 0
        """Publications that a full queue swallowed."""
        self.refused = 0
        """Publications against the access list."""
        self.connected: Callable[[str], None] = lambda _client: None
        """Called with the client of each accepted connection."""

    # Lifetime.

    def stop(self) -> None:
        """Crash: every connection ends without a word of ours, wills die with us."""
        self.is_up = False
        for connection in self._of_connection:
            connection.broker_open = False
            self._network.send(connection, Reset(), upwards=False)
        self._of_connection.clear()

    def start(self, store: str) -> None:
        """Come back with the store `kept`, `rolledBack` to the last regular save, or `wiped`."""
        self.is_up = True
        if store == "wiped":
            self._saved = Saved(self._kernel.now_s, {}, ())
        if store != "kept":
            self._restore(self._saved)
        for session in self._sessions.values():
            session.connection = session.will = None
            session.gone_s = self._kernel.now_s
            session.queue.extendleft(reversed(session.in_flight.values()))
            session.in_flight.clear()

    def _save_if_due(self) -> None:
        """Write the store at the first change after the save interval has passed."""
        now_s = self._kernel.now_s
        if now_s - self._saved.at_s < self._save_s:
            return
        rows = tuple(
            (one.client, one.username, tuple(one.subscriptions.items()), (*one.in_flight.values(), *one.queue))
            for one in self._sessions.values()
            if not one.clean
        )
        self._saved = Saved(now_s, dict(self.retained), rows)

    def _restore(self, saved: Saved) -> None:
        self.retained = dict(saved.retained)
        self._retained_topics, self._subscriptions = TopicTree(), TopicTree()
        self._retained_places = {topic: self._retained_topics.put(topic, topic) for topic in self.retained}
        self._sessions = {}
        for client, username, subscriptions, queue in saved.sessions:
            session = self._sessions[client] = Session(client, username, False, {}, queue=deque(queue))
            self._subscribe(session, dict(subscriptions))

    # Packets.

    def handle(self, event: object) -> None:
        """Take a packet or a deadline."""
        match event:
            case Arrived(connection=connection, packet=packet):
                if not self.is_up or not connection.broker_open:
                    if not isinstance(packet, Reset):
                        self._network.send(connection, Reset(), upwards=False)
                    return
                self._receive(connection, packet)
            case KeepaliveDue(connection=connection):
                self._check_keepalive(connection)
            case _:
                raise TypeError(event)

    def _receive(self, connection: Connection, packet: Packet) -> None:
        if isinstance(packet, Connect):
            self._connect(connection, packet)
            return
        session = self._of_connection.get(connection)
        if session is None:
            return
        session.heard_s = self._kernel.now_s
        match packet:
            case Publish():
                self._published(session, connection, packet)
            case Puback(mid=mid):
                session.in_flight.pop(mid, None)
                self._pump(session)
            case Ping():
                self._network.send(connection, packet, upwards=False)
            case Disconnect():
                session.will = None
                self._end(connection)
            case Reset():
                self._end(connection)
            case _:
                raise TypeError(packet)

    def _connect(self, connection: Connection, packet: Connect) -> None:
        now_s = self._kernel.now_s
        session = self._sessions.get(packet.client)
        if session is not None and session.connection is not None:
            self._end(session.connection, tell=True)  # take-over: the old connection's will is published
        present = session is not None and not packet.clean and now_s - session.gone_s <= SESSION_EXPIRY_S
        if session is None or not present:
            if session is not None:
                self._subscribe(session, {})
            session = Session(packet.client, packet.username, packet.clean, {})
            self._sessions[packet.client] = session
        session.connection, session.will, session.clean = connection, packet.will, packet.clean
        session.keepalive_s, session.heard_s, session.username = packet.keepalive_s, now_s, packet.username
        allowed = {name: qos for name, qos in packet.subscriptions if self._check_access(packet.username, name, False)}
        self._subscribe(session, allowed)
        self._of_connection[connection] = session
        self.connected(packet.client)
        self._kernel.after(1.5 * packet.keepalive_s, self, KeepaliveDue(connection))
        if packet.birth is not None:
            self._accept(session, packet.birth)
        self._network.send(connection, Connack(True, present), upwards=False)
        found: dict[str, int] = {}
        for name, qos in session.subscriptions.items():
            for topic in self._retained_topics.covered(name):
                found[topic] = max(qos, found.get(topic, 0))
        for topic in sorted(found):
            self._deliver(session, self.retained[topic], min(found[topic], self.retained[topic].qos), retain=True)
        self._pump(session)

    def _published(self, session: Session, connection: Connection, packet: Publish) -> None:
        self._accept(session, packet)
        if packet.qos:
            self._network.send(connection, Puback(packet.mid), upwards=False)

    def _accept(self, session: Session, packet: Publish) -> None:
        """A refused publication is acknowledged and dropped, as MQTT 3.1.1 leaves no other way."""
        if self._check_access(session.username, packet.topic, True):
            self._route(packet)
        else:
            self.refused += 1

    def _route(self, packet: Publish) -> None:
        if packet.retain:
            self._save_if_due()
            self._retain(packet)
        hearing = self._subscriptions.hearing(packet.topic)
        if len(hearing) > 1:
            best: dict[Session, int] = {}
            for session, qos in hearing:
                best[session] = max(qos, best.get(session, 0))
            hearing = [*best.items()]
        for session, qos in hearing:
            self._deliver(session, packet, min(qos, packet.qos), retain=False)

    def _retain(self, packet: Publish) -> None:
        topic = packet.topic
        if packet.payload:
            if topic not in self.retained:
                self._retained_places[topic] = self._retained_topics.put(topic, topic)
            self.retained[topic] = packet
        elif topic in self.retained:
            self._retained_topics.remove(topic, self._retained_places.pop(topic))
            del self.retained[topic]

    def _subscribe(self, session: Session, subscriptions: dict[str, int]) -> None:
        """Let these be all that the session hears."""
        if subscriptions == session.subscriptions:
            return
        for name, number in session.places.items():
            self._subscriptions.remove(name, number)
        session.subscriptions = subscriptions
        session.places = {name: self._subscriptions.put(name, (session, qos)) for name, qos in subscriptions.items()}

    def _deliver(self, session: Session, packet: Publish, qos: int, *, retain: bool) -> None:
        if qos == 0:
            if session.connection is not None:
                is_same = packet.qos == 0 and packet.retain == retain
                out = packet if is_same else Publish(packet.topic, packet.payload, 0, retain, 0, packet.origin)
                self._network.send(session.connection, out, upwards=False)
            return
        if session.connection is None and session.clean:
            return
        if len(session.queue) >= QUEUE_MAX:
            self.dropped += 1
            return
        session.queue.append(Publish(packet.topic, packet.payload, 1, retain, 0, packet.origin))
        self._pump(session)

    def _pump(self, session: Session) -> None:
        connection = session.connection
        while connection is not None and session.queue and len(session.in_flight) < IN_FLIGHT_MAX:
            waiting = session.queue.popleft()
            mid = session.next_mid()
            out = Publish(waiting.topic, waiting.payload, 1, waiting.retain, mid, waiting.origin)
            session.in_flight[out.mid] = out
            self._network.send(connection, out, upwards=False)

    def _check_keepalive(self, connection: Connection) -> None:
        session = self._of_connection.get(connection)
        if session is None or not self.is_up:
            return
        due_s = session.heard_s + 1.5 * session.keepalive_s
        if self._kernel.now_s >= due_s:
            self._end(connection, tell=True)
        else:
            self._kernel.at(due_s, self, KeepaliveDue(connection))

    def _end(self, connection: Connection, *, tell: bool = False) -> None:
        """The connection is over; without a DISCONNECT before it, the will is published."""
        session = self._of_connection.pop(connection)
        connection.broker_open = False
        if tell:
            self._network.send(connection, Reset(), upwards=False)
        session.connection, session.gone_s = None, self._kernel.now_s
        session.queue.extendleft(reversed(session.in_flight.values()))
        session.in_flight.clear()
        will, session.will = session.will, None
        if session.clean:
            self._subscribe(session, {})
            self._sessions.pop(session.client, None)
        if will is not None:
            self._accept(session, Publish(will.topic, will.payload, will.qos, will.retain, 0, session.username))
