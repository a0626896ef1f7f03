"""Drives the agent's outbox core: events to the simulated database and the wire, telemetry to the wire.

Part of `agent.py`. An event is on disk before it is sent; several share an fsync. What the core gives up is noted for
the invariants, with what it still keeps.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from ..agents.outbox import Limits, Outbox
from ..agents.outbox_events import (
    Acked,
    BatchFinished,
    BatchReady,
    BatchUrgency,
    DeleteEvents,
    DropBatch,
    Effect,
    Event,
    EventRaised,
    EventUrgency,
    Ignored,
    LinkDown,
    LinkUp,
    PeerReturned,
    SendBatch,
    SendEvents,
    Stored,
    StoreEvent,
    Urgency,
    WakeAt,
    Woken,
)
from ..agents.reconcile_events import RaiseEvent
from ..agents.spool import LASTING
from ..descriptions.messages.codec import decode, encode
from ..descriptions.messages.lease import Ack
from ..descriptions.messages.reported import EventBatch, NodeEvent
from ..descriptions.topics import node_topic
from .agent_files import AgentFiles
from .machine import Machine
from .observed import EventEmitted, EventsGivenUp, OutboxDropped, OutboxSize
from .process import Life
from .store import body_of

FLUSH_S = 0.1
"""Events wait this long for others to share their fsync."""
QUOTA_BYTES = 256 * 1024
"""Small, so that long partitions reach it."""
DURABLE: tuple[EventUrgency, EventUrgency] = (Urgency.P0, Urgency.P1)


class Spool:
    """Everything that waits to be sent."""

    def __init__(self, machine: Machine, life: Life[str], files: AgentFiles, fresh_names: tuple[str, str]) -> None:
        """`fresh_names` are for streams of a new database."""
        self._machine = machine
        self._note = machine.env.note
        self._life = life
        self._files = files
        p0, p1 = (files.stream(urgency, name) for urgency, name in zip(DURABLE, fresh_names, strict=True))
        self.core = Outbox(p0, p1, Limits(QUOTA_BYTES, QUOTA_BYTES // 4))
        self._drafts: dict[str, RaiseEvent] = {}
        self._unstored: dict[tuple[EventUrgency, int], bytes] = {}
        self._is_flushing = False
        self._batches: dict[str, tuple[BatchUrgency, bytes]] = {}
        self._dropped = dict.fromkeys(Urgency, 0)
        self._seen = dict.fromkeys(Urgency, 0)
        """What was given up, by our own count."""
        self._acked: dict[str, int] = {}
        self.ignored = 0

    def raise_event(self, effect: RaiseEvent) -> None:
        """Keep an event of the reconcile core."""
        event_id = self._life.new_id()
        self._drafts[event_id] = effect
        body = msgspec.json.encode([effect.type, effect.reason, effect.message, effect.replica])
        lasting = effect.severity == "error" or effect.reason in LASTING
        urgency: EventUrgency = Urgency.P0 if lasting else Urgency.P1
        self._seen[urgency] += 1
        self._handle(EventRaised(event_id, urgency, len(body) + 80))
        del self._drafts[event_id]

    def add_batch(self, urgency: BatchUrgency, payload: bytes) -> None:
        """Send telemetry."""
        batch = self._life.new_id()
        self._batches[batch] = (urgency, payload)
        self._handle(BatchReady(batch, urgency, len(payload)))

    def acknowledged(self, ack: Ack) -> None:
        """The control plane has stored events."""
        self._acked[ack.stream] = max(ack.upto, self._acked.get(ack.stream, 0))
        self._handle(Acked(self._life.new_id(), ack.stream, ack.upto))

    def link_changed(self, *, is_up: bool) -> None:
        """The link came or went."""
        event_id = self._life.new_id()
        self._handle(LinkUp(event_id) if is_up else LinkDown(event_id))

    def peer_returned(self) -> None:
        """The control plane is there again."""
        self._handle(PeerReturned(self._life.new_id()))

    def woken(self, now_s: float) -> None:
        """The core's deadline has come."""
        self._handle(Woken(self._life.new_id()), now_s)

    def _handle(self, event: Event, now_s: float | None = None) -> None:
        for effect in self.core.handle(event, self._life.now_s() if now_s is None else now_s):
            self._perform(effect)
        if 2 * self.core.bytes > QUOTA_BYTES:
            self._note(OutboxSize(self._machine.name, self.core.bytes, QUOTA_BYTES))
        if self.core.dropped != self._dropped or self._seen != self._dropped:
            self._note_dropped()

    def _note_dropped(self) -> None:
        streams = self.core.streams
        low = sum(urgency is Urgency.P2 for urgency, _ in self._batches.values())
        kept = (len(streams[Urgency.P0]), len(streams[Urgency.P1]), low)
        for urgency, count in self.core.dropped.items():
            if count != self._dropped[urgency] or count != self._seen[urgency]:
                self._note(OutboxDropped(self._machine.name, urgency, kept, self._seen[urgency], count))
        self._dropped = dict(self.core.dropped)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StoreEvent():
                self._store(effect)
            case DeleteEvents():
                self._delete(effect)
            case SendEvents():
                self._send_events(effect)
            case SendBatch():
                self._send_batch(effect)
            case DropBatch(batch=batch):
                self._seen[self._batches.pop(batch)[0]] += 1
            case WakeAt():
                self._life.wake("outbox", effect.at_s)
            case Ignored():
                self.ignored += 1
            case _:
                assert_never(effect)

    def _store(self, effect: StoreEvent) -> None:
        self._seen[effect.urgency] -= 1  # raised and not given up
        draft = self._drafts[effect.cause]
        time = f"{self._machine.clock.wall_s(self._life.kernel.now_s):.3f}"
        event = NodeEvent(effect.seq, time, draft.type, draft.reason, draft.message, draft.replica, draft.severity)
        self._unstored[effect.urgency, effect.seq] = encode(event)
        if not self._is_flushing:
            self._is_flushing = True
            self._life.after(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        events, self._unstored = self._unstored, {}
        self._files.store_events(events)
        for urgency in DURABLE:
            stored = [seq for kind, seq in events if kind == urgency]
            stream = self.core.streams[urgency].name
            for seq in stored:
                body = body_of(decode(NodeEvent, events[urgency, seq]))
                self._note(EventEmitted(self._machine.name, stream, seq, body))
            if stored:
                self._handle(Stored(self._life.new_id(), urgency, max(stored)))

    def _delete(self, effect: DeleteEvents) -> None:
        acked = self._acked.get(effect.stream, 0)
        if effect.upto > acked:
            self._note(EventsGivenUp(self._machine.name, effect.stream, effect.upto))
            self._seen[effect.urgency] += 1
        gone = [key for key in self._unstored if key[0] == effect.urgency and key[1] <= effect.upto]
        for key in gone:
            del self._unstored[key]
        self._files.delete_events(effect.urgency, effect.upto)

    def _send_events(self, effect: SendEvents) -> None:
        bodies = self._files.events(effect.urgency, effect.first, effect.last)
        events = tuple(decode(NodeEvent, body) for body in bodies)
        batch = EventBatch(self._machine.uid, effect.stream, events, effect.first_available)
        topic = node_topic(self._machine.env.slice, self._machine.uid, f"up/ev/{effect.stream}")
        self._machine.link.publish(topic, encode(batch), 1)

    def _send_batch(self, effect: SendBatch) -> None:
        urgency, payload = self._batches[effect.batch]
        channel, qos = ("up/tel/hi", 1) if urgency is Urgency.P1 else ("up/tel/lo", 0)
        topic = node_topic(self._machine.env.slice, self._machine.uid, channel)

        def finished() -> None:
            self._handle(BatchFinished(self._life.new_id(), effect.batch, is_sent=True))

        def failed() -> None:
            self._handle(BatchFinished(self._life.new_id(), effect.batch, is_sent=False))

        def done(is_sent: bool) -> None:
            if is_sent:
                self._batches.pop(effect.batch, None)
            self._life.after(0.0, finished if is_sent else failed)

        if not self._machine.link.publish(topic, payload, qos, done=done):
            done(False)
