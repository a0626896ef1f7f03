"""Measures the node at the rates that are asked for and hands batches to the spool: host, processes, models, the agent.

`run.py` makes one. What active policies depend on goes out as high priority, all else as low; what application code
pushes to the node's OTLP receiver joins the same batches.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ..descriptions.messages.desired import Settings
from ..descriptions.messages.gateway import ServingReport, ServingReports
from ..descriptions.messages.reported import ReplicaReport
from ..telemetry.encoding import BatchEncoder
from ..telemetry.host import observe_host
from ..telemetry.processes import ProcessMetrics, Watched
from ..telemetry.rates import INTERVAL_S_MIN, Rates
from ..telemetry.reader import Collected, RateReader
from ..telemetry.receiver import Received
from ..telemetry.serving import ServingMetrics, replica_attributes
from .clock import boottime_s
from .outbox_events import BatchUrgency, Urgency

logger = logging.getLogger(__name__)

SLEEP_S_MAX = 5.0


@dataclass
class Sampler:
    """One node's measurements."""

    data_folder: Path
    add_batch: Callable[[BatchUrgency, bytes], None]
    serving: Callable[[], Awaitable[tuple[ServingReport, ...]]]
    rng: Random
    counters: Callable[[], Mapping[str, float]] = dict
    """The agent's own counters by metric name."""
    received: Received | None = None
    """What application code pushes to the node's OTLP receiver."""
    settings: Settings = field(default_factory=Settings)
    _reader: RateReader = field(init=False)
    _processes: ProcessMetrics = field(default_factory=ProcessMetrics)
    _models: ServingMetrics = field(default_factory=ServingMetrics)
    _high: BatchEncoder = field(init=False)
    _low: BatchEncoder = field(init=False)
    _load_level: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        """Make instruments and encoders; nothing is measured yet."""
        session = secrets.token_hex(8)
        self._high, self._low = BatchEncoder(f"{session}-hi"), BatchEncoder(f"{session}-lo")
        self._reader = RateReader(self._rates(), phase=self.rng.random())
        observe_host(self._reader, self.data_folder)
        self._reader.add_producer(self._processes)
        self._reader.add_producer(self._models)
        if self.received is not None:
            self._reader.add_producer(self.received)
        for name in sorted(self.counters()):
            self._reader.observe("counter", name, "1", lambda name=name: [(self.counters()[name], {})])  # type: ignore[misc]

    def start(self) -> None:
        """Begin to measure."""
        self._task = asyncio.create_task(self._run(), name="sampling")

    def use(self, settings: Settings) -> None:
        """Rates have changed."""
        self.settings = settings
        self._apply_rates()

    def use_load_level(self, level: int) -> None:
        """Each level halves what nobody asked for."""
        self._load_level = level
        self._apply_rates()

    def _apply_rates(self) -> None:
        self._reader.rates = self._rates()
        self._changed.set()

    def _rates(self) -> Rates:
        return Rates(self.settings.telemetry_interval_s, dict(self.settings.telemetry_rates), self._load_level)

    def redefine(self) -> None:
        """A new connection: whoever listens now may not know the series."""
        self._high.redefine()
        self._low.redefine()

    def watch(self, reports: Iterable[ReplicaReport]) -> None:
        """Measure the processes of these replicas, and the agent itself."""
        watched = [Watched(report.pid, replica_attributes(report.id)) for report in reports if report.pid]
        self._processes.watch([Watched(os.getpid(), {"process.executable.name": "shoal-agent"}), *watched])

    def measure(self) -> int:
        """Collect everything now, whatever is due, and say again what each series is; how many samples that gave.

        A control plane that has just started asks for it: it doesn't know the series yet.
        """
        self.redefine()
        before = self._reader.rates
        self._reader.rates = Rates(INTERVAL_S_MIN, dict.fromkeys(before.asked, INTERVAL_S_MIN))
        try:
            return self._emit(self._reader.collect_due(boottime_s()))
        finally:
            self._reader.rates = before

    async def _run(self) -> None:
        is_first = True
        while True:
            now_s = boottime_s()
            if is_first or self._reader.next_s(now_s) <= now_s:
                is_first = False
                if self.received is not None:
                    self.received.expire()
                self._models.update(ServingReports(await self.serving()), boottime_s())
                self._emit(self._reader.collect_due(boottime_s()))
            wait_s = min(max(0.0, self._reader.next_s(boottime_s()) - boottime_s()), SLEEP_S_MAX)
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()

    def _emit(self, collected: Collected) -> int:
        for payload in self._high.encode(collected.high):
            self.add_batch(Urgency.P1, payload)
        for payload in self._low.encode(collected.low):
            self.add_batch(Urgency.P2, payload)
        return len(collected.high) + len(collected.low)

    async def close(self) -> None:
        """Stop measuring."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
