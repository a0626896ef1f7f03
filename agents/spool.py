"""The outbox core's driver: events to disk in groups, then to the link; telemetry batches from memory to the link.

`run.py` makes one and tells it of the link, of acknowledgements and of what happened. Deletes wait for the next write,
so that an acknowledgement costs no fsync of its own and an idle agent writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol, assert_never

import msgspec

from ..descriptions.errors import ProtocolError, TransportError
from ..descriptions.messages.codec import encode
from ..descriptions.messages.lease import Ack
from ..descriptions.messages.reported import EventBatch, NodeEvent
from . import outbox_events as out
from .clock import boottime_s, rfc3339
from .database import StoredEvent
from .disk import Disk
from .files import DiskBrokenError
from .outbox import Limits, Outbox
from .outbox_events import BatchUrgency, EventUrgency, Urgency
from .timer import Timer

logger = logging.getLogger(__name__)

GROUP_S = 0.1
"""Events of this long share one commit."""
AGAIN_S = 5.0
"""A write that failed is tried again after this long."""
DELETES_MAX = 64
"""Deletes that may wait for the next write."""
MESSAGE_CHARS_MAX = 1024

Severity = Literal["info", "warning", "error"]
LASTING = frozenset({"DesiredApplied", "DatabaseQuarantined", "SlotDamaged", "ReplicaFailed", "AgentStarted"})
"""Reasons that are kept longest, besides all errors."""


class Sender(Protocol):
    """The way to the control plane."""

    def send(self, channel: str, payload: bytes, *, qos: int, is_telemetry: bool = False) -> asyncio.Future[None]:
        """Publish on a channel of this node; raises `TransportError` when that cannot be tried."""
        ...


@dataclass
class _Unstored:
    urgency: EventUrgency
    seq: int
    event: NodeEvent


@dataclass
class Spool:
    """What waits to be sent."""

    node: str
    disk: Disk
    sender: Sender
    new_id: Callable[[], str]
    limits: Limits
    core: Outbox = field(init=False)
    ignored: int = 0
    """Acknowledgements that could not be true."""
    _raised: dict[str, NodeEvent] = field(default_factory=dict)
    _unstored: list[_Unstored] = field(default_factory=list)
    _deleted: dict[EventUrgency, int] = field(default_factory=dict)
    _deletes: int = 0
    _batches: dict[str, bytes] = field(default_factory=dict)
    _write_soon: asyncio.TimerHandle | None = None
    _is_writing: bool = False
    _timer: Timer = field(init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    on_failure: Callable[[DiskBrokenError], None] = lambda error: None

    def __post_init__(self) -> None:
        """Read where earlier runs left off."""
        database = self.disk.database
        self.core = Outbox(database.stream_start(Urgency.P0), database.stream_start(Urgency.P1), self.limits)
        self._timer = Timer(lambda: self._handle(out.Woken(self.new_id())))

    # --- in -----------------------------------------------------------------------------------------------------

    def raise_event(
        self, type_: str, reason: str, message: str, replica: str = "", severity: Severity = "info"
    ) -> None:
        """Store an event and send it when it is on disk."""
        urgency: EventUrgency = Urgency.P0 if severity == "error" or reason in LASTING else Urgency.P1
        event = NodeEvent(0, rfc3339(), type_, reason, message[:MESSAGE_CHARS_MAX], replica, severity)
        event_id = self.new_id()
        self._raised[event_id] = event
        self._handle(out.EventRaised(event_id, urgency, len(encode(event)) + 16))
        self._raised.pop(event_id, None)

    def add_batch(self, urgency: BatchUrgency, payload: bytes) -> None:
        """Send telemetry, or keep it for a while."""
        batch_id = self.new_id()
        self._batches[batch_id] = payload
        self._handle(out.BatchReady(batch_id, urgency, len(payload)))

    def acknowledged(self, ack: Ack) -> None:
        """The control plane has these events in its database."""
        self._handle(out.Acked(self.new_id(), ack.stream, ack.upto))

    def link_changed(self, *, is_up: bool) -> None:
        """Send what waits, or stop sending."""
        self._handle(out.LinkUp(self.new_id()) if is_up else out.LinkDown(self.new_id()))

    def peer_returned(self) -> None:
        """Send again what was not acknowledged."""
        self._handle(out.PeerReturned(self.new_id()))

    # --- out ----------------------------------------------------------------------------------------------------

    def _handle(self, event: out.Event) -> None:
        for effect in self.core.handle(event, boottime_s()):
            match effect:
                case out.StoreEvent():
                    numbered = msgspec.structs.replace(self._raised[effect.cause], seq=effect.seq)
                    self._unstored.append(_Unstored(effect.urgency, effect.seq, numbered))
                    self._plan_write(GROUP_S)
                case out.DeleteEvents():
                    self._delete(effect)
                case out.SendEvents():
                    self._start(self._send_events(effect))
                case out.SendBatch():
                    self._send_batch(effect)
                case out.DropBatch():
                    self._batches.pop(effect.batch, None)
                case out.Ignored():
                    self.ignored += 1
                    logger.warning("acknowledgement ignored: %s", effect.reason)
                case out.WakeAt():
                    self._timer.set(effect.at_s)
                case _:
                    assert_never(effect)

    def _delete(self, effect: out.DeleteEvents) -> None:
        self._deleted[effect.urgency] = max(self._deleted.get(effect.urgency, 0), effect.upto)
        self._deletes += 1
        if self._deletes > DELETES_MAX:
            self._plan_write(GROUP_S)

    def _plan_write(self, after_s: float) -> None:
        if self._write_soon is None and not self._is_writing:
            self._write_soon = asyncio.get_running_loop().call_later(after_s, lambda: self._start(self._write()))

    async def _write(self) -> None:
        """Commit what has gathered; what could not be written waits and is tried again."""
        self._write_soon, self._is_writing = None, True
        events, deleted = self._unstored, self._deleted
        self._unstored, self._deleted, self._deletes = [], {}, 0
        rows = [StoredEvent(one.urgency, one.seq, encode(one.event)) for one in events]
        try:
            is_done = await self.disk.try_run(partial(self.disk.database.write_events, rows, deleted))
        except DiskBrokenError as error:
            self.on_failure(error)
            return
        finally:
            self._is_writing = False
        if not is_done:
            self._unstored = events + self._unstored
            self._deleted = {
                key: max(deleted.get(key, 0), self._deleted.get(key, 0)) for key in deleted | self._deleted
            }
            self._plan_write(AGAIN_S)
            return
        for urgency in self.core.streams:
            upto = max((one.seq for one in events if one.urgency == urgency), default=0)
            if upto:
                self._handle(out.Stored(self.new_id(), urgency, upto))
        if self._unstored:
            self._plan_write(GROUP_S)

    async def _send_events(self, effect: out.SendEvents) -> None:
        read = partial(self.disk.database.read_events, effect.urgency, effect.first, effect.last)
        try:
            bodies = await self.disk.run(read)
            events = tuple(msgspec.json.decode(body, type=NodeEvent) for body in bodies)
            batch = EventBatch(self.node, effect.stream, events, effect.first_available)
            await self.sender.send(f"up/ev/{effect.stream}", encode(batch), qos=1)
        except (TransportError, ProtocolError) as error:
            logger.debug("stream=%s not sent: %s", effect.stream, error)  # the core sends it again in time

    def _send_batch(self, effect: out.SendBatch) -> None:
        payload = self._batches[effect.batch]
        channel, qos = ("up/tel/hi", 1) if effect.urgency == Urgency.P1 else ("up/tel/lo", 0)
        try:
            sent = self.sender.send(channel, payload, qos=qos, is_telemetry=True)
        except (TransportError, ProtocolError):
            asyncio.get_running_loop().call_soon(self._batch_finished, effect.batch, False)
            return
        sent.add_done_callback(
            lambda done: self._batch_finished(effect.batch, not done.cancelled() and not done.exception())
        )

    def _batch_finished(self, batch: str, is_sent: bool) -> None:
        if is_sent:
            self._batches.pop(batch, None)
        self._handle(out.BatchFinished(self.new_id(), batch, is_sent))

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="spool")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Write what has gathered."""
        self._timer.cancel()
        if self._write_soon is not None:
            self._write_soon.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._unstored or self._deleted:
            await self._write()
        if self._write_soon is not None:
            self._write_soon.cancel()


def _is_sent(done: asyncio.Future[None]) -> bool:
    return not done.cancelled() and done.exception() is None
