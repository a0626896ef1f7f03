"""What people read in `shoal get events`: happenings of the core, joined where they repeat, held back under a flood.

The same happening within a minute is counted, not written again; when it is over, one line says how often it came.
Beyond the rate, informational ones are dropped and counted, warnings wait. Events are not the truth, rows are: losing
one changes nothing. Filled by `driver.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from .effects import Happening
from .store.errors import StoreError
from .store.records import EventEntry, Severity
from .store.store import Store

logger = logging.getLogger(__name__)

REPEAT_S = 60.0
REMEMBERED_MAX = 10_000
RATE_PER_S = 200.0
BURST = 2000.0
QUEUE_MAX = 5000
FLUSH_S = 0.1


@dataclass
class _Seen:
    at_s: float
    times: int = 0


@dataclass
class EventLog:
    """The way of happenings into the store."""

    store: Store
    clock: Callable[[], float]
    dropped: int = 0
    repeated: int = 0
    _seen: OrderedDict[Happening, _Seen] = field(default_factory=OrderedDict)
    _queue: list[EventEntry] = field(default_factory=list)
    _allowed: float = BURST
    _refilled_s: float = 0.0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, happening: Happening) -> None:
        """Take one in."""
        now_s = self.clock()
        seen = self._seen.get(happening)
        if seen is not None and now_s < seen.at_s + REPEAT_S:
            seen.times += 1
            self.repeated += 1
            return
        times = seen.times if seen is not None else 0
        self._seen[happening] = _Seen(now_s)
        self._seen.move_to_end(happening)
        while len(self._seen) > REMEMBERED_MAX:
            self._seen.popitem(last=False)
        self._queue_up(happening, times, now_s)

    async def run(self) -> None:
        """Write what is queued, several at a time, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await asyncio.sleep(FLUSH_S)

    async def flush(self) -> None:
        """Write what is queued now."""
        entries, self._queue = self._queue, []
        if not entries:
            return
        try:
            await self.store.write(lambda tx: tx.append_events(entries))
        except StoreError as error:
            self.dropped += len(entries)
            logger.warning("%d events are lost: %s", len(entries), error)

    def _queue_up(self, happening: Happening, times: int, now_s: float) -> None:
        self._allowed = min(self._allowed + (now_s - self._refilled_s) * RATE_PER_S, BURST)
        self._refilled_s = now_s
        is_warning = happening.severity == "warning"
        if len(self._queue) >= QUEUE_MAX or (self._allowed < 1.0 and not is_warning):
            self.dropped += 1
            return
        self._allowed = max(self._allowed - 1.0, 0.0)
        told = f"{happening.message} (and {times} times more in a minute)" if times else happening.message
        logger.log(logging.WARNING if is_warning else logging.INFO, "%s: %s", happening.reason, told)
        self._queue.append(
            EventEntry(
                reason=happening.reason,
                message=told,
                kind=happening.kind,
                name=happening.name,
                severity=Severity.WARNING if is_warning else Severity.INFO,
                application=happening.application,
                node=happening.node,
            )
        )
        self._wake.set()
