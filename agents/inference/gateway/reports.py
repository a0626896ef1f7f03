"""Replicas to the reports of the admin API; memory is read beside the event loop and kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from ....descriptions.messages.gateway import ServingReport, ServingUpdate
from .memory import pss_mib
from .serving import Replica, Serving

MEMORY_S_MAX = 2.0
"""Age of a memory figure that is still told."""


@dataclass(eq=False)
class Reports:
    """Writes reports of `serving`."""

    serving: Serving
    _memory: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Pid → when, MiB."""

    async def of(self, replicas: Iterable[Replica]) -> list[ServingReport]:
        """One report each, with fresh memory figures."""
        chosen = list(replicas)
        await self.measure([replica.serving.pid for replica in chosen if replica.serving and replica.serving.pid])
        return [self.report(replica) for replica in chosen]

    async def measure(self, pids: list[int]) -> None:
        """Read the memory of the processes that haven't been looked at for a while."""
        now_s = time.monotonic()
        self._memory = {pid: seen for pid, seen in self._memory.items() if now_s - seen[0] < MEMORY_S_MAX}
        stale = [pid for pid in pids if pid not in self._memory]
        if stale:
            for pid, mib in zip(stale, await asyncio.to_thread(_measure, stale), strict=True):
                self._memory[pid] = (now_s, mib)

    def memory_mib(self, pid: int) -> float:
        """The last figure; 0 for a process that was never looked at."""
        return round(self._memory.get(pid, (0.0, 0.0))[1], 1)

    def report(self, replica: Replica) -> ServingReport:
        """What the admin API says of a replica."""
        state, worker = replica.core, replica.serving
        serving = state.serving
        assert serving is not None  # every replica begins with a specification
        spec = serving.spec
        pool = self.serving.models.find(spec.model, spec.version)
        in_flight = sum(link.in_flight for link in replica.links())
        update = state.update
        return ServingReport(
            id=replica.id,
            model=spec.model,
            version=spec.version,
            digest=spec.digest,
            plugin=spec.plugin,
            device=serving.device or spec.device,
            phase=state.phase,
            reason=serving.reason,
            since=replica.since,
            pid=worker.pid if worker else 0,
            pss_mib=self.memory_mib(worker.pid) if worker else 0.0,
            restarts=state.restarts,
            stats=replica.stats.report(in_flight, len(pool.queue) if pool else 0, time.monotonic()),
            update=ServingUpdate(update.spec.version, update.spec.digest, update.phase, update.reason)
            if update
            else None,
        )


def _measure(pids: list[int]) -> list[float]:
    return [pss_mib(pid) for pid in pids]
