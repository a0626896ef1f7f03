"""amqtt made fit for a slice on one machine: logins, rights, limits, and its flaws worked round.

`broker.py` runs it as a process. amqtt keeps sockets, packets, subscriptions and retained messages; each override
below names the flaw it mends, and `docs/wire.md` lists them all with the test that shows each. They lean on
amqtt's inner methods, so its version is pinned and the conformance tests say when an update breaks one.
"""

# amqtt annotates less than it does; mypy takes it for untyped.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# pyright: reportOptionalMemberAccess=false, reportReturnType=false

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amqtt.adapters import StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.connack import IDENTIFIER_REJECTED, NOT_AUTHORIZED, ConnackPacket
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import OutgoingApplicationMessage, Session

from .acl import Acl
from .broker_protocol import Handler, PacketReader, in_background
from .credentials import BrokerCredentials, is_password_right

logger = logging.getLogger(__name__)

CONNECTIONS_MAX = 1100
CONNECT_TIMEOUT_S = 10.0
TAKE_OVER_TIMEOUT_S = 5.0
SESSION_EXPIRY_S = 3600
OUTGOING_MAX = 1000
"""Messages on their way to one client; a connected client that falls further behind is disconnected."""
SUBSCRIPTIONS_MAX = 64
"""Of one client."""
MONITOR_S = 1.0


class Authentication(BaseAuthPlugin):  # type: ignore[misc]
    """amqtt plugin: the username's derived password, and rights to the will's topic."""

    @dataclass
    class Config:
        """What amqtt hands over from its configuration."""

        slice: str
        key_hex: str

    async def authenticate(self, *, session: Session) -> bool:
        """Whether this CONNECT may pass."""
        key = bytes.fromhex(self.config.key_hex)
        if not is_password_right(key, session.username or "", session.password or ""):
            return False
        # amqtt publishes wills without asking who may write to their topic.
        return not session.will_flag or Acl(self.config.slice).may_write(session.username, session.will_topic or "")


class Authorization(BaseTopicPlugin):  # type: ignore[misc]
    """amqtt plugin: the slice's ACL."""

    @dataclass
    class Config:
        """What amqtt hands over from its configuration."""

        slice: str

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Whether the client may publish to, subscribe to or receive from the topic."""
        if session is None or session.username is None or topic is None:
            return False
        acl = Acl(self.config.slice)
        may: bool = (acl.may_write if action == Action.PUBLISH else acl.may_read)(session.username, topic)
        return may


class EmbeddedBroker(Broker):  # type: ignore[misc]
    """The broker of one slice on a loopback address."""

    def __init__(self, credentials: BrokerCredentials, host: str, port: int) -> None:
        plugins = {
            f"{__name__}.Authentication": {"slice": credentials.slice, "key_hex": credentials.key.hex()},
            f"{__name__}.Authorization": {"slice": credentials.slice},
        }
        super().__init__(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
                "session_expiry_interval": SESSION_EXPIRY_S,
                "plugins": plugins,
            }
        )
        self._acl = Acl(credentials.slice)
        self._ended: dict[str, asyncio.Event] = {}
        # By client id: set when the connection that serves it has ended.
        self.dropped = 0
        """Messages for clients that were away or too slow."""
        self.denied = 0
        """Publications against the ACL."""

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        port: int = self._servers["default"].instance.sockets[0].getsockname()[1]
        return port

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Flaw: a surplus connection is left waiting, a malformed CONNECT can leak a place and its traceback."""
        if self._servers[listener_name].conn_count >= CONNECTIONS_MAX:
            writer.close()
            return
        await self._client_connected(listener_name, PacketReader(reader), StreamWriterAdapter(writer))

    async def _initialize_client_session(
        self, reader: Any, writer: Any, remote_address: str, remote_port: int
    ) -> tuple[Handler, Session]:
        """Flaws: no deadline for CONNECT; sessions are taken over and deleted before the password is looked at; any
        client id will do; a clean client leaves its predecessor connected; the will's retain flag is forgotten.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                handler, session = await Handler.init_from_connect(reader, writer, self.plugins_manager)
        except (MQTTError, AMQTTError, NoDataError, OSError, ValueError, TypeError, AttributeError) as error:
            await _close(writer)
            raise MQTTError(f"no proper CONNECT: {error!r}") from None
        if (refusal := await self._refusal(session)) is not None:
            logger.info("client=%s refused, code %d", session.client_id, refusal)
            await ConnackPacket.build(0, refusal).to_stream(writer)
            await _close(writer)
            raise MQTTError(f"refused with code {refusal}")
        await self._take_over(session.client_id)
        session.keep_alive += session.keep_alive // 2  # [MQTT-3.1.2-24]: one and a half times
        if session.clean_session:
            await self._delete_session(session.client_id)
        session.parent = 0
        if not session.clean_session and session.client_id in self._sessions:
            session = _resume(self._sessions[session.client_id][0], session)
        waiting = session.delivered_message_queue
        reader.backlog = lambda: waiting.qsize() + self._broadcast_queue.qsize()
        return handler, session

    async def _refusal(self, session: Session) -> int | None:
        if not await self._authenticate(session, self.listeners_config["default"]):
            return int(NOT_AUTHORIZED)
        # A client id belongs to its user, so that nobody can push out another's connection or take its messages.
        if session.client_id != session.username and not session.client_id.startswith(f"{session.username}."):
            return int(IDENTIFIER_REJECTED)
        return None

    async def _take_over(self, client_id: str) -> None:
        """End the connection that has this client id and wait until its will is out ([MQTT-3.1.4-2])."""
        _, handler = self._sessions.get(client_id, (None, None))
        ended = self._ended.get(client_id)
        if handler is None or ended is None:
            return
        await handler.handle_connection_closed()
        try:
            async with asyncio.timeout(TAKE_OVER_TIMEOUT_S):
                await ended.wait()
        except TimeoutError:
            logger.warning("client=%s its earlier connection hangs, dropped", client_id)
            await handler.stop()

    async def _handle_client_session(self, reader: Any, writer: Any, client_session: Session, *rest: Any) -> None:
        client_id = client_session.client_id
        self._ended[client_id] = ended = asyncio.Event()
        try:
            await super()._handle_client_session(reader, writer, client_session, *rest)
        finally:
            ended.set()
            if self._ended.get(client_id) is ended:
                del self._ended[client_id]

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Flaw: no limit, and a second SUBSCRIBE does not change the QoS."""
        topic_filter, qos = subscription
        held = [f for f, subscribers in self._subscriptions.items() if any(s is session for s, _ in subscribers)]
        if topic_filter not in held and len(held) >= SUBSCRIPTIONS_MAX:
            return 0x80
        self._del_subscription(topic_filter, session)
        granted: int = await super().add_subscription((topic_filter, min(qos, 1)), session)
        return granted

    async def _handle_message_delivery(self, session: Session, handler: Handler, delivered: Any) -> bool:
        """Flaws: the publisher's QoS is forgotten, and after an invalid topic the connection stays open unserved."""
        message = delivered.result()
        if message is None:
            return True
        if not message.topic or "+" in message.topic or "#" in message.topic:
            await handler.handle_connection_closed()
        elif not self._acl.may_write(session.username, message.topic):
            self.denied += 1
            logger.warning("client=%s may not publish to %s", session.client_id, message.topic)
        else:
            await self._broadcast_message(session, message.topic, message.data, message.qos)
            if message.publish_packet.retain_flag:
                await self.retain_message(session, message.topic, message.data, message.qos)
        return True

    async def _run_broadcast(self, running_tasks: Any) -> None:
        """Flaws: a SUBSCRIBE meanwhile loses the message for the other subscribers; QoS is not the lower of both;
        nothing bounds what waits for a slow or absent client.
        """
        message = await self._broadcast_queue.get()
        for session, granted in self._receivers(message["topic"]):
            qos = min(granted, message["qos"] or 0)
            handler = self._get_handler(session)
            if session.transitions.state != "connected" or handler is None:
                self._keep(session, message, qos)
            elif handler.sending < OUTGOING_MAX:
                running_tasks.append(
                    in_background(handler.deliver(message["topic"], message["data"], qos, retain=False))
                )
            else:
                self.dropped += 1
                if qos > 0:
                    logger.warning("client=%s is too slow, disconnected", session.client_id)
                    await handler.handle_connection_closed()

    def _receivers(self, topic: str) -> Iterator[tuple[Session, int]]:
        for topic_filter, subscribers in list(self._subscriptions.items()):
            if self._matches(topic, topic_filter):
                for session, granted in list(subscribers):
                    if self._acl.may_read(session.username, topic):
                        yield session, granted

    def _keep(self, session: Session, message: dict[str, Any], qos: int) -> None:
        """Keep a message for a client that is away and will want it."""
        if session.clean_session or qos == 0:
            return
        if len(session.inflight_out) >= OUTGOING_MAX:
            self.dropped += 1
            return
        packet_id = session.next_packet_id
        session.inflight_out[packet_id] = OutgoingApplicationMessage(
            packet_id, message["topic"], qos, message["data"], False
        )

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Flaws: a connecting client is sent the retained messages of everybody's filters, whatever its rights; until
        it has acknowledged them its own publications wait; and a SUBSCRIBE meanwhile breaks its connection.
        """
        topic_filter, qos = subscription
        handler = self._get_handler(session)
        is_own = any(s is session for s, _ in self._subscriptions.get(topic_filter, ()))
        if handler is None or not is_own:
            return
        for topic, retained in self._retained_messages.items():
            if self._matches(topic, topic_filter) and self._acl.may_read(session.username, topic):
                in_background(handler.deliver(topic, retained.data, min(qos, 1, retained.qos or 0), retain=True))

    async def _session_monitor(self) -> None:
        """Flaw: a client that reconnects while others are cleaned up loses its new connection."""
        while True:
            await asyncio.sleep(MONITOR_S)
            expired_s = time.time() - SESSION_EXPIRY_S
            for client_id, (session, _) in list(self._sessions.items()):
                is_expired = session.clean_session or (session.last_disconnect_time or 0) < expired_s
                if session.transitions.state == "disconnected" and client_id not in self._ended and is_expired:
                    await self._cleanup_session(client_id)


def _resume(session: Session, connect: Session) -> Session:
    """The kept session with what the new CONNECT says."""
    for name in ("will_flag", "will_message", "will_topic", "will_qos", "will_retain", "keep_alive"):
        setattr(session, name, getattr(connect, name))
    for name in ("username", "password", "clean_session", "remote_address", "remote_port"):
        setattr(session, name, getattr(connect, name))
    session.parent = 1
    return session


async def _close(writer: Any) -> None:
    try:
        await writer.close()
    except OSError:
        logger.debug("the client was faster")
