"""The MQTT link: publications to PUBACKs, PUBLISH packets to messages, over one connection after another.

Agents and the control plane hold one as `async with Link(options) as link`. This is the only module that imports
paho, and it runs on the caller's event loop without threads: each connection is a fresh paho client over a socket
that we opened, so nothing of an earlier connection is ever resent behind the caller's back. What has to survive a
lost connection, a crash or a broker belongs to the caller's outbox: a PUBACK is not durability (design §5).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random as random_module
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ..descriptions.errors import ProtocolError, TransportError
from .backoff import Backoff
from .inbox import Inbox, Message
from .link_options import PAYLOAD_BYTES_MAX, LinkCounters, LinkOptions, LinkState, Presence, Protocol
from .publication import Pending, Priority, Publication, SendQueue
from .sockets import open_socket

__all__ = ["Link", "LinkCounters", "LinkOptions", "LinkState", "Message", "Presence", "Priority", "Publication"]

logger = logging.getLogger(__name__)

PACKET_BYTES_MAX = PAYLOAD_BYTES_MAX + 64 * 1024 + 1024
"""Payload, the longest topic MQTT knows and an MQTT 5 property section of ordinary size."""
READ_BYTES = 64 * 1024
PACKETS_PER_TURN = 128
"""Packets handled before other tasks of the loop get their turn."""
HOUSEKEEPING_S = 5.0
SPREAD_S_MAX = 3600.0

Socket = socket.socket | ssl.SSLSocket


class _OversizedPacketError(OSError):
    """A packet over the cap; an OSError because that is what paho ends a connection for."""


class _PahoClient(Client):
    """A paho client over a socket that is already connected, reading through a buffer of our own.

    paho reads a packet in three or more `recv` calls and allocates whatever length a packet declares; here one `recv`
    serves many packets, and a declared length over the cap ends the connection before anything is allocated.
    """

    connected_socket: Socket
    oversized = False
    _chunk: bytes = b""
    _chunk_at = 0

    @property
    def has_buffered(self) -> bool:
        """Bytes were read from the socket that no packet was made of yet."""
        return self._chunk_at < len(self._chunk)

    def _create_socket(self) -> Any:
        return self.connected_socket

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > PACKET_BYTES_MAX:
            self.oversized = True
            raise _OversizedPacketError(f"packet of {bufsize} bytes, over the limit of {PACKET_BYTES_MAX}")
        if not self.has_buffered:
            self._chunk, self._chunk_at = super()._sock_recv(READ_BYTES), 0
        start, self._chunk_at = self._chunk_at, min(self._chunk_at + bufsize, len(self._chunk))
        return self._chunk[start : self._chunk_at]

    def _mid_generate(self) -> int:
        # paho numbers QoS 0 too, so that after 65,535 publications a number could be in flight still.
        while (mid := super()._mid_generate()) in self._out_messages:
            pass
        return mid


class _Connection:
    """One TCP connection: paho for the packets, the event loop for the socket. `lost` ends it, with the reason."""

    def __init__(self, options: LinkOptions, presence: Presence, sock: Socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._is_writing = False
        self._flush_scheduled = False
        self._unacked: set[int] = set()
        self._suback: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self.connack: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.on_message: Callable[[MQTTMessage], None] = lambda message: None
        self.on_puback: Callable[[int, ReasonCode], None] = lambda mid, code: None
        self.on_writable: Callable[[], None] = lambda: None
        self._client = client = _paho_client(options, presence)
        client.connected_socket = sock
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = lambda _client, _userdata, mid, code, _properties: self.on_puback(mid, code)
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = lambda _client, _userdata, mid, codes, _properties: self._settle(mid, list(codes))
        client.on_socket_register_write = lambda _client, _userdata, _socket: self._schedule_flush()
        client.on_socket_close = lambda _client, _userdata, _socket: self._unwatch()
        self._loop.add_reader(self._fd, self._read)
        # The socket is connected, so this only sends CONNECT.
        client.connect(options.address()[0], options.address()[1], options.keepalive_s, **_connect_v5(options))

    @property
    def is_writable(self) -> bool:
        """Nothing waits for the socket: another packet would go out at once."""
        return not self._client.want_write() and not self.lost.done()

    @property
    def oversized(self) -> bool:
        """The connection ended because of a packet over the cap."""
        return self._client.oversized

    def publish(self, publication: Publication) -> int:
        """Hand a PUBLISH to paho; the packet id, by which its PUBACK will be known."""
        properties = None
        if publication.expiry_s is not None and self._client.protocol is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = publication.expiry_s
        info = self._client.publish(
            publication.topic, publication.payload, publication.qos, publication.retain, properties=properties
        )
        return info.mid

    def ack(self, mid: int) -> bool:
        """Send a PUBACK; false when this message has had one."""
        if mid not in self._unacked:
            return False
        self._unacked.discard(mid)
        self._client.ack(mid, 1)
        return True

    async def subscribe(self, filters: list[tuple[str, int]]) -> list[ReasonCode]:
        """SUBSCRIBE and wait for the SUBACK: one reason code for each filter."""
        return await self._answer(self._client.subscribe(filters)[1])

    async def unsubscribe(self, topic_filter: str) -> None:
        """UNSUBSCRIBE and wait for the UNSUBACK."""
        await self._answer(self._client.unsubscribe(topic_filter)[1])

    async def _answer(self, mid: int | None) -> list[ReasonCode]:
        if mid is None:
            raise TransportError("the connection is gone")
        self._suback[mid] = self._loop.create_future()
        try:
            return await self._suback[mid]
        finally:
            del self._suback[mid]

    def housekeeping(self) -> None:
        """Send PINGREQ when it is due; notice a PINGRESP that never came. Call every few seconds."""
        self._client.loop_misc()

    def close(self, *, gracefully: bool) -> None:
        """End it: with a DISCONNECT, so that the will is dropped, or without, so that the broker publishes it."""
        if gracefully and not self.lost.done():
            self._client.disconnect()
            self._client.loop_write()
        self.end("closed")

    def fail(self, reason: str) -> None:
        """Take nothing more from this connection and end it; safe within a callback of paho."""
        if not self.lost.done():
            self.lost.set_result(reason)
        self._loop.call_soon(self.end, reason)

    def end(self, reason: str) -> None:
        """Drop the connection without a word; the first reason stays."""
        if not self.lost.done():
            self.lost.set_result(reason)
        waiting: list[asyncio.Future[Any]] = [self.connack, *self._suback.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(TransportError(reason))
                answer.exception()  # whoever waits still gets it; nobody waiting is no news
        self._unwatch()
        self._sock.close()

    def _read(self) -> None:
        for _ in range(PACKETS_PER_TURN):
            self._client.loop_read()
            if self.lost.done() or not self._client.has_buffered:
                return
        # What is buffered does not wake the selector again.
        self._loop.call_soon(self._read_rest)

    def _read_rest(self) -> None:
        if not self.lost.done() and self._client.has_buffered:
            self._read()

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        self.write()
        if self.is_writable:
            self.on_writable()

    def write(self) -> None:
        """Send what the socket takes now; the loop sends the rest. Not from within a callback of paho."""
        if self.lost.done() or self._fd < 0:
            return
        self._client.loop_write()
        wants = self._client.want_write() and self._fd >= 0
        if wants and not self._is_writing:
            self._loop.add_writer(self._fd, self._flush)
        elif self._is_writing and not wants and self._fd >= 0:
            self._loop.remove_writer(self._fd)
        self._is_writing = wants

    def _unwatch(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._fd = -1

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self.connack.done():
            return
        if reason.is_failure:
            self.connack.set_exception(TransportError(f"the broker refused the connection: {reason}"))
        else:
            self.connack.set_result(None)

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self.fail(f"connection lost: {reason}")

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        if message.qos:
            self._unacked.add(message.mid)
        self.on_message(message)

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, codes: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._settle(mid, codes)

    def _settle(self, mid: int, codes: list[ReasonCode]) -> None:
        answer = self._suback.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(codes)


def _paho_client(options: LinkOptions, presence: Presence) -> _PahoClient:
    is_v5 = options.protocol is Protocol.V5
    client = _PahoClient(
        CallbackAPIVersion.VERSION2,
        client_id=options.client_id,
        clean_session=None if is_v5 else options.clean_session,
        protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.max_inflight_messages_set(0)  # the window is ours: it knows control from telemetry
    if options.username is not None:
        client.username_pw_set(options.username, options.password)
    if presence.will is not None:
        client.will_set(presence.will.topic, presence.will.payload, presence.will.qos, presence.will.retain)
    return client


def _connect_v5(options: LinkOptions) -> dict[str, Any]:
    if options.protocol is not Protocol.V5:
        return {}
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = PACKET_BYTES_MAX
    properties.ReceiveMaximum = 100
    if not options.clean_session:
        properties.SessionExpiryInterval = options.session_expiry_s
    return {"clean_start": options.clean_session, "properties": properties}


class Link:
    """A client of one broker that reconnects for as long as the `async with` block lasts.

    Entering does not wait for the broker: an agent works without one. Leaving sends DISCONNECT, unless the block ended
    by an error: then the broker publishes the will. `clock` gives monotonic seconds; `random` is the jitter's source.
    """

    def __init__(
        self,
        options: LinkOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: random_module.Random | None = None,
    ) -> None:
        self.options = options
        self._address = options.address()
        self._clock = clock
        self._random = random or random_module.Random()
        self._backoff = Backoff(options.backoff_base_s, options.backoff_cap_s, self._random)
        self._spread_s = 0.0
        self._counters = LinkCounters()
        self._queue = SendQueue(options.send_control_max, options.send_bulk_max)
        self._inbox = Inbox(options.receive_control_max, options.receive_bulk_max)
        self._subscriptions = dict(options.subscriptions)
        self._in_flight: dict[int, Pending] = {}
        self._in_flight_bulk = 0
        self._connection: _Connection | None = None
        self._state = LinkState.DISCONNECTED
        self._state_changed = asyncio.Event()
        self._listeners: list[Callable[[LinkState], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._pump_scheduled = False
        self.session_id = ""
        """Of the present or latest connection; will and birth carry it."""
        self.last_error = ""
        """Why the latest connection or attempt ended."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"mqtt-link-{self.options.client_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            is_failure = error is not None and not isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
            self._connection.close(gracefully=not is_failure)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._forget_connection("the link was closed")
        self._inbox.close()

    @property
    def state(self) -> LinkState:
        """Present state; `on_state` and `wait_for` tell of changes."""
        return self._state

    @property
    def counters(self) -> LinkCounters:
        """A copy of the counters."""
        return replace(
            self._counters,
            published=dict(self._counters.published),
            shed_send=dict(self._queue.shed),
            shed_receive=self._inbox.shed,
        )

    @property
    def reconnect_spread_s(self) -> float:
        """The first reconnect after a loss waits a random time up to this; from the retained `_/spread`."""
        return self._spread_s

    @reconnect_spread_s.setter
    def reconnect_spread_s(self, spread_s: float) -> None:
        self._spread_s = min(max(0.0, spread_s), SPREAD_S_MAX)

    def on_state(self, listener: Callable[[LinkState], None]) -> None:
        """Call `listener` on the event loop at each change of state."""
        self._listeners.append(listener)

    async def wait_for(self, state: LinkState) -> None:
        """Return when the link is in this state; bound it with `asyncio.timeout`."""
        while self._state is not state:
            await self._state_changed.wait()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        priority: Priority = Priority.CONTROL,
        expiry_s: int | None = None,
    ) -> asyncio.Future[None]:
        """Queue a publication; the future is done at once for QoS 0 and at the PUBACK for QoS 1.

        Raises `TransportError` when not connected or when the queue of this priority is full, `ProtocolError` when
        the payload is over the cap. The future fails with `TransportError` when the connection ends first or the
        publication is shed; ignoring it is fine, all of this is counted.
        """
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise ProtocolError(f"{topic}: payload of {len(payload)} bytes, over the limit of {PAYLOAD_BYTES_MAX}")
        if self._state is not LinkState.CONNECTED:
            self._counters.publish_refused += 1
            raise TransportError(f"{topic}: not connected ({self.last_error or self._state.value})")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_look_at)
        pending = Pending(Publication(topic, payload, qos, retain, expiry_s), priority, done)
        self._queue.push(pending)
        if qos == 0:
            pending.succeed()
        self._schedule_pump()
        return done

    async def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Subscribe now and after each reconnect; retained messages come again with each."""
        self._subscriptions[topic_filter] = qos
        if self._connection is not None and self._state is LinkState.CONNECTED:
            await self._subscribe(self._connection, [(topic_filter, qos)])

    async def unsubscribe(self, topic_filter: str) -> None:
        """Take a subscription back."""
        self._subscriptions.pop(topic_filter, None)
        if self._connection is not None and self._state is LinkState.CONNECTED:
            await self._connection.unsubscribe(topic_filter)

    async def receive(self) -> Message | None:
        """The next message, control before telemetry; None when the link was closed and all has been read."""
        return await self._inbox.get()

    async def __aiter__(self) -> AsyncIterator[Message]:
        count = 0
        while (message := await self.receive()) is not None:
            yield message
            count += 1
            if count % PACKETS_PER_TURN == 0:
                await asyncio.sleep(0)  # a full inbox must not starve the loop

    async def _run(self) -> None:
        while True:
            self._set_state(LinkState.CONNECTING)
            try:
                await self._serve(await self._connect())
            except (OSError, TransportError, TimeoutError, ValueError) as error:
                self._counters.connect_failures += 1
                self._forget_connection(str(error) or type(error).__name__)
                logger.info("broker=%s client=%s not connected: %s", self.options.url, self.options.client_id, error)
            await self._inbox.wait_for_room()
            await asyncio.sleep(self._backoff.next_s(self._spread_s))

    async def _connect(self) -> _Connection:
        host, port, is_tls = self._address
        tls = (self.options.tls or ssl.create_default_context()) if is_tls else None
        self.session_id = f"{self._random.getrandbits(64):016x}"
        presence = self.options.presence(self.session_id) if self.options.presence else Presence()
        async with asyncio.timeout(self.options.connect_timeout_s):
            sock = await open_socket(host, port, tls, self.options.tcp_user_timeout_s)
            try:
                connection = self._connection = self._attach(presence, sock)
            except BaseException:
                sock.close()
                raise
            await connection.connack
            if self._subscriptions:
                await self._subscribe(connection, sorted(self._subscriptions.items()))
            if presence.birth is not None:
                await self._publish_birth(connection, presence.birth)
        return connection

    def _attach(self, presence: Presence, sock: Socket) -> _Connection:
        connection = _Connection(self.options, presence, sock)
        connection.on_message = partial(self._on_message, connection)
        connection.on_puback = self._on_puback
        connection.on_writable = self._pump
        connection.lost.add_done_callback(lambda lost: self._forget_connection(lost.result(), connection))
        return connection

    async def _publish_birth(self, connection: _Connection, birth: Publication) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_look_at)
        self._send(connection, Pending(birth, Priority.CONTROL, done))
        if birth.qos == 1:
            await done

    async def _subscribe(self, connection: _Connection, filters: list[tuple[str, int]]) -> None:
        codes = await connection.subscribe(filters)
        for (topic_filter, _), code in zip(filters, codes, strict=False):
            if code.is_failure:
                self._counters.subscriptions_refused += 1
                logger.warning("client=%s subscription refused: %s", self.options.client_id, topic_filter)

    async def _serve(self, connection: _Connection) -> None:
        """Be connected until the connection is lost."""
        connected_s = self._clock()
        self._counters.connects += 1
        self.last_error = ""
        self._set_state(LinkState.CONNECTED)
        while not connection.lost.done():
            await asyncio.wait([connection.lost], timeout=HOUSEKEEPING_S)
            connection.housekeeping()
            self._check_pubacks(connection)
        self._counters.connections_lost += 1
        self._counters.oversized += connection.oversized
        if self._clock() - connected_s >= self.options.stable_s:
            self._backoff.reset()
        self._forget_connection(connection.lost.result(), connection)
        logger.info("broker=%s client=%s %s", self.options.url, self.options.client_id, self.last_error)

    def _check_pubacks(self, connection: _Connection) -> None:
        oldest_s = min((pending.sent_s for pending in self._in_flight.values()), default=self._clock())
        if self._clock() - oldest_s > self.options.puback_timeout_s:
            connection.end(f"no PUBACK for {self.options.puback_timeout_s} s")

    def _forget_connection(self, reason: str, connection: _Connection | None = None) -> None:
        if connection is not None and connection is not self._connection:
            return
        if self._connection is not None:
            self._connection.end(reason)
            self._connection = None
        self.last_error = reason
        self._counters.lost_in_flight += len(self._in_flight)
        for pending in self._in_flight.values():
            pending.fail(reason)
        self._in_flight.clear()
        self._in_flight_bulk = 0
        self._queue.clear(reason)
        self._set_state(LinkState.DISCONNECTED)

    def _set_state(self, state: LinkState) -> None:
        if state is self._state:
            return
        self._state = state
        changed, self._state_changed = self._state_changed, asyncio.Event()
        changed.set()
        for listener in self._listeners:
            listener(state)

    def _schedule_pump(self) -> None:
        if not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Move publications from the queue to the socket, as far as socket and in-flight window allow."""
        self._pump_scheduled = False
        connection = self._connection
        if self._state is not LinkState.CONNECTED or connection is None:
            return
        while connection.is_writable and (pending := self._queue.pop(self._window())) is not None:
            self._send(connection, pending)
            connection.write()

    def _window(self) -> dict[Priority, bool]:
        control = len(self._in_flight) < self.options.inflight_max
        bulk = control and self._in_flight_bulk < self.options.inflight_bulk_max
        return {Priority.CONTROL: control, Priority.HIGH: bulk, Priority.LOW: bulk}

    def _send(self, connection: _Connection, pending: Pending) -> None:
        mid = connection.publish(pending.publication)
        pending.sent_s = self._clock()
        self._counters.published[pending.priority] += 1
        self._counters.sent_bytes += len(pending.publication.payload)
        if pending.publication.qos > 0:
            self._in_flight[mid] = pending
            self._in_flight_bulk += pending.priority is not Priority.CONTROL

    def _on_puback(self, mid: int, code: ReasonCode) -> None:
        pending = self._in_flight.pop(mid, None)
        if pending is None:
            return  # paho reports QoS 0 here too
        self._in_flight_bulk -= pending.priority is not Priority.CONTROL
        if code.is_failure:
            pending.fail(f"the broker refused it: {code}")
        else:
            self._counters.acknowledged += 1
            pending.succeed()
        self._schedule_pump()

    def _on_message(self, connection: _Connection, packet: MQTTMessage) -> None:
        if connection.lost.done():
            return
        acknowledge = partial(self._ack, connection, packet.mid) if packet.qos else _nothing
        try:
            topic = packet.topic
        except UnicodeDecodeError:
            self._counters.malformed_topics += 1
            acknowledge()  # it would only come again
            return
        self._counters.received += 1
        self._counters.received_bytes += len(packet.payload)
        message = Message(
            topic, bytes(packet.payload), packet.qos, packet.retain, packet.dup, self._clock(), acknowledge
        )
        if not self._inbox.put(message, bulk=self.options.is_bulk(topic)):
            self._counters.inbox_overflows += 1
            connection.fail("the receive queue is full")

    def _ack(self, connection: _Connection, mid: int) -> None:
        if connection.lost.done():
            self._counters.acks_stale += 1
        elif connection.ack(mid):
            self._counters.acks_sent += 1


def _look_at(done: asyncio.Future[None]) -> None:
    """Mark a failure as seen, so that a publisher may ignore it."""
    if not done.cancelled():
        done.exception()


def _nothing() -> None:
    """QoS 0 has no acknowledgement."""
