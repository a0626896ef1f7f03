"""What a window says in one number: rates, means and quantiles of samples, counters and histograms. Pure functions.

`window_query.py` gathers the samples of the series that a question is about. Counters may restart from zero at any
time; a decrease counts as a restart (as in Prometheus' `rate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Statistic = Literal["last", "mean", "rate", "min", "max", "p50", "p95", "p99"]
Floats = npt.NDArray[np.float64]

QUANTILES: dict[str, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Track:
    """One series within a window, oldest sample first; at least one sample."""

    times_s: Floats
    values: Floats


@dataclass(frozen=True)
class Growth:
    """What a histogram gained within a window."""

    span_s: float
    sum: float
    counts: Floats
    bounds: tuple[float, ...]


def of_gauges(statistic: Statistic, tracks: list[Track]) -> float | None:
    """Over all samples of all tracks; `last` is the mean of each track's last, `rate` the sum of their slopes."""
    if statistic == "last":
        return float(np.mean([track.values[-1] for track in tracks]))
    if statistic == "rate":
        slopes = [
            _slope(track.times_s, track.values[-1] - track.values[0]) for track in tracks if len(track.values) > 1
        ]
        return sum(slopes) if slopes else None
    return _of_values(statistic, np.concatenate([track.values for track in tracks]))


def of_counters(statistic: Statistic, tracks: list[Track]) -> float | None:
    """`rate` is the sum of increases a second; `last` the sum of totals; others are over the rates between samples."""
    if statistic == "last":
        return float(sum(track.values[-1] for track in tracks))
    growing = [track for track in tracks if len(track.values) > 1]
    if not growing:
        return None
    if statistic == "rate":
        return sum(_slope(track.times_s, float(increases(track.values).sum())) for track in growing)
    return _of_values(statistic, np.concatenate([increases(t.values) / np.diff(t.times_s) for t in growing]))


def of_histograms(statistic: Statistic, growths: list[Growth]) -> float | None:
    """Over everything that was counted within the window; `last` and `mean` are the mean, None when nothing was."""
    if not growths:
        return None
    if statistic == "rate":
        return float(sum(growth.counts.sum() / growth.span_s for growth in growths))
    bounds = growths[0].bounds
    counts = np.sum([growth.counts for growth in growths if growth.bounds == bounds], axis=0)
    total = float(counts.sum())
    if total <= 0:
        return None
    if statistic in ("last", "mean"):
        return float(sum(growth.sum for growth in growths if growth.bounds == bounds)) / total
    used = np.flatnonzero(counts)
    edges = np.concatenate(([0.0], bounds, [bounds[-1]]))
    if statistic in ("min", "max"):
        return float(edges[used[0]] if statistic == "min" else edges[used[-1] + 1])
    return quantile_of_buckets(QUANTILES[statistic], counts, edges)


def increases(values: Floats) -> Floats:
    """Growth between neighbours; after a restart the new value is the growth."""
    steps = np.diff(values)
    return np.where(steps < 0, values[1:], steps)


def quantile_of_buckets(fraction: float, counts: Floats, edges: Floats) -> float:
    """Linear within the bucket where the fraction is reached; `edges` has one entry more than `counts`."""
    reached = np.cumsum(counts)
    wanted = fraction * reached[-1]
    bucket = int(np.searchsorted(reached, wanted))
    before = reached[bucket - 1] if bucket else 0.0
    share = (wanted - before) / counts[bucket] if counts[bucket] else 1.0
    return float(edges[bucket] + share * (edges[bucket + 1] - edges[bucket]))


def _quantile(fraction: float, values: Floats) -> float:
    """As `np.quantile` (linear between neighbours), without its hundred microseconds of preparation."""
    ordered = np.sort(values)
    place = fraction * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))


def _slope(times_s: Floats, growth: float) -> float:
    return float(growth / (times_s[-1] - times_s[0]))


def _of_values(statistic: Statistic, values: Floats) -> float:
    match statistic:
        case "min":
            return float(values.min())
        case "max":
            return float(values.max())
        case "p50" | "p95" | "p99":
            return _quantile(QUANTILES[statistic], values)
        case _:
            return float(values.mean())
