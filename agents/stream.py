"""One durable stream of events: sequence numbers without gaps, what may be sent, what was acknowledged. Pure.

A window over seqs: `acked < sent <= stored < next`. Sizes are kept so that the outbox can give up the oldest when its
quota is full; the control plane sees that as a gap by `first_available`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from .outbox_events import EventUrgency

BATCH_EVENTS_MAX = 64
BATCH_BYTES_MAX = 48 * 1024
WINDOW_MAX = 4 * BATCH_EVENTS_MAX
"""Events sent and not acknowledged."""
ACK_S = 30.0
"""After this long without progress the window is sent again."""


@dataclass(frozen=True)
class StreamStart:
    """What a stream's database said when the agent started."""

    stream: str
    """Random, made with the database."""
    first: int = 1
    """Seq of the oldest stored event; `last + 1` when there is none."""
    sizes: tuple[int, ...] = ()
    """Bytes of the stored events, oldest first."""


class Stream:
    """Events of one urgency."""

    def __init__(self, urgency: EventUrgency, start: StreamStart) -> None:
        self.urgency: EventUrgency = urgency
        self.name = start.stream
        self.first = start.first
        self._sizes = deque(start.sizes)
        self.bytes = sum(start.sizes)
        self.next = start.first + len(start.sizes)
        self.stored = self.next - 1
        self.sent = self.first - 1
        self.sent_max = self.sent
        """`sent` goes back when the window is sent again, this does not."""
        self._progress_s = 0.0

    def __len__(self) -> int:
        return len(self._sizes)

    def append(self, size: int) -> int:
        """The seq of a new event."""
        self._sizes.append(size)
        self.bytes += size
        self.next += 1
        return self.next - 1

    def drop_to(self, upto: int, now_s: float) -> int:
        """Forget events up to this seq, acknowledged or given up; how many there were."""
        count = max(0, min(upto, self.next - 1) - self.first + 1)
        self.bytes -= sum(self._sizes.popleft() for _ in range(count))
        self.first += count
        self.sent = max(self.sent, self.first - 1)
        self.stored = max(self.stored, self.first - 1)
        self._progress_s = now_s
        return count

    def oldest_size(self) -> int:
        """Bytes of the event that would go next."""
        return self._sizes[0]

    def rewind(self) -> None:
        """Everything that is left has to be sent again."""
        self.sent = self.first - 1

    def take(self, now_s: float) -> Iterable[tuple[int, int]]:
        """Ranges of seqs to send now, which count as sent."""
        while self.sent < self.stored and self.sent - self.first + 1 < WINDOW_MAX:
            first = self.sent + 1
            if first == self.first:
                self._progress_s = now_s
            last, size = first, self._sizes[first - self.first]
            while last < self.stored and last - first + 1 < BATCH_EVENTS_MAX:
                size += self._sizes[last + 1 - self.first]
                if size > BATCH_BYTES_MAX:
                    break
                last += 1
            self.sent = last
            self.sent_max = max(self.sent_max, last)
            yield first, last

    def deadline_s(self) -> float | None:
        """When the window is sent again for want of an acknowledgement."""
        return self._progress_s + ACK_S if self.sent >= self.first else None
