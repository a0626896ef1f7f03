"""What happens by the clock: requests that take too long, workers that give no sign of life, fresh counters."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from .pool import Call
from .serving import Serving
from .worker_link import WorkerLink
from .worker_process import WorkerProcess, full_log

logger = logging.getLogger(__name__)

TICK_S = 0.05
"""How late a deadline may be noticed; nothing ticks while no request is in the house."""
UPKEEP_S = 5.0
"""Between PINGs to idle workers and looks at log files."""
PONG_S_MAX = 10.0
COUNTERS_S_MAX = 0.2
"""How long a scrape waits for workers that are busy; then it shows what they said last."""
LOG_BYTES_MAX = 4 * 1024 * 1024


@dataclass(eq=False)
class Patrol:
    """Walks over `serving`."""

    serving: Serving
    _tick: asyncio.TimerHandle | None = None
    _upkeep: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """A request came in."""
        if self._tick is None:
            self._tick = self.serving.loop.call_later(TICK_S, self._check_deadlines)

    def start(self) -> None:
        """Begin the upkeep."""
        self._upkeep = self.serving.loop.call_later(UPKEEP_S, self._look_after)

    def stop(self) -> None:
        """End both."""
        for timer in (self._tick, self._upkeep):
            if timer is not None:
                timer.cancel()

    async def refresh_counters(self) -> None:
        """Ask the workers that answered something since the last time."""
        asked = [link.ask_counters() for link in self._links() if link.has_news]
        if asked:
            await asyncio.wait(asked, timeout=COUNTERS_S_MAX)

    def _check_deadlines(self) -> None:
        now_s = time.monotonic()
        for worker in list(self.serving.workers.values()):
            link = worker.link
            if link is not None and link.in_flight and now_s - link.head_since_s > worker.spec.request_timeout_s:
                _end_hung(worker, link.oldest)
        self.serving.models.expire(now_s)
        is_busy = any(link.in_flight for link in self._links()) or any(
            pool.queue for pool in self.serving.models.pools()
        )
        self._tick = self.serving.loop.call_later(TICK_S, self._check_deadlines) if is_busy else None

    def _look_after(self) -> None:
        now_s = time.monotonic()
        for worker in list(self.serving.workers.values()):
            link = worker.link
            if link is None or worker.loaded is None or link.is_lost or link.in_flight:
                continue
            if link.ping_sent_s is None:
                link.ping()
            elif now_s - link.ping_sent_s > PONG_S_MAX:
                worker.kill(f"hung: no PONG within {PONG_S_MAX:g} s")
        for replica_id in self.serving.replicas:
            trim_log(self.serving.place.log(replica_id))
        self._upkeep = self.serving.loop.call_later(UPKEEP_S, self._look_after)

    def _links(self) -> list[WorkerLink]:
        return [worker.link for worker in self.serving.workers.values() if worker.link is not None]


def _end_hung(worker: WorkerProcess, held: Call | None) -> None:
    timeout_s = worker.spec.request_timeout_s
    if held is not None and not held.is_abandoned:
        held.exchange.refuse(504, f"the model gave no answer within {timeout_s:g} s")
    worker.kill(f"hung: one request took more than {timeout_s:g} s")


def trim_log(path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Keep a worker's log bounded: when it is full it becomes `.1`, and the worker goes on at the start of the file."""
    try:
        if path.stat().st_size <= bytes_max:
            return
        with path.open("r+b") as log:
            full_log(path).write_bytes(log.read(bytes_max))
            log.truncate(0)  # the worker's descriptor appends
    except OSError as error:
        logger.warning("log=%s can't be trimmed: %s", path, error)
