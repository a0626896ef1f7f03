"""Requests that nobody sends: what the replicas of a component would have measured under a load that changes over time.

The load of a component is spread evenly over the replicas that serve at the moment; one replica works on one request at
a time, so its utilisation, queue and latency follow from the rate (M/D/1 below saturation, a growing backlog above).
Agents ask for the samples of their machine (`measure`), which travel as real telemetry batches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..agents.outbox_events import BatchUrgency, Urgency
from ..telemetry.encoding import BatchEncoder
from ..telemetry.metrics import APPLICATION, COMPONENT, REPLICA, AnySample, Sample, Series, series
from .machine import Machine
from .scenario import LoadOptions, PointOptions

REQUESTS = "shoal.model.requests"
QUEUE = "shoal.model.queue"
LATENCY = "shoal.model.latency"
CPU = "system.cpu.utilization"
UTILISATION_MAX = 0.98
"""Above it the latency of the formula has no meaning; the backlog has."""


def rate_at(points: Sequence[PointOptions], now_s: float) -> float:
    """Requests a second, linear between the points and constant outside of them."""
    place = bisect_right([point.at_s for point in points], now_s)
    if place == 0:
        return points[0].rate
    before = points[place - 1]
    if place == len(points):
        return before.rate
    after = points[place]
    share = (now_s - before.at_s) / (after.at_s - before.at_s)
    return before.rate + share * (after.rate - before.rate)


@dataclass
class _Count:
    """Totals of one replica of one component."""

    requests: float = 0.0
    backlog: float = 0.0
    told_s: float = 0.0


@dataclass
class Traffic:
    """All loads of a run. `machines` are those of the fleet, alive or not."""

    loads: dict[str, LoadOptions]
    """By `application.component`."""
    machines: Sequence[Machine]
    now_s: Callable[[], float]
    served: dict[str, float] = field(default_factory=dict)
    """Component → requests that a replica took."""
    missed: dict[str, float] = field(default_factory=dict)
    """Component → requests that came while nobody served."""
    _counts: dict[str, _Count] = field(default_factory=dict)
    _encoders: dict[str, BatchEncoder] = field(default_factory=dict)
    _series: dict[tuple[str, str], Series] = field(default_factory=dict)
    _demand: dict[str, _Count] = field(default_factory=dict)

    def measure(self, machine: Machine, local_s: float) -> Iterator[tuple[BatchUrgency, bytes]]:
        """Telemetry batches of a machine; times are its own monotonic clock's."""
        samples = [*self._samples(machine, local_s)]
        encoder = self._encoders.setdefault(machine.boot_id, BatchEncoder(machine.boot_id))
        for payload in encoder.encode(samples):
            yield Urgency.P2, payload

    def redefine(self, machine: Machine) -> None:
        """Say again what each series is."""
        if machine.boot_id in self._encoders:
            self._encoders[machine.boot_id].redefine()

    def _samples(self, machine: Machine, local_s: float) -> Iterator[AnySample]:
        busy = 0.0
        for instance in machine.runtime.instances:
            load = self.loads.get(instance.component)
            if load is None or instance.phase != "ready":
                continue
            utilisation, numbers = self._replica(instance.component, instance.spec.id, load)
            busy += utilisation
            for name, value in numbers:
                yield Sample(self._identity(name, instance.component, instance.spec.id), local_s, value)
        yield Sample(self._identity(CPU), local_s, min(1.0, 0.02 + busy / machine.group.cpu))
        yield from self._unserved(machine, local_s)

    def _replica(self, component: str, replica: str, load: LoadOptions) -> tuple[float, list[tuple[str, float]]]:
        now_s, count = self.now_s(), self._counts.setdefault(replica, _Count(told_s=self.now_s()))
        rate = rate_at(load.points, now_s) / max(self.serving(component), 1)
        passed_s, count.told_s = now_s - count.told_s, now_s
        count.requests += rate * passed_s
        utilisation = rate * load.service_time_s
        count.backlog = max(0.0, count.backlog + (rate - 1 / load.service_time_s) * passed_s)
        steady = min(utilisation, UTILISATION_MAX)
        waiting_s = load.service_time_s * steady / (2 * (1 - steady)) + count.backlog * load.service_time_s
        latency_ms = 1000 * (load.service_time_s + waiting_s)
        return min(utilisation, 1.0), [(REQUESTS, count.requests), (QUEUE, count.backlog), (LATENCY, latency_ms)]

    def _unserved(self, machine: Machine, local_s: float) -> Iterator[AnySample]:
        """Gateways count requests for components that nobody serves; the first machine that is on speaks for them."""
        speaker = next((one for one in self.machines if one.has_power and one.agent is not None), None)
        if machine is not speaker:
            return
        for component, load in self.loads.items():
            now_s, count = self.now_s(), self._demand.setdefault(component, _Count(told_s=self.now_s()))
            passed_s, count.told_s = now_s - count.told_s, now_s
            arrived = rate_at(load.points, now_s) * passed_s
            if self.serving(component):
                self.served[component] = self.served.get(component, 0.0) + arrived
                continue
            self.missed[component] = self.missed.get(component, 0.0) + arrived
            count.requests += arrived
            if count.requests:
                yield Sample(self._identity(REQUESTS, component, f"{component}.gateway"), local_s, count.requests)

    def serving(self, component: str) -> int:
        """Replicas that could take a request now."""
        return sum(machine.runtime.serving(component) for machine in self.machines if machine.has_power)

    def _identity(self, name: str, component: str = "", replica: str = "") -> Series:
        key = (name, replica)
        if key not in self._series:
            application, _, part = component.partition(".")
            attributes = {APPLICATION: application, COMPONENT: part, REPLICA: replica} if component else {}
            kind, unit = ("counter", "{request}") if name == REQUESTS else ("gauge", "1")
            self._series[key] = series(name, "counter" if kind == "counter" else "gauge", unit, attributes)
        return self._series[key]
