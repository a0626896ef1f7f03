"""What the inference gateway counted, as samples of `shoal.model.*`: a producer for the reader.

The agent hands over each `ServingReports` that it got from the gateway; the next collection turns the latest into
samples. Replica ids are `<application>.<component>.<n>`; attributes say whose the numbers are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..descriptions.messages.gateway import ServingReport, ServingReports, ServingStats
from ..descriptions.messages.telemetry import Kind
from .metrics import (
    APPLICATION,
    COMPONENT,
    LATENCY_BOUNDS_MS,
    MODEL,
    REPLICA,
    AnySample,
    HistogramSample,
    Sample,
    Series,
    series,
)

REQUESTS, FAILURES, REJECTED = "shoal.model.requests", "shoal.model.failures", "shoal.model.rejected"
QUEUE, IN_FLIGHT, LATENCY = "shoal.model.queue", "shoal.model.in_flight", "shoal.model.latency"
READY, RESTARTS, MEMORY = "shoal.model.ready", "shoal.model.restarts", "shoal.model.memory"

Numbers = tuple[tuple[str, Kind, str, Callable[[ServingReport], float]], ...]

NUMBERS: Numbers = (
    (REQUESTS, "counter", "{request}", lambda report: report.stats.requests),
    (FAILURES, "counter", "{request}", lambda report: report.stats.failures),
    (REJECTED, "counter", "{request}", lambda report: report.stats.rejected),
    (QUEUE, "gauge", "{request}", lambda report: report.stats.queue),
    (IN_FLIGHT, "gauge", "{request}", lambda report: report.stats.in_flight),
    (READY, "gauge", "1", lambda report: report.phase == "ready"),
    (RESTARTS, "counter", "{restart}", lambda report: report.restarts),
    (MEMORY, "gauge", "By", lambda report: report.pss_mib * 2**20),
)


@dataclass
class ServingMetrics:
    """Producer of `shoal.model.*`, all per replica."""

    _reports: tuple[ServingReport, ...] = ()
    _at_s: float = 0.0
    _told_s: dict[str, float] = field(default_factory=dict)
    """Metric → time of the report that it was last told from."""
    _series: dict[tuple[str, str, str], Series] = field(default_factory=dict)

    def update(self, reports: ServingReports, now_s: float) -> None:
        """Take the gateway's present report; samples carry its time, and each report is told once."""
        self._reports = reports.replicas
        self._at_s = now_s
        alive = {(report.id, report.model) for report in reports.replicas}
        for key in [key for key in self._series if key[1:] not in alive]:
            del self._series[key]

    def produce(self, now_s: float, is_due: Callable[[str], bool]) -> Iterator[AnySample]:
        """Samples of every replica that the gateway knows."""
        names = (LATENCY, *(name for name, _, _, _ in NUMBERS))
        due = {name for name in names if is_due(name) and self._told_s.get(name) != self._at_s}
        self._told_s |= dict.fromkeys(due, self._at_s)
        for report in self._reports:
            for name, kind, unit, number in NUMBERS:
                if name in due:
                    yield Sample(self._identity(report, name, kind, unit), self._at_s, float(number(report)))
            if LATENCY in due:  # zeros too: what a histogram gains is only known from where it began
                identity = self._identity(report, LATENCY, "histogram", "ms", LATENCY_BOUNDS_MS)
                yield HistogramSample(identity, self._at_s, report.stats.latency_ms_sum, _by_bucket(report.stats))

    def _identity(
        self, report: ServingReport, name: str, kind: Kind, unit: str, bounds: tuple[float, ...] = ()
    ) -> Series:
        key = (name, report.id, report.model)
        if key not in self._series:
            self._series[key] = series(name, kind, unit, replica_attributes(report.id, report.model), bounds)
        return self._series[key]


def replica_attributes(replica: str, model: str = "") -> dict[str, str]:
    """The attributes that say whose a sample is, from `<application>.<component>.<n>`."""
    told = {REPLICA: replica} | ({MODEL: model} if model else {})
    parts = replica.split(".")
    if len(parts) == 3:
        told |= {APPLICATION: parts[0], COMPONENT: parts[1]}
    return told


def _by_bucket(stats: ServingStats) -> tuple[int, ...]:
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for bucket in stats.latency_ms_total:
        # A hair below, so that a bound that was rounded on its way still finds its own bucket.
        counts[bisect_left(LATENCY_BOUNDS_MS, bucket.le_ms * (1 - 1e-9))] += bucket.count
    return tuple(counts)
