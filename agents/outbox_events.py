"""What goes into the outbox core and comes out of it: frozen dataclasses, an id on each event, repeated on effects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal


class Urgency(IntEnum):
    """What is kept longest when room is short. P0 and P1 events are durable, each in a stream of its own."""

    P0 = 0
    """Errors, and what changes what runs."""
    P1 = 1
    """All other events; high-priority telemetry."""
    P2 = 2
    """All other telemetry."""


EventUrgency = Literal[Urgency.P0, Urgency.P1]
BatchUrgency = Literal[Urgency.P1, Urgency.P2]


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EventRaised:
    """An event to store and send; its bytes stay with the driver. No `StoreEvent` in answer: it was given up."""

    id: str
    urgency: EventUrgency
    size: int
    """Bytes on the wire."""


@dataclass(frozen=True)
class Stored:
    """Events of a stream up to this seq are on disk: only now may they be sent."""

    id: str
    urgency: EventUrgency
    upto: int


@dataclass(frozen=True)
class Acked:
    """The control plane has committed events of the stream up to this seq."""

    id: str
    stream: str
    upto: int


@dataclass(frozen=True)
class BatchReady:
    """A telemetry batch; its bytes stay with the driver, under the event's id."""

    id: str
    urgency: BatchUrgency
    size: int


@dataclass(frozen=True)
class BatchFinished:
    """A batch was sent (QoS 0) or acknowledged by the broker (QoS 1), or it was not."""

    id: str
    batch: str
    is_sent: bool


@dataclass(frozen=True)
class LinkUp:
    """The MQTT link is connected; what was sent before and not acknowledged is sent again."""

    id: str


@dataclass(frozen=True)
class LinkDown:
    """The MQTT link is not connected any more."""

    id: str


@dataclass(frozen=True)
class PeerReturned:
    """The control plane is there again: events that it was sent while it was away are sent again at once."""

    id: str


@dataclass(frozen=True)
class Woken:
    """The time of a `WakeAt` has come."""

    id: str


Event = EventRaised | Stored | Acked | BatchReady | BatchFinished | LinkUp | LinkDown | PeerReturned | Woken


# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoreEvent:
    """Write the event of `cause` under this seq; answer with `Stored` after the commit, which may cover many."""

    cause: str
    urgency: EventUrgency
    stream: str
    seq: int


@dataclass(frozen=True)
class DeleteEvents:
    """Delete events of the stream up to this seq; need not be durable, a later delete covers it."""

    cause: str
    urgency: EventUrgency
    stream: str
    upto: int


@dataclass(frozen=True)
class SendEvents:
    """Publish these stored events, both ends included, as one batch on `up/ev/<stream>`."""

    cause: str
    urgency: EventUrgency
    stream: str
    first: int
    last: int
    first_available: int


@dataclass(frozen=True)
class SendBatch:
    """Publish this telemetry batch; answer with `BatchFinished`."""

    cause: str
    batch: str
    urgency: BatchUrgency


@dataclass(frozen=True)
class DropBatch:
    """Forget this telemetry batch, it is given up."""

    cause: str
    batch: str


@dataclass(frozen=True)
class Ignored:
    """An acknowledgement that cannot be true; count it."""

    cause: str
    reason: str


@dataclass(frozen=True)
class WakeAt:
    """Send `Woken` at this time; takes the place of an earlier `WakeAt`."""

    cause: str
    at_s: float


Effect = StoreEvent | DeleteEvents | SendEvents | SendBatch | DropBatch | Ignored | WakeAt
