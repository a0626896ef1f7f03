"""The windows' newest samples as Prometheus text (exposition format 0.0.4), for the control plane's `/metrics`.

Names follow OpenTelemetry's compatibility rules: dots become underscores, the unit is appended, counters end in
`_total`. Only what is within the window is told, so that a lost node's series end. The control plane's own counters
(`control_plane/figures.py`) come beside this.
Source: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .window_query import Newest, newest
from .windows import Windows

UNITS = {
    "By": "bytes", "s": "seconds", "ms": "milliseconds", "us": "microseconds", "Hz": "hertz", "Cel": "celsius",
    "%": "percent", "W": "watts", "J": "joules", "V": "volts",
}  # fmt: skip
UNFIT = re.compile(r"[^A-Za-z0-9_]")
UNDERSCORES = re.compile("_+")


def windows_text(windows: Windows, now_s: float) -> str:
    """All series with a sample within the window."""
    return generate_latest(_Families(newest(windows, now_s))).decode()


def metric_name(name: str, unit: str, kind: str) -> str:
    """Prometheus' name of a metric, without the `_total` that the library appends to counters."""
    fitting = UNDERSCORES.sub("_", UNFIT.sub("_", name))
    suffix = UNITS.get(unit, "")
    if unit == "1" and kind == "gauge":
        suffix = "ratio"
    if suffix and not fitting.endswith(f"_{suffix}"):
        fitting = f"{fitting}_{suffix}"
    return fitting.removesuffix("_total") if kind == "counter" else fitting


def label_name(name: str) -> str:
    """A fitting label name; leading digits and the reserved double underscore are moved out of the way."""
    fitting = UNFIT.sub("_", name)
    return f"key_{fitting}" if not fitting or fitting[0].isdigit() or fitting.startswith("__") else fitting


class _Families(Collector):
    """Samples grouped by name; a name that two kinds share belongs to the first."""

    def __init__(self, found: list[Newest]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        groups: dict[str, list[Newest]] = {}
        for one in self._found:
            name = metric_name(one.series.name, one.series.unit, one.series.kind)
            group = groups.setdefault(name, [])
            if not group or group[0].series.kind == one.series.kind:
                group.append(one)
        return [_family(name, group) for name, group in sorted(groups.items())]


def _family(name: str, group: list[Newest]) -> Metric:
    help_text = f"{group[0].series.name} ({group[0].series.unit or 'no unit'})"
    rows = list(_labelled(group))
    keys = sorted({key for labels, _ in rows for key in labels})
    if group[0].series.kind == "histogram":
        histogram = HistogramMetricFamily(name, help_text, labels=keys)
        for labels, one in rows:
            histogram.add_metric([labels.get(key, "") for key in keys], _buckets(one), one.sum)
        return histogram
    make = CounterMetricFamily if group[0].series.kind == "counter" else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = make(name, help_text, labels=keys)
    for labels, one in rows:
        family.add_metric([labels.get(key, "") for key in keys], one.value)
    return family


def _labelled(group: list[Newest]) -> Iterator[tuple[dict[str, str], Newest]]:
    """Each sample with its labels; of samples whose labels became the same, the first."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    for one in group:
        labels = {label_name(key): value for key, value in one.series.attributes} | {"node": one.node}
        identity = tuple(sorted(labels.items()))
        if identity not in seen:
            seen.add(identity)
            yield labels, one


def _buckets(one: Newest) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus has them."""
    reached, buckets = 0.0, []
    for bound, count in zip((*one.series.bounds, float("inf")), one.counts, strict=True):
        reached += count
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), reached))
    return buckets
