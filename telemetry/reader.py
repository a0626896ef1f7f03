"""OpenTelemetry instruments to samples, each at its own rate: the `MetricReader` of an agent.

The SDK's readers collect everything at one fixed interval on a thread of their own. This one has no thread and no
clock: the agent's driver (or the simulator, under virtual time) calls `collect_due(now_s)` and sleeps until `next_s`.
Instruments that aren't due are not even asked, so a fast rate for one metric costs nothing for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.resources import Resource

from ..descriptions.messages.telemetry import Kind
from .metrics import AnySample, HistogramSample, Sample, Series, series
from .rates import Rates, Schedule

Observed = Iterable[tuple[float, Mapping[str, str]]]
"""Values with their attributes."""


class Producer(Protocol):
    """A source of samples that are no instruments of the SDK (OpenTelemetry's MetricProducer).

    For attribute sets that come and go, such as processes and replicas: the SDK keeps every set it ever saw.
    """

    def produce(self, now_s: float, is_due: Callable[[str], bool]) -> Iterable[AnySample]:
        """Measure the metrics that are due."""
        ...


@dataclass(frozen=True)
class Collected:
    """One collection, by class: `high` is what policies depend on (`tel/hi`), `low` all else (`tel/lo`)."""

    high: tuple[AnySample, ...]
    low: tuple[AnySample, ...]


class RateReader(MetricReader):
    """Collects what is due. Make one for each agent; `observe` and `meter` make its instruments."""

    def __init__(self, rates: Rates | None = None, *, phase: float = 0.0) -> None:
        super().__init__()
        self.schedule = Schedule(rates or Rates(), phase)
        self._now_s = 0.0
        self._producers: list[Producer] = []
        self._series: dict[tuple[str, Kind, str, frozenset[tuple[str, Any]], tuple[float, ...]], Series] = {}
        self._samples: list[AnySample] = []
        self._provider = MeterProvider(
            [self], resource=Resource({}), exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
        )
        self.meter: Meter = self._provider.get_meter("shoal")

    @property
    def rates(self) -> Rates:
        """Present rates; set them when policies come and go."""
        return self.schedule.rates

    @rates.setter
    def rates(self, rates: Rates) -> None:
        self.schedule.rates = rates

    def add_producer(self, producer: Producer) -> None:
        """Ask this source at each collection, too."""
        self._producers.append(producer)

    def observe(self, kind: Literal["gauge", "counter"], name: str, unit: str, read: Callable[[], Observed]) -> None:
        """Make an observable instrument whose `read` runs only when the metric is due."""

        def callback(_options: CallbackOptions) -> Iterator[Observation]:
            if self.schedule.is_due(name, self._now_s):
                for value, attributes in read():
                    yield Observation(value, dict(attributes))

        if kind == "gauge":
            self.meter.create_observable_gauge(name, [callback], unit)
        else:
            self.meter.create_observable_counter(name, [callback], unit)

    def next_s(self, now_s: float) -> float:
        """When to call `collect_due` next."""
        return self.schedule.next_s(now_s)

    def collect_due(self, now_s: float) -> Collected:
        """Measure everything that is due at `now_s` (monotonic seconds, also the time of the samples)."""
        self._now_s = now_s
        self._samples = []
        self.collect()
        for producer in self._producers:
            self._samples.extend(producer.produce(now_s, self._is_due))
        found, self._samples = self._samples, []
        for name in {sample.series.name for sample in found}:
            self.schedule.measured(name, now_s)
        asked = self.rates.is_asked
        return Collected(
            tuple(sample for sample in found if asked(sample.series.name)),
            tuple(sample for sample in found if not asked(sample.series.name)),
        )

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing to end: there is no thread."""

    def _is_due(self, name: str) -> bool:
        return self.schedule.is_due(name, self._now_s)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if self._is_due(metric.name):
                        self._samples.extend(self._convert(metric))

    def _convert(self, metric: Metric) -> Iterator[AnySample]:
        data = metric.data
        if isinstance(data, Sum | Gauge):
            kind: Kind = "counter" if isinstance(data, Sum) and data.is_monotonic else "gauge"
            for point in data.data_points:
                yield Sample(self._identity(metric, kind, point), self._now_s, float(point.value))
        elif isinstance(data, Histogram):
            for bucket in data.data_points:
                identity = self._identity(metric, "histogram", bucket, bucket.explicit_bounds)
                yield HistogramSample(identity, self._now_s, float(bucket.sum), tuple(bucket.bucket_counts))

    def _identity(
        self,
        metric: Metric,
        kind: Kind,
        point: NumberDataPoint | HistogramDataPoint,
        bounds: Sequence[float] = (),
    ) -> Series:
        attributes = point.attributes or {}
        key = (metric.name, kind, metric.unit or "", frozenset(attributes.items()), tuple(bounds))
        if key not in self._series:
            told = {name: str(value) for name, value in attributes.items()}
            self._series[key] = series(metric.name, kind, metric.unit or "", told, bounds)
        return self._series[key]
