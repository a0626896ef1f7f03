"""The agent's outbox core: what is kept, sent, sent again and given up while the control plane is near or away. Pure.

Events are durable: numbered, stored, then sent, and deleted only on the control plane's own acknowledgement (a PUBACK
is not durability). Telemetry batches wait in memory and are done at the broker's acknowledgement. One quota covers all:
P2 may fill 90 % of it, P2 and P1 together 99 %, so that P0 always finds a place; what is given up goes from P2 first,
oldest first, and is counted. `agents/run.py` keeps the bytes, `agents/database.py` the durable ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from .outbox_events import (
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
from .stream import Stream, StreamStart

QUOTA_BYTES = 64 * 1024 * 1024
BATCHES_IN_FLIGHT_MAX = 8
BATCH_AGAIN_S = 1.0
"""A batch that could not be sent over a link that is up waits this long."""


@dataclass(frozen=True)
class Limits:
    """Bytes that each urgency may fill together with the less urgent ones."""

    quota: int = QUOTA_BYTES
    telemetry_max: int = 4 * 1024 * 1024
    """Telemetry waits in memory, so it has a cap of its own beside its share."""

    def ceiling(self, urgency: Urgency) -> int:
        """Of this urgency and all less urgent ones."""
        shares = {Urgency.P0: self.quota, Urgency.P1: self.quota * 99 // 100, Urgency.P2: self.quota * 9 // 10}
        return shares[urgency]


@dataclass
class _Batch:
    urgency: BatchUrgency
    size: int
    in_flight: bool = False


class Outbox:
    """Bookkeeping of everything that waits to be sent."""

    def __init__(self, p0: StreamStart, p1: StreamStart, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.streams: dict[EventUrgency, Stream] = {
            Urgency.P0: Stream(Urgency.P0, p0),
            Urgency.P1: Stream(Urgency.P1, p1),
        }
        self._batches: dict[str, _Batch] = {}
        """In order of arrival."""
        self._batches_not_before_s = 0.0
        self._is_up = False
        self._wake_s: float | None = None
        self.dropped = dict.fromkeys(Urgency, 0)
        """Events and batches given up since the start."""

    @property
    def waiting(self) -> int:
        """Events that the control plane has not acknowledged."""
        return sum(map(len, self.streams.values()))

    @property
    def bytes(self) -> int:
        """Of everything that waits."""
        return self._bytes(Urgency.P0)

    @property
    def is_under_pressure(self) -> bool:
        """Over half of the quota waits, or events were given up."""
        lost = self.dropped[Urgency.P0] + self.dropped[Urgency.P1]
        return self.bytes * 2 > self._limits.quota or (lost > 0 and self.waiting > 0)

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """What follows from the event."""
        effects: list[Effect] = []
        match event:
            case EventRaised():
                effects += self._raise(event, now_s)
            case Stored():
                stream = self.streams[event.urgency]
                stream.stored = max(stream.stored, min(event.upto, stream.next - 1))
            case Acked():
                effects += self._acknowledge(event, now_s)
            case BatchReady():
                effects += self._queue(event, now_s)
            case BatchFinished():
                self._finish(event, now_s)
            case LinkUp() | LinkDown():
                self._is_up = isinstance(event, LinkUp)
                self._rewind()
            case PeerReturned():
                for stream in self.streams.values():
                    stream.rewind()
            case Woken():
                self._wake_s = None
                self._rewind_overdue(now_s)
            case _:
                assert_never(event)
        effects += self._send(event.id, now_s)
        effects += self._wake(event.id, now_s)
        return effects

    def _bytes(self, urgency: Urgency) -> int:
        """Of this urgency and all less urgent ones."""
        events = sum(stream.bytes for key, stream in self.streams.items() if key >= urgency)
        return events + sum(batch.size for batch in self._batches.values() if batch.urgency >= urgency)

    def _raise(self, event: EventRaised, now_s: float) -> Iterator[Effect]:
        yield from self._make_room(event.id, event.urgency, event.size, now_s)
        if not self._fits(event.urgency, event.size):
            self.dropped[event.urgency] += 1
            return
        stream = self.streams[event.urgency]
        yield StoreEvent(event.id, event.urgency, stream.name, stream.append(event.size))

    def _queue(self, event: BatchReady, now_s: float) -> Iterator[Effect]:
        yield from self._make_room(event.id, event.urgency, event.size, now_s)
        self._batches[event.id] = _Batch(event.urgency, event.size)
        if not self._fits(event.urgency, 0):
            yield self._drop_batch(event.id, event.id)
        while sum(batch.size for batch in self._batches.values()) > self._limits.telemetry_max:
            yield self._drop_batch(event.id, self._oldest_batch(Urgency.P2) or next(iter(self._batches)))

    def _fits(self, urgency: Urgency, size: int) -> bool:
        """Whether `size` more bytes of this urgency are under every ceiling that they count for."""
        levels = [level for level in Urgency if level <= urgency]
        return all(self._bytes(level) + size <= self._limits.ceiling(level) for level in levels)

    def _make_room(self, cause: str, urgency: Urgency, size: int, now_s: float) -> Iterator[Effect]:
        """Give up what is less urgent, then what is as urgent, until it fits or nothing is left that may go."""
        while not self._fits(urgency, size):
            given_up = self._give_up(cause, urgency, now_s)
            if given_up is None:
                return
            yield given_up

    def _give_up(self, cause: str, urgency: Urgency, now_s: float) -> Effect | None:
        """Drop the oldest of the least urgent that is not more urgent than `urgency`."""
        for level in range(Urgency.P2, urgency - 1, -1):
            batch = self._oldest_batch(Urgency(level))
            if batch is not None:
                return self._drop_batch(cause, batch)
            stream = next((one for key, one in self.streams.items() if key == level), None)
            if stream is not None and len(stream):
                self.dropped[stream.urgency] += stream.drop_to(stream.first, now_s)
                return DeleteEvents(cause, stream.urgency, stream.name, stream.first - 1)
        return None

    def _oldest_batch(self, urgency: Urgency) -> str | None:
        return next((key for key, batch in self._batches.items() if batch.urgency == urgency), None)

    def _drop_batch(self, cause: str, key: str) -> DropBatch:
        self.dropped[self._batches.pop(key).urgency] += 1
        return DropBatch(cause, key)

    def _acknowledge(self, event: Acked, now_s: float) -> Iterator[Effect]:
        stream = next((one for one in self.streams.values() if one.name == event.stream), None)
        if stream is None:
            yield Ignored(event.id, f"no stream {event.stream!r} here")
        elif event.upto > stream.sent_max:
            # A bogus acknowledgement must not delete what was never sent.
            yield Ignored(event.id, f"stream {event.stream!r} was sent up to {stream.sent_max}, not {event.upto}")
        elif stream.drop_to(event.upto, now_s):
            yield DeleteEvents(event.id, stream.urgency, stream.name, event.upto)

    def _finish(self, event: BatchFinished, now_s: float) -> None:
        if event.is_sent:
            self._batches.pop(event.batch, None)
        elif event.batch in self._batches:
            self._batches[event.batch].in_flight = False
            self._batches_not_before_s = now_s + BATCH_AGAIN_S

    def _rewind(self) -> None:
        for stream in self.streams.values():
            stream.rewind()
        for batch in self._batches.values():
            batch.in_flight = False

    def _rewind_overdue(self, now_s: float) -> None:
        for stream in self.streams.values():
            deadline_s = stream.deadline_s()
            if deadline_s is not None and now_s >= deadline_s:
                stream.rewind()

    def _send(self, cause: str, now_s: float) -> Iterator[Effect]:
        if not self._is_up:
            return
        for urgency, stream in self.streams.items():
            for first, last in stream.take(now_s):
                yield SendEvents(cause, urgency, stream.name, first, last, stream.first)
        if now_s < self._batches_not_before_s:
            return
        free = BATCHES_IN_FLIGHT_MAX - sum(batch.in_flight for batch in self._batches.values())
        waiting = [(key, batch) for key, batch in self._batches.items() if not batch.in_flight]
        for key, batch in sorted(waiting, key=lambda item: item[1].urgency)[: max(0, free)]:
            batch.in_flight = True
            yield SendBatch(cause, key, batch.urgency)

    def _wake(self, cause: str, now_s: float) -> Iterator[Effect]:
        times = [stream.deadline_s() for stream in self.streams.values()] if self._is_up else []
        if self._is_up and self._batches and now_s < self._batches_not_before_s:
            times.append(self._batches_not_before_s)
        wake_s = min((time_s for time_s in times if time_s is not None), default=None)
        if wake_s is not None and wake_s != self._wake_s:
            self._wake_s = wake_s
            yield WakeAt(cause, wake_s)
