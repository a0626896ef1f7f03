"""Durable events of nodes: batches in, what to store and what to acknowledge out; each event counts exactly once.

An agent keeps an event until the control plane has it on disk: it sends batches again until `down/ack` covers them.
Here what was stored before is dropped, a gap is waited for or, where the node has lost the events itself, reported, and
an acknowledgement goes out only after the driver has reported `StreamStored`. Called by `core.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..descriptions.messages.lease import Ack
from ..descriptions.messages.reported import EventBatch
from .effects import Effect, Happening, SendAck, StoreStream, Tell
from .inputs import BatchSeen, Event, StreamStored

STREAMS_PER_NODE_MAX = 64
"""A node makes a new stream when its outbox database is lost; more than this is nonsense and dropped."""

StreamKey = tuple[str, str]
"""Node uid and stream."""


@dataclass
class Streams:
    """How far each stream is stored."""

    stored: dict[StreamKey, int] = field(default_factory=dict)
    asked: dict[StreamKey, int] = field(default_factory=dict)
    """How far the driver was asked to store, where it hasn't answered everything yet."""
    unanswered: dict[StreamKey, int] = field(default_factory=dict)
    """`StoreStream`s that the driver hasn't answered yet."""

    def handle(self, event: Event, node_name: str) -> list[Effect]:
        """Take in a `BatchSeen` or `StreamStored` of this node; others cause nothing."""
        match event:
            case BatchSeen():
                return self._batch(event.id, event.batch, node_name)
            case StreamStored():
                return self._stored(event)
            case _:
                return []

    def forget(self, node: str) -> None:
        """The node is gone."""
        for table in (self.stored, self.asked, self.unanswered):
            for key in [key for key in table if key[0] == node]:
                del table[key]

    def _stored(self, event: StreamStored) -> list[Effect]:
        key = (event.node, event.stream)
        self.stored[key] = event.position
        self.unanswered[key] = self.unanswered.get(key, 1) - 1
        if not self.unanswered[key]:
            # Whatever was refused because the stream stood elsewhere is sent again by the agent.
            del self.unanswered[key]
            self.asked.pop(key, None)
        return [SendAck(event.id, event.node, Ack(event.stream, event.position))]

    def _is_flooded(self, node: str) -> bool:
        return sum(key[0] == node for key in {**self.stored, **self.asked}) >= STREAMS_PER_NODE_MAX

    def _batch(self, event_id: str, batch: EventBatch, node_name: str) -> list[Effect]:
        key = (batch.node, batch.stream)
        stored = self.asked.get(key, self.stored.get(key, 0))
        if key not in self.stored and self._is_flooded(batch.node):
            return []
        effects: list[Effect] = []
        start = stored
        if batch.first_available > stored + 1:
            effects.append(Tell(event_id, _gap(node_name, stored, batch.first_available)))
            start = batch.first_available - 1
        events = tuple(event for event in batch.events if event.seq > start)
        if not events and start == stored:
            return [] if key in self.asked else [SendAck(event_id, batch.node, Ack(batch.stream, stored))]
        if [event.seq for event in events] != list(range(start + 1, start + 1 + len(events))):
            return []  # something in between is still on its way
        upto = start + len(events)
        self.asked[key] = upto
        self.unanswered[key] = self.unanswered.get(key, 0) + 1
        return [*effects, StoreStream(event_id, batch.node, batch.stream, stored, upto, events)]


def _gap(node_name: str, stored: int, first_available: int) -> Happening:
    lost = first_available - stored - 1
    told = f"{lost} events of {node_name} are gone: its outbox was full, or its disk was replaced"
    return Happening("EventsLost", told, "Node", node_name, "warning", node=node_name)
