"""The metric model: what a series is, what a sample is, and the names in use.

The reader, the OTLP receiver and the gateway's statistics produce samples; the encoding sends them; windows and
exporters read them. Names are OpenTelemetry's semantic conventions where there is one, `shoal.*` otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..descriptions.errors import DescriptionError
from ..descriptions.messages.telemetry import ATTRIBUTES_MAX, BOUNDS_MAX, METRIC_NAME, VALUE_MAX, Kind

APPLICATION = "shoal.application"
COMPONENT = "shoal.component"
REPLICA = "shoal.replica"
MODEL = "shoal.model"
"""Attributes that say whose sample it is; without them it is the node's."""

LATENCY_BOUNDS_MS = tuple(0.05 * 1.25**step for step in range(66))
"""Buckets of `shoal.model.latency`: 50 µs to 100 s, a quantile is right within 12 %."""


@dataclass(frozen=True, slots=True)
class Series:
    """The identity of a series on one node. Make it with `series`, which checks and sorts."""

    name: str
    kind: Kind
    unit: str
    attributes: tuple[tuple[str, str], ...] = ()
    """Sorted by key."""
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets."""

    def attribute(self, key: str) -> str:
        """An attribute's value, empty when it has none of that name."""
        return dict(self.attributes).get(key, "")

    @property
    def component(self) -> str:
        """`application.component`, empty for what belongs to the node."""
        application, component = self.attribute(APPLICATION), self.attribute(COMPONENT)
        return f"{application}.{component}" if application and component else ""


def series(
    name: str, kind: Kind, unit: str, attributes: Mapping[str, str] | None = None, bounds: Iterable[float] = ()
) -> Series:
    """A checked series; `DescriptionError` when the wire could not carry it."""
    pairs, edges = tuple(sorted((attributes or {}).items())), tuple(bounds)
    if not METRIC_NAME.match(name):
        raise DescriptionError(f"metric name {name[:64]!r}", expected="letters, digits and _ . / : -")
    if len(pairs) > ATTRIBUTES_MAX or any(len(key) > VALUE_MAX or len(value) > VALUE_MAX for key, value in pairs):
        raise DescriptionError(
            f"attributes of {name}", expected=f"{ATTRIBUTES_MAX} at most, {VALUE_MAX} characters each"
        )
    if len(edges) > BOUNDS_MAX or bool(edges) != (kind == "histogram"):
        raise DescriptionError(f"bounds of {name}", expected=f"1 to {BOUNDS_MAX} for a histogram, none otherwise")
    return Series(name, kind, unit, pairs, edges)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured number."""

    series: Series
    time_s: float
    """On the agent's monotonic clock."""
    value: float


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """A histogram's totals at one moment; `counts` has one entry more than the series has bounds."""

    series: Series
    time_s: float
    sum: float
    counts: tuple[int, ...]


AnySample = Sample | HistogramSample
