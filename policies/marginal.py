"""What one more replica adds on each node: watts, money and CO₂, and how hard the slice's targets press.

A replica is charged the share of the node that it takes: of the price by the larger of its CPU and memory shares, of
the power between idle and full load by its CPU share (the linear model of Fan et al., "Power provisioning for a
warehouse-sized computer", 2007). What a node doesn't describe counts as the worst that any other describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..descriptions.kinds.meta import Relation
from .node_table import BoolArray, FloatArray, NodeTable
from .view import View

Metric = Literal["energy", "cost", "co2"]

PRESSURE_STARTS = 0.8
"""Share of a target from which it begins to count; it counts in full when it is reached."""


@dataclass(frozen=True)
class Marginal:
    """One column a metric: watts, money an hour, grams of CO₂ an hour; shape `(nodes,)`."""

    energy: FloatArray
    cost: FloatArray
    co2: FloatArray

    def relative(self, metric: Metric) -> FloatArray:
        """A metric as a share of its worst node, so that metrics can be added."""
        values: FloatArray = getattr(self, metric)
        worst = float(values.max(initial=0.0))
        return values / worst if worst > 0 else np.zeros(len(values))


def marginal(nodes: NodeTable, view: View) -> Marginal:
    """For one more replica of the component being decided."""
    cpu_share = np.minimum(1.0, view.request.cpu_millis * nodes.per_cpu_milli)
    memory_share = np.minimum(1.0, view.request.memory_bytes * nodes.per_memory_byte)
    described = nodes.power_w_max > 0
    span_w = _worst_where(~described, np.maximum(0.0, nodes.power_w_max - nodes.power_w_idle))
    watts = span_w * cpu_share
    energy_price = _worst_where(np.isnan(nodes.energy_price_per_kwh), nodes.energy_price_per_kwh)
    co2 = _worst_where(np.isnan(nodes.co2_g_per_kwh), nodes.co2_g_per_kwh)
    cost = nodes.price_per_h * np.maximum(cpu_share, memory_share) + watts / 1000 * energy_price
    return Marginal(watts, cost, watts / 1000 * co2)


def totals(nodes: NodeTable) -> dict[Metric, float]:
    """What the slice draws, costs and emits now by its reservations; undescribed power counts nothing."""
    used = np.clip((nodes.cpu_millis - nodes.cpu_millis_free) * nodes.per_cpu_milli, 0.0, 1.0)
    watts = nodes.power_w_idle + np.maximum(0.0, nodes.power_w_max - nodes.power_w_idle) * used
    price = np.nan_to_num(nodes.energy_price_per_kwh, nan=0.0)
    co2 = np.nan_to_num(nodes.co2_g_per_kwh, nan=0.0)
    return {
        "energy": float(watts.sum()),
        "cost": float((nodes.price_per_h + watts / 1000 * price).sum()),
        "co2": float((watts / 1000 * co2).sum()),
    }


def pressures(view: View) -> dict[Metric, float]:
    """How much each metric counts because of the slice's targets: 0 well below a target, its weight when it is
    missed.
    """
    targets = view.slice.spec.targets
    if not targets:
        return {}
    now = totals(view.nodes)
    pressing: dict[Metric, float] = {}
    for target in targets:
        if target.relation in (Relation.LOWER_OR_EQUAL, Relation.LOWER_THAN):
            share = now[target.metric] / target.target if target.target > 0 else 1.0
            pressure = min(1.0, max(0.0, (share - PRESSURE_STARTS) / (1 - PRESSURE_STARTS)))
            pressing[target.metric] = pressing.get(target.metric, 0.0) + target.weight * pressure
    return pressing


def mixed_score(base: Metric, nodes: NodeTable, view: View) -> FloatArray:
    """Minus the relative marginal of `base`, plus that of every metric that a target presses on."""
    added = marginal(nodes, view)
    score = -added.relative(base)
    for metric, pressure in pressures(view).items():
        score -= pressure * added.relative(metric)
    return score


def _worst_where(unknown: BoolArray, values: FloatArray) -> FloatArray:
    known = values[~unknown]
    worst = float(known.max()) if known.size else 0.0
    return np.where(unknown, worst, values)
