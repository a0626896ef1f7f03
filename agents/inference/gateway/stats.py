"""What one replica did since its first PUT, over all workers that served it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ....descriptions.messages.gateway import ServingStats
from .latency import WINDOW_S, LatencyWindow, buckets, quantile_ms
from .worker_link import WorkerCounters

HISTOGRAM_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the Prometheus histogram."""


@dataclass
class ReplicaStats:
    """Counters; `record` is on the path of every request."""

    window: LatencyWindow
    successes: int = 0
    rejected: int = 0
    failures: int = 0
    request_s: float = 0.0
    """Sum over successes, from the last byte of the request to the answer."""
    queue_s: float = 0.0
    """Sum over successes, from the last byte of the request to the hand-over."""
    histogram: list[int] = field(default_factory=lambda: [0] * (len(HISTOGRAM_S) + 1))
    ended: WorkerCounters = field(default_factory=WorkerCounters)
    """Sum over workers that have ended."""

    def record(self, status: int, received_s: float, dispatched_s: float, now_s: float) -> None:
        """Count an answer."""
        took_s = now_s - received_s
        self.window.record(took_s * 1000, now_s)
        if status >= 500:
            self.failures += 1
        elif status >= 400:
            self.rejected += 1
        else:
            self.successes += 1
            self.request_s += took_s
            self.queue_s += dispatched_s - received_s
            index = 0
            while index < len(HISTOGRAM_S) and took_s > HISTOGRAM_S[index]:
                index += 1
            self.histogram[index] += 1

    def fold(self, counters: WorkerCounters) -> None:
        """Keep the counters of a worker that has ended."""
        self.ended = add(self.ended, counters)

    def report(self, in_flight: int, queue: int, now_s: float) -> ServingStats:
        """For the admin API."""
        counts = self.window.counts(now_s)
        return ServingStats(
            requests=self.successes + self.rejected + self.failures,
            failures=self.failures,
            rejected=self.rejected,
            in_flight=in_flight,
            queue=queue,
            window_s=WINDOW_S,
            requests_per_s=round(self.window.rate_per_s(now_s), 3),
            latency_ms_p50=round(quantile_ms(counts, 0.5), 4),
            latency_ms_p95=round(quantile_ms(counts, 0.95), 4),
            latency_ms_p99=round(quantile_ms(counts, 0.99), 4),
            latency_ms=buckets(counts),
            latency_ms_total=buckets(self.window.totals),
            latency_ms_sum=round(self.window.sum_ms, 3),
        )


def add(left: WorkerCounters, right: WorkerCounters) -> WorkerCounters:
    """Sum, field by field."""
    return WorkerCounters(*(getattr(left, name) + getattr(right, name) for name in WorkerCounters.__struct_fields__))
