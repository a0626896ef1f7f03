"""The part of the link that knows no MQTT library: reconnecting, queues, the in-flight window, states and counters.

`link.py` completes it with connections made by paho; anything else that keeps the promises of `Connection` fits too.
Everything runs on one event loop, and nothing blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random as random_module
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from ..descriptions.errors import ProtocolError, TransportError
from .backoff import Backoff
from .connection import Connection, InFlight, Received
from .inbox import Inbox, Message
from .link_options import PAYLOAD_BYTES_MAX, LinkCounters, LinkOptions, LinkState, Presence
from .publication import Pending, Priority, Publication, SendQueue

logger = logging.getLogger(__name__)

SPREAD_S_MAX = 3600.0
MESSAGES_PER_TURN = 128
"""Messages that one consumer takes before other tasks of the loop get their turn."""


class Client(ABC):
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
        options.address()  # a wrong URL is told now, not at the first attempt
        self._clock = clock
        self._random = random or random_module.Random()
        self._backoff = Backoff(options.backoff_base_s, options.backoff_cap_s, self._random)
        self._spread_s = 0.0
        self._counters = LinkCounters()
        self._queue = SendQueue(options.send_control_max, options.send_bulk_max)
        self._inbox = Inbox(options.receive_control_max, options.receive_bulk_max)
        self._subscriptions = dict(options.subscriptions)
        self._in_flight = InFlight(options.inflight_max, options.inflight_bulk_max)
        self._connection: Connection | None = None
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
            if count % MESSAGES_PER_TURN == 0:
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

    @abstractmethod
    async def _open(self, presence: Presence) -> Connection:
        """Open the transport and send CONNECT; `OSError` when that fails."""

    async def _connect(self) -> Connection:
        self.session_id = f"{self._random.getrandbits(64):016x}"
        presence = self.options.presence(self.session_id) if self.options.presence else Presence()
        async with asyncio.timeout(self.options.connect_timeout_s):
            connection = self._connection = self._attach(await self._open(presence))
            await connection.connack
            if self._subscriptions:
                await self._subscribe(connection, sorted(self._subscriptions.items()))
            if presence.birth is not None:
                await self._publish_birth(connection, presence.birth)
        return connection

    def _attach(self, connection: Connection) -> Connection:
        connection.on_message = partial(self._on_message, connection)
        connection.on_puback = self._on_puback
        connection.on_writable = self._pump
        connection.lost.add_done_callback(lambda lost: self._forget_connection(lost.result(), connection))
        return connection

    async def _publish_birth(self, connection: Connection, birth: Publication) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_look_at)
        self._send(connection, Pending(birth, Priority.CONTROL, done))
        if birth.qos == 1:
            await done

    async def _subscribe(self, connection: Connection, filters: list[tuple[str, int]]) -> None:
        for (topic_filter, _), accepted in zip(filters, await connection.subscribe(filters), strict=False):
            if not accepted:
                self._counters.subscriptions_refused += 1
                logger.warning("client=%s subscription refused: %s", self.options.client_id, topic_filter)

    async def _serve(self, connection: Connection) -> None:
        """Be connected until the connection is lost."""
        connected_s = self._clock()
        self._counters.connects += 1
        self.last_error = ""
        self._set_state(LinkState.CONNECTED)
        while not connection.lost.done():
            await asyncio.wait([connection.lost], timeout=self.options.housekeeping_s)
            connection.housekeeping()
            self._check_pubacks(connection)
        self._counters.connections_lost += 1
        self._counters.oversized += connection.oversized
        if self._clock() - connected_s >= self.options.stable_s:
            self._backoff.reset()
        self._forget_connection(connection.lost.result(), connection)
        logger.info("broker=%s client=%s %s", self.options.url, self.options.client_id, self.last_error)

    def _check_pubacks(self, connection: Connection) -> None:
        if self._in_flight.oldest_s(self._clock()) > self.options.puback_timeout_s:
            connection.end(f"no PUBACK for {self.options.puback_timeout_s} s")

    def _forget_connection(self, reason: str, connection: Connection | None = None) -> None:
        if connection is not None and connection is not self._connection:
            return
        if self._connection is not None:
            self._connection.end(reason)
            self._connection = None
        self.last_error = reason
        self._counters.lost_in_flight += self._in_flight.clear(reason)
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
        while connection.is_writable and (pending := self._queue.pop(self._in_flight.allows())) is not None:
            self._send(connection, pending)
            connection.write()

    def _send(self, connection: Connection, pending: Pending) -> None:
        mid = connection.publish(pending.publication)
        pending.sent_s = self._clock()
        self._counters.published[pending.priority] += 1
        self._counters.sent_bytes += len(pending.publication.payload)
        if pending.publication.qos > 0:
            self._in_flight.add(mid, pending)

    def _on_puback(self, mid: int, refusal: str | None) -> None:
        pending = self._in_flight.settle(mid)
        if pending is None:
            return
        if refusal is not None:
            pending.fail(f"the broker refused it: {refusal}")
        else:
            self._counters.acknowledged += 1
            pending.succeed()
        self._schedule_pump()

    def _on_message(self, connection: Connection, packet: Received) -> None:
        if connection.lost.done():
            return
        acknowledge = partial(self._ack, connection, packet.mid) if packet.qos else _nothing
        if packet.topic is None:
            self._counters.malformed_topics += 1
            acknowledge()  # it would only come again
            return
        self._counters.received += 1
        self._counters.received_bytes += len(packet.payload)
        message = Message(
            packet.topic, packet.payload, packet.qos, packet.retain, packet.dup, self._clock(), acknowledge
        )
        if not self._inbox.put(message, bulk=self.options.is_bulk(packet.topic)):
            self._counters.inbox_overflows += 1
            connection.fail("the receive queue is full")

    def _ack(self, connection: Connection, mid: int) -> None:
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
