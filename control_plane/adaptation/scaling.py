"""Turns a scaling signal into a number of replicas: the formula, its tolerance, its brakes; no memory and no clock.

`core.py` calls `measure` on the telemetry of a snapshot, then `recommend`, and keeps what was recommended for `settle`.
Whether the change is permitted, and when, is left to `brakes.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ...descriptions.kinds.application import Scaling, ScalingSignal
from ..planner.snapshot import Metrics

INFLUENCE_MARGIN = 0.05
"""One node's reports move at most 1/N + this share of the replicas at a time (N nodes report)."""
_SLACK = 1e-9
"""3.0000000001 replicas are 3: the excess is rounding, not load."""


@dataclass(frozen=True)
class Load:
    """What a component's replicas carried over the signal's window."""

    total: float
    """Over all replicas, in units of the signal's target."""
    by_node: tuple[tuple[str, float], ...] = ()
    """Node name and its part of `total`; empty where telemetry doesn't tell nodes apart."""
    age_s: float = 0.0
    silent: int = 0
    """Ready replicas of which nothing was heard, and which are in none of the numbers above."""


@dataclass(frozen=True)
class Missing:
    """Nothing to act on: the reason, for people."""

    reason: str


@dataclass(frozen=True)
class Count:
    """Replicas of a component as they are now."""

    wanted: int
    ready: int


@dataclass(frozen=True)
class Recommendation:
    """A number of replicas within the bounds, and the sentence that explains it."""

    replicas: int
    reason: str


def measure(
    signal: ScalingSignal, component: str, replicas_by_node: Sequence[tuple[str, int]], metrics: Metrics
) -> Load | Missing:
    """Read the signal of `component` (`application.component`); a reading older than the signal's window is no reading.

    A rate adds up over nodes; every other statistic describes one replica, so it counts once for each ready replica.
    Nodes are read one by one where telemetry tells them apart, so that no single one can decide alone, and so that a
    node which says nothing is not taken for an idle one.
    """
    parts: list[tuple[str, float]] = []
    ages: list[float] = []
    silent = 0
    for node, replicas in replicas_by_node:
        reading = metrics.read(signal.metric, signal.statistic, signal.window, node=node, component=component)
        if reading is not None and reading.age_s <= signal.window and math.isfinite(reading.value):
            parts.append((node, _total(signal, max(reading.value, 0.0), replicas)))
            ages.append(reading.age_s)
        else:
            silent += replicas
    if parts:
        return Load(sum(value for _, value in parts), tuple(parts), max(ages), silent)
    return _measure_pooled(signal, component, sum(count for _, count in replicas_by_node), metrics)


def _measure_pooled(signal: ScalingSignal, component: str, ready: int, metrics: Metrics) -> Load | Missing:
    what = f"{signal.statistic} of {signal.metric} over {signal.window:g} s"
    reading = metrics.read(signal.metric, signal.statistic, signal.window, component=component)
    if reading is None:
        return Missing(f"no reading of {what}")
    if reading.age_s > signal.window:
        return Missing(f"the newest reading of {what} is {reading.age_s:.0f} s old")
    if not math.isfinite(reading.value):
        return Missing(f"the reading of {what} is not a number")
    return Load(_total(signal, max(reading.value, 0.0), max(ready, 1)), (), reading.age_s)


def _total(signal: ScalingSignal, value: float, replicas: int) -> float:
    return value if signal.statistic == "rate" else value * replicas


def recommend(scaling: Scaling, count: Count, load: Load) -> Recommendation:
    """Say how many replicas the load asks for, within `scaling.min` and `scaling.max`.

    The formula of the Kubernetes HorizontalPodAutoscaler, `ceil(replicas x value / target)`, with its tolerance around
    a ratio of 1 and its caution with replicas that aren't ready or say nothing: they count as idle before growing and
    as fully loaded before shrinking, and where that turns the direction round nothing changes (https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/,
    "Algorithm details").
    """
    target = scaling.signal.target
    asked = _asked(scaling, count, load.total, load.silent)
    bounded, limited = _bounded(scaling, count, load, asked)
    replicas = min(max(bounded, scaling.min), scaling.max)
    signal = f"{load.total:g} of {scaling.signal.metric} at {target:g} a replica"
    told = f"{signal} asks for {asked} replicas; {count.wanted} wanted, {count.ready} ready"
    if load.silent:
        told += f", {load.silent} silent"
    if limited:
        told += f"; {limited}"
    if replicas != bounded:
        told += f"; held to {scaling.min}..{scaling.max}"
    return Recommendation(replicas, told)


def _asked(scaling: Scaling, count: Count, total: float, silent: int) -> int:
    target = scaling.signal.target
    if count.wanted == 0:
        return _ceil(total / target, scaling.max)
    grows = total >= target * (count.ready - silent)
    starting = max(count.wanted - count.ready, 0)
    # A rate is all that arrives, so replicas that start will have their share of what the others have now.
    unheard = silent if scaling.signal.statistic == "rate" else silent + starting
    if not grows:
        total += target * unheard
    if abs(total / (target * count.wanted) - 1.0) <= scaling.tolerance + _SLACK:
        return count.wanted
    asked = _ceil(total / target, scaling.max)
    return count.wanted if grows and starting + silent and asked < count.wanted else asked


def _ceil(replicas: float, replicas_max: int) -> int:
    return math.ceil(min(replicas, float(replicas_max)) - _SLACK)


def _bounded(scaling: Scaling, count: Count, load: Load, asked: int) -> tuple[int, str]:
    """Keep the change within what one node's word may cause; the text says where that mattered."""
    step = math.ceil((1 / max(len(load.by_node), 1) + INFLUENCE_MARGIN) * max(count.wanted, 1))
    for node, without in _without_one(scaling, count, load):
        low, high = min(without, count.wanted) - step, max(without, count.wanted) + step
        if not low <= asked <= high:
            whose = f"the word of node {node} alone" if node else "one decision"
            return (low if asked < low else high), f"{whose} moves at most {step}"
    return asked, ""


def _without_one(scaling: Scaling, count: Count, load: Load) -> list[tuple[str, int]]:
    """What would be asked if the node that reports most, or the one that reports least, had said what the others say.

    No other node can pull harder than these two; neither answer depends on the word of the node that it leaves out.
    """
    if len(load.by_node) < 2:
        return [("", count.wanted)]
    ranked = sorted(load.by_node, key=lambda part: (part[1], part[0]))
    values = [value for _, value in ranked]
    ends = ((ranked[-1], values[:-1]), (ranked[0], values[1:]))
    told = [(node, load.total - value + median(others)) for (node, value), others in ends]
    return [(node, _asked(scaling, count, total, load.silent)) for node, total in told]


def settle(wanted: int, recommended: int, earlier: Sequence[int]) -> int:
    """Go up at once, down only to the largest number that was recommended within the stabilisation window.

    `earlier` are the recommendations in that window, `recommended` included or not
    (same Kubernetes page, "Stabilization window").
    """
    return recommended if recommended >= wanted else min(wanted, max((recommended, *earlier)))
