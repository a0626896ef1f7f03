"""Turns what arrives over MQTT into validated messages: topics parsed, payloads decoded, senders checked.

`run.py` hands over every message; what is malformed, of a foreign slice, of an unknown node, or says another node's uid
than its topic is dropped and counted, never answered. A broker whose rights are wrong can't make one node speak for
another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ..descriptions.errors import ProtocolError
from ..descriptions.messages.codec import decode
from ..descriptions.messages.lease import Heartbeat
from ..descriptions.messages.reported import CommandResult, EventBatch, Reported, State
from ..descriptions.topics import SHARED, Topic, parse_topic

TOPICS_KEPT_MAX = 20_000
"""Parsed topics that are remembered: a fleet uses the same few for each node over and over."""


@dataclass(frozen=True)
class Telemetry:
    """A batch for the windows; they decode it themselves."""

    uid: str
    payload: bytes


@dataclass(frozen=True)
class Canary:
    """Our own, back from the broker."""

    seq: int


@dataclass(frozen=True)
class Answered:
    """What came of a command."""

    uid: str
    result: CommandResult


Ingested = Heartbeat | State | Reported | EventBatch | Answered | Telemetry | Canary

_MESSAGES: dict[str, type[Heartbeat | State | Reported]] = {
    "up/hb": Heartbeat,
    "up/state": State,
    "up/reported": Reported,
}


class _DroppedError(ProtocolError):
    """Not for us, or not from whom it says; the text is the reason that is counted."""


@dataclass
class Ingest:
    """The gate for one slice."""

    slice_name: str
    is_known: Callable[[str], bool]
    """Whether a uid belongs to a node of the slice."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason: `topic`, `slice`, `node`, `channel`, `payload`, `sender`."""
    received: Counter[str] = field(default_factory=Counter)
    """By channel."""
    last_error: str = ""
    _topics: dict[str, Topic] = field(default_factory=dict)

    def read(self, topic: str, payload: bytes) -> Ingested | None:
        """The message; None for one that was dropped."""
        try:
            return self._read(self._parsed(topic), payload)
        except _DroppedError as dropped:
            self.dropped[str(dropped)] += 1
            return None
        except ProtocolError as error:
            self.last_error = f"{topic[:120]}: {error}"
            self.dropped["payload" if topic in self._topics else "topic"] += 1
            return None

    def _parsed(self, topic: str) -> Topic:
        known = self._topics.get(topic)
        if known is None:
            known = parse_topic(topic)
            if len(self._topics) >= TOPICS_KEPT_MAX:
                self._topics.clear()
            self._topics[topic] = known
        return known

    def _read(self, topic: Topic, payload: bytes) -> Ingested | None:
        if topic.slice != self.slice_name:
            raise _DroppedError("slice")
        if topic.node == SHARED:
            return _canary(topic, payload)
        if not self.is_known(topic.node):
            raise _DroppedError("node")
        channel = "up/ev" if topic.channel.startswith("up/ev/") else topic.channel
        self.received[channel] += 1
        match channel:
            case "up/tel/hi" | "up/tel/lo":
                return Telemetry(topic.node, payload)
            case "up/cmdres":
                return Answered(topic.node, decode(CommandResult, payload))
            case "up/ev":
                return _events(topic, payload)
            case _:
                return _from_node(topic, payload)


def _from_node(topic: Topic, payload: bytes) -> Heartbeat | State | Reported | None:
    kind = _MESSAGES.get(topic.channel)
    if kind is None:
        raise _DroppedError("channel")
    if not payload:
        return None  # a cleared retained message says nothing
    message = decode(kind, payload)
    if message.node != topic.node:
        raise _DroppedError("sender")
    return message


def _events(topic: Topic, payload: bytes) -> EventBatch:
    batch = decode(EventBatch, payload)
    if batch.node != topic.node or topic.channel != f"up/ev/{batch.stream}":
        raise _DroppedError("sender")
    return batch


def _canary(topic: Topic, payload: bytes) -> Canary:
    if topic.channel != "canary":
        raise _DroppedError("channel")
    if not payload.isdigit() or len(payload) > 18:
        raise ProtocolError("a canary is a number")
    return Canary(int(payload))
