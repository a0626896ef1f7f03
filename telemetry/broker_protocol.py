"""amqtt's side of one connection, mended: reading packets, delivering messages, noticing that a client is gone.

`broker_embedded.py` uses it; each override names the flaw of amqtt that it works round.
"""

# amqtt annotates less than it does; mypy takes it for untyped.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# pyright: reportOptionalMemberAccess=false, reportReturnType=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from amqtt.adapters import StreamReaderAdapter
from amqtt.errors import NoDataError
from amqtt.mqtt.constants import QOS_2
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.publish import PublishPacket
from amqtt.session import OUTGOING, ApplicationMessage

logger = logging.getLogger(__name__)

PACKET_BYTES_MAX = 320 * 1024
BACKLOG_MAX = 200
BACKLOG_PAUSE_S = 0.002

_tasks: set[asyncio.Task[None]] = set()


class PacketReader(StreamReaderAdapter):  # type: ignore[misc]
    """Reads a packet at a time and hands out its bytes.

    Flaws: amqtt reads whatever length a packet declares, a packet that lies about its length shifts all that follow,
    and a client may send faster than the broker forwards, without bound. Here a packet over the cap ends the
    connection, no parser can read past its packet, and reading waits for the broker.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._packet: bytes = b""
        self._at = 0
        self._is_broken = False
        self.backlog: Callable[[], int] = lambda: 0
        """Messages that wait in the broker; above `BACKLOG_MAX` nothing is read, and TCP slows the client down."""

    async def read(self, n: int = -1) -> bytes:
        if self._is_broken:
            raise NoDataError("nothing after a malformed packet is read")
        if self._at == len(self._packet):
            self._packet, self._at = await self._next_packet(), 0
        end = self._at + n if n >= 0 else len(self._packet)
        if end > len(self._packet):
            self._is_broken = True
            raise NoDataError("a field reaches past the end of its packet")
        start, self._at = self._at, end
        return bytes(self._packet[start:end])

    async def _next_packet(self) -> bytes:
        while self.backlog() > BACKLOG_MAX:  # noqa: ASYNC110 - amqtt's queues tell nobody when they shrink
            await asyncio.sleep(BACKLOG_PAUSE_S)
        header = bytes(await self._reader.readexactly(2))
        while header[-1] & 0x80 and len(header) < 5:
            header += bytes(await self._reader.readexactly(1))
        length = sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(header[1:]))
        if header[-1] & 0x80 or length > PACKET_BYTES_MAX:
            self._is_broken = True
            raise NoDataError(f"packet of {length} bytes, over the limit of {PACKET_BYTES_MAX}")
        return header + bytes(await self._reader.readexactly(length))


class Handler(BrokerProtocolHandler):  # type: ignore[misc]
    """The protocol of one connection."""

    sending = 0
    """Deliveries begun and not ended, QoS 0 and 1."""

    def handle_read_timeout(self) -> None:
        """Flaw: nothing happens when the keepalive runs out, so a half-open client lives on and no will is sent."""
        if self.reader is not None:
            self.reader.feed_eof()

    async def deliver(self, topic: str, data: bytes, qos: int, *, retain: bool) -> None:
        """Send one message; the caller runs this as a task."""
        self.sending += 1
        try:
            await self.mqtt_publish(topic, data, qos, retain=retain)
        except asyncio.CancelledError:
            if self.session is None or qos == 0:
                raise
        finally:
            self.sending -= 1

    async def handle_publish(self, publish_packet: PublishPacket) -> None:
        """Flaw: QoS 2 publications are held without bound until they are released. Nothing here uses QoS 2."""
        if publish_packet.qos == QOS_2:
            logger.warning("client=%s published with QoS 2, disconnected", self.session and self.session.client_id)
            await self.handle_connection_closed()
            return
        await super().handle_publish(publish_packet)

    async def _handle_qos1_message_flow(self, message: ApplicationMessage) -> None:
        """Flaw: a message without a PUBACK for five seconds, or at a disconnect, is forgotten; a fast PUBACK is missed.

        Here it stays in the session until its PUBACK comes, and a session that isn't clean sends it again with DUP.
        """
        if message.direction != OUTGOING or self.session is None:
            await super()._handle_qos1_message_flow(message)
            return
        session, packet_id = self.session, message.packet_id
        session.inflight_out[packet_id] = message
        packet = message.build_publish_packet(dup=message.publish_packet is not None)
        message.publish_packet = packet
        self._puback_waiters[packet_id] = waiter = asyncio.get_running_loop().create_future()
        try:
            await self._send_packet(packet)
            message.puback_packet = await waiter
            session.inflight_out.pop(packet_id, None)
        finally:
            self._puback_waiters.pop(packet_id, None)

    async def _retry_deliveries(self) -> None:
        """Flaw: a reconnecting client is not served before it has acknowledged everything, or ten seconds later."""
        if self.session is not None:
            for message in list(self.session.inflight_out.values()):
                in_background(self._handle_message_flow(message))


def in_background(work: Any) -> asyncio.Task[None]:
    """Run a delivery; that a client has gone before it was done is no news."""
    task: asyncio.Task[None] = asyncio.ensure_future(work)
    _tasks.add(task)
    task.add_done_callback(_finished)
    return task


def _finished(task: asyncio.Task[None]) -> None:
    _tasks.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("delivery ended: %r", error)
