"""The MQTT link: publications to PUBACKs, PUBLISH packets to messages, over one connection after another.

Agents and the control plane hold one as `async with Link(options) as link`. This is the only module that imports
paho, and it runs on the caller's event loop without threads: each connection is a fresh paho client over a socket
that we opened, so nothing of an earlier connection is ever resent behind the caller's back. What has to survive a
lost connection, a crash or a broker belongs to the caller's outbox: a PUBACK is not durability (design §5).
`client.py` holds what does not depend on paho.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Any

from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.exception import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ..descriptions.errors import TransportError
from .client import Client
from .connection import Connection, Received
from .inbox import Message
from .link_options import PAYLOAD_BYTES_MAX, LinkCounters, LinkOptions, LinkState, Presence, Protocol
from .publication import Priority, Publication
from .sockets import open_socket

__all__ = [
    "Link",
    "LinkCounters",
    "LinkOptions",
    "LinkState",
    "Message",
    "Presence",
    "Priority",
    "Protocol",
    "Publication",
]

PACKET_BYTES_MAX = PAYLOAD_BYTES_MAX + 64 * 1024 + 1024
"""Payload, the longest topic MQTT knows and an MQTT 5 property section of ordinary size."""
READ_BYTES = 64 * 1024
PACKETS_PER_TURN = 128
"""Packets handled before other tasks of the loop get their turn."""

PARSE_ERRORS = (ValueError, IndexError, KeyError, struct.error, MQTTException)
"""What paho raises for bytes that are no MQTT."""

Socket = socket.socket | ssl.SSLSocket


class Link(Client):
    """A client of one broker that reconnects for as long as the `async with` block lasts."""

    async def _open(self, presence: Presence) -> Connection:
        host, port, is_tls = self.options.address()
        tls = (self.options.tls or ssl.create_default_context()) if is_tls else None
        sock = await open_socket(host, port, tls, self.options.tcp_user_timeout_s)
        try:
            return _PahoConnection(self.options, presence, sock)
        except BaseException:
            sock.close()
            raise


class _OversizedPacketError(OSError):
    """A packet over the cap; an OSError because that is what paho ends a connection for."""


class _BufferedClient(PahoClient):
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


class _PahoConnection(Connection):
    """One TCP connection: paho for the packets, the event loop for the socket. `lost` ends it, with the reason."""

    def __init__(self, options: LinkOptions, presence: Presence, sock: Socket) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._is_writing = False
        self._flush_scheduled = False
        self._unacked: set[int] = set()
        self._suback: dict[int, asyncio.Future[list[bool]]] = {}
        self._client = client = _paho_client(options, presence)
        client.connected_socket = sock
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_socket_register_write = lambda _client, _userdata, _socket: self._schedule_flush()
        client.on_socket_close = lambda _client, _userdata, _socket: self._unwatch()
        self._loop.add_reader(self._fd, self._read)
        # The socket is connected, so this only sends CONNECT.
        client.connect(options.address()[0], options.address()[1], options.keepalive_s, **_connect_v5(options))

    @property
    def is_writable(self) -> bool:
        """Nothing waits for the socket: another packet would go out at once."""
        return not self._client.want_write() and not self.lost.done()

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

    async def subscribe(self, filters: list[tuple[str, int]]) -> list[bool]:
        """SUBSCRIBE and wait for the SUBACK: whether each filter was accepted."""
        return await self._answer(self._client.subscribe(filters)[1])

    async def unsubscribe(self, topic_filter: str) -> None:
        """UNSUBSCRIBE and wait for the UNSUBACK."""
        await self._answer(self._client.unsubscribe(topic_filter)[1])

    async def _answer(self, mid: int | None) -> list[bool]:
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
        self.oversized = self._client.oversized
        self._unwatch()
        self._sock.close()

    def _read(self) -> None:
        for _ in range(PACKETS_PER_TURN):
            try:
                self._client.loop_read()
            except PARSE_ERRORS as error:
                self.fail(f"the broker sent a malformed packet: {error!r}")
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
        self, client: PahoClient, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self.connack.done():
            return
        if reason.is_failure:
            self.connack.set_exception(TransportError(f"the broker refused the connection: {reason}"))
        else:
            self.connack.set_result(None)

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.fail(f"connection lost: {reason}")

    def _on_message(self, client: PahoClient, userdata: Any, message: MQTTMessage) -> None:
        if message.qos:
            self._unacked.add(message.mid)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = None
        payload = bytes(message.payload)
        self.on_message(Received(message.mid, topic, payload, message.qos, message.retain, message.dup))

    def _on_publish(
        self, client: PahoClient, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        # paho reports QoS 0 here as well; its packet ids aren't in flight.
        self.on_puback(mid, str(reason) if reason.is_failure else None)

    def _on_unsubscribe(
        self, client: PahoClient, userdata: Any, mid: int, codes: Any, properties: Properties | None
    ) -> None:
        self._on_subscribe(client, userdata, mid, codes if isinstance(codes, list) else [], properties)

    def _on_subscribe(
        self, client: PahoClient, userdata: Any, mid: int, codes: list[ReasonCode], properties: Properties | None
    ) -> None:
        answer = self._suback.get(mid)
        if answer is not None and not answer.done():
            answer.set_result([not code.is_failure for code in codes])


def _paho_client(options: LinkOptions, presence: Presence) -> _BufferedClient:
    is_v5 = options.protocol is Protocol.V5
    client = _BufferedClient(
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
