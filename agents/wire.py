"""The agent's side of the MQTT wire: what comes in becomes verified messages, what goes out gets its topic.

`run.py` makes one with the handlers of what is heard. Seals are checked before anything is decoded; whatever is
malformed or not signed is dropped and counted. A document is acknowledged to the broker only when its handler is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from .. import __version__
from ..descriptions.errors import ProtocolError, TransportError
from ..descriptions.messages.codec import decode, encode
from ..descriptions.messages.desired import Desired
from ..descriptions.messages.lease import Ack, Command, ControlPlaneState, Lease, Routes, Spread
from ..descriptions.messages.reported import State
from ..descriptions.signing import KeyRing, open_sealed
from ..descriptions.topics import node_topic, parse_topic, shared_topic
from ..telemetry.link import Link, LinkOptions, LinkState, Message, Presence, Priority, Publication
from .config import BrokerOptions
from .identity import Identity
from .slots import open_desired

logger = logging.getLogger(__name__)

GOODBYE_S = 2.0
"""How long the clean offline message may take."""
ROUTES_MAX = 1024
AWAY = ControlPlaneState(online=False, session="")


@dataclass(frozen=True)
class Handlers:
    """Who is told of what is heard."""

    desired: Callable[[Desired, bytes], Awaitable[None]]
    """The document and its sealed bytes; done when it is durable."""
    lease: Callable[[Lease], None]
    ack: Callable[[Ack], None]
    command: Callable[[Command], Awaitable[None]]
    routes: Callable[[Routes], Awaitable[None]]
    link: Callable[[LinkState, str], None]
    """The link's state and session id."""
    returned: Callable[[], None]
    """The control plane is there, or there again: what was sent meanwhile may not have been heard."""


@dataclass
class Wire:
    """One node's link; use it as `async with`."""

    identity: Identity
    broker: BrokerOptions
    keys: KeyRing
    handlers: Handlers
    boot_id: str
    dropped: Counter[str] = field(default_factory=Counter)
    """Messages that were dropped, by channel."""
    control_plane: ControlPlaneState = AWAY
    _link: Link = field(init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _receiving: asyncio.Task[None] | None = None
    _models: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Make the link; it connects when entered."""
        reply = self.identity.reply
        subscriptions = (
            (self.topic("down/#"), 1),
            (shared_topic(reply.slice, "state"), 1),
            (shared_topic(reply.slice, "spread"), 1),
        )
        options = LinkOptions(
            url=self.broker.url or reply.broker.url,
            client_id=reply.node_uid,
            username=reply.broker.username or None,
            password=reply.broker.password or None,
            tls=_tls(self.broker.ca),
            subscriptions=subscriptions,
            presence=self._presence,
        )
        self._link = Link(options)
        self._link.on_state(lambda state: self.handlers.link(state, self._link.session_id))

    def topic(self, channel: str) -> str:
        """The topic of this node's channel."""
        return node_topic(self.identity.reply.slice, self.identity.reply.node_uid, channel)

    @property
    def is_up(self) -> bool:
        """Whether the link is connected."""
        return self._link.state is LinkState.CONNECTED

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        self._receiving = asyncio.create_task(self._receive(), name="wire-receive")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Say goodbye, so that nobody takes this for a death."""
        if self.is_up:
            state = self._state(self._link.session_id, online=False, clean=True)
            with contextlib.suppress(TransportError, TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self.send("up/state", encode(state), qos=1, retain=True)
        await self._link.__aexit__(None, None, None)
        for task in (self._receiving, *self._tasks):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    # --- out ----------------------------------------------------------------------------------------------------

    def send(
        self, channel: str, payload: bytes, *, qos: int, is_telemetry: bool = False, retain: bool = False
    ) -> asyncio.Future[None]:
        """Publish on a channel of this node; raises `TransportError` when that cannot be tried."""
        priority = Priority.CONTROL
        if is_telemetry:
            priority = Priority.HIGH if qos else Priority.LOW
        return self._link.publish(self.topic(channel), payload, qos=qos, retain=retain, priority=priority)

    def _state(self, session: str, *, online: bool, clean: bool = False) -> State:
        return State(self.identity.reply.node_uid, session, online, self.boot_id, __version__, clean=clean)

    def _presence(self, session: str) -> Presence:
        topic = self.topic("up/state")
        birth, will = self._state(session, online=True), self._state(session, online=False)
        return Presence(
            will=Publication(topic, encode(will), qos=1, retain=True),
            birth=Publication(topic, encode(birth), qos=1, retain=True),
        )

    async def watch_models(self, models: frozenset[str]) -> None:
        """Hear the routes of these models and of no others."""
        before, self._models = self._models, frozenset(sorted(models)[:ROUTES_MAX])
        for model in sorted(before ^ self._models):
            topic = shared_topic(self.identity.reply.slice, f"routes/{model}")
            try:
                await (self._link.subscribe(topic) if model in self._models else self._link.unsubscribe(topic))
            except TransportError as error:
                logger.info("model=%s subscription waits for the next connection: %s", model, error)

    # --- in -----------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        async for message in self._link:
            try:
                is_done = self._dispatch(message)
            except ProtocolError as error:
                self._drop(message, error)
                is_done = True
            if is_done:
                message.ack()

    def _drop(self, message: Message, error: ProtocolError) -> None:
        channel = "/".join(message.topic.split("/")[4:6])
        self.dropped[channel[:64]] += 1
        logger.warning("topic=%s dropped: %s", message.topic[:200], error)

    def _dispatch(self, message: Message) -> bool:
        """Hand a message over; false when its handler acknowledges it later."""
        topic, payload = parse_topic(message.topic), message.payload
        match topic.channel:
            case "down/lease":
                self.handlers.lease(decode(Lease, self._open(message)))
            case "down/ack":
                self.handlers.ack(decode(Ack, payload))
            case "down/desired":
                if not payload:
                    return True  # cleared: the node was deleted. What runs is not stopped by an empty message.
                desired = open_desired(self.keys, payload, message.topic)
                return self._later(message, self.handlers.desired(desired, payload))
            case "down/cmd":
                command = decode(Command, self._open(message))
                return self._later(message, self.handlers.command(command))
            case "state":
                self._hear_control_plane(decode(ControlPlaneState, payload))
            case "spread":
                self._link.reconnect_spread_s = decode(Spread, payload).window_s
            case channel if channel.startswith("routes/"):
                self._route(message, channel.removeprefix("routes/"))
            case channel:
                raise ProtocolError(f"nothing is expected on {channel[:64]!r}")
        return True

    def _hear_control_plane(self, state: ControlPlaneState) -> None:
        before, self.control_plane = self.control_plane, state
        if state.online and state.session != before.session:
            self.handlers.returned()

    def _open(self, message: Message) -> bytes:
        return open_sealed(self.keys, message.payload, context=message.topic)

    def _route(self, message: Message, model: str) -> None:
        routes = decode(Routes, message.payload) if message.payload else Routes(model, 0)
        if routes.model != model:
            raise ProtocolError(f"routes of {routes.model[:64]!r} on the topic of {model[:64]!r}")
        if model in self._models:
            self._later(None, self.handlers.routes(routes))

    def _later(self, message: Message | None, work: Awaitable[None]) -> bool:
        async def run() -> None:
            await work
            if message is not None:
                message.ack()

        task = asyncio.create_task(run(), name="wire-handler")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return False

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a message was not handled", exc_info=task.exception())


def _tls(ca: Path | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=str(ca)) if ca is not None else None
