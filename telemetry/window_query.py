"""Questions to the windows and their answers: a statistic of a metric, over all or for each node, component or replica.

`/v1/telemetry/query` asks `query`; policies and adaptation read through `Moment`, which stands still while a plan is
made: the same question gets the same answer, and `readings` is what the decision's record keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from .metrics import APPLICATION, COMPONENT, REPLICA, Series
from .statistics import Growth, Statistic, Track, of_counters, of_gauges, of_histograms
from .windows import HistogramRing, Windows

By = Literal["none", "node", "component", "replica", "series"]
ROWS_MAX = 10_000

T = TypeVar("T")


@dataclass(frozen=True)
class Query:
    """What to read. Empty strings match everything; `metric` may end with `*`."""

    metric: str
    statistic: Statistic = "mean"
    window_s: float = 60.0
    node: str = ""
    application: str = ""
    component: str = ""
    """`application.component`, or only the component's name together with `application`."""
    by: By = "none"


@dataclass(frozen=True)
class Row:
    """One answer. `age_s` is that of the newest sample, `samples` how many there were in the window."""

    metric: str
    unit: str
    statistic: Statistic
    value: float
    age_s: float
    samples: int
    series: int
    """How many series it is made of."""
    node: str = ""
    component: str = ""
    replica: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass
class _Group:
    """The series that one row is made of."""

    unit: str
    tracks: list[Track] = field(default_factory=list)
    counters: list[Track] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)
    newest_s: float = float("-inf")
    samples: int = 0


@dataclass(frozen=True)
class _Key:
    metric: str
    node: str = ""
    component: str = ""
    replica: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


def query(windows: Windows, question: Query, now_s: float) -> list[Row]:
    """Answer in order of metric, node, component, replica, attributes; no row where nothing was measured."""
    groups: dict[_Key, _Group] = {}
    with windows.lock:
        for node, series, slot in _matching(windows.slots, question):
            _gather_slot(groups, windows, question, node, series, slot, now_s)
        for node, series, ring in _matching(windows.histograms, question):
            _gather_ring(groups, question, node, series, ring, now_s)
    keys = sorted(groups, key=lambda key: (key.metric, key.node, key.component, key.replica, key.attributes))
    rows = (_row(question, key, groups[key], now_s) for key in keys[:ROWS_MAX])
    return [row for row in rows if row is not None]


@dataclass(frozen=True)
class Newest:
    """The newest sample of one series, for exporters; a histogram's totals in `sum` and `counts`."""

    node: str
    series: Series
    time_s: float
    value: float = 0.0
    sum: float = 0.0
    counts: tuple[int, ...] = ()


def newest(windows: Windows, now_s: float) -> list[Newest]:
    """The newest sample of every series that has one within the window, by metric and node."""
    found = []
    oldest_s = now_s - windows.window_s
    with windows.lock:
        for nodes in windows.slots.values():
            for node, known in nodes.items():
                for series, slot in known.items():
                    if (at_s := float(windows.columns.last_s[slot])) >= oldest_s:
                        found.append(Newest(node, series, at_s, windows.columns.last(slot)))
        for rings in windows.histograms.values():
            for node, held in rings.items():
                for series, ring in held.items():
                    if ring.times_s and ring.times_s[-1] >= oldest_s:
                        counts = tuple(ring.counts[-1].tolist())
                        found.append(Newest(node, series, ring.times_s[-1], sum=ring.sums[-1], counts=counts))
    return sorted(found, key=lambda one: (one.series.name, one.node, one.series.attributes))


class Moment:
    """The windows as they are at one time, with the signature that policies know (`policies.reading.Metrics`)."""

    def __init__(self, windows: Windows, now_s: float) -> None:
        self._windows = windows
        self._now_s = now_s
        self.readings: dict[Query, Row | None] = {}
        """Every question so far and its answer."""

    def read(
        self, metric: str, statistic: Statistic, window_s: float, *, node: str = "", component: str = ""
    ) -> Row | None:
        """`node` as `ingest` was given it, `component` is `application.component`; None when nothing was measured."""
        question = Query(metric, statistic, window_s, node, "", component)
        if question not in self.readings:
            rows = query(self._windows, question, self._now_s)
            self.readings[question] = rows[0] if rows else None
        return self.readings[question]


def _matching(index: dict[str, dict[str, dict[Series, T]]], question: Query) -> Iterator[tuple[str, Series, T]]:
    prefix = question.metric[:-1] if question.metric.endswith("*") else None
    names = [question.metric] if prefix is None else [name for name in index if name.startswith(prefix)]
    for name in names:
        nodes = index.get(name, {})
        for node in [question.node] if question.node else list(nodes):
            for series, place in nodes.get(node, {}).items():
                if _is_wanted(series, question):
                    yield node, series, place


def _is_wanted(series: Series, question: Query) -> bool:
    if not question.application and not question.component:
        return True
    if question.application and series.attribute(APPLICATION) != question.application:
        return False
    return question.component in ("", series.component, series.attribute(COMPONENT) if question.application else "")


def _group(groups: dict[_Key, _Group], question: Query, node: str, series: Series) -> _Group:
    key = _Key(series.name)
    match question.by:
        case "node":
            key = _Key(series.name, node)
        case "component":
            key = _Key(series.name, component=series.component)
        case "replica":
            key = _Key(series.name, node, series.component, series.attribute(REPLICA))
        case "series":
            key = _Key(series.name, node, series.component, series.attribute(REPLICA), series.attributes)
        case "none":
            pass
    return groups.setdefault(key, _Group(series.unit))


def _gather_slot(
    groups: dict[_Key, _Group], windows: Windows, question: Query, node: str, series: Series, slot: int, now_s: float
) -> None:
    newest_s = float(windows.columns.last_s[slot])
    if newest_s < now_s - question.window_s:
        return
    recent = windows.columns.recent(slot)
    first = int(np.searchsorted(recent.times_s, now_s - question.window_s))
    within = len(recent.times_s) - first
    group = _group(groups, question, node, series)
    if series.kind == "counter":
        # Growth needs where it began: the last total before the window, unless it is far off.
        first = max(0, first - 1) if first and recent.times_s[first - 1] >= now_s - 2 * question.window_s else first
        group.counters.append(Track(recent.times_s[first:], recent.values[first:]))
    else:
        group.tracks.append(Track(recent.times_s[first:], recent.values[first:]))
    group.newest_s = max(group.newest_s, newest_s)
    group.samples += within


def _gather_ring(
    groups: dict[_Key, _Group], question: Query, node: str, series: Series, ring: HistogramRing, now_s: float
) -> None:
    times_s = np.array(ring.times_s)
    first = int(np.searchsorted(times_s, now_s - question.window_s))
    within = len(times_s) - first
    if not within:
        return
    start = first - 1 if first and times_s[first - 1] >= now_s - 2 * question.window_s else first
    group = _group(groups, question, node, series)
    group.newest_s = max(group.newest_s, float(times_s[-1]))
    group.samples += within
    if start == len(times_s) - 1:
        return  # one total tells nothing about growth
    if question.statistic == "last":
        start = len(times_s) - 2
    group.growths.append(_growth(series, ring, times_s, start))


def _growth(series: Series, ring: HistogramRing, times_s: np.ndarray, start: int) -> Growth:
    counts, total = np.zeros(len(series.bounds) + 1), 0.0
    for index in range(start + 1, len(times_s)):
        step = ring.counts[index].astype(np.float64) - ring.counts[index - 1]
        restarted = bool((step < 0).any())
        counts += ring.counts[index] if restarted else step
        total += ring.sums[index] - (0.0 if restarted else ring.sums[index - 1])
    return Growth(float(times_s[-1] - times_s[start]), total, counts, series.bounds)


def _row(question: Query, key: _Key, group: _Group, now_s: float) -> Row | None:
    # A name is of one kind everywhere unless somebody errs; then the kinds don't mix, and the first that tells wins.
    values = (
        of_gauges(question.statistic, group.tracks) if group.tracks else None,
        of_counters(question.statistic, group.counters) if group.counters else None,
        of_histograms(question.statistic, group.growths) if group.growths else None,
    )
    value = next((value for value in values if value is not None), None)
    if value is None or not np.isfinite(value):
        return None
    return Row(
        key.metric,
        group.unit,
        question.statistic,
        value,
        max(0.0, now_s - group.newest_s),
        group.samples,
        len(group.tracks) + len(group.counters) + len(group.growths),
        key.node,
        key.component,
        key.replica,
        key.attributes,
    )
