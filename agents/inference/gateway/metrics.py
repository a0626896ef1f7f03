"""The gateway's numbers as Prometheus text: Triton's names so that its dashboards work, and our own.

Text format 0.0.4. Counters of one model and version are the sum over its replicas here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from .http.server import HttpServer
from .remote import RemoteModels
from .serving import Replica, Serving
from .stats import HISTOGRAM_S, ReplicaStats
from .worker_link import WorkerCounters

US_PER_S = 1e6
NS_PER_US = 1e3

_Value = Callable[[ReplicaStats, WorkerCounters], float]
_COUNTERS: tuple[tuple[str, str, _Value], ...] = (
    ("nv_inference_request_success", "Requests answered with success.", lambda stats, _: stats.successes),
    ("nv_inference_count", "Batch elements answered.", lambda _, counters: counters.elements),
    ("nv_inference_exec_count", "Executions of the model.", lambda _, counters: counters.executions),
    (
        "nv_inference_request_duration_us",
        "Time from a whole request to its answer, summed.",
        lambda stats, _: stats.request_s * US_PER_S,
    ),
    (
        "nv_inference_queue_duration_us",
        "Time from a whole request to its hand-over to a worker, summed.",
        lambda stats, _: stats.queue_s * US_PER_S,
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Time spent reading requests, summed.",
        lambda _, counters: counters.compute_input_ns / NS_PER_US,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Time spent in the model, summed.",
        lambda _, counters: counters.compute_infer_ns / NS_PER_US,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Time spent writing answers, summed.",
        lambda _, counters: counters.compute_output_ns / NS_PER_US,
    ),
)


@dataclass(eq=False)
class PrometheusText:
    """Renders what the parts of the gateway count."""

    serving: Serving
    remote: RemoteModels
    servers: list[HttpServer]

    def render(self) -> bytes:
        """The whole page."""
        lines: list[str] = []
        for name, text, value in _COUNTERS:
            lines += _family(name, "counter", text, self._by_model(partial(_counted, value)))
        lines += self._failures()
        lines += _family(
            "nv_inference_pending_request_count",
            "gauge",
            "Requests that wait or run.",
            self._by_model(lambda replica: sum(each.link.in_flight for each in replica.workers.values() if each.link)),
        )
        lines += self._histogram()
        lines += self._gateway()
        return ("\n".join(lines) + "\n").encode()

    def _failures(self) -> list[str]:
        name = "nv_inference_request_failure"
        samples = [
            (f'{labels},reason="{reason}"', count)
            for reason, value in (("REJECTED", _rejected), ("BACKEND", _failed))
            for labels, count in self._by_model(value)
        ]
        return _family(name, "counter", "Requests refused as wrong (REJECTED) or failed (BACKEND).", samples)

    def _histogram(self) -> list[str]:
        name = "shoal_inference_request_duration_seconds"
        lines = [f"# HELP {name} Time from a whole request to its answer.", f"# TYPE {name} histogram"]
        bounds = [f"{bound:g}" for bound in HISTOGRAM_S] + ["+Inf"]
        for labels, replicas in self._models():
            columns = zip(*(replica.stats.histogram for replica in replicas), strict=True)
            totals = list(accumulate(sum(column) for column in columns))
            lines += [
                f'{name}_bucket{{{labels},le="{bound}"}} {total}' for bound, total in zip(bounds, totals, strict=True)
            ]
            lines.append(f"{name}_sum{{{labels}}} {sum(replica.stats.request_s for replica in replicas):.9g}")
            lines.append(f"{name}_count{{{labels}}} {totals[-1]}")
        return lines

    def _gateway(self) -> list[str]:
        phases = [
            (f'replica="{_escape(replica.id)}",phase="{replica.core.phase}"', 1.0) for replica in self._replicas()
        ]
        restarts = [(f'replica="{_escape(replica.id)}"', float(replica.core.restarts)) for replica in self._replicas()]
        in_flight = float(sum(server.in_flight for server in self.servers))
        refused = float(sum(server.refused for server in self.servers))
        return [
            *_family("shoal_replica_phase", "gauge", "1 for the phase that a replica is in.", phases),
            *_family("shoal_worker_restarts_total", "counter", "Workers started again after a death.", restarts),
            *_family("shoal_gateway_requests_in_flight", "gauge", "Requests being handled.", [("", in_flight)]),
            *_family(
                "shoal_gateway_requests_refused_total", "counter", "Over a limit or not allowed.", [("", refused)]
            ),
            *_family("shoal_gateway_forwarded_total", "counter", "Sent to other nodes.", [("", self.remote.forwarded)]),
            *_family(
                "shoal_gateway_forward_failures_total", "counter", "No node answered.", [("", self.remote.failed)]
            ),
        ]

    def _replicas(self) -> list[Replica]:
        return [replica for _, replica in sorted(self.serving.replicas.items())]

    def _models(self) -> Iterator[tuple[str, list[Replica]]]:
        """Labels of each model and version with its replicas."""
        groups: dict[str, list[Replica]] = {}
        for replica in self._replicas():
            if (serving := replica.core.serving) is not None:
                labels = f'model="{_escape(serving.spec.model)}",version="{_escape(serving.spec.version)}"'
                groups.setdefault(labels, []).append(replica)
        yield from groups.items()

    def _by_model(self, value: Callable[[Replica], float]) -> list[tuple[str, float]]:
        return [(labels, sum(value(replica) for replica in replicas)) for labels, replicas in self._models()]


def _counted(value: _Value, replica: Replica) -> float:
    return value(replica.stats, replica.counters())


def _rejected(replica: Replica) -> float:
    return replica.stats.rejected


def _failed(replica: Replica) -> float:
    return replica.stats.failures


def _family(name: str, kind: str, text: str, samples: list[tuple[str, float]]) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return lines + [
        f"{name}{{{labels}}} {value:.15g}" if labels else f"{name} {value:.15g}" for labels, value in samples
    ]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
