"""What the API measures of itself, as Prometheus text: requests by route and status, how long they took, what is open.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..store.records import LogSize

LATENCY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Measures:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "shoal_api_requests", "Requests answered.", ("route", "status"), registry=self._registry
        )
        self._latency_s = Histogram(
            "shoal_api_request_duration_seconds",
            "From the request's head to the last byte of its answer; streams are left out.",
            ("route",),
            buckets=LATENCY_BUCKETS_S,
            registry=self._registry,
        )
        self._streams = Gauge("shoal_api_streams", "Watches and logs that are open.", registry=self._registry)
        self._gauges: dict[str, Gauge] = {}

    def answered(self, route: str, status: int, duration_s: float, *, is_stream: bool) -> None:
        """Count one answer."""
        self._requests.labels(route, str(status)).inc()
        if not is_stream:
            self._latency_s.labels(route).observe(duration_s)

    def set_streams(self, count: int) -> None:
        """Note how many streams are open."""
        self._streams.set(count)

    def set_gauge(self, name: str, told: str, value: float) -> None:
        """Note a figure that is read anew for each scrape."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, told, registry=self._registry)
        self._gauges[name].set(value)

    def set_sizes(self, sizes: Mapping[str, LogSize]) -> None:
        """Note rows kept in, and pruned from, each capped table."""
        for table, size in sizes.items():
            self.set_gauge(f"shoal_store_{table}_rows", f"Rows of {table}.", size.rows)
            self.set_gauge(f"shoal_store_{table}_pruned", f"Rows that retention removed from {table}.", size.pruned)

    def text(self) -> str:
        """Everything in the text format 0.0.4."""
        return generate_latest(self._registry).decode()
